package api

import (
	"encoding/json"
	"fmt"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/agentevents/agentevents/gen"
	"github.com/agentevents/agentevents/webhook"
)

func deliveryScenarios() []scenario {
	return slices.Concat(deliveryLists(), deliveryPages(), deliveryDetails(), deliveryWaits(), redeliveries())
}

func deliveryLists() []scenario {
	const op, list = "listDeliveries", "GET /client/12/delivery/"
	scenarios := []scenario{
		{
			name: "list a pending delivery", op: op, representative: true, setup: (*testServer).withPendingDelivery,
			request: list, status: 200,
			wantBody: arrayJSON(pendingDelivery), wantHeader: map[string]string{"Link": ""},
		}, {
			name: "an empty list", op: op, setup: (*testServer).withEvents, request: list, status: 200, wantBody: `[]`,
		},
	}
	for query, found := range map[string][]fmt.Stringer{
		"":                                      {logCancelled, logNew, logParked, logPending, logFailed, logDelivered},
		"?state=delivered":                      {logDelivered},
		"?state=failed":                         {logFailed},
		"?state=pending":                        {logNew, logPending},
		"?state=parked":                         {logParked},
		"?state=cancelled":                      {logCancelled},
		"?agent_type=local&agent_id=136":        {logParked, logPending, logDelivered},
		"?agent_type=remote&agent_id=7&x=1":     {logCancelled, logNew, logFailed},
		"?agent_type=local&agent_id=7":          {},
		"?agent_type=local&agent_id=4294967295": {},
		"?event_id=1":                           {logParked, logDelivered},
		"?event_id=4":                           {logCancelled},
		"?event_id=4294967295":                  {},
		"?since=2017-05-30T17:00:00Z":           {logCancelled, logNew, logParked, logPending},
		"?since=2017-05-30T17:00:00.001Z":       {logCancelled, logNew, logParked},
		"?since=2017-05-31T00:00:00Z":           {},
		"?since=1970-01-01T00:00:00Z&until=9999-12-31T23:59:59Z": {
			logCancelled, logNew, logParked, logPending, logFailed, logDelivered,
		},
		"?until=2017-05-30T17:00:00Z":                            {logFailed, logDelivered},
		"?until=2017-05-30T17:00:00.001Z":                        {logPending, logFailed, logDelivered},
		"?until=2017-05-30T20:00:00.001%2B03:00":                 {logPending, logFailed, logDelivered},
		"?until=2017-05-01T00:00:00Z":                            {},
		"?since=2017-05-30T16:00:00Z&until=2017-05-30T19:00:00Z": {logParked, logPending, logFailed},
		"?since=2017-05-30T16:00:00Z&until=2017-05-30T19:00:00Z&agent_type=local&agent_id=136": {
			logParked, logPending,
		},
		"?since=2017-05-30T16:00:00Z&until=2017-05-30T19:00:00Z&agent_type=local&agent_id=136&event_id=3" +
			"&state=pending": {
			logPending,
		},
		"?state=pending&event_id=1":                   {},
		"?state=failed&agent_type=remote&agent_id=7":  {logFailed},
		"?state=failed&agent_type=local&agent_id=136": {},
		// Event 1 is of local 136.
		"?state=failed&agent_type=remote&agent_id=7&event_id=1":         {},
		"?agent_type=remote&agent_id=7&event_id=1":                      {},
		"?agent_type=remote&agent_id=7&event_id=4":                      {logCancelled},
		"?state=cancelled&event_id=4":                                   {logCancelled},
		"?state=cancelled&agent_type=remote&agent_id=7&before=6":        {},
		"?state=cancelled&agent_type=remote&agent_id=7&before=7":        {logCancelled},
		"?state=pending&agent_type=local&agent_id=136":                  {logPending},
		"?agent_type=local&agent_id=136&before=4":                       {logPending, logDelivered},
		"?agent_type=local&agent_id=136&before=1":                       {},
		"?agent_type=local&agent_id=136&until=2017-05-30T17:00:00.001Z": {logPending, logDelivered},
		"?agent_type=local&agent_id=136&since=2017-05-30T17:00:00.001Z": {logParked},
		"?agent_type=local&agent_id=136&since=2017-05-31T00:00:00Z":     {},
		"?agent_type=local&agent_id=136&until=2017-05-01T00:00:00Z":     {},
		"?event_id=1&before=4":                                          {logDelivered},
		"?before=1":                                                     {},
		"?before=9223372036854775807&limit=1000": {
			logCancelled, logNew, logParked, logPending, logFailed, logDelivered,
		},
		"?limit=6": {
			logCancelled, logNew, logParked, logPending, logFailed, logDelivered,
		},
		"?agent_type=local&agent_id=136&limit=3": {logParked, logPending, logDelivered},
	} {
		scenarios = append(scenarios, scenario{
			name: "list " + query, op: op, setup: (*testServer).withNeighbour, sharedSetup: "neighbour",
			request: list + query,
			status:  200, wantBody: arrayJSON(found...), wantHeader: map[string]string{"Link": ""},
		})
	}
	return append(scenarios, invalidLists()...)
}

// invalidLists returns invalid queries with their invalid fields.
func invalidLists() (scenarios []scenario) {
	for query, wrong := range map[string]string{
		"agent_id=136":              "agent_type",
		"agent_id=136&state=failed": "agent_type",
		"agent_type=local":          "agent_id",
		"agent_type=remote&event_id=2&state=failed&since=2017-05-30T15:00:00Z": "agent_id",
		"agent_id=0&agent_type=local":                                          "agent_id",
		"agent_type=Local":                                                     "agent_type",
		"agent_type=":                                                          "agent_type",
		"state=lost":                                                           "state",
		"state=":                                                               "state",
		"state=failed&state=pending":                                           "state",
		"event_id=0":                                                           "event_id",
		"event_id=4294967296":                                                  "event_id",
		"since=yesterday":                                                      "since",
		"since=2017-05-30":                                                     "since",
		"since=":                                                               "since",
		"since=2017-05-30T15:00:00%2B03:00&since=2017-05-30T15:00:00Z": "since",
		"until=2017-02-30T15:00:00Z":                                   "until",
		"since=2017-05-30T16:00:00Z&until=2017-05-30T15:00:00Z":        "until",
		"since=2017-05-30T16:00:00Z&until=2017-05-30T16:00:00Z":        "until",
		"limit=0":                     "limit",
		"limit=1001":                  "limit",
		"limit=-1":                    "limit",
		"limit=1.5":                   "limit",
		"limit=ten":                   "limit",
		"before=0":                    "before",
		"before=9223372036854775808":  "before",
		"before=99999999999999999999": "before",
		"agent_id=1&since=2017-05-30T16:00:00Z&until=2017-05-30T15:00:00Z": "agent_type until",
		"limit=0&state=lost&agent_type=x&agent_id=x&event_id=x&since=x&until=x&before=x": "limit state agent_type " +
			"agent_id event_id since until before",
	} {
		scenarios = append(scenarios, scenario{
			name: "an invalid query " + query, op: "listDeliveries", setup: (*testServer).withLog, sharedSetup: "log",
			request: "GET /client/12/delivery/?" + query, status: 400, wantFields: strings.Fields(wrong),
		})
	}
	return scenarios
}

// deliveryPages returns lists with a next page.
func deliveryPages() []scenario {
	const op = "listDeliveries"
	page := func(query, next string, found ...fmt.Stringer) scenario {
		return scenario{
			name: "page " + query, op: op, setup: (*testServer).withNeighbour, sharedSetup: "neighbour",
			request: "GET /client/12/delivery/" + query, status: 200, wantBody: arrayJSON(found...),
			wantHeader: map[string]string{"Link": "</api/ver1.0/client/12/delivery/" + next + `>; rel="next"`},
		}
	}
	bare := page("?limit=5", "?before=2&limit=5", logCancelled, logNew, logParked, logPending, logFailed)
	bare.name, bare.request = "page without a slash", "GET /client/12/delivery?limit=5"
	bare.wantHeader = map[string]string{"Link": `</api/ver1.0/client/12/delivery?before=2&limit=5>; rel="next"`}
	return []scenario{
		bare,
		page("?limit=5", "?before=2&limit=5", logCancelled, logNew, logParked, logPending, logFailed),
		page("?limit=2&before=6", "?before=4&limit=2", logNew, logParked),
		page("?limit=2&agent_type=local&agent_id=136", "?agent_id=136&agent_type=local&before=3&limit=2", logParked,
			logPending),
		page("?limit=1&since=2017-05-30T15:00:00%2B00:00&state=pending",
			"?before=5&limit=1&since=2017-05-30T15%3A00%3A00%2B00%3A00&state=pending", logNew),
		page("?limit[]=2&agent_type=local&agent_id=136", "?agent_id=136&agent_type=local&before=3&limit=2", logParked,
			logPending),
		page("?limit=1&x=%22%3E%3B", "?before=6&limit=1&x=%22%3E%3B", logCancelled),
	}
}

// withPendingDelivery creates a due delivery.
func (ts *testServer) withPendingDelivery() {
	ts.withLogin()
	ts.fixRandomValues()
}

// pendingDelivery is the delivery of withPendingDelivery.
var pendingDelivery = loggedDelivery{
	id: 1, state: "pending", kind: "local", agent: 136, event: 1, sequence: 1, typ: "agent-login", method: "GET",
	url: exampleURL,
	at:  exampleTime, next: exampleTime,
}

// deliveryDetails returns requests for a delivery in each state.
func deliveryDetails() []scenario {
	const op, get = "getDelivery", "GET /client/12/delivery/"
	detailOf := func(e loggedDelivery, waiting string, request shownRequest) scenario {
		return scenario{
			name: e.state, op: op, setup: (*testServer).withNeighbour, sharedSetup: "neighbour",
			request: get + strconv.Itoa(e.id), status: 200,
			wantBody: detailJSON(e, e.lastAttempt, waiting, request),
		}
	}
	const now = "2017-05-30T19:00:00.000Z" // the time in the request of a delivery without an attempt
	return []scenario{
		{
			name: "due", op: op, representative: true, setup: (*testServer).withPendingDelivery, request: get + "1",
			status: 200,
			wantBody: detailJSON(pendingDelivery, "",
				waitingJSON("it is due, and is sent as soon as there is room", "", 0),
				shownRequest{of: pendingDelivery, attempt: 1, at: exampleTime}),
		},
		detailOf(logDelivered, "", shownRequest{of: logDelivered, attempt: 1, at: exampleTime}),
		detailOf(logFailed, "", shownRequest{of: logFailed, attempt: 1, at: logFailed.at}),
		detailOf(logPending, waitingJSON("it is due, and is sent as soon as there is room", "", 0),
			shownRequest{of: logPending, attempt: 2, at: now}),
		detailOf(logParked, waitingJSON("its event is disabled: disabled by a request", "2017-05-31T18:00:00.000Z", 0),
			shownRequest{of: logParked, attempt: 1, at: now}),
		detailOf(logNew, waitingJSON("it is due, and is sent as soon as there is room", "", 0),
			shownRequest{of: logNew, attempt: 1, at: now}),
		detailOf(logCancelled, "", shownRequest{of: logCancelled, attempt: 1, at: now}),
		{
			name: "a delivery of another client", op: op, setup: (*testServer).withNeighbour, sharedSetup: "neighbour",
			request: get + "7", status: 404,
			wantBody: `{"message":"there is no delivery 7 of client 12","status":"delivery_not_found"}`,
		},
		{
			name: "failed after several attempts", op: op, setup: (*testServer).withRefusal, request: get + "1",
			status: 200,
			wantBody: detailJSON(logRefused, strings.Join([]string{
				attemptJSON(1, exampleTime, 503, "retry", "lunch"),
				attemptJSON(2, "2017-05-30T15:08:00.000Z", 500, "retry", ""),
				logRefused.lastAttempt,
			}, ","), "", shownRequest{of: logRefused, attempt: 3, at: "2017-05-30T15:09:00.000Z"}),
		},
		{
			name: "the event was corrected during the attempt", op: op, setup: (*testServer).withCorrection,
			request: get + "1",
			status:  200,
			wantBody: detailJSON(logCorrected, logCorrected.lastAttempt, "",
				shownRequest{of: logDelivered, attempt: 1, at: exampleTime}),
		},
	}
}

// withRefusal creates a delivery that the receiver refuses after two failed attempts.
func (ts *testServer) withRefusal() {
	ts.withLogin()
	ts.receiverAnswers(503, "lunch")
	ts.setTime("2017-05-30T15:08:00Z")
	ts.receiverAnswers(500, "")
	ts.setTime("2017-05-30T15:09:00Z")
	ts.receiverAnswers(404, "")
}

var logRefused = loggedDelivery{
	id: 1, state: "failed", kind: "local", agent: 136, event: 1, sequence: 1, typ: "agent-login", method: "GET",
	url:      exampleURL,
	attempts: 3, at: exampleTime, finished: "2017-05-30T15:09:00.000Z",
	lastAttempt: attemptJSON(3, "2017-05-30T15:09:00.000Z", 404, "failed", ""),
}

// withCorrection creates a delivery whose event is corrected during an attempt.
func (ts *testServer) withCorrection() {
	ts.withLogin()
	d := ts.claim()
	ts.put("/client/12/agent/local/136/event/1", `{"url":"`+otherURL+`","method":"POST"}`)
	ts.record(d, 200, "thanks")
}

var logCorrected = func() loggedDelivery {
	e := logDelivered
	e.method, e.url = "POST", otherURL
	e.lastAttempt = strings.TrimSuffix(e.lastAttempt, "}") + `,"method":"GET","url":"` + exampleURL + `"}`
	return e
}()

// deliveryWaits has every reason for which a delivery waits.
func deliveryWaits() (scenarios []scenario) {
	const order = "an earlier one for the same agent and receiver goes first"
	for _, c := range []struct {
		name, request string
		given         func(*testServer)
		waiting       string
	}{
		{"an attempt in progress", "1", func(ts *testServer) { ts.claim() }, waitingJSON("it is under way", "", 0)},
		{
			"a retry", "1", func(ts *testServer) { ts.receiverAnswers(503, "") },
			waitingJSON("the attempt before has failed, and the next one is due then", "2017-05-30T15:07:55.000Z", 0),
		},
		{"after a due one", "2", func(*testServer) {}, waitingJSON(order, "", 1)},
		{"after one in progress", "2", func(ts *testServer) { ts.claim() }, waitingJSON(order, "", 1)},
		{
			"after one that waits for a retry", "3", func(ts *testServer) { ts.receiverAnswers(503, "") },
			waitingJSON(order, "", 1),
		},
		{
			"an open breaker", "1", func(ts *testServer) { ts.withOpenBreaker() },
			waitingJSON("the receiver has failed too often in a row and is tried again then",
				"2017-05-30T15:08:20.000Z", 0),
		},
		{
			"after one with an open breaker", "2", func(ts *testServer) { ts.withOpenBreaker() },
			waitingJSON(order, "", 1),
		},
		{
			"a pause", "1", func(ts *testServer) { ts.receiverAsksForPause(429) },
			waitingJSON("the receiver has asked for a pause (429)", "2017-05-30T15:08:50.000Z", 0),
		},
		{
			"parked", "1",
			func(ts *testServer) { ts.client("12").local(136).setEventState(1, gen.AgentEventStateValueDisabled) },
			waitingJSON("its event is disabled: disabled by a request", "2017-05-31T15:07:50.000Z", 0),
		},
		{
			"parked by 410", "2", func(ts *testServer) { ts.receiverAnswers(410, "") },
			waitingJSON("its event is disabled: the receiver answered 410 Gone", "2017-05-31T15:07:50.000Z", 0),
		},
		{
			"parked, and the agent deleted", "1", func(ts *testServer) {
				ts.client("12").local(136).setEventState(1, gen.AgentEventStateValueDisabled)
				ts.delete("/client/12/agent/local/136")
			}, waitingJSON("its event was disabled and is gone; it will fail", "2017-05-31T15:07:50.000Z", 0),
		},
		{
			"moved, during an attempt at the old URL", "2", func(ts *testServer) {
				ts.claim()
				ts.put("/client/12/agent/local/136/event/1", `{"url":"`+otherURL+`"}`)
			}, waitingJSON("one that was moved here is under way to where it was sent before", "", 1),
		},
	} {
		scenarios = append(scenarios, scenario{
			name: "waits: " + c.name, op: "getDelivery", request: "GET /client/12/delivery/" + c.request, status: 200,
			setup: func(ts *testServer) {
				ts.withLogins(3)
				c.given(ts)
			},
			after: func(ts *testServer) { ts.wantWaiting(c.waiting) },
		})
	}
	return scenarios
}

// withLogins creates a lane with n deliveries.
func (ts *testServer) withLogins(n int) {
	ts.withLogin()
	for range n - 1 {
		ts.client("12").local(136).logout().login()
	}
}

// withOpenBreaker opens the breaker. It advances the clock by 25 s.
func (ts *testServer) withOpenBreaker() {
	for range 5 {
		ts.clock.Add(5000)
		ts.receiverAnswers(500, "")
	}
}

// receiverAsksForPause records an answer that asks for a pause of a minute.
func (ts *testServer) receiverAsksForPause(status int) {
	d := ts.claim()
	o := webhook.Outcome{Delay: time.Minute, Attempt: webhook.Attempt{
		StartedAt: ts.now(), Status: status, Verdict: webhook.Retry, RetryAfter: time.Minute,
	}}
	_, err := ts.store.Record(ts.Context(), d, o, false)
	ts.must(err)
}

// wantWaiting checks why the delivery in the answer waits.
func (ts *testServer) wantWaiting(want string) {
	ts.Helper()
	var got struct{ Waiting json.RawMessage }
	ts.must(json.Unmarshal(ts.response.body, &got))
	ts.wantJSON("waiting", want, got.Waiting)
}

// put sends a request of a setup.
func (ts *testServer) put(target, body string) {
	ts.Helper()
	if resp := ts.send(scenario{request: "PUT " + target, body: body}); resp.status >= 300 {
		ts.Fatalf("PUT %s: %d %s", target, resp.status, resp.body)
	}
}

func (ts *testServer) delete(target string) {
	ts.Helper()
	if resp := ts.send(scenario{request: "DELETE " + target}); resp.status != 204 {
		ts.Fatalf("DELETE %s: %d %s", target, resp.status, resp.body)
	}
}
