package api

import (
	"net/http"
	"testing"

	"github.com/agentevents/agentevents/gen"
)

// tokenFailures is how often an application may fail at once to get a token.
const tokenFailures = 10

// Who fails waits, for that application alone; who succeeds never does, however often.
func TestTokenThrottle(t *testing.T) {
	t.Parallel()
	ts := newTestServer(t)
	ts.withClient()
	made, other := ts.application(gen.AccessLevelAll), ts.application(gen.AccessLevelAll)
	fail := func(id string, status int) {
		t.Helper()
		body := credentials(gen.ApplicationSecret{ID: id, Secret: "x"}).Encode()
		resp := ts.send(scenario{request: "POST /oauth/token", body: body, header: formType})
		if throttled := resp.header.Get("Retry-After") == "6"; resp.status != status || throttled != (status == http.StatusTooManyRequests) {
			t.Errorf("%d %s, Retry-After %q; want %d", resp.status, resp.body, resp.header.Get("Retry-After"), status)
		}
	}
	ts.failTokenRequests(made.ID)
	fail(made.ID, http.StatusTooManyRequests)
	fail(other.ID, http.StatusBadRequest)
	for range tokenFailures {
		fail("x", http.StatusBadRequest)
	}
	fail("x", http.StatusTooManyRequests) // as if there were one
	for range 30 {
		ts.token(made)
	}
	fail(made.ID, http.StatusTooManyRequests)
}

// failTokenRequests has an application's secret be wrong as often as it may at once.
func (ts *testServer) failTokenRequests(id string) {
	ts.Helper()
	for range tokenFailures {
		body := credentials(gen.ApplicationSecret{ID: id, Secret: "x"}).Encode()
		resp := ts.send(scenario{request: "POST /oauth/token", body: body, header: formType})
		ts.wantJSON("a failure", invalidClient, resp.body)
	}
}
