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
			name: "list what is owed", op: op, given: (*world).withOwed, request: list, status: 200,
			want: array(logOwed), answer: map[string]string{"Link": ""},
		}, {
			name: "the list of none is an empty array", op: op, given: (*world).withEvents, request: list, status: 200, want: `[]`,
		},
	}
	for query, found := range map[string][]fmt.Stringer{
		"":                                      {logCancelled, logNew, logParked, logPending, logFailed, logDelivered}, // no neighbour's
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
		"?event_id=4":                           {logCancelled}, // which is deleted
		"?event_id=4294967295":                  {},
		"?since=2017-05-30T17:00:00Z":           {logCancelled, logNew, logParked, logPending},
		"?since=2017-05-30T17:00:00.001Z":       {logCancelled, logNew, logParked},
		"?since=2017-05-31T00:00:00Z":           {},
		"?since=1970-01-01T00:00:00Z&until=9999-12-31T23:59:59Z":                                                        {logCancelled, logNew, logParked, logPending, logFailed, logDelivered},
		"?until=2017-05-30T17:00:00Z":                                                                                   {logFailed, logDelivered},
		"?until=2017-05-30T17:00:00.001Z":                                                                               {logPending, logFailed, logDelivered},
		"?until=2017-05-30T20:00:00.001%2B03:00":                                                                        {logPending, logFailed, logDelivered},
		"?until=2017-05-01T00:00:00Z":                                                                                   {},
		"?since=2017-05-30T16:00:00Z&until=2017-05-30T19:00:00Z":                                                        {logParked, logPending, logFailed},
		"?since=2017-05-30T16:00:00Z&until=2017-05-30T19:00:00Z&agent_type=local&agent_id=136":                          {logParked, logPending},
		"?since=2017-05-30T16:00:00Z&until=2017-05-30T19:00:00Z&agent_type=local&agent_id=136&event_id=3&state=pending": {logPending},
		"?state=pending&event_id=1":                                                                                     {},
		"?state=failed&agent_type=remote&agent_id=7":                                                                    {logFailed},
		"?state=failed&agent_type=local&agent_id=136":                                                                   {},
		"?state=failed&agent_type=remote&agent_id=7&event_id=1":                                                         {}, // which is another agent's
		"?agent_type=remote&agent_id=7&event_id=1":                                                                      {},
		"?agent_type=remote&agent_id=7&event_id=4":                                                                      {logCancelled},
		"?state=cancelled&event_id=4":                                                                                   {logCancelled},
		"?state=cancelled&agent_type=remote&agent_id=7&before=6":                                                        {},
		"?state=cancelled&agent_type=remote&agent_id=7&before=7":                                                        {logCancelled},
		"?state=pending&agent_type=local&agent_id=136":                                                                  {logPending},
		"?agent_type=local&agent_id=136&before=4":                                                                       {logPending, logDelivered},
		"?agent_type=local&agent_id=136&before=1":                                                                       {},
		"?agent_type=local&agent_id=136&until=2017-05-30T17:00:00.001Z":                                                 {logPending, logDelivered},
		"?agent_type=local&agent_id=136&since=2017-05-30T17:00:00.001Z":                                                 {logParked},
		"?agent_type=local&agent_id=136&since=2017-05-31T00:00:00Z":                                                     {},
		"?agent_type=local&agent_id=136&until=2017-05-01T00:00:00Z":                                                     {},
		"?event_id=1&before=4":                                                                                          {logDelivered},
		"?before=1":                                                                                                     {},
		"?before=9223372036854775807&limit=1000":                                                                        {logCancelled, logNew, logParked, logPending, logFailed, logDelivered},
		"?limit=6":                                                                                                      {logCancelled, logNew, logParked, logPending, logFailed, logDelivered},
		"?agent_type=local&agent_id=136&limit=3":                                                                        {logParked, logPending, logDelivered},
	} {
		scenarios = append(scenarios, scenario{
			name: "list " + query, op: op, given: (*world).withNeighbour, family: "neighbour", request: list + query,
			status: 200, want: array(found...), answer: map[string]string{"Link": ""},
		})
	}
	return append(scenarios, wrongLists()...)
}

// wrongLists are filters that make no sense, and what they are refused for.
func wrongLists() (scenarios []scenario) {
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
		"limit=0&state=lost&agent_type=x&agent_id=x&event_id=x&since=x&until=x&before=x": "limit state agent_type agent_id " +
			"event_id since until before",
	} {
		scenarios = append(scenarios, scenario{
			name: "no list " + query, op: "listDeliveries", given: (*world).withLog, family: "log",
			request: "GET /client/12/delivery/?" + query, status: 400, wrong: strings.Fields(wrong),
		})
	}
	return scenarios
}

// deliveryPages are lists that go on.
func deliveryPages() []scenario {
	const op = "listDeliveries"
	page := func(query, next string, found ...fmt.Stringer) scenario {
		return scenario{
			name: "page " + query, op: op, given: (*world).withNeighbour, family: "neighbour",
			request: "GET /client/12/delivery/" + query, status: 200, want: array(found...),
			answer: map[string]string{"Link": "</api/ver1.0/client/12/delivery/" + next + `>; rel="next"`},
		}
	}
	bare := page("?limit=5", "?before=2&limit=5", logCancelled, logNew, logParked, logPending, logFailed)
	bare.name, bare.request = "page without a slash", "GET /client/12/delivery?limit=5"
	bare.answer = map[string]string{"Link": `</api/ver1.0/client/12/delivery?before=2&limit=5>; rel="next"`}
	return []scenario{
		bare,
		page("?limit=5", "?before=2&limit=5", logCancelled, logNew, logParked, logPending, logFailed),
		page("?limit=2&before=6", "?before=4&limit=2", logNew, logParked),
		page("?limit=2&agent_type=local&agent_id=136", "?agent_id=136&agent_type=local&before=3&limit=2", logParked, logPending),
		page("?limit=1&since=2017-05-30T15:00:00%2B00:00&state=pending", "?before=5&limit=1&since=2017-05-30T15%3A00%3A00%2B00%3A00&state=pending", logNew),
		page("?limit[]=2&agent_type=local&agent_id=136", "?agent_id=136&agent_type=local&before=3&limit=2", logParked, logPending),
		page("?limit=1&x=%22%3E%3B", "?before=6&limit=1&x=%22%3E%3B", logCancelled),
	}
}

// withOwed is a delivery that is due.
func (w *world) withOwed() {
	w.withLogin()
	w.fix()
}

// logOwed is what withOwed owes.
var logOwed = entry{
	id: 1, state: "pending", kind: "local", agent: 136, event: 1, sequence: 1, typ: "agent-login", method: "GET", url: seedURL,
	at: seedTime, next: seedTime,
}

// deliveryDetails are of deliveries in each state.
func deliveryDetails() []scenario {
	const op, get = "getDelivery", "GET /client/12/delivery/"
	detailOf := func(e entry, waiting string, request shown) scenario {
		return scenario{
			name: e.state, op: op, given: (*world).withNeighbour, family: "neighbour", request: get + strconv.Itoa(e.id), status: 200,
			want: detail(e, e.lastAttempt, waiting, request),
		}
	}
	const now = "2017-05-30T19:00:00.000Z" // what was not sent is shown as it would be sent now
	return []scenario{
		{
			name: "due", op: op, given: (*world).withOwed, request: get + "1", status: 200,
			want: detail(logOwed, "", waits("it is due, and is sent as soon as there is room", "", 0),
				shown{of: logOwed, attempt: 1, at: seedTime}),
		},
		detailOf(logDelivered, "", shown{of: logDelivered, attempt: 1, at: seedTime}),
		detailOf(logFailed, "", shown{of: logFailed, attempt: 1, at: logFailed.at}),
		detailOf(logPending, waits("it is due, and is sent as soon as there is room", "", 0),
			shown{of: logPending, attempt: 2, at: now}),
		detailOf(logParked, waits("its event is disabled: disabled by a request", "2017-05-31T18:00:00.000Z", 0),
			shown{of: logParked, attempt: 1, at: now}),
		detailOf(logNew, waits("it is due, and is sent as soon as there is room", "", 0),
			shown{of: logNew, attempt: 1, at: now}),
		detailOf(logCancelled, "", shown{of: logCancelled, attempt: 1, at: now}),
		{
			name: "another client's is none of this one", op: op, given: (*world).withNeighbour, family: "neighbour",
			request: get + "7", status: 404,
			want: `{"message":"there is no delivery 7 of client 12","status":"delivery_not_found"}`,
		},
		{
			name: "failed after several attempts", op: op, given: (*world).withRefusal, request: get + "1", status: 200,
			want: detail(logRefused, strings.Join([]string{
				attempt(1, seedTime, 503, "retry", "lunch"), attempt(2, "2017-05-30T15:08:00.000Z", 500, "retry", ""),
				logRefused.lastAttempt,
			}, ","), "", shown{of: logRefused, attempt: 3, at: "2017-05-30T15:09:00.000Z"}),
		},
		{
			name: "corrected since it was sent", op: op, given: (*world).withCorrection, request: get + "1", status: 200,
			want: detail(logCorrected, logCorrected.lastAttempt, "",
				shown{of: logDelivered, attempt: 1, at: seedTime}),
		},
	}
}

// withRefusal is a delivery that was refused after it had failed twice.
func (w *world) withRefusal() {
	w.withLogin()
	w.answered(503, "lunch")
	w.set("2017-05-30T15:08:00Z")
	w.answered(500, "")
	w.set("2017-05-30T15:09:00Z")
	w.answered(404, "")
}

var logRefused = entry{
	id: 1, state: "failed", kind: "local", agent: 136, event: 1, sequence: 1, typ: "agent-login", method: "GET", url: seedURL,
	attempts: 3, at: seedTime, finished: "2017-05-30T15:09:00.000Z",
	lastAttempt: attempt(3, "2017-05-30T15:09:00.000Z", 404, "failed", ""),
}

// withCorrection is a delivery whose event was corrected while it was under way.
func (w *world) withCorrection() {
	w.withLogin()
	d := w.claim()
	w.put("/client/12/agent/local/136/event/1", `{"url":"`+otherURL+`","method":"POST"}`)
	w.record(d, 200, "thanks")
}

var logCorrected = func() entry {
	e := logDelivered
	e.method, e.url = "POST", otherURL
	e.lastAttempt = strings.TrimSuffix(e.lastAttempt, "}") + `,"method":"GET","url":"` + seedURL + `"}`
	return e
}()

// deliveryWaits are all reasons that a delivery can wait for.
func deliveryWaits() (scenarios []scenario) {
	const order = "an earlier one for the same agent and receiver goes first"
	for _, c := range []struct {
		name, request string
		given         func(*world)
		waiting       string
	}{
		{"under way", "1", func(w *world) { w.claim() }, waits("it is under way", "", 0)},
		{
			"a retry", "1", func(w *world) { w.answered(503, "") },
			waits("the attempt before has failed, and the next one is due then", "2017-05-30T15:07:55.000Z", 0),
		},
		{"behind one that is due", "2", func(*world) {}, waits(order, "", 1)},
		{"behind one that is under way", "2", func(w *world) { w.claim() }, waits(order, "", 1)},
		{"behind one that waits for a retry", "3", func(w *world) { w.answered(503, "") }, waits(order, "", 1)},
		{
			"an open breaker", "1", func(w *world) { w.fails5() },
			waits("the receiver has failed too often in a row and is tried again then", "2017-05-30T15:08:20.000Z", 0),
		},
		{"behind one behind an open breaker", "2", func(w *world) { w.fails5() }, waits(order, "", 1)},
		{
			"a pause", "1", func(w *world) { w.pause(429) },
			waits("the receiver has asked for a pause (429)", "2017-05-30T15:08:50.000Z", 0),
		},
		{
			"parked", "1", func(w *world) { w.client("12").local(136).enabled(1, gen.AgentEventStateValueDisabled) },
			waits("its event is disabled: disabled by a request", "2017-05-31T15:07:50.000Z", 0),
		},
		{
			"parked by 410", "2", func(w *world) { w.answered(410, "") },
			waits("its event is disabled: the receiver answered 410 Gone", "2017-05-31T15:07:50.000Z", 0),
		},
		{
			"parked, and the agent gone", "1", func(w *world) {
				w.client("12").local(136).enabled(1, gen.AgentEventStateValueDisabled)
				w.delete("/client/12/agent/local/136")
			}, waits("its event was disabled and is gone; it will fail", "2017-05-31T15:07:50.000Z", 0),
		},
		{
			"one that is to follow", "2", func(w *world) {
				w.claim()
				w.put("/client/12/agent/local/136/event/1", `{"url":"`+otherURL+`"}`)
			}, waits("one that was moved here is under way to where it was sent before", "", 1),
		},
	} {
		scenarios = append(scenarios, scenario{
			name: "waits: " + c.name, op: "getDelivery", request: "GET /client/12/delivery/" + c.request, status: 200,
			given: func(w *world) {
				w.withLogins(3)
				c.given(w)
			},
			then: func(w *world) { w.waits(c.waiting) },
		})
	}
	return scenarios
}

// withLogins is a lane with some deliveries.
func (w *world) withLogins(n int) {
	w.withLogin()
	for range n - 1 {
		w.client("12").local(136).logout().login()
	}
}

// fails5 opens the breaker, 25 s later.
func (w *world) fails5() {
	for range 5 {
		w.clock.Add(5000)
		w.answered(500, "")
	}
}

// pause has the receiver ask for a minute's pause.
func (w *world) pause(status int) {
	d := w.claim()
	o := webhook.Outcome{Delay: time.Minute, Attempt: webhook.Attempt{
		StartedAt: w.now(), Status: status, Verdict: webhook.Retry, RetryAfter: time.Minute,
	}}
	_, err := w.store.Record(w.Context(), d, o, false)
	w.must(err)
}

// waits compares why the delivery of the answer waits.
func (w *world) waits(want string) {
	w.Helper()
	var got struct{ Waiting json.RawMessage }
	w.must(json.Unmarshal(w.reply.body, &got))
	w.same("waiting", want, got.Waiting)
}

// put makes a request that prepares a scenario.
func (w *world) put(target, body string) {
	w.Helper()
	if a := w.send(scenario{request: "PUT " + target, body: body}); a.status >= 300 {
		w.Fatalf("PUT %s: %d %s", target, a.status, a.body)
	}
}

func (w *world) delete(target string) {
	w.Helper()
	if a := w.send(scenario{request: "DELETE " + target}); a.status != 204 {
		w.Fatalf("DELETE %s: %d %s", target, a.status, a.body)
	}
}
