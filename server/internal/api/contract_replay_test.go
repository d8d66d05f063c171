package api

import (
	"context"
	"fmt"
	"strings"
	"sync"
	"time"
)

// startedReplay returns a replay in the form of the API, created after withLog.
func startedReplay(id int, filter string, total int) shownReplay {
	return shownReplay{id: id, filter: filter, total: total}
}

type shownReplay struct {
	id          int
	filter      string
	total       int
	redelivered int
	finishedAt  string
}

func (r shownReplay) String() string {
	state, done, skipped, finished := "working", r.redelivered, 0, ""
	if r.finishedAt != "" {
		state, done, skipped, finished = "finished", r.total, r.total-r.redelivered, `,"finished_at":"`+r.finishedAt+`"`
	}
	return fmt.Sprintf(`{"id":%d,"state":%q,"filter":%s,"total":%d,"done":%d,"redelivered":%d,"skipped":%d,`+
		`"created_at":"2017-05-30T19:00:00.000Z"%s}`, r.id, state, r.filter, r.total, done, r.redelivered, skipped,
		finished)
}

func (r shownReplay) finished(redelivered int) shownReplay {
	r.redelivered, r.finishedAt = redelivered, "2017-05-30T19:00:00.000Z"
	return r
}

func replayScenarios() []scenario {
	return append(append(replayRequests(), invalidReplays()...), replayReads()...)
}

const replayRequest = "POST /client/12/delivery/redeliver"

func replayRequests() (scenarios []scenario) {
	for _, c := range []struct {
		body, filter string
		found        []loggedDelivery
	}{
		{`{}`, `{"state":"failed"}`, []loggedDelivery{logFailed}},
		{`{"state":"failed"}`, `{"state":"failed"}`, []loggedDelivery{logFailed}},
		{`{"state":"delivered"}`, `{"state":"delivered"}`, []loggedDelivery{logDelivered}},
		{`{"state":"cancelled"}`, `{"state":"cancelled"}`, []loggedDelivery{logCancelled}},
		{`{"agent_type":"local","agent_id":136}`, `{"state":"failed","agent_type":"local","agent_id":136}`, nil},
		{
			`{"agent_type":"remote","agent_id":7}`, `{"state":"failed","agent_type":"remote","agent_id":7}`,
			[]loggedDelivery{logFailed},
		},
		{
			`{"agent_type":"remote","agent_id":7,"state":"cancelled"}`,
			`{"state":"cancelled","agent_type":"remote","agent_id":7}`,
			[]loggedDelivery{logCancelled},
		},
		{
			`{"agent_id":136.0,"agent_type":"local","state":"delivered"}`,
			`{"state":"delivered","agent_type":"local","agent_id":136}`,
			[]loggedDelivery{logDelivered},
		},
		{`{"event_id":2}`, `{"state":"failed","event_id":2}`, []loggedDelivery{logFailed}},
		{`{"event_id":1}`, `{"state":"failed","event_id":1}`, nil},
		{
			`{"since":"2017-05-30T16:00:00Z"}`, `{"state":"failed","since":"2017-05-30T16:00:00.000Z"}`,
			[]loggedDelivery{logFailed},
		},
		{`{"since":"2017-05-30T16:00:00.001Z"}`, `{"state":"failed","since":"2017-05-30T16:00:00.001Z"}`, nil},
		{`{"until":"2017-05-30T19:00:00+03:00"}`, `{"state":"failed","until":"2017-05-30T16:00:00.000Z"}`, nil},
		{
			`{"until":"2017-05-30T17:00:00Z","since":"2017-05-30T15:00:00Z","agent_type":"remote","agent_id":7,` +
				`"event_id":2}`,
			`{"state":"failed","agent_type":"remote","agent_id":7,"event_id":2,"since":"2017-05-30T15:00:00.000Z",` +
				`"until":"2017-05-30T17:00:00.000Z"}`,
			[]loggedDelivery{logFailed},
		},
	} {
		scenarios = append(scenarios, scenario{
			name: "replay " + c.body, op: "redeliverMany", representative: c.body == `{}`, setup: (*testServer).withLog,
			sharedSetup: "log", request: replayRequest,
			body: c.body, status: 202, wantBody: startedReplay(1, c.filter, len(c.found)).String(),
			wantHeader: map[string]string{"Location": "/api/ver1.0/client/12/replay/1"},
			after: func(ts *testServer) {
				ts.finishReplays()
				ts.wantGet("/client/12/replay/1",
					startedReplay(1, c.filter, len(c.found)).finished(len(c.found)).String())
				ts.wantReplayed(c.found)
			},
		})
	}
	return append(scenarios, scenario{
		name: "replay pending deliveries", op: "redeliverMany", setup: (*testServer).withLog, sharedSetup: "log",
		request: replayRequest,
		body:    `{"state":"pending"}`, status: 202, wantBody: startedReplay(1, `{"state":"pending"}`, 2).String(),
		wantHeader: map[string]string{"Location": "/api/ver1.0/client/12/replay/1"},
		after: func(ts *testServer) {
			ts.finishReplays()
			ts.wantGet("/client/12/replay/1", startedReplay(1, `{"state":"pending"}`, 2).finished(2).String())
			ts.wantReplayed(nil)
		},
	})
}

// wantReplayed checks which deliveries were redelivered.
func (ts *testServer) wantReplayed(want []loggedDelivery) {
	ts.Helper()
	var ids []string
	for _, e := range want {
		ids = append(ids, fmt.Sprint(e.id))
	}
	got := ts.rows(ts.db, "SELECT id FROM deliveries WHERE replays = 1 AND finished_at IS NULL ORDER BY id")
	if strings.Join(got, " ") != strings.Join(ids, " ") {
		ts.Errorf("redelivered are %q, want %q", got, ids)
	}
}

// finishReplays runs the store's background tasks until all replays have finished.
func (ts *testServer) finishReplays() {
	ts.Helper()
	ctx, stop := context.WithCancel(ts.Context())
	var background sync.WaitGroup
	background.Go(func() { ts.store.Work(ctx) })
	ticker := time.NewTicker(time.Millisecond)
	defer ticker.Stop()
	for len(ts.rows(ts.db, "SELECT id FROM replays WHERE finished_at IS NULL")) > 0 {
		<-ticker.C
	}
	stop()
	background.Wait()
}

func invalidReplays() (scenarios []scenario) {
	scenarios = append(scenarios, scenario{
		name: "at most ten replays run at the same time", op: "redeliverMany", setup: func(ts *testServer) {
			ts.withLog()
			for range 10 {
				ts.replay("failed")
			}
		},
		request: replayRequest, body: `{}`, status: 409,
		wantBody: `{"message":"10 replays of client 12 are at work; ask again when one of them has finished",` +
			`"status":"too_many_replays"}`,
	})
	for body, wrong := range map[string]string{
		`{"state":"parked"}`:                       "state",
		`{"state":"lost"}`:                         "state",
		`{"state":""}`:                             "state",
		`{"agent_id":136}`:                         "agent_type",
		`{"agent_type":"local"}`:                   "agent_id",
		`{"agent_id":0,"agent_type":"local"}`:      "agent_id",
		`{"agent_id":"136","agent_type":"Local"}`:  "agent_id agent_type",
		`{"event_id":4294967296}`:                  "event_id",
		`{"since":"yesterday","until":1496156870}`: "since until",
		`{"since":"2017-05-30T16:00:00Z","until":"2017-05-30T16:00:00Z"}`:                "until",
		`{"since":"2017-05-30T16:00:00Z","until":"2017-05-30T15:00:00Z","agent_id":136}`: "until agent_type",
		`{"limit":10,"delivery_id":1}`:                                                   "limit delivery_id",
		`{"state":null,"agent_type":null,"agent_id":null,"event_id":null,"since":null,"until":null}`: "state " +
			"agent_type " +
			"agent_id event_id since until",
	} {
		scenarios = append(scenarios, scenario{
			name: "an invalid filter " + body, op: "redeliverMany", setup: (*testServer).withLog, sharedSetup: "log",
			request: replayRequest,
			body:    body, status: 400, wantFields: strings.Fields(wrong),
		})
	}
	return scenarios
}

// withReplays creates four replays. The first two have finished. The first skipped a delivery that was redelivered in
// the meantime.
func (ts *testServer) withReplays() {
	ts.withLog()
	for _, state := range []string{"failed", "delivered"} {
		ts.replay(state)
	}
	ts.send(scenario{request: redeliverRequest(logFailed)})
	ts.finishReplays()
	ts.replay("cancelled")
	ts.replay("failed")
}

func (ts *testServer) replay(state string) {
	ts.Helper()
	if resp := ts.send(scenario{request: replayRequest, body: `{"state":"` + state + `"}`}); resp.status != 202 {
		ts.Fatalf("%d %s", resp.status, resp.body)
	}
}

func replayReads() []scenario {
	const list, get = "GET /client/12/replay/", "GET /client/12/replay/"
	one := startedReplay(1, `{"state":"failed"}`, 1).finished(0)
	two := startedReplay(2, `{"state":"delivered"}`, 1).finished(1)
	three := startedReplay(3, `{"state":"cancelled"}`, 1)
	four := startedReplay(4, `{"state":"failed"}`, 0)
	read := func(name, op, request, want, link string) scenario {
		if link != "" {
			link = "</api/ver1.0/client/12/replay/" + link + `>; rel="next"`
		}
		return scenario{
			name: name, op: op, setup: (*testServer).withReplays, sharedSetup: "replays", request: request, status: 200,
			wantBody:   want,
			wantHeader: map[string]string{"Link": link},
		}
	}
	wrong := func(query, field string) scenario {
		return scenario{
			name: "an invalid query " + query, op: "listReplays", setup: (*testServer).withReplays,
			sharedSetup: "replays", request: list + query,
			status: 400, wantFields: []string{field},
		}
	}
	return []scenario{
		read("the newest replay comes first", "listReplays", list, arrayJSON(four, three, two, one),
			"").asRepresentative(),
		read("the first page", "listReplays", list+"?limit=3", arrayJSON(four, three, two), "?before=2&limit=3"),
		read("a middle page", "listReplays", list+"?limit=1&before=3", arrayJSON(two), "?before=2&limit=1"),
		read("a page of all items", "listReplays", list+"?limit=4", arrayJSON(four, three, two, one), ""),
		read("the last page", "listReplays", list+"?limit=3&before=2", arrayJSON(one), ""),
		read("a page before the first", "listReplays", list+"?before=1", `[]`, ""),
		wrong("?limit=0", "limit"), wrong("?limit=1001", "limit"), wrong("?before=0", "before"),
		wrong("?before=x", "before"),
		read("a finished replay that skipped a delivery", "getReplay", get+"1", one.String(), "").asRepresentative(),
		read("a finished replay of a delivery", "getReplay", get+"2", two.String(), ""),
		read("an unfinished replay", "getReplay", get+"3", three.String(), ""),
		{
			name: "an empty list", op: "listReplays", setup: (*testServer).withLog, request: list, status: 200,
			wantBody: `[]`,
		},
		{
			name: "a replay of another client", op: "getReplay", setup: func(ts *testServer) {
				ts.withReplays()
				ts.client("13")
			},
			request: "GET /client/13/replay/1", status: 404,
			wantBody: `{"message":"there is no replay 1 of client 13","status":"replay_not_found"}`,
		},
		{
			name: "the list of another client", op: "listReplays", setup: func(ts *testServer) {
				ts.withReplays()
				ts.client("13")
			},
			request: "GET /client/13/replay/", status: 200, wantBody: `[]`,
		},
	}
}
