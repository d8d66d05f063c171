package e2e

import (
	"encoding/base64"
	"strings"
	"sync"
)

// formRequest is a token request as most libraries write it.
const formRequest = `POST /oauth/token HTTP/1.1
Host: {host}
Content-Type: application/x-www-form-urlencoded
Content-Length: {length}

grant_type=client_credentials&client_id={id}&client_secret={secret}`

// curlRequest is what PHP makes of CURLOPT_POSTFIELDS with an array.
const curlRequest = `POST /oauth/token HTTP/1.1
Host: {host}
Accept: */*
Content-Length: {length}
Content-Type: multipart/form-data; boundary=------------------------d74496d66958873e

--------------------------d74496d66958873e
Content-Disposition: form-data; name="grant_type"

client_credentials
--------------------------d74496d66958873e
Content-Disposition: form-data; name="client_id"

{id}
--------------------------d74496d66958873e
Content-Disposition: form-data; name="client_secret"

{secret}
--------------------------d74496d66958873e--
`

// queryRequest has all in its query string, and an empty body.
const queryRequest = `POST /oauth/token?client_id={id}&client_secret={secret}&grant_type=client_credentials HTTP/1.1
Host: {host}
User-Agent: GuzzleHttp/7
Content-Length: 0

`

const whoAmI = `GET /api/ver1.0/user/ HTTP/1.1
Host: {host}
Authorization: Bearer TOKEN

`

const unauthorized = `{"message":"Unauthorized"}`

// works checks that a token is accepted.
func (w *wire) works(token string) {
	w.Helper()
	if s := w.ask(strings.Replace(whoAmI, "TOKEN", token, 1)); s.status != 200 {
		w.Errorf("the token is answered %d %s", s.status, s.body)
	}
}

// tokenHabits are ways to ask for a token.
var tokenHabits = map[string]func(*customer){
	"asks for a token by multipart before every call": func(c *customer) {
		w := c.connect()
		first := w.granted(curlRequest) // unused, since the token cache would know it for a second
		for range 248 {
			w.works(w.granted(curlRequest))
		}
		last := w.granted(curlRequest)
		if n := c.tokens(); n > 100 {
			c.Errorf("the application has %d tokens", n)
		}
		w.works(last)
		w.hears(strings.Replace(whoAmI, "TOKEN", first, 1), 401, unauthorized)
	},
	"asks for 40 tokens at once, on a connection each": func(c *customer) {
		var all sync.WaitGroup
		for range 40 {
			w := c.connect()
			all.Go(func() {
				if s := w.ask(queryRequest); s.status != 200 {
					w.Errorf("%d %s", s.status, s.body)
				}
			})
		}
		all.Wait()
	},
	"waits for leave to send its multipart": func(c *customer) {
		w := c.connect()
		w.works(w.granted(strings.Replace(curlRequest, "Accept: */*", "Accept: */*\nExpect: 100-continue", 1)))
	},
	"names the length and the type of each part, and quotes the boundary": func(c *customer) {
		w := c.connect()
		w.works(w.granted(`POST /oauth/token HTTP/1.1
Host: {host}
Content-Length: {length}
Content-Type: multipart/form-data; boundary="a b=c"

--a b=c
Content-Disposition: form-data; name="client_id"
Content-Length: 32

{id}
--a b=c
Content-Disposition: form-data; name="client_secret"
Content-Type: text/plain; charset=utf-8

{secret}
--a b=c
Content-Disposition: form-data; name="grant_type"
Content-Transfer-Encoding: 8bit

client_credentials
--a b=c--`))
	},
	"asks in the query string with an empty body": func(c *customer) {
		w := c.connect()
		for _, change := range [][2]string{
			{"", ""},
			{"&grant_type=", "&scope=all&grant_type="},
			{"Content-Length: 0", "Content-Length: 0\nContent-Type: application/x-www-form-urlencoded"},
			{"Content-Length: 0", "Content-Length: 0\nContent-Type: application/json"},
			{"Content-Length: 0", "Content-Length: 0\nContent-Type: multipart/form-data"},
			{"Content-Length: 0\n", ""},
			{"/token?", "/token/?"},
		} {
			w.works(w.granted(strings.Replace(queryRequest, change[0], change[1], 1)))
		}
	},
	"asks with a form, for the scope all": func(c *customer) {
		w := c.connect()
		w.works(w.granted(formRequest))
		w.works(w.granted(formRequest + "&scope=all"))
		w.works(w.granted(strings.Replace(formRequest, "urlencoded\n", "urlencoded; charset=UTF-8\n", 1)))
	},
	"asks by HTTP Basic, as Swagger UI and libraries for OAuth do": func(c *customer) {
		w := c.connect()
		w.works(w.granted(c.basicRequest(c.made.ID, c.made.Secret)))
		// RFC 6749, 2.3.1, encodes both, whatever they are made of.
		w.works(w.granted(c.basicRequest(percents(c.made.ID), percents(c.made.Secret))))
	},
	"sends an empty or an old bearer with its request for a token": func(c *customer) {
		w := c.connect()
		for _, header := range []string{"Authorization: Bearer ", "Authorization: Bearer abc", "Authorization:"} {
			w.works(w.granted(strings.Replace(formRequest, "Content-Type", header+"\nContent-Type", 1)))
		}
	},
	"speaks HTTP/1.0 and closes, as PHP's streams do": func(c *customer) {
		old := strings.NewReplacer("HTTP/1.1", "HTTP/1.0", "Host: {host}", "Host: {host}\nConnection: close")
		token := c.connect().granted(old.Replace(formRequest))
		if s := c.connect().ask(old.Replace(strings.Replace(whoAmI, "TOKEN", token, 1))); s.status != 200 {
			c.Errorf("%d %s", s.status, s.body)
		}
	},
	"takes 400 for bad credentials, and would repeat its request for ever after 401": func(c *customer) {
		w := c.connect()
		const words = "there is no application with this id and this secret"
		const want = `{"error":"invalid_client","error_description":"` + words + `","message":"` + words + `"}`
		c.made.Secret = strings.Repeat("0", 32)
		for _, request := range []string{
			formRequest, curlRequest, queryRequest, c.basicRequest(c.made.ID, c.made.Secret),
		} {
			if s := w.hears(request, 400, want); s.header.Get("WWW-Authenticate") != "" {
				c.Errorf("it is asked to authenticate otherwise: %s", s.header.Get("WWW-Authenticate"))
			}
		}
	},
}

// basicRequest asks with these as user and password.
func (c *customer) basicRequest(id, secret string) string {
	basic := "Basic " + base64.StdEncoding.EncodeToString([]byte(id+":"+secret))
	return `POST /oauth/token HTTP/1.1
Host: {host}
Authorization: ` + basic + `
Content-Type: application/x-www-form-urlencoded
Content-Length: {length}

grant_type=client_credentials`
}

// percents encodes every byte.
func percents(text string) string {
	var b strings.Builder
	for _, c := range []byte(text) {
		b.WriteString("%" + strings.ToUpper(string("0123456789abcdef"[c>>4])+string("0123456789abcdef"[c&15])))
	}
	return b.String()
}
