package api

import (
	"net/http"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

func TestIdempotencyKey(t *testing.T) {
	t.Parallel()
	for given, want := range map[string]string{
		"8e03978e-40d5": "8e03978e-40d5", `"8e03978e-40d5"`: "8e03978e-40d5", `"a b"`: "a b", `"\"\\"`: `"\`, `a"b\`: `a"b\`, "a b": "a b",
		`"a`: "", `"a"b`: "", `"a\b"`: "", `"a\"`: "", `"\`: "", `"`: "", `""`: "", "": "", "ключ": "", "a\tb": "", "\"a\tb\"": "", "\x7f": "",
		`"a";x=1`: "",
	} {
		key, err := idempotencyKey([]string{given})
		if key != want || (err == nil) != (want != "") {
			t.Errorf("%s is %q, %v, want %q", given, key, err, want)
		}
	}
	if _, err := idempotencyKey([]string{"a", "a"}); err == nil {
		t.Error("it may be given twice")
	}
}

// idempotencyScenarios are requests with an Idempotency-Key, made of a good request of an operation that takes one.
func idempotencyScenarios(s scenario) (all []scenario) {
	const key = "8e03978e-40d5-43dd-bc93-6894a57f9324"
	given := s.given
	with := func(header string) map[string]string {
		return map[string]string{headerIdempotencyKey: header, "Authorization": "Bearer " + asAll.token}
	}
	after := func(first scenario) func(*world) {
		first.header = with(key)
		return func(w *world) {
			given(w)
			if w.reply = w.send(first); w.reply.status >= 300 {
				w.Fatalf("%s: %d %s", first.request, w.reply.status, w.reply.body)
			}
		}
	}
	for name, change := range map[string]func(*scenario){
		"as it was": func(*scenario) {},
		"quoted":    func(s *scenario) { s.header = with(`"` + key + `"`) },
		"of @me":    func(s *scenario) { s.request = strings.Replace(s.request, "/client/12", "/client/@me", 1) },
		"in another form": func(s *scenario) {
			s.request, s.body = s.request+"?x", strings.Replace(s.body, ":", " :\n", 1)
		},
	} {
		all = append(all, s.but("again with the same key, "+name, func(s *scenario) {
			var first *reply
			create := after(*s)
			s.given = func(w *world) { create(w); first = w.reply }
			s.header, s.family = with(key), s.name
			s.then = func(w *world) { w.answeredAgain(first) }
			change(s)
		}))
	}
	all = append(all, s.refused("with the key of another request", http.StatusUnprocessableEntity, nil, func(s *scenario) {
		s.given, s.family = after(s.other()), s.name
		s.header = with(key)
		s.want = `{"message":"the Idempotency-Key was used for another request; use a new key for each new request",` +
			`"status":"idempotency_key_reused"}`
	}))
	for name, header := range map[string]string{"long": strings.Repeat("x", 256), "open": `"x`, "empty": `""`, "foreign": "ключ"} {
		all = append(all, s.refused("with a key that is "+name, http.StatusBadRequest, []string{headerIdempotencyKey}, func(s *scenario) {
			s.header = with(header)
		}))
	}
	return all
}

// other is another good request of the same operation, or of another one if that takes no body.
func (s scenario) other() scenario {
	body, is := map[string]string{
		"createLocalAgent":       `{"id":99,"extension_name":"x"}`,
		"createRemoteAgent":      `{"id":99,"agent_number":"x"}`,
		"createLocalAgentEvent":  `{"url":"https://somehost.com/x","method":"GET","event_type":"agent-login"}`,
		"createRemoteAgentEvent": `{"url":"https://somehost.com/x","method":"GET","event_type":"agent-login"}`,
		"createApplication":      `{"name":"x","access":"all"}`,
		"redeliverMany":          `{"state":"delivered"}`,
	}[s.op]
	if !is {
		s.request, body = "POST /client/12/application/", `{"name":"x","access":"all"}`
	}
	s.body = body
	return s
}

// answeredAgain looks whether an answer is that of the request before, and nothing more is stored.
func (w *world) answeredAgain(first *reply) {
	w.Helper()
	if first.status != w.reply.status || string(first.body) != string(w.reply.body) ||
		first.header.Get("Location") != w.reply.header.Get("Location") {
		w.Errorf("the first answer is %d %s, the second %d %s", first.status, first.body, w.reply.status, w.reply.body)
	}
	if diff := cmp.Diff(stored(w.before), stored(w.dump())); diff != "" {
		w.Errorf("the second request has changed the store:\n%s", diff)
	}
}
