package e2e

import (
	"encoding/json"
	"strconv"
	"strings"

	"github.com/agentevents/agentevents/gen"
)

const showURL = "https://somehost.com/fordel/show.php"

// callForms are the forms in which clients make calls.
var callForms = map[string]func(*originalClient){
	"calls GET /user and then the client in the answer": func(c *originalClient) {
		w := c.connect()
		token := w.requestToken(curlRequest)
		s := w.send("GET /api/ver1.0/user HTTP/1.1\nHost: {host}\nAuthorization: Bearer " + token + "\n\n")
		var user struct {
			ID       uint32
			ClientID *uint32 `json:"client_id"`
			DealerID *uint32 `json:"dealer_id"`
			Admin    *bool
			Login    string
			Access   string
			Timezone string
		}
		c.must(json.Unmarshal([]byte(s.body), &user))
		if s.status != 200 || user.ID == 0 || user.ClientID == nil || strconv.Itoa(int(*user.ClientID)) != c.id ||
			user.DealerID != nil || user.Admin == nil || *user.Admin || user.Access != "full" {
			c.Fatalf("%d %s", s.status, s.body)
		}
		w.expect("GET /api/ver1.0/client/{client} HTTP/1.1\nHost: {host}\nAuthorization: Bearer "+token+"\n\n",
			200, `{"id":"`+c.id+`","blocked":false}`)
	},
	"escapes slashes, and deletes with a Content-Type, on one connection": func(c *originalClient) {
		w := c.connect()
		bearer := "Host: {host}\nauthorization: Bearer " + w.requestToken(formRequest)
		const events = "/api/ver1.0/client/%40me/agent/local/136/event/"
		w.expect("GET "+events+" HTTP/1.1\n"+bearer+"\n\n", 200, `[]`)
		s := w.send("POST " + events + " HTTP/1.1\n" + bearer +
			"\nContent-Type: application/json\nContent-Length: {length}\n\n" +
			`{"url":"https:\/\/somehost.com\/fordel\/show.php","method":"GET","event_type":"agent-login"}`)
		event := c.event(s)
		object := func(method string) string {
			return `{"url":"` + showURL + `","id":` + event + `,"method":"` + method + `","event_type":"agent-login"}`
		}
		if s.status != 201 || s.body != object("GET") {
			c.Errorf("POST gets %d %s", s.status, s.body)
		}
		w.expect("GET "+events+" HTTP/1.1\n"+bearer+"\n\n", 200, "["+object("GET")+"]")
		w.expect("PUT "+events+event+" HTTP/1.1\n"+bearer+
			"\nContent-Type: application/json\nContent-Length: {length}\n\n"+
			`{"method":"POST"}`, 200, object("POST"))
		w.expect("GET "+events+event+" HTTP/1.1\n"+bearer+"\n\n", 200, object("POST"))
		s = w.expect(
			"DELETE "+events+event+" HTTP/1.1\n"+bearer+"\nContent-Type: application/json\nContent-Length: 0\n\n", 204,
			"",
		)
		if s.header.Get("Content-Type") != "" || s.header.Get("Transfer-Encoding") != "" {
			c.Errorf("DELETE gets the header %v", s.header)
		}
		w.expect("GET "+events+" HTTP/1.1\n"+bearer+"\n\n", 200, `[]`)
		s = w.send("GET " + events + event + " HTTP/1.1\n" + bearer + "\n\n")
		if s.status != 404 || !strings.Contains(s.body, `"status":"event_not_found"`) {
			c.Errorf("the deleted event gets %d %s", s.status, s.body)
		}
	},
	"omits the trailing slash, and does not follow redirects": func(c *originalClient) {
		w := c.connect()
		bearer := "Host: {host}\nAuthorization: Bearer " + w.requestToken(formRequest)
		const events = "/api/ver1.0/client/@me/agent/remote/7/event"
		s := w.send("POST " + events + " HTTP/1.1\n" + bearer +
			"\nContent-Type: application/json\nContent-Length: {length}\n\n" +
			`{"url":"` + showURL + `","method":"POST","event_type":"agent-logout"}`)
		if s.status != 201 {
			c.Fatalf("POST gets %d %s", s.status, s.body)
		}
		w.expect("GET "+events+" HTTP/1.1\n"+bearer+"\n\n", 200, "["+s.body+"]")
		// Other clients add a trailing slash to the path of an item.
		w.expect("GET "+events+"/"+c.event(s)+"/ HTTP/1.1\n"+bearer+"\n\n", 200, s.body)
		w.expect("DELETE "+events+"/"+c.event(s)+"/ HTTP/1.1\n"+bearer+"\n\n", 204, "")
	},
	"sends a body with every GET": func(c *originalClient) {
		w := c.connect()
		bearer := "Host: {host}\nAuthorization: Bearer " + w.requestToken(formRequest)
		for _, body := range []string{`[]`, `{}`, `null`, `{"agent_id":136}`, `a=b`, strings.Repeat("x", 100_000)} {
			w.expect("GET /api/ver1.0/client/@me/agent/local/136/event/ HTTP/1.1\n"+bearer+
				"\nContent-Type: application/json\nContent-Length: {length}\n\n"+body, 200, `[]`)
		}
	},
	"writes Authorization and Bearer in any case": func(c *originalClient) {
		w := c.connect()
		token := w.requestToken(formRequest)
		for _, header := range []string{
			"authorization: bearer ", "AUTHORIZATION: BEARER ", "Authorization: bEaReR  ", "authorization:Bearer ",
		} {
			w.expect("GET /api/ver1.0/client/@me HTTP/1.1\nHost: {host}\n"+header+token+"\n\n", 200,
				`{"id":"`+c.id+`","blocked":false}`)
		}
	},
	"sends an empty Bearer, or none, before it has a token": func(c *originalClient) {
		w := c.connect()
		for _, header := range []string{
			"X-None: ", "Authorization: Bearer ", "authorization: Bearer", "Authorization: Bearer null",
			"Authorization:",
		} {
			s := w.expect("GET /api/ver1.0/client/@me/agent/local/ HTTP/1.1\nHost: {host}\n"+header+"\n\n", 401,
				unauthorized)
			if s.header.Get("Content-Type") != "application/json" || s.header.Get("Location") != "" {
				c.Errorf("401 with %v", s.header)
			}
		}
	},
	"filters agents by an array in the form of PHP": func(c *originalClient) {
		w := c.connect()
		bearer := "Host: {host}\nAuthorization: Bearer " + w.requestToken(formRequest)
		for _, query := range []string{
			"extension_id%5B0%5D=5&extension_id%5B1%5D=6", "extension_id[0]=5&extension_id[1]=6",
			"extension_id%5B%5D=5&extension_id%5B%5D=6",
		} {
			s := w.send("GET /api/ver1.0/client/%40me/agent/local/?" + query + " HTTP/1.1\n" + bearer + "\n\n")
			var agents []struct {
				ID uint32 `json:"id"`
			}
			c.must(json.Unmarshal([]byte(s.body), &agents))
			if s.status != 200 || len(agents) != 2 || agents[0].ID != 136 || agents[1].ID != 137 {
				c.Errorf("%s gets %d %s", query, s.status, s.body)
			}
		}
	},
	"has ids of 32 bits and lists as arrays, and sends an object back unchanged": func(c *originalClient) {
		w := c.connect()
		bearer := "Host: {host}\nAuthorization: Bearer " + w.requestToken(formRequest)
		const events = "/api/ver1.0/client/@me/agent/local/137/event/"
		s := w.send("POST " + events + " HTTP/1.1\n" + bearer +
			"\nContent-Type: application/json; charset=utf-8\nContent-Length: {length}\n\n" +
			`{"id":0,"url":"` + showURL + `","method":"GET","event_type":"agent-login"}`)
		var created struct {
			ID  uint32 `json:"id"`
			URL string `json:"url"`
		}
		c.must(json.Unmarshal([]byte(s.body), &created))
		if s.status != 201 || created.ID == 0 || created.URL != showURL {
			c.Errorf("POST gets %d %s", s.status, s.body)
		}
		w.expect("PUT "+events+strconv.Itoa(int(created.ID))+" HTTP/1.1\n"+bearer+
			"\nContent-Type: application/json\nContent-Length: {length}\n\n"+s.body, 200, s.body)
		var list []struct {
			ID uint32 `json:"id"`
		}
		c.must(json.Unmarshal([]byte(w.send("GET "+events+" HTTP/1.1\n"+bearer+"\n\n").body), &list))
		if len(list) != 1 || list[0].ID != created.ID {
			c.Errorf("the list is %v", list)
		}
	},
	"requests a new token after 401, but not after 403": func(c *originalClient) {
		w := c.connect()
		const json = "\nContent-Type: application/json\nContent-Length: {length}\n\n"
		status := "PUT /api/ver1.0/client/@me/agent/local/136/status HTTP/1.1\nHost: {host}\nAuthorization: Bearer "
		w.expect(status+c.token(c.createApplication(gen.AccessLevelCallAPI))+json+`{"agent_status":"available"}`, 403,
			`{"message":"the operation requires access all, the application has call_api",`+
				`"status":"app_access_type_deny"}`)
		events := "POST /api/ver1.0/client/@me/agent/local/136/event/ HTTP/1.1\nHost: {host}\nAuthorization: Bearer "
		w.expect(events+c.token(c.createApplication(gen.AccessLevelReadOnly))+json+`{}`, 403,
			`{"message":"the application has read-only access","status":"user_access_type_deny"}`)
		for _, other := range []string{"1", "99999", "none"} {
			w.expect("GET /api/ver1.0/client/"+other+" HTTP/1.1\nHost: {host}\nAuthorization: Bearer "+
				c.token(c.application)+"\n\n", 403,
				`{"message":"access denied","status":"access_denied"}`)
		}
	},
}

// event returns the id in an answer, as text.
func (c *originalClient) event(s answer) string {
	c.Helper()
	var event struct {
		ID json.Number `json:"id"`
	}
	c.must(json.Unmarshal([]byte(s.body), &event))
	if _, err := strconv.ParseUint(event.ID.String(), 10, 32); err != nil || strings.Contains(s.body, `"id":"`) {
		c.Errorf("the id in %s is not a number of 32 bits", s.body)
	}
	return event.ID.String()
}
