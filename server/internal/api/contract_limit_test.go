package api

import (
	"fmt"
	"net/http"
	"strconv"
	"strings"
	"testing"

	"github.com/agentevents/agentevents/gen"
	"github.com/agentevents/agentevents/store"
)

// checkLimitHeaders checks the headers X-RateLimit-* of an answer.
func checkLimitHeaders(resp *apiResponse) error {
	values := map[string]int64{}
	for _, name := range []string{"X-RateLimit-Limit", "X-RateLimit-Remaining", "X-RateLimit-Reset"} {
		n, err := strconv.ParseInt(resp.header.Get(name), 10, 64)
		if err != nil || n < 0 || len(resp.header.Values(name)) != 1 {
			return fmt.Errorf("%s is %q", name, resp.header.Values(name))
		}
		values[name] = n
	}
	limit, left, reset := values["X-RateLimit-Limit"], values["X-RateLimit-Remaining"], values["X-RateLimit-Reset"]
	if left > limit || reset < 1 || reset > 3600 {
		return fmt.Errorf("%d of %d requests are left, for %d s", left, limit, reset)
	}
	if resp.request.Header.Get("Authorization") == "Bearer "+operatorToken.token &&
		(limit != store.NoLimit || left != limit) {
		return fmt.Errorf("the operator is limited to %d requests, %d are left", limit, left)
	}
	return nil
}

// setLimits changes limits of client 12. It creates the client if necessary.
func (ts *testServer) setLimits(u gen.ClientLimitsUpdate) {
	ts.Helper()
	_, err := ts.store.SetLimits(ts.Context(), ts.client("12").id, u)
	ts.must(err)
}

// limitsBody returns the limits of a client without status changes. Each argument is a limit and its use, such as
// "1000 2".
func limitsBody(events, eventsPerAgent, agents, requests, pending string) string {
	const kept = "1000000 0"
	return fmt.Sprintf(`{"agent_event":%s,"events_per_agent":%s,"agent":%s,"requests_per_hour":%s,`+
		`"pending_delivery":%s,"status_change":%s,"delivery":%s}`, limitBody(events), limitBody(eventsPerAgent),
		limitBody(agents), limitBody(requests), limitBody(pending), limitBody(kept), limitBody(kept))
}

func limitBody(limitAndUse string) string {
	limit, used, _ := strings.Cut(limitAndUse, " ")
	return fmt.Sprintf(`{"limit":%s,"used":%s}`, limit, used)
}

func limitOf(n int64) gen.ClientLimitUpdate { return gen.ClientLimitUpdate{Limit: &n} }

// operationLimitScenario returns a request of a client whose limit is 0, with other errors. The answer is 429: the rate
// limit takes precedence.
func operationLimitScenario(e *apiOperation, s scenario) scenario {
	want := `{"message":"the client may make at most 0 requests an hour","status":"rate_limit_exceeded"}`
	return s.refused("beyond the rate limit", http.StatusTooManyRequests, nil, func(s *scenario) {
		given := s.setup
		s.setup = func(ts *testServer) {
			if given != nil {
				given(ts)
			}
			ts.setLimits(gen.ClientLimitsUpdate{RequestsPerHour: limitOf(0)})
			ts.setTime(exampleTime)
		}
		s.sharedSetup += " limited"
		if e.jsonBody() != nil {
			s.body = `{"`
		}
		s.header, s.wantBody = allToken.header(), want
		s.wantHeader = map[string]string{
			"Retry-After": "3130", "X-RateLimit-Limit": "0", "X-RateLimit-Remaining": "0", "X-RateLimit-Reset": "3130",
		}
	})
}

func limitHeaders(limit, left string) map[string]string {
	return map[string]string{
		"X-RateLimit-Limit": limit, "X-RateLimit-Remaining": left, "X-RateLimit-Reset": "3130", "Retry-After": "",
	}
}

func limitScenarios() []scenario {
	zero := func(ts *testServer) { ts.setLimits(gen.ClientLimitsUpdate{RequestsPerHour: limitOf(0)}) }
	return []scenario{
		{
			name: "read as the operator", op: "getLimits", representative: true, setup: (*testServer).withEvents,
			request: "GET /client/12/limit/", status: 200,
		}, {
			name: "set a limit", op: "putLimits", representative: true, setup: (*testServer).withEvents,
			request: "PUT /client/12/limit/",
			body:    `{"agent_event":{"limit":5}}`, status: 200,
		}, {
			name: "get", op: "getLimits", setup: (*testServer).withEvents, request: "GET /client/12/limit/",
			status:     200,
			wantBody:   limitsBody("1000 2", "100 1", "10000 2", "100000 0", "100000 0"),
			wantHeader: limitHeaders("2147483647", "2147483647"),
		}, {
			name: "a request of a client is counted", op: "getLimits", setup: (*testServer).withClient,
			request: "GET /client/@me/limit", header: readOnlyToken.header(), status: 200,
			wantBody:   limitsBody("1000 0", "100 0", "10000 0", "100000 1", "100000 0"),
			wantHeader: limitHeaders("100000", "99999"),
		}, {
			name: "a refused request is not counted", op: "putLimits", setup: (*testServer).withClient,
			request: "PUT /client/12/limit/", body: `{}`, header: allToken.header(), status: 403,
			wantBody:   `{"message":"access denied","status":"access_denied"}`,
			wantHeader: limitHeaders("100000", "100000"),
		}, {
			name: "403 takes precedence over 429", op: "putLimits", setup: zero,
			request: "PUT /client/12/limit/", body: `{}`, header: allToken.header(), status: 403,
			wantBody: `{"message":"access denied","status":"access_denied"}`,
		}, {
			name: "the operator's requests are not limited", op: "getClient", setup: zero, request: "GET /client/12",
			status:     200,
			wantHeader: limitHeaders("2147483647", "2147483647"),
		}, {
			name: "without a valid token the headers mean no limit", op: "getClient", setup: zero,
			request: "GET /client/12", status: 401,
			header:     map[string]string{"Authorization": "Bearer x"},
			wantHeader: limitHeaders("2147483647", "2147483647"),
		}, {
			name: "set one", op: "putLimits", setup: (*testServer).withEvents, request: "PUT /client/12/limit/",
			body: `{"agent_event":{"limit":0}}`, status: 200,
			wantBody: limitsBody("0 2", "100 1", "10000 2", "100000 0", "100000 0"),
			after: func(ts *testServer) {
				ts.wantGet("/client/12/limit/", limitsBody("0 2", "100 1", "10000 2", "100000 0", "100000 0"))
			},
		}, {
			name: "set all to the maximum", op: "putLimits", setup: (*testServer).withClient,
			request: "PUT /client/12/limit",
			body: `{"agent_event":{"limit":2147483647},"events_per_agent":{"limit":2147483647},` +
				`"agent":{"limit":2147483647},"requests_per_hour":{"limit":2147483647},` +
				`"pending_delivery":{"limit":2147483647}}`,
			status:   200,
			wantBody: limitsBody("2147483647 0", "2147483647 0", "2147483647 0", "2147483647 0", "2147483647 0"),
		}, {
			name: "set nothing", op: "putLimits", setup: (*testServer).withClient, request: "PUT /client/12/limit/",
			body: `{"agent":{}}`, status: 200,
			wantBody: limitsBody("1000 0", "100 0", "10000 0", "100000 0", "100000 0"),
		}, {
			name: "numbers out of range are refused", op: "putLimits", setup: (*testServer).withClient,
			request: "PUT /client/12/limit/",
			body: `{"agent_event":{"limit":2147483648},"events_per_agent":{"limit":2147483648},"agent":{"limit":-1},` +
				`"requests_per_hour":{"limit":1.5},"pending_delivery":{"limit":-1}}`,
			status: 400, wantFields: []string{
				"agent_event.limit", "events_per_agent.limit", "agent.limit", "requests_per_hour.limit",
				"pending_delivery.limit",
			},
		}, {
			name: "null and strings are refused", op: "putLimits", setup: (*testServer).withClient,
			request: "PUT /client/12/limit/",
			body:    `{"agent_event":null,"agent":{"limit":null},"requests_per_hour":{"limit":"5"}}`, status: 400,
			wantFields: []string{"agent_event", "agent.limit", "requests_per_hour.limit"},
		}, {
			name: "unknown fields are refused", op: "putLimits", setup: (*testServer).withClient,
			request: "PUT /client/12/limit/",
			body:    `{"event":{},"agent":{"limit":5,"used":0}}`, status: 400,
			wantFields: []string{"event", "agent.used"},
		},
	}
}

// exhaustedLimitScenarios are about clients that have reached their limits of agents and events.
func exhaustedLimitScenarios() []scenario {
	full := func(ts *testServer) {
		ts.withEvents()
		ts.setLimits(gen.ClientLimitsUpdate{AgentEvent: limitOf(2), Agent: limitOf(2)})
	}
	noAgent := `{"message":"client 12 may have 2 agents and has 2; ` +
		`GET /api/ver1.0/client/12/limit/ shows its limits",` +
		`"status":"agent_limit_exceeded"}`
	event := `{"url":"http://example.com/","method":"GET","event_type":"agent-login"}`
	return []scenario{
		{
			name: "POST of an agent beyond the limit", op: "create{Kind}Agent", setup: full,
			request: "POST /client/12/agent/{kind}/",
			body:    `{"{field}":"x"}`, status: 409, wantBody: noAgent,
		}, {
			name: "PUT of an agent beyond the limit", op: "put{Kind}Agent", setup: full,
			request: "PUT /client/12/agent/{kind}/999",
			body:    `{"{field}":"x"}`, status: 409, wantBody: noAgent,
		}, {
			name: "PUT of an existing agent at the limit", op: "put{Kind}Agent", setup: full,
			request: "PUT /client/12/agent/{kind}/{id}",
			body:    `{"{field}":"x"}`, status: 200,
		}, {
			name: "POST of an event beyond the limit", op: "create{Kind}AgentEvent", setup: full,
			request: "POST /client/12/agent/{kind}/{id}/event/", body: event, status: 409,
			wantBody: `{"message":"client 12 may have 2 events and has 2; GET /api/ver1.0/client/12/limit/ shows its ` +
				`limits",` +
				`"status":"agent_event_limit_exceeded"}`,
		}, {
			name: "POST of an event beyond the limit of its agent", op: "create{Kind}AgentEvent",
			setup: func(ts *testServer) {
				ts.withEvents()
				ts.setLimits(gen.ClientLimitsUpdate{EventsPerAgent: limitOf(1)})
			},
			request: "POST /client/12/agent/{kind}/{id}/event/", body: event, status: 409,
			wantBody: `{"message":"{kind} agent {id} of client 12 may have 1 events and has 1; ` +
				`GET /api/ver1.0/client/12/limit/ shows its limits","status":"events_per_agent_limit_exceeded"}`,
		}, {
			name: "a deleted event frees its place", op: "create{Kind}AgentEvent",
			request: "POST /client/12/agent/{kind}/{id}/event/",
			setup: func(ts *testServer) {
				full(ts)
				ts.send(scenario{request: "DELETE " + ts.kind.fill("/client/12/agent/{other}/{otherID}")})
			},
			body: event, status: 201,
		},
	}
}

// The limit allows its last request and refuses the next one, until the next hour.
func TestContractRateLimit(t *testing.T) {
	t.Parallel()
	ts := newTestServer(t)
	ts.withEvents()
	ts.setLimits(gen.ClientLimitsUpdate{RequestsPerHour: limitOf(3)})
	request := func(status int, left string) {
		t.Helper()
		resp := ts.send(scenario{request: "GET /client/@me/agent/local/136", header: callAPIToken.header()})
		if resp.status != status || resp.header.Get("X-RateLimit-Remaining") != left {
			t.Errorf("%d %s, %s are left; want %d and %s", resp.status, resp.body,
				resp.header.Get("X-RateLimit-Remaining"), status, left)
		}
	}
	request(200, "2")
	ts.send(scenario{request: "GET /client/13", header: allToken.header()})                    // 403
	ts.send(scenario{request: "GET /client/12/agent/local/0", header: readOnlyToken.header()}) // 400
	request(200, "0")
	request(429, "0")
	ts.send(scenario{request: "PUT /client/12/agent/local/136/status", body: `{"agent_status":"available"}`})
	ts.setLimits(gen.ClientLimitsUpdate{RequestsPerHour: limitOf(4)})
	request(200, "0")
	ts.setLimits(gen.ClientLimitsUpdate{RequestsPerHour: limitOf(1)})
	request(429, "0")
	ts.setTime("2017-05-30T16:00:00Z")
	request(200, "0")
}

// Each delivery that a client's application causes counts as a request. The header shows the count after the request.
func TestContractDeliveriesCountForTheHour(t *testing.T) {
	t.Parallel()
	ts := newTestServer(t)
	ts.withEvents()
	request := func(request, body string, token testToken, status int, left string) {
		t.Helper()
		header := token.header()
		if strings.HasSuffix(request, "/delivery/redeliver") {
			header[headerIdempotencyKey] = "8e03978e"
		}
		resp := ts.send(scenario{request: request, body: body, header: header})
		if resp.status != status || resp.header.Get("X-RateLimit-Remaining") != left {
			t.Errorf("%s: %d %s, %s are left; want %d and %s", request, resp.status, resp.body,
				resp.header.Get("X-RateLimit-Remaining"), status, left)
		}
	}
	const status, login = "PUT /client/12/agent/local/136/status", `{"agent_status":"available"}`
	request(status, login, allToken, 200, "99998")
	request(status, login, allToken, 200, "99997") // repeated
	request("PUT /client/12/agent/local/0/status", login, allToken, 400, "99996")
	request("PUT /client/12/status/", `[{"agent_type":"local","agent_id":136,"agent_status":"logged_out"},`+
		`{"agent_type":"remote","agent_id":7,"agent_status":"available"},`+
		`{"agent_type":"remote","agent_id":999,"agent_status":"available"}]`, allToken, 200, "99992")
	request("POST /client/12/delivery/1/redeliver", "", callAPIToken, 202, "99990")
	request("POST /client/12/delivery/999/redeliver", "", callAPIToken, 404, "99989")
	request("POST /client/12/delivery/redeliver", `{"state":"pending"}`, callAPIToken, 202, "99986")
	request("POST /client/12/delivery/redeliver", `{"state":"pending"}`, callAPIToken, 202, "99985") // repeated
	request(status, login, operatorToken, 200, "2147483647")
	request("POST /client/12/delivery/1/redeliver", "", operatorToken, 202, "2147483647")
	request("POST /client/12/delivery/redeliver", `{"state":"pending"}`, operatorToken, 202, "2147483647")
	request("GET /client/12", "", readOnlyToken, 200, "99984")
	ts.setLimits(gen.ClientLimitsUpdate{RequestsPerHour: limitOf(17)})
	request("POST /client/12/delivery/1/redeliver", "", callAPIToken, 202, "0") // the last request is not refused
	request("GET /client/12", "", readOnlyToken, 429, "0")
}

// A client's own applications may not add deliveries if it has too many pending ones. They are refused before anything
// is stored or counted. The operator is not refused.
func TestContractPendingDeliveriesAreLimited(t *testing.T) {
	t.Parallel()
	ts := newTestServer(t)
	ts.withEvents()
	ts.client("12").local(136).login()
	ts.setLimits(gen.ClientLimitsUpdate{PendingDelivery: limitOf(1)})
	const (
		event  = `{"url":"http://example.com/","method":"GET","event_type":"agent-login"}`
		logout = `{"agent_status":"logged_out"}`
	)
	requests := []struct {
		request, body string
		byOperator    int // its status
	}{
		{"POST /client/12/agent/local/136/event/", event, 201},
		{"POST /client/12/agent/remote/7/event/", event, 201},
		{"PUT /client/12/agent/local/136/status", logout, 200},
		{"PUT /client/12/agent/remote/7/status", `{"agent_status":"available"}`, 200},
		{"PUT /client/12/status/", `[{"agent_type":"local","agent_id":136,"agent_status":"available"}]`, 200},
	}
	for _, r := range requests {
		refused := ts.send(scenario{request: r.request, body: r.body, header: allToken.header()})
		ts.wantJSON(r.request, `{"message":"client 12 may have 1 pending deliveries and has 1; their number falls `+
			`when they are delivered, fail or expire, and when events are disabled or deleted",`+
			`"status":"pending_delivery_limit_exceeded"}`, refused.body)
		left, after := refused.header.Get("X-RateLimit-Remaining"), refused.header.Get("Retry-After")
		if refused.status != http.StatusTooManyRequests || left != "100000" || after != "60" {
			t.Errorf("%s: %d, %s are left, Retry-After is %q", r.request, refused.status, left, after)
		}
	}
	ts.wantGet("/client/12/limit/", limitsBody("1000 2", "100 1", "10000 2", "100000 0", "1 1"))
	for _, r := range requests {
		if resp := ts.send(scenario{request: r.request, body: r.body}); resp.status != r.byOperator {
			t.Errorf("%s of the operator: %d %s", r.request, resp.status, resp.body)
		}
	}
	ts.setLimits(gen.ClientLimitsUpdate{PendingDelivery: limitOf(100)})
	if resp := ts.send(scenario{
		request: requests[0].request, body: requests[0].body, header: callAPIToken.header(),
	}); resp.status != http.StatusCreated {
		t.Errorf("below the limit: %d %s", resp.status, resp.body)
	}
}
