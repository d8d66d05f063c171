package api

import (
	"fmt"
	"strconv"
	"strings"

	"github.com/agentevents/agentevents/gen"
)

// changeJSON returns a status change in the form of the API.
func changeJSON(sequence int, k agentKind, status, at string) string {
	old := map[string]string{"available": "logged_out", "logged_out": "available"}[status]
	return fmt.Sprintf(`{"sequence":%d,"agent_type":%q,"agent_id":%d,"name":%q,"old_status":%q,"agent_status":%q,`+
		`"event_source":"api","changed_at":%q,"created_at":%q}`, sequence, k.agentType, k.id, k.name, old, status, at,
		at)
}

// The changes of withLog, by their sequence numbers.
var logChanges = []string{
	1: changeJSON(1, localKind, "available", exampleTime),
	2: changeJSON(2, remoteKind, "available", "2017-05-30T16:00:00.000Z"),
	3: changeJSON(3, localKind, "logged_out", "2017-05-30T17:00:00.000Z"),
	4: changeJSON(4, localKind, "available", "2017-05-30T18:00:00.000Z"),
	5: changeJSON(5, remoteKind, "logged_out", "2017-05-30T19:00:00.000Z"),
	6: changeJSON(6, remoteKind, "available", "2017-05-30T19:00:00.000Z"),
}

func feedScenarios() []scenario {
	const op, feed = "listStatusChanges", "GET /client/12/status_change/"
	scenarios := []scenario{{
		name: "all changes", op: op, representative: true, setup: (*testServer).withLog, sharedSetup: "log",
		request: feed, status: 200,
		wantBody: "[" + strings.Join(logChanges[1:], ",") + "]",
		wantHeader: map[string]string{
			"Link": `</api/ver1.0/client/12/status_change/?after=6&epoch=` + testEpoch + `>; rel="next"`,
		},
	}}
	for query, c := range map[string]struct {
		from, to int
		link     string // E is the epoch
	}{
		"?after=0":                              {1, 6, "?after=6&epoch=E"},
		"?after=2":                              {3, 6, "?after=6&epoch=E"},
		"?after=5&limit=2":                      {6, 6, "?after=6&epoch=E&limit=2"},
		"?limit=2":                              {1, 2, "?after=2&epoch=E&limit=2"},
		"?limit=6":                              {1, 6, "?after=6&epoch=E&limit=6"},
		"?after=2&limit=2&wait=30":              {3, 4, "?after=4&epoch=E&limit=2&wait=30"},
		"?after=6":                              {7, 6, "?after=6&epoch=E"}, // the link repeats the request
		"?after=6&wait=0":                       {7, 6, "?after=6&epoch=E&wait=0"},
		"?after=9223372036854775807&limit=1000": {7, 6, "?after=9223372036854775807&epoch=E&limit=1000"},
		"?after[]=4&x=1":                        {5, 6, "?after=6&epoch=E&x=1"},
		"?after=4&epoch=" + testEpoch:           {5, 6, "?after=6&epoch=E"},
		"?after=7&epoch=" + testEpoch:           {7, 6, "?after=7&epoch=E"},
		"?epoch=" + otherEpoch:                  {1, 6, "?after=6&epoch=E"}, // without after, epoch has no meaning
		"?start=oldest":                         {1, 6, "?after=6&epoch=E"},
		"?start=oldest&limit=2&wait=30":         {1, 2, "?after=2&epoch=E&limit=2&wait=30"},
		"?start=newest":                         {7, 6, "?after=6&epoch=E"},
		"?start=newest&epoch=" + otherEpoch:     {7, 6, "?after=6&epoch=E"},
	} {
		scenarios = append(scenarios, scenario{
			name: "feed " + query, op: op, setup: (*testServer).withLog, sharedSetup: "log", request: feed + query,
			status:   200,
			wantBody: "[" + strings.Join(logChanges[c.from:c.to+1], ",") + "]",
			wantHeader: map[string]string{
				"Link": "</api/ver1.0/client/12/status_change/" +
					strings.Replace(c.link, "=E", "="+testEpoch, 1) + `>; rel="next"`,
				"Agentevents-Epoch": testEpoch,
			},
		})
	}
	for query, wrong := range map[string]string{
		"after=-1": "after", "after=x": "after", "after=9223372036854775808": "after", "after=1&after=2": "after",
		"epoch=": "epoch", "after=1&epoch=9F86D081884C7D65": "epoch", "epoch=" + testEpoch + "0": "epoch",
		"start=0": "start", "start=": "start", "start=oldest&after=0": "start", "start=newest&after=6": "start",
		"limit=0": "limit", "limit=1001": "limit", "wait=-1": "wait", "wait=31": "wait", "wait=1s": "wait",
		"wait=99999999999999999999&after=&limit=1e3": "after limit wait",
	} {
		scenarios = append(scenarios, scenario{
			name: "an invalid query " + query, op: op, setup: (*testServer).withLog, sharedSetup: "log",
			request: feed + "?" + query, status: 400,
			wantFields: strings.Fields(wrong),
		})
	}
	return append(scenarios, feedEnds()...)
}

// otherEpoch is an epoch of another store.
const otherEpoch = "60303ae22b998861"

// feedEnds returns requests for feeds without changes, or with changes that are no longer stored.
func feedEnds() []scenario {
	const op, feed = "listStatusChanges", "GET /client/12/status_change/"
	truncated := func(ts *testServer) {
		ts.withLog()
		ts.exec("DELETE FROM attempts")
		ts.exec("DELETE FROM deliveries")
		ts.exec("DELETE FROM status_changes WHERE id IN (1, 2, 3)")
		ts.exec("INSERT INTO truncated (client_id, sequence) VALUES ('12', 3)")
	}
	gone := func(after string, oldest string) scenario {
		return scenario{
			name: "changes after " + after + " were deleted", op: op, setup: truncated, sharedSetup: "truncated",
			request: feed + "?wait=30&after=" + after, status: 410,
			wantBody: `{"message":"changes after ` + after + ` are no longer kept, the oldest one is ` + oldest +
				`; start=oldest begins there",` +
				`"status":"feed_truncated","oldest_sequence":` + oldest + `}`,
		}
	}
	kept := func(query string, from int) scenario {
		return scenario{
			name: "the stored changes " + query, op: op, setup: truncated, sharedSetup: "truncated",
			request: feed + query, status: 200,
			wantBody: "[" + strings.Join(logChanges[from:], ",") + "]",
		}
	}
	restarted := func(name, query, oldest string, given func(*testServer)) scenario {
		return scenario{
			name: "the server was restored from a backup: " + name, op: op, setup: given,
			request: feed + "?wait=30&after=" + query,
			status:  410, wantBody: `{"message":"the sequence numbers are not those of epoch ` + otherEpoch +
				`: the store was restored ` +
				`from a backup, or is another one; the oldest change that is kept is ` + oldest +
				`","status":"feed_restarted",` +
				`"oldest_sequence":` + oldest + `,"epoch":"` + testEpoch + `"}`,
		}
	}
	empty := gone("0", "7")
	empty.name, empty.sharedSetup = "all changes were deleted", ""
	empty.setup = func(ts *testServer) {
		truncated(ts)
		ts.exec("DELETE FROM status_changes")
		ts.exec("UPDATE truncated SET sequence = 6")
	}
	return []scenario{
		gone("0", "4"), gone("2", "4"), kept("", 4), kept("?start=oldest", 4), kept("?start=oldest&wait=30", 4),
		kept("?start=newest", 7), kept("?after=3", 4), kept("?after=4", 5), empty,
		restarted("a stored change", "6&epoch="+otherEpoch, "1", (*testServer).withLog),
		restarted("a future change", "17&epoch="+otherEpoch, "1", (*testServer).withLog),
		restarted("a deleted change", "2&epoch="+otherEpoch, "4", truncated),
		restarted("all changes were deleted", "2&epoch="+otherEpoch, "7", empty.setup),
		restarted("no change", "0&epoch="+otherEpoch, "1", (*testServer).withEvents),
		{
			name: "an empty feed", op: op, setup: (*testServer).withEvents, request: feed, status: 200, wantBody: `[]`,
			wantHeader: map[string]string{
				"Link": `</api/ver1.0/client/12/status_change/?after=0&epoch=` + testEpoch +
					`>; rel="next"`,
				"Agentevents-Epoch": testEpoch,
			},
		},
		{
			name: "start=newest without changes", op: op, setup: empty.setup, request: feed + "?start=newest",
			status: 200, wantBody: `[]`,
			wantHeader: map[string]string{
				"Link": `</api/ver1.0/client/12/status_change/?after=6&epoch=` + testEpoch + `>; rel="next"`,
			},
		},
		{
			name: "start=oldest without changes", op: op, setup: empty.setup, request: feed + "?start=oldest",
			status: 200, wantBody: `[]`,
			wantHeader: map[string]string{
				"Link": `</api/ver1.0/client/12/status_change/?after=6&epoch=` + testEpoch + `>; rel="next"`,
			},
		},
		{
			name: "nothing after 0", op: op, setup: (*testServer).withEvents, request: feed + "?after=0", status: 200,
			wantBody: `[]`,
			wantHeader: map[string]string{
				"Link": `</api/ver1.0/client/12/status_change/?after=0&epoch=` + testEpoch + `>; rel="next"`,
			},
		},
		{
			name: "changes of another client", op: op, setup: (*testServer).withNeighbour,
			request: "GET /client/13/status_change/", status: 200, wantBody: "[" + changeJSON(7, localKind, "available",
				"2017-05-30T19:00:00.000Z") + "]",
		},
	}
}

// firedJSON and notFiredJSON return the match of a change with an event.
func firedJSON(event, delivery int, typ, state string) string {
	outcome, more := "fired", ""
	switch state {
	case "parked":
		outcome, more = "parked", ", but disabled: the delivery waits until it is enabled"
	case "cancelled":
		more = "; its event was deleted"
	}
	return fmt.Sprintf(`{"event_id":%d,"outcome":%q,"reason":"the event is for this type, %s%s","delivery_id":%d,`+
		`"delivery_state":%q}`, event, outcome, typ, more, delivery, state)
}

func notFiredJSON(event int, typ string) string {
	return fmt.Sprintf(`{"event_id":%d,"outcome":"not_fired","reason":"the event is for the other type, %s"}`, event,
		typ)
}

func explainedJSON(change, repeated string, events ...string) string {
	if repeated != "" {
		repeated = `,"repeated":` + repeated
	}
	return `{"change":` + change + `,"events":[` + strings.Join(events, ",") + "]" + repeated + "}"
}

// changeScenarios are about the changes of one agent. Each change lists the agent's events that it matched.
func changeScenarios() []scenario {
	const op, list = "list{Kind}AgentStatusChanges", "GET /client/12/agent/{kind}/{id}/status_change/"
	// From 16:00 the agent has a second event for a login and one for a logout, which the first change lacks.
	three := func(ts *testServer) {
		ts.withLogin()
		a := ts.client("12").agent(ts.kind.id)
		ts.client("12").agent(ts.kind.other().id)
		ts.client("12").agentOf(ts.kind.other(), ts.kind.other().id).login()
		ts.setTime("2017-05-30T16:00:00Z")
		a.event(gen.RequestMethodPOST, gen.EventTypeAgentLogin).event(gen.RequestMethodPOST,
			gen.EventTypeAgentLogout).logout()
		ts.setTime("2017-05-30T17:00:00Z")
		a.setEventState(3, gen.AgentEventStateValueDisabled).login()
		ts.setTime("2017-05-30T18:00:00Z")
		a.login()
		ts.setTime("2017-05-30T18:00:01Z")
		a.login()
		ts.must(ts.store.DeleteEvent(ts.Context(), a.key, 4))
	}
	of := func(sequence int, status, at string) string {
		return `{"sequence":` + strconv.Itoa(sequence) +
			`,"agent_type":"{kind}","agent_id":{id},"name":"{name}","old_status":"` +
			map[string]string{"available": "logged_out", "logged_out": "available"}[status] + `","agent_status":"` +
			status +
			`","event_source":"api","changed_at":"` + at + `","created_at":"` + at + `"}`
	}
	event := func(text string) string { return strings.Replace(text, `"event_id":0`, `"event_id":{event}`, 1) }
	first := explainedJSON(of(1, "available", exampleTime), "", event(firedJSON(0, 1, "agent-login", "pending")))
	second := explainedJSON(of(3, "logged_out", "2017-05-30T16:00:00.000Z"), "",
		firedJSON(4, 3, "agent-logout", "cancelled"), event(notFiredJSON(0, "agent-login")),
		notFiredJSON(3, "agent-login"))
	last := explainedJSON(of(4, "available", "2017-05-30T17:00:00.000Z"),
		`{"times":2,"last_at":"2017-05-30T18:00:01.000Z"}`,
		event(firedJSON(0, 4, "agent-login", "pending")), firedJSON(3, 5, "agent-login", "parked"),
		notFiredJSON(4, "agent-logout"))
	page := func(query, link string, want ...string) scenario {
		if link != "" {
			link = "</api/ver1.0/client/12/agent/{kind}/{id}/status_change/" + link + `>; rel="next"`
		}
		return scenario{
			name: "explain " + query, op: op, setup: three, sharedSetup: "three {kind}", request: list + query,
			status:   200,
			wantBody: "[" + strings.Join(want, ",") + "]", wantHeader: map[string]string{"Link": link},
		}
	}
	wrong := func(query, field string) scenario {
		return scenario{
			name: "explain " + query, op: op, setup: three, request: list + query, status: 400,
			wantFields: []string{field},
		}
	}
	return []scenario{
		page("", "", last, second, first).asRepresentative(),
		page("?limit=2", "?before=3&limit=2", last, second),
		page("?limit=3", "", last, second, first),
		page("?before=4&limit=1", "?before=3&limit=1", second),
		page("?before=3", "", first),
		page("?before=1", ""),
		wrong("?limit=0", "limit"), wrong("?limit=1001", "limit"), wrong("?before=0", "before"),
		wrong("?before=1.5", "before"),
		{
			name: "a change without events", op: op, request: list, status: 200, setup: func(ts *testServer) {
				ts.withAgents()
				ts.client("12").agent(ts.kind.id).login()
			},
			wantBody: "[" + explainedJSON(of(1, "available", exampleTime), "") + "]",
		},
		{
			name: "no changes", op: op, setup: (*testServer).withEvents, request: list, status: 200, wantBody: `[]`,
		},
		{
			name: "a repeated status without any change is not listed", op: op, request: list, status: 200,
			setup: func(ts *testServer) {
				ts.withEvents()
				ts.client("12").agent(ts.kind.id).logout()
			},
			wantBody: `[]`,
		},
	}
}
