package api

import (
	"net/http"
	"testing"

	"github.com/agentevents/agentevents/gen"
)

// tokenFailures is the number of consecutive token requests that may fail.
const tokenFailures = 10

// Failed token requests are throttled for each application. Requests with the right secret never are.
func TestTokenFailuresAreThrottled(t *testing.T) {
	t.Parallel()
	ts := newTestServer(t)
	ts.withClient()
	created, other := ts.application(gen.AccessLevelAll), ts.application(gen.AccessLevelAll)
	fail := func(id string, status int) {
		t.Helper()
		body := credentials(gen.ApplicationSecret{ID: id, Secret: "x"}).Encode()
		resp := ts.send(scenario{request: "POST /oauth/token", body: body, header: formType})
		if throttled := resp.header.Get("Retry-After") == "6"; resp.status != status ||
			throttled != (status == http.StatusTooManyRequests) {
			t.Errorf("%d %s, Retry-After %q; want %d", resp.status, resp.body, resp.header.Get("Retry-After"), status)
		}
	}
	ts.failTokenRequests(created.ID)
	fail(created.ID, http.StatusTooManyRequests)
	fail(other.ID, http.StatusBadRequest)
	for range tokenFailures {
		fail("x", http.StatusBadRequest)
	}
	fail("x", http.StatusTooManyRequests) // the application does not exist
	for range 30 {
		ts.token(created)
	}
	fail(created.ID, http.StatusTooManyRequests)
}

// An application that requests token after token is limited, and no other one. Requests with a wrong secret do not use
// up the limit of an application.
func TestTokenRate(t *testing.T) {
	t.Parallel()
	ts := newTestServer(t)
	ts.withClient()
	made, other := ts.application(gen.AccessLevelAll), ts.application(gen.AccessLevelAll)
	ts.failTokenRequests(made.ID)
	for range 300 {
		ts.token(made)
	}
	resp := ts.send(scenario{request: "POST /oauth/token", body: credentials(made).Encode(), header: formType})
	if resp.status != http.StatusTooManyRequests || resp.header.Get("Retry-After") != "1" {
		t.Errorf("%d %s, Retry-After %q", resp.status, resp.body, resp.header.Get("Retry-After"))
	}
	ts.wantJSON("the answer", `{"error":"rate_limit_exceeded","error_description":"the application requests too many `+
		`tokens; use each of them until it expires","message":"the application requests too many tokens; use each of `+
		`them until it expires"}`, resp.body)
	ts.token(other)
}

// failTokenRequests sends as many wrong secrets of an application as are not throttled.
func (ts *testServer) failTokenRequests(id string) {
	ts.Helper()
	for range tokenFailures {
		body := credentials(gen.ApplicationSecret{ID: id, Secret: "x"}).Encode()
		resp := ts.send(scenario{request: "POST /oauth/token", body: body, header: formType})
		ts.wantJSON("a failure", invalidClient, resp.body)
	}
}
