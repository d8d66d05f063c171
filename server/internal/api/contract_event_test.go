package api

import (
	"strings"

	"github.com/agentevents/agentevents/gen"
)

func eventScenarios() []scenario {
	return append(append(eventReads(), eventCreates()...), append(eventUpdates(), eventDeletes()...)...)
}

func eventReads() []scenario {
	const events = "GET /client/12/agent/{kind}/{id}/event/"
	// Events 1, 2 and 4 are of the agent, 3 is of the other one.
	three := func(ts *testServer) {
		a := ts.client("12").agent(ts.kind.id).event(gen.RequestMethodGET, gen.EventTypeAgentLogin).
			event(gen.RequestMethodPOST, gen.EventTypeAgentLogout)
		ts.client("12").agentOf(ts.kind.other(), ts.kind.other().id).event(gen.RequestMethodGET,
			gen.EventTypeAgentLogin)
		a.event(gen.RequestMethodPOST, gen.EventTypeAgentLogin)
	}
	one := `{"url":"` + exampleURL + `","id":1,"method":"GET","event_type":"agent-login"}`
	two := `{"url":"` + exampleURL + `","id":2,"method":"POST","event_type":"agent-logout"}`
	last := `{"url":"` + exampleURL + `","id":4,"method":"POST","event_type":"agent-login"}`
	return []scenario{
		{
			name: "fields have the order of the original API", op: "get{Kind}AgentEvent", representative: true,
			setup:   (*testServer).withEvents,
			request: "GET /client/12/agent/{kind}/{id}/event/{event}", status: 200,
			wantBody: `{"url":"` + exampleURL + `","id":{event},"method":"GET","event_type":"agent-login"}`,
		}, {
			name: "an event of another agent", op: "get{Kind}AgentEvent", setup: three,
			request: "GET /client/12/agent/{kind}/{id}/event/3", status: 404,
			wantBody: `{"message":"there is no event 3 of {kind} agent {id} of client 12","status":"event_not_found"}`,
		}, {
			name: "an event of an agent that does not exist", op: "get{Kind}AgentEvent",
			setup:   (*testServer).withEvents,
			request: "GET /client/12/agent/{kind}/{otherID}/event/{event}", status: 404,
			wantBody: `{"message":"there is no {kind} agent {otherID} of client 12","status":"agent_not_found"}`,
		}, {
			name: "an event of an agent of the other kind", op: "get{Kind}AgentEvent",
			setup: func(ts *testServer) {
				three(ts)
				ts.client("12").agent(ts.kind.other().id)
			},
			request: "GET /client/12/agent/{kind}/{otherID}/event/3", status: 404,
			wantBody: `{"message":"there is no event 3 of {kind} agent {otherID} of client 12",` +
				`"status":"event_not_found"}`,
		}, {
			name: "an empty list", op: "list{Kind}AgentEvents", representative: true, setup: (*testServer).withAgents,
			request: events, status: 200, wantBody: `[]`,
		}, {
			name: "list in the order of ids", op: "list{Kind}AgentEvents", setup: three,
			request: events, status: 200, wantBody: "[" + one + "," + two + "," + last + "]",
		}, {
			name: "list with a limit", op: "list{Kind}AgentEvents", setup: three,
			request: events + "?limit=2", status: 200, wantBody: "[" + one + "," + two + "]",
		}, {
			name: "list after an id", op: "list{Kind}AgentEvents", setup: three,
			request: events + "?after=1", status: 200, wantBody: "[" + two + "," + last + "]",
		}, {
			name: "list with a limit after an id", op: "list{Kind}AgentEvents", setup: three,
			request: events + "?after=3&limit=1", status: 200, wantBody: "[" + last + "]",
		}, {
			name: "list after the last", op: "list{Kind}AgentEvents", setup: three,
			request: events + "?after=4294967295", status: 200, wantBody: `[]`,
		}, {
			name: "unknown query parameters pass", op: "list{Kind}AgentEvents", setup: three,
			request: events + "?limit=1&event_type=agent-login&x%5B%5D=1", status: 200, wantBody: "[" + one + "]",
		}, {
			name: "each invalid parameter is named", op: "list{Kind}AgentEvents", setup: three,
			request: events + "?limit=1.5&after=4294967296", status: 400, wantFields: []string{"limit", "after"},
		},
	}
}

func eventCreates() []scenario {
	ofLength := func(n int) string {
		const begin = "https://example.com/"
		return `{"url":"` + begin + strings.Repeat("x", n-len(begin)) + `","method":"GET","event_type":"agent-login"}`
	}
	const create, op = "POST /client/12/agent/{kind}/{id}/event/", "create{Kind}AgentEvent"
	scenarios := []scenario{
		{
			name: "the example of the original API", op: op, representative: true, setup: (*testServer).withAgents,
			request:  create,
			body:     `{"url":"https://somehost.com/fordel/show.php","method":"GET","event_type":"agent-login"}`,
			status:   201,
			wantBody: `{"url":"https://somehost.com/fordel/show.php","id":1,"method":"GET","event_type":"agent-login"}`,
			after: func(ts *testServer) {
				ts.wantDeliveries()
				ts.wantGet(ts.kind.fill("/client/12/agent/{kind}/{id}/event/1"),
					`{"url":"https://somehost.com/fordel/show.php","id":1,"method":"GET","event_type":"agent-login"}`)
				ts.wantGet(ts.kind.fill("/client/12/agent/{other}/{otherID}/event/"), `[]`)
			},
		}, {
			name: "escaped slashes, and a query", op: op, setup: (*testServer).withAgents, request: create,
			body: `{"event_type":"agent-logout","method":"POST",` +
				`"url":"http:\/\/u:p@Example.COM:8080\/a%20b?x=1&y=\u00e9#f"}`,
			status: 201,
			wantBody: `{"url":"http://u:p@Example.COM:8080/a%20b?x=1&y=é#f","id":1,"method":"POST",` +
				`"event_type":"agent-logout"}`,
		}, {
			name: "unencoded characters and a host name outside ASCII", op: op,
			setup: (*testServer).withAgents, request: create,
			body:   `{"url":"https://Бюро.example/100%/a|b?{c}=%zz","method":"GET","event_type":"agent-login"}`,
			status: 201,
			wantBody: `{"url":"https://Бюро.example/100%/a|b?{c}=%zz","id":1,"method":"GET",` +
				`"event_type":"agent-login"}`,
		}, {
			name: "equal events are distinct", op: op, setup: (*testServer).withEvents, request: create,
			body: `{"url":"` + exampleURL + `","method":"GET","event_type":"agent-login"}`, status: 201,
			wantBody: `{"url":"` + exampleURL + `","id":3,"method":"GET","event_type":"agent-login"}`,
		}, {
			name: "unknown fields are ignored", op: op, setup: (*testServer).withAgents, request: create,
			body: `{"id":150,"url":"` + exampleURL +
				`","method":"GET","event_type":"agent-login","URL":1,"x":{"y":[null]}}`,
			status: 201, wantBody: `{"url":"` + exampleURL + `","id":1,"method":"GET","event_type":"agent-login"}`,
		}, {
			name: "ids are never reused", op: op, request: create, setup: func(ts *testServer) {
				ts.withAgents()
				ts.client("12").agent(ts.kind.id).event(gen.RequestMethodGET, gen.EventTypeAgentLogin)
				ts.send(scenario{request: ts.kind.fill("DELETE /client/12/agent/{kind}/{id}/event/1")})
			},
			body: `{"url":"` + exampleURL + `","method":"GET","event_type":"agent-login"}`, status: 201,
			wantBody: `{"url":"` + exampleURL + `","id":2,"method":"GET","event_type":"agent-login"}`,
		}, {
			name: "a URL of 2,048 characters", op: op, setup: (*testServer).withAgents, request: create,
			body: ofLength(2048), status: 201,
		}, {
			name: "a URL of 2,049 characters", op: op, setup: (*testServer).withAgents, request: create,
			body: ofLength(2049), status: 400, wantFields: []string{"url"},
		}, {
			name: "all fields are required", op: op, setup: (*testServer).withAgents, request: create,
			body: `{}`, status: 400, wantFields: []string{"url", "method", "event_type"},
		}, {
			name: "each invalid field is named", op: op, setup: (*testServer).withAgents, request: create,
			body:   `{"url":"no URL","method":"PUT","event_type":"login"}`,
			status: 400, wantFields: []string{"url", "method", "event_type"},
		}, {
			name: "enums are case-sensitive", op: op, setup: (*testServer).withAgents, request: create,
			body:   `{"url":"` + exampleURL + `","method":"get","event_type":"Agent-Login"}`,
			status: 400, wantFields: []string{"method", "event_type"},
		}, {
			name: "other JSON types are refused", op: op, setup: (*testServer).withAgents, request: create,
			body:   `{"url":["` + exampleURL + `"],"method":null,"event_type":1}`,
			status: 400, wantFields: []string{"url", "method", "event_type"},
		}, {
			name: "an agent of the other kind has the id", op: op, request: create,
			setup:    func(ts *testServer) { ts.client("12").agentOf(ts.kind.other(), ts.kind.id) },
			body:     `{"url":"` + exampleURL + `","method":"GET","event_type":"agent-login"}`,
			status:   404,
			wantBody: `{"message":"there is no {kind} agent {id} of client 12","status":"agent_not_found"}`,
		},
	}
	for _, url := range forbiddenURLs {
		scenarios = append(scenarios, scenario{
			name: "a forbidden URL: " + url, op: op, setup: (*testServer).withAgents, request: create,
			body: `{"url":"` + url + `","method":"GET","event_type":"agent-login"}`, status: 400,
			wantFields: []string{"url"},
		})
	}
	return scenarios
}

// forbiddenURLs are URLs to which no delivery can be sent.
var forbiddenURLs = []string{
	"", "/fordel/show.php", "somehost.com/show.php", "ftp://somehost.com/", "file:///etc/passwd", "javascript:alert(1)",
	"https://", "https:///show.php", "https://somehost.com:0/", "https://somehost.com:65536/", "https://some host.com/",
	"http://127.0.0.1/", "http://localhost:80/", "http://10.0.0.1/", "http://169.254.169.254/latest", "http://[::1]/",
	"http://[::ffff:10.0.0.1]/", "http://2130706433/", "https://some%zzhost.com/", "https://xn--a.com/",
}

func eventUpdates() []scenario {
	const update, op = "PUT /client/12/agent/{kind}/{id}/event/{event}", "update{Kind}AgentEvent"
	scenarios := []scenario{
		{
			name: "the URL", op: op, representative: true, setup: (*testServer).withEvents, request: update,
			body: `{"url":"https://example.com/x"}`, status: 200,
			wantBody: `{"url":"https://example.com/x","id":{event},"method":"GET","event_type":"agent-login"}`,
			after: func(ts *testServer) {
				ts.wantGet(ts.kind.fill("/client/12/agent/{kind}/{id}/event/{event}"),
					ts.kind.fill(`{"url":"https://example.com/x","id":{event},"method":"GET",`+
						`"event_type":"agent-login"}`))
			},
		}, {
			name: "the method", op: op, setup: (*testServer).withEvents, request: update, body: `{"method":"POST"}`,
			status:   200,
			wantBody: `{"url":"` + exampleURL + `","id":{event},"method":"POST","event_type":"agent-login"}`,
		}, {
			name: "the event type", op: op, setup: (*testServer).withEvents, request: update,
			body: `{"event_type":"agent-logout"}`, status: 200,
			wantBody: `{"url":"` + exampleURL + `","id":{event},"method":"GET","event_type":"agent-logout"}`,
		}, {
			name: "all fields", op: op, setup: (*testServer).withEvents, request: update,
			body:     `{"url":"https:\/\/example.com\/x","method":"POST","event_type":"agent-logout"}`,
			status:   200,
			wantBody: `{"url":"https://example.com/x","id":{event},"method":"POST","event_type":"agent-logout"}`,
		}, {
			name: "an empty body", op: op, setup: (*testServer).withEvents, request: update, body: `{}`, status: 200,
			wantBody: `{"url":"` + exampleURL + `","id":{event},"method":"GET","event_type":"agent-login"}`,
		}, {
			name: "unknown fields are ignored", op: op, setup: (*testServer).withEvents, request: update,
			body: `{"id":99,"Method":"POST","x":null}`, status: 200,
			wantBody: `{"url":"` + exampleURL + `","id":{event},"method":"GET","event_type":"agent-login"}`,
		}, {
			name: "a pending delivery gets the new URL and method", op: op, setup: (*testServer).withLogin,
			request: update,
			body:    `{"url":"https://example.com/x","method":"POST"}`, status: 200,
			after: func(ts *testServer) {
				ts.wantDeliveries(ts.kind.fill("POST https://example.com/x pending|12|{kind}|{id}|available|api"))
			},
		}, {
			name: "a change of the event type keeps pending deliveries", op: op, setup: (*testServer).withLogin,
			request: update, body: `{"event_type":"agent-logout"}`, status: 200,
			after: func(ts *testServer) {
				ts.wantDeliveries(ts.kind.fill("GET " + exampleURL + " pending|12|{kind}|{id}|available|api"))
			},
		}, {
			name: "each invalid field is named", op: op, setup: (*testServer).withLogin, request: update,
			body:   `{"url":"no URL","method":"HEAD","event_type":""}`,
			status: 400, wantFields: []string{"url", "method", "event_type"},
		}, {
			name: "null is refused", op: op, setup: (*testServer).withLogin, request: update,
			body:   `{"url":null,"method":null,"event_type":null}`,
			status: 400, wantFields: []string{"url", "method", "event_type"},
		}, {
			name: "an event of another agent", op: op, request: update, body: `{"method":"POST"}`,
			setup: func(ts *testServer) {
				ts.withEvents()
				ts.send(scenario{request: ts.kind.fill("DELETE /client/12/agent/{kind}/{id}")})
				ts.client("12").agent(ts.kind.id)
			},
			status: 404,
			wantBody: `{"message":"there is no event {event} of {kind} agent {id} of client 12",` +
				`"status":"event_not_found"}`,
		},
	}
	for _, url := range forbiddenURLs {
		scenarios = append(scenarios, scenario{
			name: "a forbidden URL: " + url, op: op, setup: (*testServer).withLogin, request: update,
			body: `{"url":"` + url + `","method":"POST"}`, status: 400, wantFields: []string{"url"},
		})
	}
	return scenarios
}

func eventDeletes() []scenario {
	const remove, op = "DELETE /client/12/agent/{kind}/{id}/event/{event}", "delete{Kind}AgentEvent"
	return []scenario{
		{
			name: "delete", op: op, representative: true, setup: (*testServer).withEvents, request: remove, status: 204,
			after: func(ts *testServer) {
				ts.wantGet(ts.kind.fill("/client/12/agent/{kind}/{id}/event/"), `[]`)
				ts.wantGet(ts.kind.fill("/client/12/agent/{other}/{otherID}/event/"), ts.kind.other().fill(
					`[{"url":"`+exampleURL+`","id":{event},"method":"GET","event_type":"agent-login"}]`))
			},
		}, {
			name: "delete cancels the pending deliveries of this event only", op: op, request: remove, status: 204,
			setup: func(ts *testServer) {
				ts.withEvents()
				ts.client("12").agent(ts.kind.id).event(gen.RequestMethodPOST, gen.EventTypeAgentLogin).login()
			},
			after: func(ts *testServer) {
				ts.wantDeliveries(ts.kind.fill("GET "+exampleURL+" cancelled|12|{kind}|{id}|available|api"),
					ts.kind.fill("POST "+exampleURL+" pending|12|{kind}|{id}|available|api"))
			},
		}, {
			name: "an event of another agent", op: op, setup: (*testServer).withLogin,
			request: strings.Replace(remove, "{event}", "3", 1), status: 404,
			wantBody: `{"message":"there is no event 3 of {kind} agent {id} of client 12","status":"event_not_found"}`,
		}, {
			name: "an event of an agent of the other kind", op: op, setup: func(ts *testServer) {
				ts.withLogin()
				ts.client("12").agent(ts.kind.other().id)
			},
			request: "DELETE /client/12/agent/{kind}/{otherID}/event/{event}", status: 404,
			wantBody: `{"message":"there is no event {event} of {kind} agent {otherID} of client 12",` +
				`"status":"event_not_found"}`,
		},
	}
}
