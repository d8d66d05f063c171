package e2e

import (
	"encoding/base64"
	"strings"
	"sync"
)

// formRequest is a token request in the form of most libraries.
const formRequest = `POST /oauth/token HTTP/1.1
Host: {host}
Content-Type: application/x-www-form-urlencoded
Content-Length: {length}

grant_type=client_credentials&client_id={id}&client_secret={secret}`

// curlRequest is a token request of PHP with an array in CURLOPT_POSTFIELDS.
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

// queryRequest is a token request with all fields in the query string, and an empty body.
const queryRequest = `POST /oauth/token?client_id={id}&client_secret={secret}&grant_type=client_credentials HTTP/1.1
Host: {host}
User-Agent: GuzzleHttp/7
Content-Length: 0

`

const userRequest = `GET /api/ver1.0/user/ HTTP/1.1
Host: {host}
Authorization: Bearer TOKEN

`

const unauthorized = `{"message":"Unauthorized"}`

// checkToken checks that the server accepts a token.
func (w *wire) checkToken(token string) {
	w.Helper()
	if s := w.send(strings.Replace(userRequest, "TOKEN", token, 1)); s.status != 200 {
		w.Errorf("the token gets %d %s", s.status, s.body)
	}
}

// tokenForms are the forms in which clients request tokens.
var tokenForms = map[string]func(*originalClient){
	"requests a token by multipart before every call": func(c *originalClient) {
		w := c.connect()
		first := w.requestToken(curlRequest) // unused: the token cache would accept it for a second
		for range 248 {
			w.checkToken(w.requestToken(curlRequest))
		}
		last := w.requestToken(curlRequest)
		if n := c.tokens(); n > 100 {
			c.Errorf("the application has %d tokens", n)
		}
		w.checkToken(last)
		w.expect(strings.Replace(userRequest, "TOKEN", first, 1), 401, unauthorized)
	},
	"requests 40 tokens concurrently, each on its own connection": func(c *originalClient) {
		var all sync.WaitGroup
		for range 40 {
			w := c.connect()
			all.Go(func() {
				if s := w.send(queryRequest); s.status != 200 {
					w.Errorf("%d %s", s.status, s.body)
				}
			})
		}
		all.Wait()
	},
	"waits for 100 Continue before it sends multipart": func(c *originalClient) {
		w := c.connect()
		request := strings.Replace(curlRequest, "Accept: */*", "Accept: */*\nExpect: 100-continue", 1)
		w.checkToken(w.requestToken(request))
	},
	"declares the length and the type of each part, and quotes the boundary": func(c *originalClient) {
		w := c.connect()
		w.checkToken(w.requestToken(`POST /oauth/token HTTP/1.1
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
	"requests a token in the query string with an empty body": func(c *originalClient) {
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
			w.checkToken(w.requestToken(strings.Replace(queryRequest, change[0], change[1], 1)))
		}
	},
	"requests a token by a form, for the scope all": func(c *originalClient) {
		w := c.connect()
		w.checkToken(w.requestToken(formRequest))
		w.checkToken(w.requestToken(formRequest + "&scope=all"))
		w.checkToken(w.requestToken(strings.Replace(formRequest, "urlencoded\n", "urlencoded; charset=UTF-8\n", 1)))
	},
	"requests a token by HTTP Basic, as Swagger UI and OAuth libraries do": func(c *originalClient) {
		w := c.connect()
		w.checkToken(w.requestToken(c.basicRequest(c.application.ID, c.application.Secret)))
		// RFC 6749, section 2.3.1, allows any character to be encoded.
		id, secret := percentEncode(c.application.ID), percentEncode(c.application.Secret)
		w.checkToken(w.requestToken(c.basicRequest(id, secret)))
	},
	"sends an empty or an old Bearer with its token request": func(c *originalClient) {
		w := c.connect()
		for _, header := range []string{"Authorization: Bearer ", "Authorization: Bearer abc", "Authorization:"} {
			w.checkToken(w.requestToken(strings.Replace(formRequest, "Content-Type", header+"\nContent-Type", 1)))
		}
	},
	"uses HTTP/1.0 and closes the connection, as PHP's streams do": func(c *originalClient) {
		old := strings.NewReplacer("HTTP/1.1", "HTTP/1.0", "Host: {host}", "Host: {host}\nConnection: close")
		token := c.connect().requestToken(old.Replace(formRequest))
		if s := c.connect().send(old.Replace(strings.Replace(userRequest, "TOKEN", token, 1))); s.status != 200 {
			c.Errorf("%d %s", s.status, s.body)
		}
	},
	"expects 400 for bad credentials, since it would repeat its request endlessly after 401": func(c *originalClient) {
		w := c.connect()
		const message = "there is no application with this id and this secret"
		const want = `{"error":"invalid_client","error_description":"` + message + `","message":"` + message + `"}`
		c.application.Secret = strings.Repeat("0", 32)
		for _, request := range []string{
			formRequest, curlRequest, queryRequest, c.basicRequest(c.application.ID, c.application.Secret),
		} {
			if s := w.expect(request, 400, want); s.header.Get("WWW-Authenticate") != "" {
				c.Errorf("the answer asks for another authentication: %s", s.header.Get("WWW-Authenticate"))
			}
		}
	},
}

// basicRequest returns a token request by HTTP Basic.
func (c *originalClient) basicRequest(id, secret string) string {
	basic := "Basic " + base64.StdEncoding.EncodeToString([]byte(id+":"+secret))
	return `POST /oauth/token HTTP/1.1
Host: {host}
Authorization: ` + basic + `
Content-Type: application/x-www-form-urlencoded
Content-Length: {length}

grant_type=client_credentials`
}

// percentEncode percent-encodes every byte.
func percentEncode(text string) string {
	var b strings.Builder
	for _, c := range []byte(text) {
		b.WriteString("%" + strings.ToUpper(string("0123456789abcdef"[c>>4])+string("0123456789abcdef"[c&15])))
	}
	return b.String()
}
