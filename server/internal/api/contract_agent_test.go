package api

import (
	"slices"
	"strings"

	"github.com/agentevents/agentevents/gen"
	"github.com/agentevents/agentevents/store"
)

func agentScenarios() []scenario {
	return slices.Concat(agentReads(), agentCreates(), agentPuts(), agentDeletes(), agentErasures())
}

func agentReads() []scenario {
	const agents = "GET /client/12/agent/{kind}/"
	// Agents 1 to 4 are on the extensions 5, 6, none and 5.
	four := func(ts *testServer) {
		c := ts.client("12")
		c.agent(4).onExtension(5)
		c.agent(1).onExtension(5)
		c.agent(2).onExtension(6)
		c.agent(3)
	}
	one := `{"id":1,"{field}":"{name}","extension_id":5,"agent_status":"logged_out","since":"{now}"}`
	two := `{"id":2,"{field}":"{name}","extension_id":6,"agent_status":"logged_out","since":"{now}"}`
	three := `{"id":3,"{field}":"{name}","agent_status":"logged_out","since":"{now}"}`
	last := `{"id":4,"{field}":"{name}","extension_id":5,"agent_status":"logged_out","since":"{now}"}`
	list := func(agents ...string) string { return "[" + strings.Join(agents, ",") + "]" }
	scenarios := []scenario{
		{
			name: "get", op: "get{Kind}Agent", representative: true, setup: (*testServer).withAgents,
			request: "GET /client/12/agent/{kind}/{id}",
			status:  200, wantBody: `{"id":{id},"{field}":"{name}","agent_status":"logged_out","since":"{now}"}`,
		}, {
			name: "since is the time of the last status change", op: "get{Kind}Agent",
			setup: func(ts *testServer) {
				ts.client("12").agent(5).onExtension(4294967295)
				ts.setTime("2017-05-30T16:00:00.007Z")
				ts.client("12").agent(5).login()
				ts.setTime("2017-05-30T17:00:00Z")
			},
			request: "GET /client/12/agent/{kind}/5", status: 200,
			wantBody: `{"id":5,"{field}":"{name}","extension_id":4294967295,"agent_status":"available",` +
				`"since":"2017-05-30T16:00:00.007Z"}`,
		}, {
			name: "the id of an agent of the other kind", op: "get{Kind}Agent", setup: (*testServer).withAgents,
			request: "GET /client/12/agent/{kind}/{otherID}", status: 404,
			wantBody: `{"message":"there is no {kind} agent {otherID} of client 12","status":"agent_not_found"}`,
		}, {
			name: "an agent of another client", op: "get{Kind}Agent",
			setup: func(ts *testServer) {
				ts.client("12")
				ts.client("13").agent(ts.kind.id)
			},
			request: "GET /client/12/agent/{kind}/{id}", status: 404,
			wantBody: `{"message":"there is no {kind} agent {id} of client 12","status":"agent_not_found"}`,
		}, {
			name: "an empty list", op: "list{Kind}Agents", representative: true,
			setup:   func(ts *testServer) { ts.client("12") },
			request: agents, status: 200, wantBody: `[]`,
		}, {
			name: "a list has only agents of one kind", op: "list{Kind}Agents", setup: (*testServer).withAgents,
			request: agents, status: 200,
			wantBody: `[{"id":{id},"{field}":"{name}","agent_status":"logged_out","since":"{now}"}]`,
		}, {
			name: "list in the order of ids", op: "list{Kind}Agents", setup: four,
			request: agents, status: 200, wantBody: list(one, two, three, last),
		}, {
			name: "list with a limit", op: "list{Kind}Agents", setup: four,
			request: agents + "?limit=2", status: 200, wantBody: list(one, two),
		}, {
			name: "list after an id", op: "list{Kind}Agents", setup: four,
			request: agents + "?after=2", status: 200, wantBody: list(three, last),
		}, {
			name: "list after 0 with a limit above the number of items", op: "list{Kind}Agents", setup: four,
			request: agents + "?after=0&limit=1000000", status: 200, wantBody: list(one, two, three, last),
		}, {
			name: "a list combines its parameters", op: "list{Kind}Agents", setup: four,
			request: agents + "?limit=1&after=1&extension_id=5", status: 200, wantBody: list(last),
		}, {
			name: "unknown query parameters pass", op: "list{Kind}Agents", setup: four,
			request: agents + "?limit=1&extension=6&name%5B%5D=x&_=1&%00", status: 200, wantBody: list(one),
		}, {
			name: "list on an unused extension", op: "list{Kind}Agents", setup: four,
			request: agents + "?extension_id=7", status: 200, wantBody: `[]`,
		}, {
			name: "each invalid parameter is named", op: "list{Kind}Agents", setup: four,
			request: agents + "?limit=0&after=-1&extension_id=x", status: 400,
			wantFields: []string{"limit", "after", "extension_id"},
		},
	}
	both := []string{
		"extension_id=5&extension_id=6",
		"extension_id[0]=5&extension_id[1]=6",
		"extension_id[1]=6&extension_id[0]=5",
		"extension_id%5B0%5D=5&extension_id%5B1%5D=6",
		"extension_id%5b7%5d=5&extension_id%5B12%5D=6",
		"extension_id[]=5&extension_id[]=6",
		"extension_id%5B%5D=5&extension_id%5B%5D=6",
		"extension_id=5&extension_id[]=6",
		"extension_id[0]=5&foo=1&extension_id=6&extension_id[1]=6",
	}
	for _, query := range both {
		scenarios = append(scenarios, scenario{
			name: "list on extensions by " + query, op: "list{Kind}Agents", setup: four,
			request: agents + "?" + query, status: 200, wantBody: list(one, two, last),
		})
	}
	for query, wrong := range map[string]string{
		"extension_id=0":                        "extension_id.0",
		"extension_id=4294967296":               "extension_id.0",
		"extension_id=5&extension_id=-1":        "extension_id.1",
		"extension_id[0]=0":                     "extension_id.0",
		"extension_id[]=-5":                     "extension_id.0",
		"extension_id=x":                        "extension_id",
		"extension_id=1.5":                      "extension_id",
		"extension_id=99999999999999999999":     "extension_id",
		"extension_id%5B0%5D=x":                 "extension_id",
		"extension_id[0]=5&extension_id[1]=x":   "extension_id",
		"extension_id=5&extension_id%5B%5D=5,6": "extension_id",
	} {
		scenarios = append(scenarios, scenario{
			name: "an invalid extension " + query, op: "list{Kind}Agents", setup: four,
			request: agents + "?" + query, status: 400, wantFields: []string{wrong},
		})
	}
	return scenarios
}

func agentCreates() []scenario {
	const create, op = "POST /client/12/agent/{kind}/", "create{Kind}Agent"
	return []scenario{
		{
			name: "create under an id", op: op, representative: true, setup: (*testServer).withClient,
			request: create, body: `{"id":{id},"{field}":"{name}"}`, status: 201,
			wantBody: `{"id":{id},"{field}":"{name}","agent_status":"logged_out","since":"{now}"}`,
			after: func(ts *testServer) {
				ts.wantDeliveries()
				ts.wantGet(ts.kind.fill("/client/12/agent/{kind}/{id}"),
					ts.kind.fill(`{"id":{id},"{field}":"{name}","agent_status":"logged_out","since":"{now}"}`))
			},
		}, {
			name: "create on an extension", op: op, setup: (*testServer).withClient,
			request: create, body: `{"{field}":"x","extension_id":5,"id":4294967295}`, status: 201,
			wantBody: `{"id":4294967295,"{field}":"x","extension_id":5,"agent_status":"logged_out","since":"{now}"}`,
		}, {
			name: "the first free id is 1", op: op, setup: (*testServer).withClient,
			request: create, body: `{"{field}":"x"}`, status: 201,
			wantBody: `{"id":1,"{field}":"x","agent_status":"logged_out","since":"{now}"}`,
		}, {
			name: "a free id is chosen", op: op, setup: (*testServer).withAgents,
			request: create, body: `{"{field}":"x"}`, status: 201,
			after: func(ts *testServer) {
				if n := len(ts.rows(ts.db, ts.kind.fill("SELECT 1 FROM agents WHERE kind = '{kind}'"))); n != 2 {
					ts.Errorf("there are %d agents, want 2", n)
				}
			},
		}, {
			name: "a free id is chosen even if the highest id is taken", op: op,
			setup: func(ts *testServer) {
				c := ts.client("12")
				c.agent(1)
				c.agent(4294967295)
			},
			request: create, body: `{"{field}":"x"}`, status: 201,
			wantBody: `{"id":2,"{field}":"x","agent_status":"logged_out","since":"{now}"}`,
		}, {
			name: "an id that exists for the other kind and for another client", op: op,
			setup: func(ts *testServer) {
				ts.withAgents()
				ts.client("13").agent(ts.kind.id)
			},
			request: create, body: `{"id":{otherID},"{field}":"x"}`, status: 201,
			wantBody: `{"id":{otherID},"{field}":"x","agent_status":"logged_out","since":"{now}"}`,
		}, {
			name: "an id that is taken", op: op, setup: (*testServer).withAgents,
			request: create, body: `{"id":{id},"{field}":"x"}`, status: 409,
			wantBody: `{"message":"{kind} agent {id} of client 12 exists already","status":"conflict",` +
				`"errors":[{"field":"id","message":"is taken"}]}`,
		}, {
			name: "any printable text", op: op, setup: (*testServer).withClient,
			request: create, body: `{"id":1,"{field}":"+7 (812) 336-42-42 * % & ;=?# «ы» 😀 \/ \u0022"}`, status: 201,
			wantBody: `{"id":1,"{field}":"+7 (812) 336-42-42 * % & ;=?# «ы» 😀 / \"",` +
				`"agent_status":"logged_out","since":"{now}"}`,
		}, {
			name: "255 characters, not bytes", op: op, setup: (*testServer).withClient,
			request: create, body: `{"{field}":"` + strings.Repeat("ы", 255) + `"}`, status: 201,
		}, {
			name: "a name is required", op: op, setup: (*testServer).withClient,
			request: create, body: `{"id":5}`, status: 400, wantFields: []string{"{field}"},
		}, {
			name: "the other kind's field is refused", op: op, setup: (*testServer).withClient, request: create,
			body:   `{"id":5,"extension_name":"x","agent_number":"x"}`,
			status: 400, wantFields: []string{"{otherField}"},
		}, {
			name: "each invalid field is named", op: op, setup: (*testServer).withClient,
			request: create, body: `{"id":0,"{field}":"","extension_id":-1,"agent_status":"available"}`,
			status: 400, wantFields: []string{"id", "{field}", "extension_id", "agent_status"},
		}, {
			name: "ids above 2^32-1 are refused", op: op, setup: (*testServer).withClient,
			request: create, body: `{"id":4294967296,"{field}":"x","extension_id":4294967296}`,
			status: 400, wantFields: []string{"id", "extension_id"},
		}, {
			name: "numbers above the range of int64", op: op, setup: (*testServer).withClient,
			request: create, body: `{"id":1e400,"{field}":"x","extension_id":99999999999999999999999}`,
			status: 400, wantFields: []string{"id", "extension_id"},
		}, {
			name: "ids must be integers", op: op, setup: (*testServer).withClient,
			request: create, body: `{"id":1.5,"{field}":"x","extension_id":"5"}`,
			status: 400, wantFields: []string{"id", "extension_id"},
		}, {
			name: "null is refused", op: op, setup: (*testServer).withClient,
			request: create, body: `{"id":null,"{field}":null,"extension_id":null}`,
			status: 400, wantFields: []string{"id", "{field}", "extension_id"},
		}, {
			name: "a name of 256 characters is refused", op: op, setup: (*testServer).withClient,
			request: create, body: `{"{field}":"` + strings.Repeat("ы", 256) + `"}`, status: 400,
			wantFields: []string{"{field}"},
		}, {
			name: "control characters are refused", op: op, setup: (*testServer).withClient,
			request: create, body: `{"{field}":"a\nb"}`, status: 400, wantFields: []string{"{field}"},
		},
	}
}

func agentPuts() []scenario {
	const put, op = "PUT /client/12/agent/{kind}/{id}", "put{Kind}Agent"
	withExtension := func(ts *testServer) {
		ts.withEvents()
		ts.client("12").agent(ts.kind.id).onExtension(5).login()
	}
	return []scenario{
		{
			name: "create under the PBX's own id", op: op, representative: true, setup: (*testServer).withClient,
			request: put, body: `{"{field}":"{name}"}`, status: 201,
			wantBody: `{"id":{id},"{field}":"{name}","agent_status":"logged_out","since":"{now}"}`,
			after:    func(ts *testServer) { ts.wantDeliveries() },
		}, {
			name: "create on an extension", op: op, setup: (*testServer).withClient,
			request: put, body: `{"extension_id":5,"{field}":"x"}`, status: 201,
			wantBody: `{"id":{id},"{field}":"x","extension_id":5,"agent_status":"logged_out","since":"{now}"}`,
		}, {
			name: "create with extension_id null", op: op, setup: (*testServer).withClient,
			request: put, body: `{"extension_id":null,"{field}":"x"}`, status: 201,
			wantBody: `{"id":{id},"{field}":"x","agent_status":"logged_out","since":"{now}"}`,
		}, {
			name: "a name is required to create the agent", op: op, setup: (*testServer).withClient,
			request: put, body: `{"extension_id":5}`, status: 400,
			wantBody: `{"message":"a new {kind} agent needs {field}",` +
				`"errors":[{"field":"{field}","message":"is required to create the agent"}]}`,
		}, {
			name: "update the name", op: op, setup: withExtension,
			request: put, body: `{"{field}":"x"}`, status: 200,
			wantBody: `{"id":{id},"{field}":"x","extension_id":5,"agent_status":"available","since":"{now}"}`,
			after: func(ts *testServer) {
				ts.wantGet(ts.kind.fill("/client/12/agent/{kind}/{id}/event/"),
					ts.kind.fill(`[{"url":"`+exampleURL+`","id":{event},"method":"GET","event_type":"agent-login"}]`))
			},
		}, {
			name: "update the extension", op: op, setup: withExtension,
			request: put, body: `{"extension_id":6}`, status: 200,
			wantBody: `{"id":{id},"{field}":"{name}","extension_id":6,"agent_status":"available","since":"{now}"}`,
		}, {
			name: "null removes the extension", op: op, setup: withExtension,
			request: put, body: `{"extension_id":null}`, status: 200,
			wantBody: `{"id":{id},"{field}":"{name}","agent_status":"available","since":"{now}"}`,
		}, {
			name: "an absent field is not changed, and an update sends nothing", op: op, setup: withExtension,
			request: put, body: `{}`, status: 200,
			wantBody: `{"id":{id},"{field}":"{name}","extension_id":5,"agent_status":"available","since":"{now}"}`,
			after: func(ts *testServer) {
				ts.wantDeliveries(ts.kind.fill("GET " + exampleURL + " pending|12|{kind}|{id}|available|api"))
			},
		}, {
			name: "each invalid field is named", op: op, setup: (*testServer).withAgents,
			request: put, body: `{"{field}":"\u007f","extension_id":0,"id":{id},"name":"x"}`, status: 400,
			wantFields: []string{"{field}", "extension_id", "id", "name"},
		}, {
			name: "an empty name is refused", op: op, setup: (*testServer).withAgents,
			request: put, body: `{"{field}":""}`, status: 400, wantFields: []string{"{field}"},
		}, {
			name: "a null name is refused", op: op, setup: (*testServer).withAgents,
			request: put, body: `{"{field}":null}`, status: 400, wantFields: []string{"{field}"},
		}, {
			name: "an extension must be an integer", op: op, setup: (*testServer).withAgents,
			request: put, body: `{"extension_id":"5"}`, status: 400, wantFields: []string{"extension_id"},
		},
	}
}

func agentDeletes() []scenario {
	const remove, op = "DELETE /client/12/agent/{kind}/{id}", "delete{Kind}Agent"
	return []scenario{
		{
			name: "delete", op: op, representative: true, setup: (*testServer).withEvents, request: remove, status: 204,
			after: func(ts *testServer) {
				ts.wantDeliveries()
				ts.wantGet(ts.kind.fill("/client/12/agent/{kind}/"), `[]`)
				ts.wantGet(ts.kind.fill("/client/12/agent/{other}/"), ts.kind.other().fill(
					`[{"id":{id},"{field}":"{name}","agent_status":"logged_out","since":"{now}"}]`))
			},
		}, {
			name: "deleting an available agent logs it out and fires its events", op: op,
			setup: func(ts *testServer) {
				ts.withEvents()
				ts.client("12").agent(ts.kind.id).event(gen.RequestMethodPOST, gen.EventTypeAgentLogout).
					event(gen.RequestMethodGET, gen.EventTypeAgentLogout).login()
			},
			request: remove, status: 204,
			after: func(ts *testServer) {
				ts.wantDeliveries(ts.kind.fill("GET "+exampleURL+" pending|12|{kind}|{id}|available|api"),
					ts.kind.fill("POST "+exampleURL+" pending|12|{kind}|{id}|logged_out|api"),
					ts.kind.fill("GET "+exampleURL+" pending|12|{kind}|{id}|logged_out|api"))
			},
		}, {
			name: "an agent created under the id of a deleted one has no events", op: op,
			setup:   (*testServer).withLogin,
			request: remove, status: 204,
			after: func(ts *testServer) {
				ts.client("12").agent(ts.kind.id)
				ts.wantGet(ts.kind.fill("/client/12/agent/{kind}/{id}"),
					ts.kind.fill(`{"id":{id},"{field}":"{name}","agent_status":"logged_out","since":"{now}"}`))
				ts.wantGet(ts.kind.fill("/client/12/agent/{kind}/{id}/event/"), `[]`)
			},
		},
	}
}

func agentErasures() []scenario {
	const erase, op = "POST /client/12/agent/{kind}/{id}/erase", "erase{Kind}Agent"
	deleted := func(ts *testServer) {
		ts.withLogin()
		k := store.AgentKey{Client: "12", Type: ts.kind.agentType, ID: ts.kind.id}
		ts.must(ts.store.DeleteAgent(ts.Context(), k))
	}
	return []scenario{
		{
			name: "erase", op: op, representative: true, setup: deleted, request: erase, status: 200,
			wantBody: `{"status_changes":2,"deliveries":1}`,
			after: func(ts *testServer) {
				ts.wantDeliveries()
				ts.wantGet("/client/12/delivery/", `[]`)
				ts.wantGet("/client/12/status_change/?start=oldest", `[]`)
			},
		}, {
			name: "erase an agent that exists", op: op, setup: (*testServer).withLogin, request: erase, status: 409,
			wantBody: `{"message":"{kind} agent {id} of client 12 exists; delete it first","status":"agent_exists"}`,
		}, {
			name: "erase the agent of the other kind", op: op, setup: deleted, status: 404,
			request:  "POST /client/12/agent/{kind}/{otherID}/erase",
			wantBody: `{"message":"there is no {kind} agent {otherID} of client 12","status":"agent_not_found"}`,
		}, {
			name: "a client cannot erase", op: op, setup: deleted, request: erase, header: allToken.header(),
			status: 403, wantBody: `{"message":"access denied","status":"access_denied"}`,
		},
	}
}
