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
			name: "before the first change", op: op, representative: true, setup: (*testServer).withEvents,
			request: get, status: 200,
			wantBody: `{"agent_status":"logged_out","event_source":"api","sequence":0,"changed_at":"{now}",` +
				`"changed":false,"stale":false,"deliveries":0}`,
		}, {
			name: "after a change by an earlier request", op: op, request: get, status: 200,
			setup: func(ts *testServer) {
				ts.withEvents()
				ts.setTime("2017-05-30T16:00:00.120Z")
				ts.send(scenario{
					request: ts.kind.fill("PUT /client/12/agent/{kind}/{id}/status"),
					body:    `{"agent_status":"available","event_source":"phone"}`,
				})
				ts.setTime("2017-05-30T17:00:00Z")
			},
			wantBody: `{"agent_status":"available","event_source":"phone","sequence":1,` +
				`"changed_at":"2017-05-30T16:00:00.120Z",` +
				`"changed":false,"stale":false,"deliveries":0}`,
		}, {
			name: "the id of an agent of the other kind", op: op, setup: (*testServer).withAgents,
			request: "GET /client/12/agent/{kind}/{otherID}/status", status: 404,
			wantBody: `{"message":"there is no {kind} agent {otherID} of client 12","status":"agent_not_found"}`,
		},
	}
}

func statusWrites() []scenario {
	const put, op = "PUT /client/12/agent/{kind}/{id}/status", "put{Kind}AgentStatus"
	loginDelivery := "GET " + exampleURL + " pending|12|{kind}|{id}|available|"
	return []scenario{
		{
			name: "a login sends the event of that agent", op: op, representative: true,
			setup:   (*testServer).withEvents,
			request: put, body: `{"agent_status":"available"}`, status: 200,
			wantBody: `{"agent_status":"available","event_source":"api","sequence":1,"changed_at":"{now}",` +
				`"changed":true,"stale":false,"deliveries":1}`,
			after: func(ts *testServer) {
				ts.wantDeliveries(ts.kind.fill(loginDelivery + "api"))
				ts.wantGet(ts.kind.fill("/client/12/agent/{kind}/{id}"),
					ts.kind.fill(`{"id":{id},"{field}":"{name}","agent_status":"available","since":"{now}"}`))
			},
		}, {
			name: "a login on the phone", op: op, setup: (*testServer).withEvents,
			request: put, body: `{"event_source":"phone","agent_status":"available"}`, status: 200,
			wantBody: `{"agent_status":"available","event_source":"phone","sequence":1,"changed_at":"{now}",` +
				`"changed":true,"stale":false,"deliveries":1}`,
			after: func(ts *testServer) { ts.wantDeliveries(ts.kind.fill(loginDelivery + "phone")) },
		}, {
			name: "a repeated login changes and sends nothing", op: op,
			setup: func(ts *testServer) {
				ts.withLogin()
				ts.setTime("2017-05-30T16:00:00Z")
			},
			request: put, body: `{"agent_status":"available","event_source":"phone"}`, status: 200,
			wantBody: `{"agent_status":"available","event_source":"api","sequence":1,"changed_at":"{now}",` +
				`"changed":false,"stale":false,"deliveries":0}`,
			after: func(ts *testServer) { ts.wantDeliveries(ts.kind.fill(loginDelivery + "api")) },
		}, {
			name: "a repeated logout changes and sends nothing", op: op,
			setup: func(ts *testServer) {
				ts.client("12").agent(ts.kind.id).event(gen.RequestMethodPOST, gen.EventTypeAgentLogout)
			},
			request: put, body: `{"agent_status":"logged_out","event_source":"phone"}`, status: 200,
			wantBody: `{"agent_status":"logged_out","event_source":"api","sequence":0,"changed_at":"{now}",` +
				`"changed":false,"stale":false,"deliveries":0}`,
			after: func(ts *testServer) { ts.wantDeliveries() },
		}, {
			name: "a logout does not send the event of a login", op: op, setup: (*testServer).withLogin,
			request: put, body: `{"agent_status":"logged_out"}`, status: 200,
			wantBody: `{"agent_status":"logged_out","event_source":"api","sequence":2,"changed_at":"{now}",` +
				`"changed":true,"stale":false,"deliveries":0}`,
		}, {
			name: "all events of the agent fire, and no other agent's", op: op, request: put, status: 200,
			setup: func(ts *testServer) {
				ts.withEvents()
				ts.client("12").agent(ts.kind.id).event(gen.RequestMethodPOST, gen.EventTypeAgentLogin).
					event(gen.RequestMethodPOST, gen.EventTypeAgentLogout).event(gen.RequestMethodGET,
					gen.EventTypeAgentLogin)
				ts.client("12").agent(99).event(gen.RequestMethodGET, gen.EventTypeAgentLogin)
				ts.client("12").agentOf(ts.kind.other(), ts.kind.id).event(gen.RequestMethodGET,
					gen.EventTypeAgentLogin)
				ts.client("13").agent(ts.kind.id).event(gen.RequestMethodGET, gen.EventTypeAgentLogin)
			},
			body: `{"agent_status":"available"}`,
			wantBody: `{"agent_status":"available","event_source":"api","sequence":1,"changed_at":"{now}",` +
				`"changed":true,"stale":false,"deliveries":3}`,
			after: func(ts *testServer) {
				ts.wantDeliveries(ts.kind.fill(loginDelivery+"api"), ts.kind.fill("POST"+loginDelivery[3:]+"api"),
					ts.kind.fill(loginDelivery+"api"))
			},
		}, {
			name: "a change without events sends nothing", op: op, setup: (*testServer).withAgents,
			request: put, body: `{"agent_status":"available"}`, status: 200,
			wantBody: `{"agent_status":"available","event_source":"api","sequence":1,"changed_at":"{now}",` +
				`"changed":true,"stale":false,"deliveries":0}`,
			after: func(ts *testServer) { ts.wantDeliveries() },
		}, {
			name: "sequence numbers increase across agents", op: op, request: put, status: 200,
			setup: func(ts *testServer) {
				ts.withAgents()
				ts.client("12").agentOf(ts.kind.other(), ts.kind.other().id).login().logout()
			},
			body: `{"agent_status":"available"}`,
			wantBody: `{"agent_status":"available","event_source":"api","sequence":3,"changed_at":"{now}",` +
				`"changed":true,"stale":false,"deliveries":0}`,
		}, {
			name: "the id of an agent of the other kind", op: op, setup: (*testServer).withAgents,
			request: "PUT /client/12/agent/{kind}/{otherID}/status", body: `{"agent_status":"available"}`, status: 404,
			wantBody: `{"message":"there is no {kind} agent {otherID} of client 12","status":"agent_not_found"}`,
		}, {
			name: "a status is required", op: op, setup: (*testServer).withEvents,
			request: put, body: `{"event_source":"api"}`, status: 400, wantFields: []string{"agent_status"},
		}, {
			name: "each invalid field is named", op: op, setup: (*testServer).withEvents, request: put,
			body:   `{"agent_status":"logged_in","event_source":"fax","changed_at":"yesterday","agent_id":136}`,
			status: 400, wantFields: []string{"agent_status", "event_source", "changed_at", "agent_id"},
		}, {
			name: "null is refused", op: op, setup: (*testServer).withEvents,
			request: put, body: `{"agent_status":null,"event_source":null,"changed_at":null}`,
			status: 400, wantFields: []string{"agent_status", "event_source", "changed_at"},
		},
	}
}

// statusTimes are about changed_at, the PBX's time of a change.
func statusTimes() []scenario {
	const put, op = "PUT /client/12/agent/{kind}/{id}/status", "put{Kind}AgentStatus"
	// The agent logged in at 15:00, by the clock of the PBX. The server's clock says 15:07:50.
	at15 := func(ts *testServer) {
		ts.withEvents()
		ts.send(scenario{
			request: ts.kind.fill(put), body: `{"agent_status":"available","changed_at":"2017-05-30T15:00:00Z"}`,
		})
	}
	unchanged := `{"agent_status":"available","event_source":"api","sequence":1,` +
		`"changed_at":"2017-05-30T15:00:00.000Z",` +
		`"changed":false,"stale":false,"deliveries":0}`
	stale := strings.Replace(unchanged, `"stale":false`, `"stale":true`, 1)
	scenarios := []scenario{
		{
			name: "changed_at is the PBX's time", op: op, setup: (*testServer).withEvents, request: put,
			body: `{"agent_status":"available","changed_at":"2017-05-30T18:00:00.5+03:00"}`, status: 200,
			wantBody: `{"agent_status":"available","event_source":"api","sequence":1,` +
				`"changed_at":"2017-05-30T15:00:00.500Z",` +
				`"changed":true,"stale":false,"deliveries":1}`,
			after: func(ts *testServer) {
				ts.wantGet(ts.kind.fill("/client/12/agent/{kind}/{id}"), ts.kind.fill(
					`{"id":{id},"{field}":"{name}","agent_status":"available","since":"2017-05-30T15:00:00.500Z"}`))
			},
		}, {
			name: "an earlier time is stale and changes nothing", op: op, setup: at15, request: put,
			body: `{"agent_status":"logged_out","changed_at":"2017-05-30T14:59:59.999Z"}`, status: 200, wantBody: stale,
			after: func(ts *testServer) { ts.wantGet(ts.kind.fill("/client/12/agent/{kind}/{id}/status"), unchanged) },
		}, {
			name: "a time long ago is stale", op: op, setup: at15, request: put,
			body: `{"agent_status":"logged_out","changed_at":"0001-01-01T00:00:00Z"}`, status: 200, wantBody: stale,
		}, {
			name: "a repeated request changes nothing", op: op, setup: at15, request: put,
			body: `{"agent_status":"available","changed_at":"2017-05-30T15:00:00.000Z"}`, status: 200,
			wantBody: unchanged,
		}, {
			name: "the later of two requests with the same time counts", op: op, setup: at15, request: put,
			body: `{"agent_status":"logged_out","changed_at":"2017-05-30T15:00:00Z"}`, status: 200,
			wantBody: `{"agent_status":"logged_out","event_source":"api","sequence":2,` +
				`"changed_at":"2017-05-30T15:00:00.000Z",` +
				`"changed":true,"stale":false,"deliveries":0}`,
		}, {
			name: "a repeated status sets the time", op: op, request: put,
			setup: func(ts *testServer) {
				at15(ts)
				ts.send(scenario{
					request: ts.kind.fill(put),
					body:    `{"agent_status":"available","changed_at":"2017-05-30T15:05:00Z"}`,
				})
			},
			body: `{"agent_status":"logged_out","changed_at":"2017-05-30T15:04:00Z"}`, status: 200, wantBody: stale,
		}, {
			name: "a request without a time is never stale", op: op, request: put,
			setup: func(ts *testServer) {
				at15(ts)
				ts.setTime("2017-05-30T14:00:00Z")
			},
			body: `{"agent_status":"logged_out"}`, status: 200,
			wantBody: `{"agent_status":"logged_out","event_source":"api","sequence":2,` +
				`"changed_at":"2017-05-30T14:00:00.000Z",` +
				`"changed":true,"stale":false,"deliveries":0}`,
		}, {
			name: "a time five minutes ahead of the clock is accepted", op: op, setup: (*testServer).withEvents,
			request: put,
			body:    `{"agent_status":"available","changed_at":"2017-05-30T15:12:50.000Z"}`, status: 200,
			wantBody: `{"agent_status":"available","event_source":"api","sequence":1,` +
				`"changed_at":"2017-05-30T15:12:50.000Z",` +
				`"changed":true,"stale":false,"deliveries":1}`,
		},
	}
	for _, time := range []string{"2017-05-30T15:12:50.001Z", "2017-05-30T16:00:00Z", "9999-12-31T23:59:59Z"} {
		scenarios = append(scenarios, scenario{
			name: "a time further ahead of the clock: " + time, op: op, setup: at15, request: put,
			body: `{"agent_status":"logged_out","changed_at":"` + time + `"}`, status: 400,
			wantFields: []string{"changed_at"},
		})
	}
	for _, time := range []string{
		"", "2017-05-30", "2017-05-30 15:00:00Z", "2017-05-30T15:00:00", "2017-02-30T15:00:00Z", "2017-05-30T25:00:00Z",
		"2017-13-30T15:00:00Z", "2017-05-30T15:61:00Z", "2017-05-30T15:00:00,5Z", "2017-05-30T5:00:00Z", "1496156870",
	} {
		scenarios = append(scenarios, scenario{
			name: "an invalid time: " + time, op: op, setup: at15, request: put,
			body: `{"agent_status":"logged_out","changed_at":"` + time + `"}`, status: 400,
			wantFields: []string{"changed_at"},
		})
	}
	return scenarios
}

// All of fifty concurrent logins of one agent succeed. One of them makes the change and its delivery.
func TestContractConcurrentLoginsMakeOneChange(t *testing.T) {
	t.Parallel()
	const n = 50
	ts := newTestServer(t)
	ts.withEvents()
	login := scenario{request: "PUT /client/12/agent/local/136/status", body: `{"agent_status":"available"}`}
	replies := make([]*apiResponse, n)
	errs := make([]error, n)
	var all sync.WaitGroup
	for i := range n {
		all.Go(func() { replies[i], errs[i] = ts.do(login) })
	}
	all.Wait()
	changed := 0
	for i, resp := range replies {
		ts.must(errs[i])
		ts.must(ts.check(resp))
		if resp.status != http.StatusOK {
			t.Errorf("%d %s", resp.status, resp.body)
		}
		if strings.Contains(string(resp.body), `"changed":true`) {
			changed++
		}
		if !strings.Contains(string(resp.body), `"sequence":1,`) {
			t.Errorf("not the first change: %s", resp.body)
		}
	}
	if changed != 1 {
		t.Errorf("%d of %d logins made a change, want 1", changed, n)
	}
	ts.wantDeliveries("GET " + exampleURL + " pending|12|local|136|available|api")
}

// statusesScenarios are about PUT of several statuses.
func statusesScenarios() []scenario {
	const put, op = "PUT /client/12/status/", "putStatuses"
	changed := func(kind string, id, sequence, deliveries int) string {
		return fmt.Sprintf(`{"agent_type":"%s","agent_id":%d,"status":{"agent_status":"available",`+
			`"event_source":"api",`+
			`"sequence":%d,"changed_at":"%s","changed":true,"stale":false,"deliveries":%d}}`,
			kind, id, sequence, exampleTime, deliveries)
	}
	notFound := func(kind string, id int) string {
		return fmt.Sprintf(`{"agent_type":"%s","agent_id":%d,"error":{"message":"there is no %s agent %d of client `+
			`12",`+
			`"status":"agent_not_found"}}`, kind, id, kind, id)
	}
	entries := func(n int, last string) string {
		entry := `{"agent_type":"local","agent_id":136,"agent_status":"available"}`
		return "[" + strings.Repeat(entry+",", n-1) + last + "]"
	}
	return []scenario{
		{
			name: "an empty array", op: op, representative: true, setup: (*testServer).withEvents, request: put,
			body: `[]`, status: 200, wantBody: `[]`,
		}, {
			name: "the answer has the order of the request", op: op, setup: (*testServer).withEvents,
			request: put,
			body: `[{"agent_type":"remote","agent_id":7,"agent_status":"available"},
				{"agent_type":"local","agent_id":136,"agent_status":"available"}]`,
			status: 200, wantBody: "[" + changed("remote", 7, 1, 1) + "," + changed("local", 136, 2, 1) + "]",
			after: func(ts *testServer) {
				ts.wantDeliveries("GET "+exampleURL+" pending|12|remote|7|available|api", "GET "+exampleURL+
					" pending|12|local|136|available|api")
			},
		}, {
			name: "a refused entry does not affect the others", op: op, setup: (*testServer).withEvents, request: put,
			body: `[{"agent_type":"local","agent_id":7,"agent_status":"available"},
				{"agent_type":"local","agent_id":136,"agent_status":"available"},
				{"agent_type":"remote","agent_id":136,"agent_status":"logged_out"},
				{"agent_type":"remote","agent_id":7,"agent_status":"available"}]`,
			status: 200,
			wantBody: "[" + notFound("local", 7) + "," + changed("local", 136, 1, 1) + "," + notFound("remote", 136) +
				"," +
				changed("remote", 7, 2, 1) + "]",
		}, {
			name: "a time in the future refuses its entry", op: op, setup: (*testServer).withEvents, request: put,
			body: `[
				{"agent_type":"local","agent_id":136,"agent_status":"available","changed_at":"2017-05-30T16:00:00Z"},
				{"agent_type":"remote","agent_id":7,"agent_status":"available"}]`,
			status: 200,
			after: func(ts *testServer) {
				ts.wantGet("/client/12/agent/local/136/status",
					`{"agent_status":"logged_out","event_source":"api","sequence":0,`+
						`"changed_at":"`+exampleTime+`","changed":false,"stale":false,"deliveries":0}`)
				ts.wantDeliveries("GET " + exampleURL + " pending|12|remote|7|available|api")
			},
		}, {
			name: "entries for one agent are processed in order", op: op, setup: (*testServer).withEvents, request: put,
			body: `[
				{"agent_type":"local","agent_id":136,"agent_status":"available","changed_at":"2017-05-30T15:00:00Z"},
				{"agent_type":"local","agent_id":136,"agent_status":"logged_out","event_source":"phone"},
				{"agent_type":"local","agent_id":136,"agent_status":"logged_out"},
				{"agent_type":"local","agent_id":136,"agent_status":"available","changed_at":"2017-05-30T15:00:01Z"}]`,
			status: 200,
			wantBody: `[{"agent_type":"local","agent_id":136,"status":{"agent_status":"available",` +
				`"event_source":"api",` +
				`"sequence":1,"changed_at":"2017-05-30T15:00:00.000Z","changed":true,"stale":false,"deliveries":1}},` +
				`{"agent_type":"local","agent_id":136,"status":{"agent_status":"logged_out","event_source":"phone",` +
				`"sequence":2,"changed_at":"` + exampleTime + `","changed":true,"stale":false,"deliveries":0}},` +
				`{"agent_type":"local","agent_id":136,"status":{"agent_status":"logged_out","event_source":"phone",` +
				`"sequence":2,"changed_at":"` + exampleTime + `","changed":false,"stale":false,"deliveries":0}},` +
				`{"agent_type":"local","agent_id":136,"status":{"agent_status":"logged_out","event_source":"phone",` +
				`"sequence":2,"changed_at":"` + exampleTime + `","changed":false,"stale":true,"deliveries":0}}]`,
			after: func(ts *testServer) {
				ts.wantDeliveries("GET " + exampleURL +
					" pending|12|local|136|available|api")
			},
		}, {
			name: "a thousand entries", op: op, setup: (*testServer).withEvents, request: put,
			body:   entries(1000, `{"agent_type":"remote","agent_id":7,"agent_status":"available"}`),
			status: 200,
			after: func(ts *testServer) {
				ts.wantDeliveries("GET "+exampleURL+" pending|12|local|136|available|api", "GET "+exampleURL+
					" pending|12|remote|7|available|api")
			},
		}, {
			name: "more than a thousand entries", op: op, setup: (*testServer).withEvents, request: put,
			body:   entries(1001, `{"agent_type":"remote","agent_id":7,"agent_status":"available"}`),
			status: 400, wantFields: []string{"body"},
		}, {
			name: "one invalid entry refuses the request", op: op, setup: (*testServer).withEvents, request: put,
			body: `[{"agent_type":"local","agent_id":136,"agent_status":"available"},
				{"agent_type":"Local","agent_id":0,"agent_status":"away","event_source":"","changed_at":"","x":1},
				{}, 1, null]`,
			status: 400,
			wantFields: []string{
				"1.agent_type", "1.agent_id", "1.agent_status", "1.event_source", "1.changed_at", "1.x",
				"2.agent_type", "2.agent_id", "2.agent_status", "3", "4",
			},
		}, {
			name: "at most a hundred invalid fields are named", op: op, setup: (*testServer).withEvents, request: put,
			body: "[" + strings.Repeat(`{"agent_type":1,"agent_id":"x"},`, 500) + "0]", status: 400,
		}, {
			name: "the body must be an array", op: op, setup: (*testServer).withEvents, request: put,
			body:   `{"agent_type":"local","agent_id":136,"agent_status":"available"}`,
			status: 400, wantFields: []string{"body"},
		},
	}
}
