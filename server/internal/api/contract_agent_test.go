package api

import (
	"strings"

	"github.com/agentevents/agentevents/gen"
)

func agentScenarios() []scenario {
	return append(append(agentReads(), agentCreates()...), append(agentPuts(), agentDeletes()...)...)
}

func agentReads() []scenario {
	const agents = "GET /client/12/agent/{kind}/"
	// Agents 1 to 4 are on the extensions 5, 6, none and 5.
	four := func(w *world) {
		c := w.client("12")
		c.agent(4).on(5)
		c.agent(1).on(5)
		c.agent(2).on(6)
		c.agent(3)
	}
	one := `{"id":1,"{field}":"{name}","extension_id":5,"agent_status":"logged_out","since":"{now}"}`
	two := `{"id":2,"{field}":"{name}","extension_id":6,"agent_status":"logged_out","since":"{now}"}`
	three := `{"id":3,"{field}":"{name}","agent_status":"logged_out","since":"{now}"}`
	last := `{"id":4,"{field}":"{name}","extension_id":5,"agent_status":"logged_out","since":"{now}"}`
	list := func(agents ...string) string { return "[" + strings.Join(agents, ",") + "]" }
	scenarios := []scenario{
		{
			name: "get", op: "get{Kind}Agent", given: (*world).withAgents, request: "GET /client/12/agent/{kind}/{id}",
			status: 200, want: `{"id":{id},"{field}":"{name}","agent_status":"logged_out","since":"{now}"}`,
		}, {
			name: "get one that is available since a while", op: "get{Kind}Agent",
			given: func(w *world) {
				w.client("12").agent(5).on(4294967295)
				w.set("2017-05-30T16:00:00.007Z")
				w.client("12").agent(5).login()
				w.set("2017-05-30T17:00:00Z")
			},
			request: "GET /client/12/agent/{kind}/5", status: 200,
			want: `{"id":5,"{field}":"{name}","extension_id":4294967295,"agent_status":"available",` +
				`"since":"2017-05-30T16:00:00.007Z"}`,
		}, {
			name: "an id of the other kind is none of this one", op: "get{Kind}Agent", given: (*world).withAgents,
			request: "GET /client/12/agent/{kind}/{otherID}", status: 404,
			want: `{"message":"there is no {kind} agent {otherID} of client 12","status":"agent_not_found"}`,
		}, {
			name: "an agent of another client is none of this one", op: "get{Kind}Agent",
			given: func(w *world) {
				w.client("12")
				w.client("13").agent(w.kind.id)
			},
			request: "GET /client/12/agent/{kind}/{id}", status: 404,
			want: `{"message":"there is no {kind} agent {id} of client 12","status":"agent_not_found"}`,
		}, {
			name: "the list of none is an empty array", op: "list{Kind}Agents",
			given:   func(w *world) { w.client("12") },
			request: agents, status: 200, want: `[]`,
		}, {
			name: "a list has one kind only", op: "list{Kind}Agents", given: (*world).withAgents,
			request: agents, status: 200,
			want: `[{"id":{id},"{field}":"{name}","agent_status":"logged_out","since":"{now}"}]`,
		}, {
			name: "list in the order of ids", op: "list{Kind}Agents", given: four,
			request: agents, status: 200, want: list(one, two, three, last),
		}, {
			name: "list at most so many", op: "list{Kind}Agents", given: four,
			request: agents + "?limit=2", status: 200, want: list(one, two),
		}, {
			name: "list after an id", op: "list{Kind}Agents", given: four,
			request: agents + "?after=2", status: 200, want: list(three, last),
		}, {
			name: "list after 0, and more than there are", op: "list{Kind}Agents", given: four,
			request: agents + "?after=0&limit=1000000", status: 200, want: list(one, two, three, last),
		}, {
			name: "a list combines what it is asked for", op: "list{Kind}Agents", given: four,
			request: agents + "?limit=1&after=1&extension_id=5", status: 200, want: list(last),
		}, {
			name: "unknown query parameters pass", op: "list{Kind}Agents", given: four,
			request: agents + "?limit=1&extension=6&name%5B%5D=x&_=1&%00", status: 200, want: list(one),
		}, {
			name: "list on an extension that nobody is on", op: "list{Kind}Agents", given: four,
			request: agents + "?extension_id=7", status: 200, want: `[]`,
		}, {
			name: "all parameters that are wrong are named", op: "list{Kind}Agents", given: four,
			request: agents + "?limit=0&after=-1&extension_id=x", status: 400,
			wrong: []string{"limit", "after", "extension_id"},
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
			name: "list on extensions by " + query, op: "list{Kind}Agents", given: four,
			request: agents + "?" + query, status: 200, want: list(one, two, last),
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
			name: "no extension by " + query, op: "list{Kind}Agents", given: four,
			request: agents + "?" + query, status: 400, wrong: []string{wrong},
		})
	}
	return scenarios
}

func agentCreates() []scenario {
	const create, op = "POST /client/12/agent/{kind}/", "create{Kind}Agent"
	return []scenario{
		{
			name: "create under an id", op: op, given: (*world).withClient,
			request: create, body: `{"id":{id},"{field}":"{name}"}`, status: 201,
			want: `{"id":{id},"{field}":"{name}","agent_status":"logged_out","since":"{now}"}`,
			then: func(w *world) {
				w.owes()
				w.get(w.kind.fill("/client/12/agent/{kind}/{id}"),
					w.kind.fill(`{"id":{id},"{field}":"{name}","agent_status":"logged_out","since":"{now}"}`))
			},
		}, {
			name: "create on an extension", op: op, given: (*world).withClient,
			request: create, body: `{"{field}":"x","extension_id":5,"id":4294967295}`, status: 201,
			want: `{"id":4294967295,"{field}":"x","extension_id":5,"agent_status":"logged_out","since":"{now}"}`,
		}, {
			name: "the first free id is 1", op: op, given: (*world).withClient,
			request: create, body: `{"{field}":"x"}`, status: 201,
			want: `{"id":1,"{field}":"x","agent_status":"logged_out","since":"{now}"}`,
		}, {
			name: "a free id is given", op: op, given: (*world).withAgents,
			request: create, body: `{"{field}":"x"}`, status: 201,
			then: func(w *world) {
				if n := len(w.rows(w.db, w.kind.fill("SELECT 1 FROM agents WHERE kind = '{kind}'"))); n != 2 {
					w.Errorf("there are %d agents, want 2", n)
				}
			},
		}, {
			name: "a free id is found where the last is taken", op: op,
			given: func(w *world) {
				c := w.client("12")
				c.agent(1)
				c.agent(4294967295)
			},
			request: create, body: `{"{field}":"x"}`, status: 201,
			want: `{"id":2,"{field}":"x","agent_status":"logged_out","since":"{now}"}`,
		}, {
			name: "an id is the other kind's too, and another client's", op: op,
			given: func(w *world) {
				w.withAgents()
				w.client("13").agent(w.kind.id)
			},
			request: create, body: `{"id":{otherID},"{field}":"x"}`, status: 201,
			want: `{"id":{otherID},"{field}":"x","agent_status":"logged_out","since":"{now}"}`,
		}, {
			name: "an id that is taken", op: op, given: (*world).withAgents,
			request: create, body: `{"id":{id},"{field}":"x"}`, status: 409,
			want: `{"message":"{kind} agent {id} of client 12 exists already","status":"conflict",` +
				`"errors":[{"field":"id","message":"is taken"}]}`,
		}, {
			name: "free text is free", op: op, given: (*world).withClient,
			request: create, body: `{"id":1,"{field}":"+7 (812) 336-42-42 * % & ;=?# «ы» 😀 \/ \u0022"}`, status: 201,
			want: `{"id":1,"{field}":"+7 (812) 336-42-42 * % & ;=?# «ы» 😀 / \"",` +
				`"agent_status":"logged_out","since":"{now}"}`,
		}, {
			name: "255 characters, not bytes", op: op, given: (*world).withClient,
			request: create, body: `{"{field}":"` + strings.Repeat("ы", 255) + `"}`, status: 201,
		}, {
			name: "a name is required", op: op, given: (*world).withClient,
			request: create, body: `{"id":5}`, status: 400, wrong: []string{"{field}"},
		}, {
			name: "the other kind's field is none", op: op, given: (*world).withClient, request: create,
			body:   `{"id":5,"extension_name":"x","agent_number":"x"}`,
			status: 400, wrong: []string{"{otherField}"},
		}, {
			name: "every field that is wrong is named", op: op, given: (*world).withClient,
			request: create, body: `{"id":0,"{field}":"","extension_id":-1,"agent_status":"available"}`,
			status: 400, wrong: []string{"id", "{field}", "extension_id", "agent_status"},
		}, {
			name: "ids end at 2^32-1", op: op, given: (*world).withClient,
			request: create, body: `{"id":4294967296,"{field}":"x","extension_id":4294967296}`,
			status: 400, wrong: []string{"id", "extension_id"},
		}, {
			name: "numbers that no integer holds", op: op, given: (*world).withClient,
			request: create, body: `{"id":1e400,"{field}":"x","extension_id":99999999999999999999999}`,
			status: 400, wrong: []string{"id", "extension_id"},
		}, {
			name: "ids are whole numbers", op: op, given: (*world).withClient,
			request: create, body: `{"id":1.5,"{field}":"x","extension_id":"5"}`,
			status: 400, wrong: []string{"id", "extension_id"},
		}, {
			name: "no nulls", op: op, given: (*world).withClient,
			request: create, body: `{"id":null,"{field}":null,"extension_id":null}`,
			status: 400, wrong: []string{"id", "{field}", "extension_id"},
		}, {
			name: "no name of 256 characters", op: op, given: (*world).withClient,
			request: create, body: `{"{field}":"` + strings.Repeat("ы", 256) + `"}`, status: 400, wrong: []string{"{field}"},
		}, {
			name: "no control characters", op: op, given: (*world).withClient,
			request: create, body: `{"{field}":"a\nb"}`, status: 400, wrong: []string{"{field}"},
		},
	}
}

func agentPuts() []scenario {
	const put, op = "PUT /client/12/agent/{kind}/{id}", "put{Kind}Agent"
	withExtension := func(w *world) {
		w.withEvents()
		w.client("12").agent(w.kind.id).on(5).login()
	}
	return []scenario{
		{
			name: "create under the PBX's own id", op: op, given: (*world).withClient,
			request: put, body: `{"{field}":"{name}"}`, status: 201,
			want: `{"id":{id},"{field}":"{name}","agent_status":"logged_out","since":"{now}"}`,
			then: func(w *world) { w.owes() },
		}, {
			name: "create on an extension", op: op, given: (*world).withClient,
			request: put, body: `{"extension_id":5,"{field}":"x"}`, status: 201,
			want: `{"id":{id},"{field}":"x","extension_id":5,"agent_status":"logged_out","since":"{now}"}`,
		}, {
			name: "create with no extension, said so", op: op, given: (*world).withClient,
			request: put, body: `{"extension_id":null,"{field}":"x"}`, status: 201,
			want: `{"id":{id},"{field}":"x","agent_status":"logged_out","since":"{now}"}`,
		}, {
			name: "no creation without a name", op: op, given: (*world).withClient,
			request: put, body: `{"extension_id":5}`, status: 400,
			want: `{"message":"a new {kind} agent needs {field}",` +
				`"errors":[{"field":"{field}","message":"is required to create the agent"}]}`,
		}, {
			name: "update the name", op: op, given: withExtension,
			request: put, body: `{"{field}":"x"}`, status: 200,
			want: `{"id":{id},"{field}":"x","extension_id":5,"agent_status":"available","since":"{now}"}`,
			then: func(w *world) {
				w.get(w.kind.fill("/client/12/agent/{kind}/{id}/event/"),
					w.kind.fill(`[{"url":"`+seedURL+`","id":{event},"method":"GET","event_type":"agent-login"}]`))
			},
		}, {
			name: "update the extension", op: op, given: withExtension,
			request: put, body: `{"extension_id":6}`, status: 200,
			want: `{"id":{id},"{field}":"{name}","extension_id":6,"agent_status":"available","since":"{now}"}`,
		}, {
			name: "null removes the extension", op: op, given: withExtension,
			request: put, body: `{"extension_id":null}`, status: 200,
			want: `{"id":{id},"{field}":"{name}","agent_status":"available","since":"{now}"}`,
		}, {
			name: "a missing field stays as it is, and an update sends nothing", op: op, given: withExtension,
			request: put, body: `{}`, status: 200,
			want: `{"id":{id},"{field}":"{name}","extension_id":5,"agent_status":"available","since":"{now}"}`,
			then: func(w *world) { w.owes(w.kind.fill("GET " + seedURL + " pending|12|{kind}|{id}|available|api")) },
		}, {
			name: "every field that is wrong is named", op: op, given: (*world).withAgents,
			request: put, body: `{"{field}":"\u007f","extension_id":0,"id":{id},"name":"x"}`, status: 400,
			wrong: []string{"{field}", "extension_id", "id", "name"},
		}, {
			name: "no empty name", op: op, given: (*world).withAgents,
			request: put, body: `{"{field}":""}`, status: 400, wrong: []string{"{field}"},
		}, {
			name: "no name that is null", op: op, given: (*world).withAgents,
			request: put, body: `{"{field}":null}`, status: 400, wrong: []string{"{field}"},
		}, {
			name: "no extension that is a text", op: op, given: (*world).withAgents,
			request: put, body: `{"extension_id":"5"}`, status: 400, wrong: []string{"extension_id"},
		},
	}
}

func agentDeletes() []scenario {
	const remove, op = "DELETE /client/12/agent/{kind}/{id}", "delete{Kind}Agent"
	return []scenario{
		{
			name: "delete", op: op, given: (*world).withEvents, request: remove, status: 204,
			then: func(w *world) {
				w.owes()
				w.get(w.kind.fill("/client/12/agent/{kind}/"), `[]`)
				w.get(w.kind.fill("/client/12/agent/{other}/"), w.kind.other().fill(
					`[{"id":{id},"{field}":"{name}","agent_status":"logged_out","since":"{now}"}]`))
			},
		}, {
			name: "who is available is logged out, once for each event", op: op,
			given: func(w *world) {
				w.withEvents()
				w.client("12").agent(w.kind.id).event(gen.RequestMethodPOST, gen.EventTypeAgentLogout).
					event(gen.RequestMethodGET, gen.EventTypeAgentLogout).login()
			},
			request: remove, status: 204,
			then: func(w *world) {
				w.owes(w.kind.fill("GET "+seedURL+" pending|12|{kind}|{id}|available|api"),
					w.kind.fill("POST "+seedURL+" pending|12|{kind}|{id}|logged_out|api"),
					w.kind.fill("GET "+seedURL+" pending|12|{kind}|{id}|logged_out|api"))
			},
		}, {
			name: "one made again has neither events nor status", op: op,
			given:   (*world).withLogin,
			request: remove, status: 204,
			then: func(w *world) {
				w.client("12").agent(w.kind.id)
				w.get(w.kind.fill("/client/12/agent/{kind}/{id}"),
					w.kind.fill(`{"id":{id},"{field}":"{name}","agent_status":"logged_out","since":"{now}"}`))
				w.get(w.kind.fill("/client/12/agent/{kind}/{id}/event/"), `[]`)
			},
		},
	}
}
