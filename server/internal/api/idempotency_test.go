package api

import (
	"net/http"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

func TestIdempotencyKeyIsParsed(t *testing.T) {
	t.Parallel()
	for given, want := range map[string]string{
		"8e03978e-40d5": "8e03978e-40d5", `"8e03978e-40d5"`: "8e03978e-40d5", `"a b"`: "a b", `"\"\\"`: `"\`,
		`a"b\`: `a"b\`, "a b": "a b",
		`"a`: "", `"a"b`: "", `"a\b"`: "", `"a\"`: "", `"\`: "", `"`: "", `""`: "", "": "", "ключ": "", "a\tb": "",
		"\"a\tb\"": "", "\x7f": "",
		`"a";x=1`: "",
	} {
		key, err := idempotencyKey([]string{given})
		if key != want || (err == nil) != (want != "") {
			t.Errorf("%s is %q, %v, want %q", given, key, err, want)
		}
	}
	if _, err := idempotencyKey([]string{"a", "a"}); err == nil {
		t.Error("two keys are accepted")
	}
}

// idempotencyScenarios returns requests with an Idempotency-Key, derived from the representative of an operation that
// accepts one.
func idempotencyScenarios(s scenario) (all []scenario) {
	const key = "8e03978e-40d5-43dd-bc93-6894a57f9324"
	given := s.setup
	with := func(header string) map[string]string {
		return map[string]string{headerIdempotencyKey: header, "Authorization": "Bearer " + allToken.token}
	}
	after := func(first scenario) func(*testServer) {
		first.header = with(key)
		return func(ts *testServer) {
			given(ts)
			if ts.response = ts.send(first); ts.response.status >= 300 {
				ts.Fatalf("%s: %d %s", first.request, ts.response.status, ts.response.body)
			}
		}
	}
	for name, change := range map[string]func(*scenario){
		"unchanged": func(*scenario) {},
		"quoted":    func(s *scenario) { s.header = with(`"` + key + `"`) },
		"for @me":   func(s *scenario) { s.request = strings.Replace(s.request, "/client/12", "/client/@me", 1) },
		"in another form": func(s *scenario) {
			s.request, s.body = s.request+"?x", strings.Replace(s.body, ":", " :\n", 1)
		},
	} {
		all = append(all, s.variant("repeated with the same key, "+name, func(s *scenario) {
			var first *apiResponse
			create := after(*s)
			s.setup = func(ts *testServer) { create(ts); first = ts.response }
			s.header, s.sharedSetup = with(key), s.name
			s.after = func(ts *testServer) { ts.wantSameResponse(first) }
			change(s)
		}))
	}
	all = append(all,
		s.refused("with a key of another request", http.StatusUnprocessableEntity, nil, func(s *scenario) {
			s.setup, s.sharedSetup = after(s.anotherRequest()), s.name
			s.header = with(key)
			s.wantBody = `{"message":"the Idempotency-Key was used for another request; use a new key for each new ` +
				`request",` +
				`"status":"idempotency_key_reused"}`
		}))
	for name, header := range map[string]string{
		"too long": strings.Repeat("x", 256), "unclosed": `"x`, "empty": `""`, "not ASCII": "ключ",
	} {
		all = append(all,
			s.refused("with a key that is "+name, http.StatusBadRequest, []string{
				headerIdempotencyKey,
			}, func(s *scenario) {
				s.header = with(header)
			}))
	}
	return all
}

// anotherRequest returns another valid request of the same operation or, if that takes no body, of another operation.
func (s scenario) anotherRequest() scenario {
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

// wantSameResponse checks that the answer equals the first one, and that the store has not changed.
func (ts *testServer) wantSameResponse(first *apiResponse) {
	ts.Helper()
	if first.status != ts.response.status || string(first.body) != string(ts.response.body) ||
		first.header.Get("Location") != ts.response.header.Get("Location") {
		ts.Errorf("the first answer is %d %s, the second %d %s", first.status, first.body, ts.response.status,
			ts.response.body)
	}
	if diff := cmp.Diff(stableRows(ts.rowsBefore), stableRows(ts.dump())); diff != "" {
		ts.Errorf("the second request has changed the store:\n%s", diff)
	}
}
