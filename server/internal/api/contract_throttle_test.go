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
	w := newWorld(t)
	w.withClient()
	made, other := w.application(gen.AccessLevelAll), w.application(gen.AccessLevelAll)
	fail := func(id string, status int) {
		t.Helper()
		body := credentials(gen.ApplicationSecret{ID: id, Secret: "x"}).Encode()
		a := w.send(scenario{request: "POST /oauth/token", body: body, header: formType})
		if throttled := a.header.Get("Retry-After") == "6"; a.status != status || throttled != (status == http.StatusTooManyRequests) {
			t.Errorf("%d %s, Retry-After %q; want %d", a.status, a.body, a.header.Get("Retry-After"), status)
		}
	}
	w.failures(made.ID)
	fail(made.ID, http.StatusTooManyRequests)
	fail(other.ID, http.StatusBadRequest)
	for range tokenFailures {
		fail("x", http.StatusBadRequest)
	}
	fail("x", http.StatusTooManyRequests) // as if there were one
	for range 30 {
		w.token(made)
	}
	fail(made.ID, http.StatusTooManyRequests)
}

// failures has an application's secret be wrong as often as it may at once.
func (w *world) failures(id string) {
	w.Helper()
	for range tokenFailures {
		body := credentials(gen.ApplicationSecret{ID: id, Secret: "x"}).Encode()
		a := w.send(scenario{request: "POST /oauth/token", body: body, header: formType})
		w.same("a failure", invalidClient, a.body)
	}
}
