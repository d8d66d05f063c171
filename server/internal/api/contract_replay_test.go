package api

import (
	"context"
	"fmt"
	"strings"
	"sync"
	"time"
)

// replayOf is a replay as the API says it, asked for when the log is as withLog makes it.
func replayOf(id int, filter string, total int) replay {
	return replay{id: id, filter: filter, total: total}
}

type replay struct {
	id          int
	filter      string
	total       int
	redelivered int
	finishedAt  string
}

func (r replay) String() string {
	state, done, skipped, finished := "working", r.redelivered, 0, ""
	if r.finishedAt != "" {
		state, done, skipped, finished = "finished", r.total, r.total-r.redelivered, `,"finished_at":"`+r.finishedAt+`"`
	}
	return fmt.Sprintf(`{"id":%d,"state":%q,"filter":%s,"total":%d,"done":%d,"redelivered":%d,"skipped":%d,`+
		`"created_at":"2017-05-30T19:00:00.000Z"%s}`, r.id, state, r.filter, r.total, done, r.redelivered, skipped, finished)
}

func (r replay) finished(redelivered int) replay {
	r.redelivered, r.finishedAt = redelivered, "2017-05-30T19:00:00.000Z"
	return r
}

func replayScenarios() []scenario {
	return append(append(replayRequests(), wrongReplays()...), replayReads()...)
}

const replayAll = "POST /client/12/delivery/redeliver"

func replayRequests() (scenarios []scenario) {
	for _, c := range []struct {
		body, filter string
		found        []entry
	}{
		{`{}`, `{"state":"failed"}`, []entry{logFailed}},
		{`{"state":"failed"}`, `{"state":"failed"}`, []entry{logFailed}},
		{`{"state":"delivered"}`, `{"state":"delivered"}`, []entry{logDelivered}},
		{`{"state":"cancelled"}`, `{"state":"cancelled"}`, []entry{logCancelled}},
		{`{"agent_type":"local","agent_id":136}`, `{"state":"failed","agent_type":"local","agent_id":136}`, nil},
		{`{"agent_type":"remote","agent_id":7}`, `{"state":"failed","agent_type":"remote","agent_id":7}`, []entry{logFailed}},
		{`{"agent_type":"remote","agent_id":7,"state":"cancelled"}`, `{"state":"cancelled","agent_type":"remote","agent_id":7}`, []entry{logCancelled}},
		{
			`{"agent_id":136.0,"agent_type":"local","state":"delivered"}`,
			`{"state":"delivered","agent_type":"local","agent_id":136}`,
			[]entry{logDelivered},
		},
		{`{"event_id":2}`, `{"state":"failed","event_id":2}`, []entry{logFailed}},
		{`{"event_id":1}`, `{"state":"failed","event_id":1}`, nil},
		{`{"since":"2017-05-30T16:00:00Z"}`, `{"state":"failed","since":"2017-05-30T16:00:00.000Z"}`, []entry{logFailed}},
		{`{"since":"2017-05-30T16:00:00.001Z"}`, `{"state":"failed","since":"2017-05-30T16:00:00.001Z"}`, nil},
		{`{"until":"2017-05-30T19:00:00+03:00"}`, `{"state":"failed","until":"2017-05-30T16:00:00.000Z"}`, nil},
		{
			`{"until":"2017-05-30T17:00:00Z","since":"2017-05-30T15:00:00Z","agent_type":"remote","agent_id":7,"event_id":2}`,
			`{"state":"failed","agent_type":"remote","agent_id":7,"event_id":2,"since":"2017-05-30T15:00:00.000Z",` +
				`"until":"2017-05-30T17:00:00.000Z"}`,
			[]entry{logFailed},
		},
	} {
		scenarios = append(scenarios, scenario{
			name: "replay " + c.body, op: "redeliverMany", given: (*world).withLog, family: "log", request: replayAll,
			body: c.body, status: 202, want: replayOf(1, c.filter, len(c.found)).String(),
			answer: map[string]string{"Location": "/api/ver1.0/client/12/replay/1"},
			then: func(w *world) {
				w.work()
				w.get("/client/12/replay/1", replayOf(1, c.filter, len(c.found)).finished(len(c.found)).String())
				w.replayed(c.found)
			},
		})
	}
	return append(scenarios, scenario{
		name: "replay what is pending", op: "redeliverMany", given: (*world).withLog, family: "log", request: replayAll,
		body: `{"state":"pending"}`, status: 202, want: replayOf(1, `{"state":"pending"}`, 2).String(),
		answer: map[string]string{"Location": "/api/ver1.0/client/12/replay/1"},
		then: func(w *world) {
			w.work()
			w.get("/client/12/replay/1", replayOf(1, `{"state":"pending"}`, 2).finished(2).String())
			w.replayed(nil)
		},
	})
}

// replayed compares which deliveries were sent again.
func (w *world) replayed(want []entry) {
	w.Helper()
	var ids []string
	for _, e := range want {
		ids = append(ids, fmt.Sprint(e.id))
	}
	got := w.rows(w.db, "SELECT id FROM deliveries WHERE replays = 1 AND finished_at IS NULL ORDER BY id")
	if strings.Join(got, " ") != strings.Join(ids, " ") {
		w.Errorf("sent again are %q, want %q", got, ids)
	}
}

// work has the store work its replays, and returns when none is left.
func (w *world) work() {
	w.Helper()
	ctx, stop := context.WithCancel(w.Context())
	var working sync.WaitGroup
	working.Go(func() { w.store.Work(ctx) })
	look := time.NewTicker(time.Millisecond)
	defer look.Stop()
	for len(w.rows(w.db, "SELECT id FROM replays WHERE finished_at IS NULL")) > 0 {
		<-look.C
	}
	stop()
	working.Wait()
}

func wrongReplays() (scenarios []scenario) {
	scenarios = append(scenarios, scenario{
		name: "no more than ten at work", op: "redeliverMany", given: func(w *world) {
			w.withLog()
			for range 10 {
				w.ask("failed")
			}
		},
		request: replayAll, body: `{}`, status: 409,
		want: `{"message":"10 replays of client 12 are at work; ask again when one of them has finished","status":"too_many_replays"}`,
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
		`{"state":null,"agent_type":null,"agent_id":null,"event_id":null,"since":null,"until":null}`: "state agent_type " +
			"agent_id event_id since until",
	} {
		scenarios = append(scenarios, scenario{
			name: "no replay " + body, op: "redeliverMany", given: (*world).withLog, family: "log", request: replayAll,
			body: body, status: 400, wrong: strings.Fields(wrong),
		})
	}
	return scenarios
}

// withReplays is four replays: the first is done, also with what was no longer as it found it.
func (w *world) withReplays() {
	w.withLog()
	for _, state := range []string{"failed", "delivered"} {
		w.ask(state)
	}
	w.send(scenario{request: redeliver(logFailed)})
	w.work()
	w.ask("cancelled")
	w.ask("failed")
}

func (w *world) ask(state string) {
	w.Helper()
	if a := w.send(scenario{request: replayAll, body: `{"state":"` + state + `"}`}); a.status != 202 {
		w.Fatalf("%d %s", a.status, a.body)
	}
}

func replayReads() []scenario {
	const list, get = "GET /client/12/replay/", "GET /client/12/replay/"
	one := replayOf(1, `{"state":"failed"}`, 1).finished(0)
	two := replayOf(2, `{"state":"delivered"}`, 1).finished(1)
	three := replayOf(3, `{"state":"cancelled"}`, 1)
	four := replayOf(4, `{"state":"failed"}`, 0)
	read := func(name, op, request, want, link string) scenario {
		if link != "" {
			link = "</api/ver1.0/client/12/replay/" + link + `>; rel="next"`
		}
		return scenario{
			name: name, op: op, given: (*world).withReplays, family: "replays", request: request, status: 200, want: want,
			answer: map[string]string{"Link": link},
		}
	}
	wrong := func(query, field string) scenario {
		return scenario{
			name: "no list " + query, op: "listReplays", given: (*world).withReplays, family: "replays", request: list + query,
			status: 400, wrong: []string{field},
		}
	}
	return []scenario{
		read("list, the newest first", "listReplays", list, array(four, three, two, one), ""),
		read("a page", "listReplays", list+"?limit=3", array(four, three, two), "?before=2&limit=3"),
		read("a page further", "listReplays", list+"?limit=1&before=3", array(two), "?before=2&limit=1"),
		read("as many as there are", "listReplays", list+"?limit=4", array(four, three, two, one), ""),
		read("the rest", "listReplays", list+"?limit=3&before=2", array(one), ""),
		read("before the first", "listReplays", list+"?before=1", `[]`, ""),
		wrong("?limit=0", "limit"), wrong("?limit=1001", "limit"), wrong("?before=0", "before"), wrong("?before=x", "before"),
		read("one that skipped what was sent again meanwhile", "getReplay", get+"1", one.String(), ""),
		read("one that is done", "getReplay", get+"2", two.String(), ""),
		read("one that is at work", "getReplay", get+"3", three.String(), ""),
		{
			name: "the list of none is an empty array", op: "listReplays", given: (*world).withLog, request: list, status: 200,
			want: `[]`,
		},
		{
			name: "another client's is none of this one", op: "getReplay", given: func(w *world) {
				w.withReplays()
				w.client("13")
			},
			request: "GET /client/13/replay/1", status: 404,
			want: `{"message":"there is no replay 1 of client 13","status":"replay_not_found"}`,
		},
		{
			name: "another client's are none of this one's", op: "listReplays", given: func(w *world) {
				w.withReplays()
				w.client("13")
			},
			request: "GET /client/13/replay/", status: 200, want: `[]`,
		},
	}
}
