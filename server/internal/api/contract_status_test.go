package api

import (
	"fmt"
	"net/http"
	"strings"
	"sync"
	"testing"

	"github.com/agentevents/agentevents/gen"
)

func statusScenarios() []scenario {
	return append(statusReads(), append(statusWrites(), statusTimes()...)...)
}

func statusReads() []scenario {
	const get, op = "GET /client/12/agent/{kind}/{id}/status", "get{Kind}AgentStatus"
	return []scenario{
		{
			name: "before the first change", op: op, given: (*world).withEvents, request: get, status: 200,
			want: `{"agent_status":"logged_out","event_source":"api","sequence":0,"changed_at":"{now}",` +
				`"changed":false,"stale":false,"deliveries":0}`,
		}, {
			name: "after a change, which another request made", op: op, request: get, status: 200,
			given: func(w *world) {
				w.withEvents()
				w.set("2017-05-30T16:00:00.120Z")
				w.send(scenario{
					request: w.kind.fill("PUT /client/12/agent/{kind}/{id}/status"),
					body:    `{"agent_status":"available","event_source":"phone"}`,
				})
				w.set("2017-05-30T17:00:00Z")
			},
			want: `{"agent_status":"available","event_source":"phone","sequence":1,"changed_at":"2017-05-30T16:00:00.120Z",` +
				`"changed":false,"stale":false,"deliveries":0}`,
		}, {
			name: "an id of the other kind is none of this one", op: op, given: (*world).withAgents,
			request: "GET /client/12/agent/{kind}/{otherID}/status", status: 404,
			want: `{"message":"there is no {kind} agent {otherID} of client 12","status":"agent_not_found"}`,
		},
	}
}

func statusWrites() []scenario {
	const put, op = "PUT /client/12/agent/{kind}/{id}/status", "put{Kind}AgentStatus"
	seedOwed := "GET " + seedURL + " pending|12|{kind}|{id}|available|"
	return []scenario{
		{
			name: "a login sends the event of that agent", op: op, given: (*world).withEvents,
			request: put, body: `{"agent_status":"available"}`, status: 200,
			want: `{"agent_status":"available","event_source":"api","sequence":1,"changed_at":"{now}",` +
				`"changed":true,"stale":false,"deliveries":1}`,
			then: func(w *world) {
				w.owes(w.kind.fill(seedOwed + "api"))
				w.get(w.kind.fill("/client/12/agent/{kind}/{id}"),
					w.kind.fill(`{"id":{id},"{field}":"{name}","agent_status":"available","since":"{now}"}`))
			},
		}, {
			name: "a login on the phone", op: op, given: (*world).withEvents,
			request: put, body: `{"event_source":"phone","agent_status":"available"}`, status: 200,
			want: `{"agent_status":"available","event_source":"phone","sequence":1,"changed_at":"{now}",` +
				`"changed":true,"stale":false,"deliveries":1}`,
			then: func(w *world) { w.owes(w.kind.fill(seedOwed + "phone")) },
		}, {
			name: "a second login changes and sends nothing", op: op,
			given: func(w *world) {
				w.withLogin()
				w.set("2017-05-30T16:00:00Z")
			},
			request: put, body: `{"agent_status":"available","event_source":"phone"}`, status: 200,
			want: `{"agent_status":"available","event_source":"api","sequence":1,"changed_at":"{now}",` +
				`"changed":false,"stale":false,"deliveries":0}`,
			then: func(w *world) { w.owes(w.kind.fill(seedOwed + "api")) },
		}, {
			name: "a logout of who is logged out changes and sends nothing", op: op,
			given: func(w *world) {
				w.client("12").agent(w.kind.id).event(gen.RequestMethodPOST, gen.EventTypeAgentLogout)
			},
			request: put, body: `{"agent_status":"logged_out","event_source":"phone"}`, status: 200,
			want: `{"agent_status":"logged_out","event_source":"api","sequence":0,"changed_at":"{now}",` +
				`"changed":false,"stale":false,"deliveries":0}`,
			then: func(w *world) { w.owes() },
		}, {
			name: "a logout does not send the event of a login", op: op, given: (*world).withLogin,
			request: put, body: `{"agent_status":"logged_out"}`, status: 200,
			want: `{"agent_status":"logged_out","event_source":"api","sequence":2,"changed_at":"{now}",` +
				`"changed":true,"stale":false,"deliveries":0}`,
		}, {
			name: "several events all fire, nobody else's does", op: op, request: put, status: 200,
			given: func(w *world) {
				w.withEvents()
				w.client("12").agent(w.kind.id).event(gen.RequestMethodPOST, gen.EventTypeAgentLogin).
					event(gen.RequestMethodPOST, gen.EventTypeAgentLogout).event(gen.RequestMethodGET, gen.EventTypeAgentLogin)
				w.client("12").agent(99).event(gen.RequestMethodGET, gen.EventTypeAgentLogin)
				w.client("12").agentOf(w.kind.other(), w.kind.id).event(gen.RequestMethodGET, gen.EventTypeAgentLogin)
				w.client("13").agent(w.kind.id).event(gen.RequestMethodGET, gen.EventTypeAgentLogin)
			},
			body: `{"agent_status":"available"}`,
			want: `{"agent_status":"available","event_source":"api","sequence":1,"changed_at":"{now}",` +
				`"changed":true,"stale":false,"deliveries":3}`,
			then: func(w *world) {
				w.owes(w.kind.fill(seedOwed+"api"), w.kind.fill("POST"+seedOwed[3:]+"api"), w.kind.fill(seedOwed+"api"))
			},
		}, {
			name: "without events nothing is sent", op: op, given: (*world).withAgents,
			request: put, body: `{"agent_status":"available"}`, status: 200,
			want: `{"agent_status":"available","event_source":"api","sequence":1,"changed_at":"{now}",` +
				`"changed":true,"stale":false,"deliveries":0}`,
			then: func(w *world) { w.owes() },
		}, {
			name: "later changes of any agent have greater numbers", op: op, request: put, status: 200,
			given: func(w *world) {
				w.withAgents()
				w.client("12").agentOf(w.kind.other(), w.kind.other().id).login().logout()
			},
			body: `{"agent_status":"available"}`,
			want: `{"agent_status":"available","event_source":"api","sequence":3,"changed_at":"{now}",` +
				`"changed":true,"stale":false,"deliveries":0}`,
		}, {
			name: "an id of the other kind is none of this one", op: op, given: (*world).withAgents,
			request: "PUT /client/12/agent/{kind}/{otherID}/status", body: `{"agent_status":"available"}`, status: 404,
			want: `{"message":"there is no {kind} agent {otherID} of client 12","status":"agent_not_found"}`,
		}, {
			name: "a status is required", op: op, given: (*world).withEvents,
			request: put, body: `{"event_source":"api"}`, status: 400, wrong: []string{"agent_status"},
		}, {
			name: "every field that is wrong is named", op: op, given: (*world).withEvents, request: put,
			body:   `{"agent_status":"logged_in","event_source":"fax","changed_at":"yesterday","agent_id":136}`,
			status: 400, wrong: []string{"agent_status", "event_source", "changed_at", "agent_id"},
		}, {
			name: "no nulls", op: op, given: (*world).withEvents,
			request: put, body: `{"agent_status":null,"event_source":null,"changed_at":null}`,
			status: 400, wrong: []string{"agent_status", "event_source", "changed_at"},
		},
	}
}

// statusTimes is about changed_at, the PBX's own time.
func statusTimes() []scenario {
	const put, op = "PUT /client/12/agent/{kind}/{id}/status", "put{Kind}AgentStatus"
	// The agent has logged in at 15:00, as the PBX has it, and our clock says 15:07:50.
	at15 := func(w *world) {
		w.withEvents()
		w.send(scenario{
			request: w.kind.fill(put), body: `{"agent_status":"available","changed_at":"2017-05-30T15:00:00Z"}`,
		})
	}
	unchanged := `{"agent_status":"available","event_source":"api","sequence":1,"changed_at":"2017-05-30T15:00:00.000Z",` +
		`"changed":false,"stale":false,"deliveries":0}`
	stale := strings.Replace(unchanged, `"stale":false`, `"stale":true`, 1)
	scenarios := []scenario{
		{
			name: "the PBX's time counts", op: op, given: (*world).withEvents, request: put,
			body: `{"agent_status":"available","changed_at":"2017-05-30T18:00:00.5+03:00"}`, status: 200,
			want: `{"agent_status":"available","event_source":"api","sequence":1,"changed_at":"2017-05-30T15:00:00.500Z",` +
				`"changed":true,"stale":false,"deliveries":1}`,
			then: func(w *world) {
				w.get(w.kind.fill("/client/12/agent/{kind}/{id}"), w.kind.fill(
					`{"id":{id},"{field}":"{name}","agent_status":"available","since":"2017-05-30T15:00:00.500Z"}`))
			},
		}, {
			name: "an overtaken request is stale and does nothing", op: op, given: at15, request: put,
			body: `{"agent_status":"logged_out","changed_at":"2017-05-30T14:59:59.999Z"}`, status: 200, want: stale,
			then: func(w *world) { w.get(w.kind.fill("/client/12/agent/{kind}/{id}/status"), unchanged) },
		}, {
			name: "a request from long ago is stale", op: op, given: at15, request: put,
			body: `{"agent_status":"logged_out","changed_at":"0001-01-01T00:00:00Z"}`, status: 200, want: stale,
		}, {
			name: "a repeated request does nothing", op: op, given: at15, request: put,
			body: `{"agent_status":"available","changed_at":"2017-05-30T15:00:00.000Z"}`, status: 200, want: unchanged,
		}, {
			name: "of the same time, the later request counts", op: op, given: at15, request: put,
			body: `{"agent_status":"logged_out","changed_at":"2017-05-30T15:00:00Z"}`, status: 200,
			want: `{"agent_status":"logged_out","event_source":"api","sequence":2,"changed_at":"2017-05-30T15:00:00.000Z",` +
				`"changed":true,"stale":false,"deliveries":0}`,
		}, {
			name: "a time counts although the status was no change", op: op, request: put,
			given: func(w *world) {
				at15(w)
				w.send(scenario{
					request: w.kind.fill(put), body: `{"agent_status":"available","changed_at":"2017-05-30T15:05:00Z"}`,
				})
			},
			body: `{"agent_status":"logged_out","changed_at":"2017-05-30T15:04:00Z"}`, status: 200, want: stale,
		}, {
			name: "a request without a time is never stale", op: op, request: put,
			given: func(w *world) {
				at15(w)
				w.set("2017-05-30T14:00:00Z")
			},
			body: `{"agent_status":"logged_out"}`, status: 200,
			want: `{"agent_status":"logged_out","event_source":"api","sequence":2,"changed_at":"2017-05-30T14:00:00.000Z",` +
				`"changed":true,"stale":false,"deliveries":0}`,
		}, {
			name: "five minutes ahead of our clock", op: op, given: (*world).withEvents, request: put,
			body: `{"agent_status":"available","changed_at":"2017-05-30T15:12:50.000Z"}`, status: 200,
			want: `{"agent_status":"available","event_source":"api","sequence":1,"changed_at":"2017-05-30T15:12:50.000Z",` +
				`"changed":true,"stale":false,"deliveries":1}`,
		},
	}
	for _, time := range []string{"2017-05-30T15:12:50.001Z", "2017-05-30T16:00:00Z", "9999-12-31T23:59:59Z"} {
		scenarios = append(scenarios, scenario{
			name: "not further ahead: " + time, op: op, given: at15, request: put,
			body: `{"agent_status":"logged_out","changed_at":"` + time + `"}`, status: 400, wrong: []string{"changed_at"},
		})
	}
	for _, time := range []string{
		"", "2017-05-30", "2017-05-30 15:00:00Z", "2017-05-30T15:00:00", "2017-02-30T15:00:00Z", "2017-05-30T25:00:00Z",
		"2017-13-30T15:00:00Z", "2017-05-30T15:61:00Z", "2017-05-30T15:00:00,5Z", "2017-05-30T5:00:00Z", "1496156870",
	} {
		scenarios = append(scenarios, scenario{
			name: "no time: " + time, op: op, given: at15, request: put,
			body: `{"agent_status":"logged_out","changed_at":"` + time + `"}`, status: 400, wrong: []string{"changed_at"},
		})
	}
	return scenarios
}

// Fifty at once log in the same agent: all are answered, one of them made the change and its delivery.
func TestContractSimultaneousLogins(t *testing.T) {
	t.Parallel()
	const n = 50
	w := newWorld(t)
	w.withEvents()
	login := scenario{request: "PUT /client/12/agent/local/136/status", body: `{"agent_status":"available"}`}
	replies := make([]*reply, n)
	errs := make([]error, n)
	var all sync.WaitGroup
	for i := range n {
		all.Go(func() { replies[i], errs[i] = w.try(login) })
	}
	all.Wait()
	changed := 0
	for i, a := range replies {
		w.must(errs[i])
		w.must(w.check(a))
		if a.status != http.StatusOK {
			t.Errorf("%d %s", a.status, a.body)
		}
		if strings.Contains(string(a.body), `"changed":true`) {
			changed++
		}
		if !strings.Contains(string(a.body), `"sequence":1,`) {
			t.Errorf("not the first change: %s", a.body)
		}
	}
	if changed != 1 {
		t.Errorf("%d of %d logins made a change, want 1", changed, n)
	}
	w.owes("GET " + seedURL + " pending|12|local|136|available|api")
}

// statusesScenarios are about many statuses at once.
func statusesScenarios() []scenario {
	const put, op = "PUT /client/12/status/", "putStatuses"
	changed := func(kind string, id, sequence, deliveries int) string {
		return fmt.Sprintf(`{"agent_type":"%s","agent_id":%d,"status":{"agent_status":"available","event_source":"api",`+
			`"sequence":%d,"changed_at":"%s","changed":true,"stale":false,"deliveries":%d}}`,
			kind, id, sequence, seedTime, deliveries)
	}
	notFound := func(kind string, id int) string {
		return fmt.Sprintf(`{"agent_type":"%s","agent_id":%d,"error":{"message":"there is no %s agent %d of client 12",`+
			`"status":"agent_not_found"}}`, kind, id, kind, id)
	}
	entries := func(n int, last string) string {
		entry := `{"agent_type":"local","agent_id":136,"agent_status":"available"}`
		return "[" + strings.Repeat(entry+",", n-1) + last + "]"
	}
	return []scenario{
		{
			name: "none", op: op, given: (*world).withEvents, request: put, body: `[]`, status: 200, want: `[]`,
		}, {
			name: "one of each kind, in the order of the request", op: op, given: (*world).withEvents, request: put,
			body: `[{"agent_type":"remote","agent_id":7,"agent_status":"available"},
				{"agent_type":"local","agent_id":136,"agent_status":"available"}]`,
			status: 200, want: "[" + changed("remote", 7, 1, 1) + "," + changed("local", 136, 2, 1) + "]",
			then: func(w *world) {
				w.owes("GET "+seedURL+" pending|12|remote|7|available|api", "GET "+seedURL+" pending|12|local|136|available|api")
			},
		}, {
			name: "an entry that is refused takes nothing with it", op: op, given: (*world).withEvents, request: put,
			body: `[{"agent_type":"local","agent_id":7,"agent_status":"available"},
				{"agent_type":"local","agent_id":136,"agent_status":"available"},
				{"agent_type":"remote","agent_id":136,"agent_status":"logged_out"},
				{"agent_type":"remote","agent_id":7,"agent_status":"available"}]`,
			status: 200,
			want: "[" + notFound("local", 7) + "," + changed("local", 136, 1, 1) + "," + notFound("remote", 136) + "," +
				changed("remote", 7, 2, 1) + "]",
		}, {
			name: "a time in the future refuses its entry", op: op, given: (*world).withEvents, request: put,
			body: `[{"agent_type":"local","agent_id":136,"agent_status":"available","changed_at":"2017-05-30T16:00:00Z"},
				{"agent_type":"remote","agent_id":7,"agent_status":"available"}]`,
			status: 200,
			then: func(w *world) {
				w.get("/client/12/agent/local/136/status", `{"agent_status":"logged_out","event_source":"api","sequence":0,`+
					`"changed_at":"`+seedTime+`","changed":false,"stale":false,"deliveries":0}`)
				w.owes("GET " + seedURL + " pending|12|remote|7|available|api")
			},
		}, {
			name: "the same agent is worked in turn", op: op, given: (*world).withEvents, request: put,
			body: `[{"agent_type":"local","agent_id":136,"agent_status":"available","changed_at":"2017-05-30T15:00:00Z"},
				{"agent_type":"local","agent_id":136,"agent_status":"logged_out","event_source":"phone"},
				{"agent_type":"local","agent_id":136,"agent_status":"logged_out"},
				{"agent_type":"local","agent_id":136,"agent_status":"available","changed_at":"2017-05-30T15:00:01Z"}]`,
			status: 200,
			want: `[{"agent_type":"local","agent_id":136,"status":{"agent_status":"available","event_source":"api",` +
				`"sequence":1,"changed_at":"2017-05-30T15:00:00.000Z","changed":true,"stale":false,"deliveries":1}},` +
				`{"agent_type":"local","agent_id":136,"status":{"agent_status":"logged_out","event_source":"phone",` +
				`"sequence":2,"changed_at":"` + seedTime + `","changed":true,"stale":false,"deliveries":0}},` +
				`{"agent_type":"local","agent_id":136,"status":{"agent_status":"logged_out","event_source":"phone",` +
				`"sequence":2,"changed_at":"` + seedTime + `","changed":false,"stale":false,"deliveries":0}},` +
				`{"agent_type":"local","agent_id":136,"status":{"agent_status":"logged_out","event_source":"phone",` +
				`"sequence":2,"changed_at":"` + seedTime + `","changed":false,"stale":true,"deliveries":0}}]`,
			then: func(w *world) { w.owes("GET " + seedURL + " pending|12|local|136|available|api") },
		}, {
			name: "a thousand", op: op, given: (*world).withEvents, request: put,
			body:   entries(1000, `{"agent_type":"remote","agent_id":7,"agent_status":"available"}`),
			status: 200,
			then: func(w *world) {
				w.owes("GET "+seedURL+" pending|12|local|136|available|api", "GET "+seedURL+" pending|12|remote|7|available|api")
			},
		}, {
			name: "no more than a thousand", op: op, given: (*world).withEvents, request: put,
			body:   entries(1001, `{"agent_type":"remote","agent_id":7,"agent_status":"available"}`),
			status: 400, wrong: []string{"body"},
		}, {
			name: "an entry that the document forbids refuses all", op: op, given: (*world).withEvents, request: put,
			body: `[{"agent_type":"local","agent_id":136,"agent_status":"available"},
				{"agent_type":"Local","agent_id":0,"agent_status":"away","event_source":"","changed_at":"","x":1},{}, 1, null]`,
			status: 400,
			wrong: []string{
				"1.agent_type", "1.agent_id", "1.agent_status", "1.event_source", "1.changed_at", "1.x",
				"2.agent_type", "2.agent_id", "2.agent_status", "3", "4",
			},
		}, {
			name: "of very many wrong fields a hundred are named", op: op, given: (*world).withEvents, request: put,
			body: "[" + strings.Repeat(`{"agent_type":1,"agent_id":"x"},`, 500) + "0]", status: 400,
		}, {
			name: "no object", op: op, given: (*world).withEvents, request: put,
			body:   `{"agent_type":"local","agent_id":136,"agent_status":"available"}`,
			status: 400, wrong: []string{"body"},
		},
	}
}
