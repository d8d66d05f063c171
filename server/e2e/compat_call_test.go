package e2e

import (
	"encoding/json"
	"strconv"
	"strings"

	"github.com/agentevents/agentevents/gen"
)

const showURL = "https://somehost.com/fordel/show.php"

// callHabits are ways to make a call.
var callHabits = map[string]func(*customer){
	"begins with GET /user and goes on with the client that it names": func(c *customer) {
		w := c.connect()
		token := w.granted(curlRequest)
		s := w.ask("GET /api/ver1.0/user HTTP/1.1\nHost: {host}\nAuthorization: Bearer " + token + "\n\n")
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
		w.hears("GET /api/ver1.0/client/{client} HTTP/1.1\nHost: {host}\nAuthorization: Bearer "+token+"\n\n",
			200, `{"id":"`+c.id+`","blocked":false}`)
	},
	"escapes slashes and deletes with a type, all on one connection": func(c *customer) {
		w := c.connect()
		bearer := "Host: {host}\nauthorization: Bearer " + w.granted(formRequest)
		const events = "/api/ver1.0/client/%40me/agent/local/136/event/"
		w.hears("GET "+events+" HTTP/1.1\n"+bearer+"\n\n", 200, `[]`)
		s := w.ask("POST " + events + " HTTP/1.1\n" + bearer +
			"\nContent-Type: application/json\nContent-Length: {length}\n\n" +
			`{"url":"https:\/\/somehost.com\/fordel\/show.php","method":"GET","event_type":"agent-login"}`)
		event := c.event(s)
		object := func(method string) string {
			return `{"url":"` + showURL + `","id":` + event + `,"method":"` + method + `","event_type":"agent-login"}`
		}
		if s.status != 201 || s.body != object("GET") {
			c.Errorf("POST is answered %d %s", s.status, s.body)
		}
		w.hears("GET "+events+" HTTP/1.1\n"+bearer+"\n\n", 200, "["+object("GET")+"]")
		w.hears("PUT "+events+event+" HTTP/1.1\n"+bearer+
			"\nContent-Type: application/json\nContent-Length: {length}\n\n"+
			`{"method":"POST"}`, 200, object("POST"))
		w.hears("GET "+events+event+" HTTP/1.1\n"+bearer+"\n\n", 200, object("POST"))
		s = w.hears(
			"DELETE "+events+event+" HTTP/1.1\n"+bearer+"\nContent-Type: application/json\nContent-Length: 0\n\n", 204,
			"",
		)
		if s.header.Get("Content-Type") != "" || s.header.Get("Transfer-Encoding") != "" {
			c.Errorf("DELETE is answered with %v", s.header)
		}
		w.hears("GET "+events+" HTTP/1.1\n"+bearer+"\n\n", 200, `[]`)
		s = w.ask("GET " + events + event + " HTTP/1.1\n" + bearer + "\n\n")
		if s.status != 404 || !strings.Contains(s.body, `"status":"event_not_found"`) {
			c.Errorf("what was deleted is answered %d %s", s.status, s.body)
		}
	},
	"leaves out the slash at the end, and does not follow redirects": func(c *customer) {
		w := c.connect()
		bearer := "Host: {host}\nAuthorization: Bearer " + w.granted(formRequest)
		const events = "/api/ver1.0/client/@me/agent/remote/7/event"
		s := w.ask("POST " + events + " HTTP/1.1\n" + bearer +
			"\nContent-Type: application/json\nContent-Length: {length}\n\n" +
			`{"url":"` + showURL + `","method":"POST","event_type":"agent-logout"}`)
		if s.status != 201 {
			c.Fatalf("POST is answered %d %s", s.status, s.body)
		}
		w.hears("GET "+events+" HTTP/1.1\n"+bearer+"\n\n", 200, "["+s.body+"]")
		// Others put one where there is none.
		w.hears("GET "+events+"/"+c.event(s)+"/ HTTP/1.1\n"+bearer+"\n\n", 200, s.body)
		w.hears("DELETE "+events+"/"+c.event(s)+"/ HTTP/1.1\n"+bearer+"\n\n", 204, "")
	},
	"sends a body with every GET": func(c *customer) {
		w := c.connect()
		bearer := "Host: {host}\nAuthorization: Bearer " + w.granted(formRequest)
		for _, body := range []string{`[]`, `{}`, `null`, `{"agent_id":136}`, `a=b`, strings.Repeat("x", 100_000)} {
			w.hears("GET /api/ver1.0/client/@me/agent/local/136/event/ HTTP/1.1\n"+bearer+
				"\nContent-Type: application/json\nContent-Length: {length}\n\n"+body, 200, `[]`)
		}
	},
	"writes authorization and bearer in any case": func(c *customer) {
		w := c.connect()
		token := w.granted(formRequest)
		for _, header := range []string{
			"authorization: bearer ", "AUTHORIZATION: BEARER ", "Authorization: bEaReR  ", "authorization:Bearer ",
		} {
			w.hears("GET /api/ver1.0/client/@me HTTP/1.1\nHost: {host}\n"+header+token+"\n\n", 200,
				`{"id":"`+c.id+`","blocked":false}`)
		}
	},
	"sends an empty bearer, or none, until it has a token": func(c *customer) {
		w := c.connect()
		for _, header := range []string{
			"X-None: ", "Authorization: Bearer ", "authorization: Bearer", "Authorization: Bearer null",
			"Authorization:",
		} {
			s := w.hears("GET /api/ver1.0/client/@me/agent/local/ HTTP/1.1\nHost: {host}\n"+header+"\n\n", 401,
				unauthorized)
			if s.header.Get("Content-Type") != "application/json" || s.header.Get("Location") != "" {
				c.Errorf("401 with %v", s.header)
			}
		}
	},
	"looks for the agents of extensions, as PHP writes an array": func(c *customer) {
		w := c.connect()
		bearer := "Host: {host}\nAuthorization: Bearer " + w.granted(formRequest)
		for _, query := range []string{
			"extension_id%5B0%5D=5&extension_id%5B1%5D=6", "extension_id[0]=5&extension_id[1]=6",
			"extension_id%5B%5D=5&extension_id%5B%5D=6",
		} {
			s := w.ask("GET /api/ver1.0/client/%40me/agent/local/?" + query + " HTTP/1.1\n" + bearer + "\n\n")
			var agents []struct {
				ID uint32 `json:"id"`
			}
			c.must(json.Unmarshal([]byte(s.body), &agents))
			if s.status != 200 || len(agents) != 2 || agents[0].ID != 136 || agents[1].ID != 137 {
				c.Errorf("%s is answered %d %s", query, s.status, s.body)
			}
		}
	},
	"keeps ids as 32 bits and lists as arrays, and puts back what it got": func(c *customer) {
		w := c.connect()
		bearer := "Host: {host}\nAuthorization: Bearer " + w.granted(formRequest)
		const events = "/api/ver1.0/client/@me/agent/local/137/event/"
		s := w.ask("POST " + events + " HTTP/1.1\n" + bearer +
			"\nContent-Type: application/json; charset=utf-8\nContent-Length: {length}\n\n" +
			`{"id":0,"url":"` + showURL + `","method":"GET","event_type":"agent-login"}`)
		var created struct {
			ID  uint32 `json:"id"`
			URL string `json:"url"`
		}
		c.must(json.Unmarshal([]byte(s.body), &created))
		if s.status != 201 || created.ID == 0 || created.URL != showURL {
			c.Errorf("POST is answered %d %s", s.status, s.body)
		}
		w.hears("PUT "+events+strconv.Itoa(int(created.ID))+" HTTP/1.1\n"+bearer+
			"\nContent-Type: application/json\nContent-Length: {length}\n\n"+s.body, 200, s.body)
		var list []struct {
			ID uint32 `json:"id"`
		}
		c.must(json.Unmarshal([]byte(w.ask("GET "+events+" HTTP/1.1\n"+bearer+"\n\n").body), &list))
		if len(list) != 1 || list[0].ID != created.ID {
			c.Errorf("the list is %v", list)
		}
	},
	"takes 403 for what it may not, and would get a new token after 401": func(c *customer) {
		w := c.connect()
		const json = "\nContent-Type: application/json\nContent-Length: {length}\n\n"
		status := "PUT /api/ver1.0/client/@me/agent/local/136/status HTTP/1.1\nHost: {host}\nAuthorization: Bearer "
		w.hears(status+c.token(c.application(gen.AccessLevelCallAPI))+json+`{"agent_status":"available"}`, 403,
			`{"message":"the application has access call_api, and this takes all","status":"app_access_type_deny"}`)
		events := "POST /api/ver1.0/client/@me/agent/local/136/event/ HTTP/1.1\nHost: {host}\nAuthorization: Bearer "
		w.hears(events+c.token(c.application(gen.AccessLevelReadOnly))+json+`{}`, 403,
			`{"message":"the application may only read","status":"user_access_type_deny"}`)
		for _, other := range []string{"1", "99999", "none"} {
			w.hears("GET /api/ver1.0/client/"+other+" HTTP/1.1\nHost: {host}\nAuthorization: Bearer "+c.token(c.made)+
				"\n\n", 403,
				`{"message":"access denied","status":"access_denied"}`)
		}
	},
}

// event is the id in an answer, as it is written there.
func (c *customer) event(s said) string {
	c.Helper()
	var event struct {
		ID json.Number `json:"id"`
	}
	c.must(json.Unmarshal([]byte(s.body), &event))
	if _, err := strconv.ParseUint(event.ID.String(), 10, 32); err != nil || strings.Contains(s.body, `"id":"`) {
		c.Errorf("%s has an id that is no number of 32 bits", s.body)
	}
	return event.ID.String()
}
