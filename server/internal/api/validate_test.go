package api

import (
	"fmt"
	"net/http"
	"strings"
	"testing"

	"github.com/agentevents/agentevents/gen"
)

// The answer names each invalid field and its allowed values.
func TestFieldErrorsSayWhatIsAllowed(t *testing.T) {
	ls := newLiveServer(t).withAgents()
	const id = "must be an integer from 1 to 4294967295"
	for _, c := range []struct{ request, body, want string }{
		{"PUT /client/" + strings.Repeat("a", 65), `{}`, "client_id must be at most 64 characters long"},
		{
			"PUT /client/a%20b", `{"name":1}`,
			"client_id must be 1 to 64 characters of A-Z a-z 0-9 . _ -; name must be a string",
		},
		{"PUT /client/%00", `{}`, "client_id must be 1 to 64 characters of A-Z a-z 0-9 . _ -"},
		{"GET /client//", "", "client_id is required"},
		{
			"PUT /client/12", `{"name":"a\u0000","x":1,"\ny":{}}`,
			"\ny is not a field of this request; allowed are: blocked, name; name must not contain control " +
				"characters; x is not a field of this request; allowed are: blocked, name",
		},
		{"PUT /client/12", `{"name":"a\u0085"}`, "name must not contain control characters"},
		{"PUT /client/12", `{"name":"a\u009f\u007f"}`, "name must not contain control characters"},
		{
			"POST /client/12/agent/local/", `{"extension_name":"\u0080"}`,
			"extension_name must not contain control characters",
		},
		{
			"PUT /client/12/agent/remote/7", `{"agent_number":"+7\u009b"}`,
			"agent_number must not contain control characters",
		},
		{
			"POST /client/12/application/", `{"name":"\u0090","access":"all"}`,
			"name must not contain control characters",
		},
		{
			"PUT /client/12/agent/local/136/status", `{"agent_status":null,"event_source":null,"changed_at":null}`,
			"agent_status must not be null, but one of: available, logged_out; changed_at must not be null, but an " +
				"RFC 3339 time, such as 2017-05-30T15:07:50.000Z; event_source must not be null, but one of: " +
				"api, phone",
		},
		{"PUT /client/12/status/", `null`, "body must not be null, but an array"},
		{
			"PUT /client/12/status/", `[null,{"agent_type":null,"agent_id":null,"agent_status":"available"}]`,
			"0 must not be null, but an object; 1.agent_id must not be null, but " + id[len("must be "):] +
				"; 1.agent_type must not be null, but one of: local, remote",
		},
		{
			"POST /client/12/agent/local/136/event/", `{"url":null,"method":null,"event_type":null}`,
			"event_type must not be null, but one of: agent-login, agent-logout; method must not be null, but one " +
				"of: GET, POST; url must not be null, but an absolute URL, such as https://example.com/path",
		},
		{
			"PUT /client/12/limit/", `{"agent":null,"agent_event":{"limit":null}}`,
			"agent must not be null, but an object; agent_event.limit must not be null, but an integer from 0 to " +
				"2147483647",
		},
		{
			"POST /client/12/delivery/redeliver", `{"state":null,"agent_type":null,"since":null}`,
			"agent_type must not be null, but one of: local, remote; since must not be null, but an RFC " +
				"3339 time, such as 2017-05-30T15:07:50.000Z; state must not be null, but one of: pending, " +
				"delivered, failed, cancelled",
		},
		{
			"PUT /client/12", `{"name":null,"blocked":null}`,
			"blocked must not be null, but true or false; name must not be null, but a string",
		},
		{"PUT /client/12", `{"blocked":"yes"}`, "blocked must be true or false"},
		{"PUT /client/12", `{"name":"` + strings.Repeat("ж", 256) + `"}`, "name must be at most 255 characters long"},
		{"PUT /client/12", `[]`, "body must be an object"},
		{"PUT /client/12", `null`, "body must not be null, but an object"},
		{"PUT /client/12", `"x"`, "body must be an object"},
		{"GET /client/12/agent/local/0", "", "agent_id " + id},
		{"GET /client/12/agent/local/4294967296", "", "agent_id " + id},
		{"GET /client/12/agent/local/99999999999999999999", "", "agent_id " + id},
		{"GET /client/12/agent/local/1.0", "", "agent_id " + id},
		{
			"GET /client/a+b/agent/local/x/event/y", "",
			"client_id must be 1 to 64 characters of A-Z a-z 0-9 . _ -; agent_id " + id + "; event_id " + id,
		},
		{
			"GET /client/12/agent/local/?limit=0&after=-1&extension_id=0", "", "extension_id.0 " + id +
				"; limit must be an integer from 1 to 1000000; after must be an integer from 0 to 4294967295",
		},
		{"GET /client/12/delivery/?before=0", "", "before must be an integer of at least 1"},
		{"GET /client/12/status_change/?after=-1", "", "after must be an integer of at least 0"},
		{
			"GET /client/12/agent/local/?limit=ten&extension_id=5,6", "", "extension_id each " + id +
				"; limit must be an integer from 1 to 1000000",
		},
		{
			"GET /client/12/agent/local/?limit=&extension_id=", "", "extension_id must not be empty, but each " + id +
				"; limit must not be empty, but an integer from 1 to 1000000",
		},
		{"GET /client/12/agent/local/?limit=1&limit=2", "", "limit must be given only once"},
		{
			"POST /client/12/agent/local/", `{"id":1.5,"extension_id":"5"}`, "extension_id " + id + "; id " + id +
				"; extension_name is required",
		},
		{
			"POST /client/12/agent/local/", `{"extension_name":"","extension_id":null}`,
			"extension_id must not be null, but " + id[len("must be "):] +
				"; extension_name must be 1 to 255 characters long",
		},
		{
			"POST /client/12/agent/remote/", `{"extension_name":"x"}`,
			"extension_name is not a field of this request; allowed are: agent_number, extension_id, id; " +
				"agent_number is required",
		},
		{
			"PUT /client/12/agent/local/136", `{"extension_name":null,"extension_id":0}`, "extension_id " + id +
				"; extension_name must not be null, but a string",
		},
		{"PUT /client/12/agent/local/137", `{"extension_id":5}`, "extension_name is required to create the agent"},
		{"POST /client/12/agent/local/136/event/", `{}`, "url is required; method is required; event_type is required"},
		{
			"POST /client/12/agent/local/136/event/", `{"url":"x","method":"get","event_type":7}`,
			"event_type must be one of: agent-login, agent-logout; method must be one of: GET, POST; url must be an " +
				"absolute URL, such as https://example.com/path",
		},
		{
			"PUT /client/12/agent/local/136/status", `{"agent_status":"available","changed_at":"2017-02-30T00:00:00Z"}`,
			"changed_at must be an RFC 3339 time, such as 2017-05-30T15:07:50.000Z",
		},
		{
			"PUT /client/12/agent/local/136/status", `{"agent_status":"available","changed_at":1496156870}`,
			"changed_at must be an RFC 3339 time, such as 2017-05-30T15:07:50.000Z",
		},
		{
			"PUT /client/12/agent/local/136/status",
			`{"agent_status":"available","changed_at":"2017-05-30T15:00:00,5Z"}`,
			"changed_at must be an RFC 3339 time, such as 2017-05-30T15:07:50.000Z",
		},
		{
			"GET /client/12/delivery/?since=2017-05-30+15:00:00Z&until=2017-05-30T12:00:60Z", "",
			"since must be an RFC 3339 time, such as 2017-05-30T15:07:50.000Z; until must be an RFC 3339 " +
				"time, such as 2017-05-30T15:07:50.000Z",
		},
		{"PUT /client/12/status/", `{}`, "body must be an array"},
		{"PUT /client/12/status/", "[" + strings.Repeat("{},", 1000) + "{}]", "body must have at most 1000 items"},
		{
			"PUT /client/12/status/",
			`[{"agent_type":"local","agent_id":1,"agent_status":"available"},{"agent_type":"both","agent_id":0,` +
				`"event_source":"fax","z":0},7]`, "1.agent_id " + id +
				"; 1.agent_type must be one of: local, remote; 1.event_source must be one of: api, phone; 1.z is " +
				"not a field of this request; allowed are: agent_id, agent_status, agent_type, changed_at, " +
				"event_source; 1.agent_status is required; 2 must be an object",
		},
	} {
		method, path, _ := strings.Cut(c.request, " ")
		g := ls.call(method, path, c.body)
		var wrong []string
		for _, f := range ls.errorOf(g).Errors {
			wrong = append(wrong, f.Field+" "+f.Message)
		}
		if have := strings.Join(wrong, "; "); g.status != http.StatusBadRequest || !strings.HasPrefix(have, c.want) {
			t.Errorf("%s %.60s: %d\n got %.900s\nwant %s", c.request, c.body, g.status, have, c.want)
		}
	}
}

func TestInvalidURLsAreRefused(t *testing.T) {
	ls := newLiveServer(t).withAgents()
	for _, kind := range []string{"local/136", "remote/7"} {
		path := "/client/12/agent/" + kind + "/event/"
		valid := `{"url":"http://127.0.0.1:9/x?a=b#c","method":"GET","event_type":"agent-login"}`
		g := ls.call("POST", path, valid)
		ls.expect(g, http.StatusCreated, "")
		_, id, _ := strings.Cut(g.body, `"id":`)
		id, _, _ = strings.Cut(id, ",")
		item := path + id
		for _, url := range []string{
			"ftp://example.com/", "http:///x", "http://10.0.0.1/", "http://[::1]/", "mailto:x@example.com",
			"http://2130706433/",
		} {
			for _, g := range []liveResponse{
				ls.call("POST", path, strings.Replace(valid, "http://127.0.0.1:9/x?a=b#c", url, 1)),
				ls.call("PUT", item, `{"url":"`+url+`"}`),
			} {
				if e := ls.errorOf(g); g.status != 400 || len(e.Errors) != 1 || e.Errors[0].Field != "url" {
					t.Errorf("%s: %d %s", url, g.status, g.body)
				}
			}
		}
		ls.expect(ls.call("PUT", item, `{}`), http.StatusOK, g.body)
	}
}

// The error for a URL with an invisible character, as pasted text may have, names the character's code.
func TestInvisibleCharactersInURLsAreNamed(t *testing.T) {
	ls := newLiveServer(t).withAgents()
	for code, r := range map[string]string{
		"U+00A0": "\u00a0", "U+200B": "\u200b", "U+FEFF": "\ufeff", "U+00AD": "\u00ad",
	} {
		for _, url := range []string{
			r + "https://example.com/", "https://example.com/" + r, "https://exam" + r + "ple.com/",
			"https://example.com/?a" + r + "=b",
		} {
			g := ls.call("POST", "/client/12/agent/local/136/event/", `{"url":"`+url+
				`","method":"GET","event_type":"agent-login"}`)
			want := gen.FieldError{
				Field: "url", Message: "must not contain the invisible character " + code +
					" (delete it, or percent-encode it in a path or query)",
			}
			if e := ls.errorOf(g); g.status != http.StatusBadRequest || len(e.Errors) != 1 || e.Errors[0] != want {
				t.Errorf("%q: %d %s", url, g.status, g.body)
			}
		}
	}
}

// A query parameter with the name of a path parameter or a header is ignored.
func TestQueryDoesNotOverridePathOrHeader(t *testing.T) {
	ls := newLiveServer(t).withAgents()
	ls.expect(ls.call("GET", "/client/12?client_id=1&client_id=2&agent_id=x", ""), http.StatusOK, "")
	ls.expect(ls.call("POST", "/client/12/agent/local/?Idempotency-Key=a&Idempotency-Key=b", `{"extension_name":"x"}`),
		http.StatusCreated, "")
}

// Some languages have no integers: 137.0 and 1.37e2 count as 137.
func TestIntegralNumbersAreIntegers(t *testing.T) {
	ls := newLiveServer(t).withAgents()
	g := ls.call("POST", "/client/12/agent/local/", `{"id":1.37e2,"extension_name":"x","extension_id":5.0}`)
	if g.status != http.StatusCreated || !strings.Contains(g.body, `"id":137,`) ||
		!strings.Contains(g.body, `"extension_id":5,`) {
		t.Errorf("%d %s", g.status, g.body)
	}
	ls.expect(ls.call("PUT", "/client/12/agent/local/137", `{"extension_id":6e0}`), http.StatusOK, "")
	g = ls.call("PUT", "/client/12/status/", `[{"agent_type":"local","agent_id":137.0,"agent_status":"available"}]`)
	if g.status != http.StatusOK || !strings.Contains(g.body, `"sequence":1`) {
		t.Errorf("%d %s", g.status, g.body)
	}
}

func TestFieldErrorsAreBounded(t *testing.T) {
	ls := newLiveServer(t).withAgents()
	const more = "the request is not valid, and these are the first 20 errors"
	for n, message := range map[int]string{20: "the request is not valid", 21: more, 1000: more} {
		items := strings.Repeat(`{"agent_id":1,"agent_type":"local"},`, n)
		g := ls.call("PUT", "/client/12/status/", "["+strings.TrimSuffix(items, ",")+"]")
		if e := ls.errorOf(g); len(e.Errors) != 20 || e.Message != message {
			t.Errorf("%d errors: %d %s", n, len(e.Errors), e.Message)
		}
	}
	g := ls.call("PUT", "/client/12", `{"`+strings.Repeat("ж", 1000)+`":1}`)
	if e := ls.errorOf(g); len(e.Errors) != 1 || e.Errors[0].Field != strings.Repeat("ж", 256) {
		t.Errorf("%.300s", g.body)
	}
	var many strings.Builder
	for i := range 50_000 {
		fmt.Fprintf(&many, `"field%d":0,`, i)
	}
	g = ls.call("PUT", "/client/12", "{"+many.String()+`"name":"x"}`)
	if e := ls.errorOf(g); g.status != http.StatusBadRequest || len(e.Errors) != 20 || e.Message != more {
		t.Errorf("%d errors: %s", len(e.Errors), e.Message)
	}
}
