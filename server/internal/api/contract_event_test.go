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
	three := func(w *world) {
		a := w.client("12").agent(w.kind.id).event(gen.RequestMethodGET, gen.EventTypeAgentLogin).
			event(gen.RequestMethodPOST, gen.EventTypeAgentLogout)
		w.client("12").agentOf(w.kind.other(), w.kind.other().id).event(gen.RequestMethodGET, gen.EventTypeAgentLogin)
		a.event(gen.RequestMethodPOST, gen.EventTypeAgentLogin)
	}
	one := `{"url":"` + seedURL + `","id":1,"method":"GET","event_type":"agent-login"}`
	two := `{"url":"` + seedURL + `","id":2,"method":"POST","event_type":"agent-logout"}`
	last := `{"url":"` + seedURL + `","id":4,"method":"POST","event_type":"agent-login"}`
	return []scenario{
		{
			name: "get, with the seed's order of fields", op: "get{Kind}AgentEvent", given: (*world).withEvents,
			request: "GET /client/12/agent/{kind}/{id}/event/{event}", status: 200,
			want: `{"url":"` + seedURL + `","id":{event},"method":"GET","event_type":"agent-login"}`,
		}, {
			name: "another agent's event is none of this one", op: "get{Kind}AgentEvent", given: three,
			request: "GET /client/12/agent/{kind}/{id}/event/3", status: 404,
			want: `{"message":"there is no event 3 of {kind} agent {id} of client 12","status":"event_not_found"}`,
		}, {
			name: "no event without its agent", op: "get{Kind}AgentEvent", given: (*world).withEvents,
			request: "GET /client/12/agent/{kind}/{otherID}/event/{event}", status: 404,
			want: `{"message":"there is no {kind} agent {otherID} of client 12","status":"agent_not_found"}`,
		}, {
			name: "no event by the other kind's path", op: "get{Kind}AgentEvent",
			given: func(w *world) {
				three(w)
				w.client("12").agent(w.kind.other().id)
			},
			request: "GET /client/12/agent/{kind}/{otherID}/event/3", status: 404,
			want: `{"message":"there is no event 3 of {kind} agent {otherID} of client 12","status":"event_not_found"}`,
		}, {
			name: "the list of none is an empty array", op: "list{Kind}AgentEvents", given: (*world).withAgents,
			request: events, status: 200, want: `[]`,
		}, {
			name: "list in the order of ids", op: "list{Kind}AgentEvents", given: three,
			request: events, status: 200, want: "[" + one + "," + two + "," + last + "]",
		}, {
			name: "list at most so many", op: "list{Kind}AgentEvents", given: three,
			request: events + "?limit=2", status: 200, want: "[" + one + "," + two + "]",
		}, {
			name: "list after an id", op: "list{Kind}AgentEvents", given: three,
			request: events + "?after=1", status: 200, want: "[" + two + "," + last + "]",
		}, {
			name: "list at most so many after an id", op: "list{Kind}AgentEvents", given: three,
			request: events + "?after=3&limit=1", status: 200, want: "[" + last + "]",
		}, {
			name: "list after the last", op: "list{Kind}AgentEvents", given: three,
			request: events + "?after=4294967295", status: 200, want: `[]`,
		}, {
			name: "unknown query parameters pass", op: "list{Kind}AgentEvents", given: three,
			request: events + "?limit=1&event_type=agent-login&x%5B%5D=1", status: 200, want: "[" + one + "]",
		}, {
			name: "all parameters that are wrong are named", op: "list{Kind}AgentEvents", given: three,
			request: events + "?limit=1.5&after=4294967296", status: 400, wrong: []string{"limit", "after"},
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
			name: "the seed's example", op: op, given: (*world).withAgents, request: create,
			body: `{"url":"https://somehost.com/fordel/show.php","method":"GET","event_type":"agent-login"}`, status: 201,
			want: `{"url":"https://somehost.com/fordel/show.php","id":1,"method":"GET","event_type":"agent-login"}`,
			then: func(w *world) {
				w.owes()
				w.get(w.kind.fill("/client/12/agent/{kind}/{id}/event/1"),
					`{"url":"https://somehost.com/fordel/show.php","id":1,"method":"GET","event_type":"agent-login"}`)
				w.get(w.kind.fill("/client/12/agent/{other}/{otherID}/event/"), `[]`)
			},
		}, {
			name: "escaped slashes, and a query", op: op, given: (*world).withAgents, request: create,
			body:   `{"event_type":"agent-logout","method":"POST","url":"http:\/\/u:p@Example.COM:8080\/a%20b?x=1&y=\u00e9#f"}`,
			status: 201,
			want:   `{"url":"http://u:p@Example.COM:8080/a%20b?x=1&y=é#f","id":1,"method":"POST","event_type":"agent-logout"}`,
		}, {
			name: "what RFC 3986 has encoded, and a name that is not ASCII", op: op, given: (*world).withAgents, request: create,
			body:   `{"url":"https://Бюро.example/100%/a|b?{c}=%zz","method":"GET","event_type":"agent-login"}`,
			status: 201, want: `{"url":"https://Бюро.example/100%/a|b?{c}=%zz","id":1,"method":"GET","event_type":"agent-login"}`,
		}, {
			name: "the same again is one more", op: op, given: (*world).withEvents, request: create,
			body: `{"url":"` + seedURL + `","method":"GET","event_type":"agent-login"}`, status: 201,
			want: `{"url":"` + seedURL + `","id":3,"method":"GET","event_type":"agent-login"}`,
		}, {
			name: "fields that it has not are ignored", op: op, given: (*world).withAgents, request: create,
			body:   `{"id":150,"url":"` + seedURL + `","method":"GET","event_type":"agent-login","URL":1,"x":{"y":[null]}}`,
			status: 201, want: `{"url":"` + seedURL + `","id":1,"method":"GET","event_type":"agent-login"}`,
		}, {
			name: "an id is never used twice", op: op, request: create, given: func(w *world) {
				w.withAgents()
				w.client("12").agent(w.kind.id).event(gen.RequestMethodGET, gen.EventTypeAgentLogin)
				w.send(scenario{request: w.kind.fill("DELETE /client/12/agent/{kind}/{id}/event/1")})
			},
			body: `{"url":"` + seedURL + `","method":"GET","event_type":"agent-login"}`, status: 201,
			want: `{"url":"` + seedURL + `","id":2,"method":"GET","event_type":"agent-login"}`,
		}, {
			name: "a URL of 2,048 characters", op: op, given: (*world).withAgents, request: create,
			body: ofLength(2048), status: 201,
		}, {
			name: "no URL of 2,049 characters", op: op, given: (*world).withAgents, request: create,
			body: ofLength(2049), status: 400, wrong: []string{"url"},
		}, {
			name: "all fields are required", op: op, given: (*world).withAgents, request: create,
			body: `{}`, status: 400, wrong: []string{"url", "method", "event_type"},
		}, {
			name: "every field that is wrong is named", op: op, given: (*world).withAgents, request: create,
			body:   `{"url":"no URL","method":"PUT","event_type":"login"}`,
			status: 400, wrong: []string{"url", "method", "event_type"},
		}, {
			name: "enums are exact", op: op, given: (*world).withAgents, request: create,
			body:   `{"url":"` + seedURL + `","method":"get","event_type":"Agent-Login"}`,
			status: 400, wrong: []string{"method", "event_type"},
		}, {
			name: "no other types", op: op, given: (*world).withAgents, request: create,
			body:   `{"url":["` + seedURL + `"],"method":null,"event_type":1}`,
			status: 400, wrong: []string{"url", "method", "event_type"},
		}, {
			name: "another agent is needed for the other kind", op: op, request: create,
			given:  func(w *world) { w.client("12").agentOf(w.kind.other(), w.kind.id) },
			body:   `{"url":"` + seedURL + `","method":"GET","event_type":"agent-login"}`,
			status: 404, want: `{"message":"there is no {kind} agent {id} of client 12","status":"agent_not_found"}`,
		},
	}
	for _, url := range forbiddenURLs {
		scenarios = append(scenarios, scenario{
			name: "no " + url, op: op, given: (*world).withAgents, request: create,
			body: `{"url":"` + url + `","method":"GET","event_type":"agent-login"}`, status: 400, wrong: []string{"url"},
		})
	}
	return scenarios
}

// forbiddenURLs can never be sent to.
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
			name: "the URL", op: op, given: (*world).withEvents, request: update,
			body: `{"url":"https://example.com/x"}`, status: 200,
			want: `{"url":"https://example.com/x","id":{event},"method":"GET","event_type":"agent-login"}`,
			then: func(w *world) {
				w.get(w.kind.fill("/client/12/agent/{kind}/{id}/event/{event}"),
					w.kind.fill(`{"url":"https://example.com/x","id":{event},"method":"GET","event_type":"agent-login"}`))
			},
		}, {
			name: "the method", op: op, given: (*world).withEvents, request: update, body: `{"method":"POST"}`, status: 200,
			want: `{"url":"` + seedURL + `","id":{event},"method":"POST","event_type":"agent-login"}`,
		}, {
			name: "the event type", op: op, given: (*world).withEvents, request: update,
			body: `{"event_type":"agent-logout"}`, status: 200,
			want: `{"url":"` + seedURL + `","id":{event},"method":"GET","event_type":"agent-logout"}`,
		}, {
			name: "all of them", op: op, given: (*world).withEvents, request: update,
			body:   `{"url":"https:\/\/example.com\/x","method":"POST","event_type":"agent-logout"}`,
			status: 200, want: `{"url":"https://example.com/x","id":{event},"method":"POST","event_type":"agent-logout"}`,
		}, {
			name: "nothing", op: op, given: (*world).withEvents, request: update, body: `{}`, status: 200,
			want: `{"url":"` + seedURL + `","id":{event},"method":"GET","event_type":"agent-login"}`,
		}, {
			name: "fields that it has not are ignored", op: op, given: (*world).withEvents, request: update,
			body: `{"id":99,"Method":"POST","x":null}`, status: 200,
			want: `{"url":"` + seedURL + `","id":{event},"method":"GET","event_type":"agent-login"}`,
		}, {
			name: "what is not sent yet takes the new URL and method", op: op, given: (*world).withLogin, request: update,
			body: `{"url":"https://example.com/x","method":"POST"}`, status: 200,
			then: func(w *world) {
				w.owes(w.kind.fill("POST https://example.com/x pending|12|{kind}|{id}|available|api"))
			},
		}, {
			name: "what is owed stays owed when the event is for another change", op: op, given: (*world).withLogin,
			request: update, body: `{"event_type":"agent-logout"}`, status: 200,
			then: func(w *world) {
				w.owes(w.kind.fill("GET " + seedURL + " pending|12|{kind}|{id}|available|api"))
			},
		}, {
			name: "every field that is wrong is named", op: op, given: (*world).withLogin, request: update,
			body:   `{"url":"no URL","method":"HEAD","event_type":""}`,
			status: 400, wrong: []string{"url", "method", "event_type"},
		}, {
			name: "no nulls", op: op, given: (*world).withLogin, request: update,
			body:   `{"url":null,"method":null,"event_type":null}`,
			status: 400, wrong: []string{"url", "method", "event_type"},
		}, {
			name: "another agent's event is none of this one", op: op, request: update, body: `{"method":"POST"}`,
			given: func(w *world) {
				w.withEvents()
				w.send(scenario{request: w.kind.fill("DELETE /client/12/agent/{kind}/{id}")})
				w.client("12").agent(w.kind.id)
			},
			status: 404,
			want:   `{"message":"there is no event {event} of {kind} agent {id} of client 12","status":"event_not_found"}`,
		},
	}
	for _, url := range forbiddenURLs {
		scenarios = append(scenarios, scenario{
			name: "not to " + url, op: op, given: (*world).withLogin, request: update,
			body: `{"url":"` + url + `","method":"POST"}`, status: 400, wrong: []string{"url"},
		})
	}
	return scenarios
}

func eventDeletes() []scenario {
	const remove, op = "DELETE /client/12/agent/{kind}/{id}/event/{event}", "delete{Kind}AgentEvent"
	return []scenario{
		{
			name: "delete", op: op, given: (*world).withEvents, request: remove, status: 204,
			then: func(w *world) {
				w.get(w.kind.fill("/client/12/agent/{kind}/{id}/event/"), `[]`)
				w.get(w.kind.fill("/client/12/agent/{other}/{otherID}/event/"), w.kind.other().fill(
					`[{"url":"`+seedURL+`","id":{event},"method":"GET","event_type":"agent-login"}]`))
			},
		}, {
			name: "deleting cancels what is pending, and nothing else", op: op, request: remove, status: 204,
			given: func(w *world) {
				w.withEvents()
				w.client("12").agent(w.kind.id).event(gen.RequestMethodPOST, gen.EventTypeAgentLogin).login()
			},
			then: func(w *world) {
				w.owes(w.kind.fill("GET "+seedURL+" cancelled|12|{kind}|{id}|available|api"),
					w.kind.fill("POST "+seedURL+" pending|12|{kind}|{id}|available|api"))
			},
		}, {
			name: "another agent's event is none of this one", op: op, given: (*world).withLogin,
			request: strings.Replace(remove, "{event}", "3", 1), status: 404,
			want: `{"message":"there is no event 3 of {kind} agent {id} of client 12","status":"event_not_found"}`,
		}, {
			name: "the other kind's event is none of this one", op: op, given: func(w *world) {
				w.withLogin()
				w.client("12").agent(w.kind.other().id)
			},
			request: "DELETE /client/12/agent/{kind}/{otherID}/event/{event}", status: 404,
			want: `{"message":"there is no event {event} of {kind} agent {otherID} of client 12","status":"event_not_found"}`,
		},
	}
}
