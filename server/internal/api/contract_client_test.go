package api

import (
	"strings"

	"github.com/agentevents/agentevents/gen"
)

func clientScenarios() []scenario {
	return append(append(clientReads(), clientWrites()...), append(clientDeletes(), ownClient()...)...)
}

func clientReads() []scenario {
	three := func(w *world) {
		w.client("9")
		w.client("12").named("Ringme")
		w.client("a.b-C_d")
	}
	return []scenario{
		{
			name: "the list of none is an empty array", op: "listClients", request: "GET /client/", status: 200, want: `[]`,
		}, {
			name: "list in the order of ids, without the names that there are not", op: "listClients", given: three,
			request: "GET /client/", status: 200, want: `[{"id":"12","name":"Ringme","blocked":false},{"id":"9","blocked":false},{"id":"a.b-C_d","blocked":false}]`,
		}, {
			name: "list at most so many", op: "listClients", given: three,
			request: "GET /client/?limit=2", status: 200, want: `[{"id":"12","name":"Ringme","blocked":false},{"id":"9","blocked":false}]`,
		}, {
			name: "list after an id", op: "listClients", given: three,
			request: "GET /client/?after=12", status: 200, want: `[{"id":"9","blocked":false},{"id":"a.b-C_d","blocked":false}]`,
		}, {
			name: "list after an id that does not exist", op: "listClients", given: three,
			request: "GET /client/?after=8&limit=1", status: 200, want: `[{"id":"9","blocked":false}]`,
		}, {
			name: "list after the last", op: "listClients", given: three,
			request: "GET /client/?after=z", status: 200, want: `[]`,
		}, {
			name: "unknown query parameters pass", op: "listClients", given: three,
			request: "GET /client/?limit=1&foo=bar&foo%5B0%5D=1&sort&=&page=2", status: 200,
			want: `[{"id":"12","name":"Ringme","blocked":false}]`,
		}, {
			name: "no limit of 0", op: "listClients", request: "GET /client/?limit=0", status: 400, wrong: []string{"limit"},
		}, {
			name: "no limit beyond a million", op: "listClients",
			request: "GET /client/?limit=1000001", status: 400, wrong: []string{"limit"},
		}, {
			name: "no limit that is no number", op: "listClients",
			request: "GET /client/?limit=ten", status: 400, wrong: []string{"limit"},
		}, {
			name: "all parameters that are wrong are named", op: "listClients",
			request: "GET /client/?limit=-1&after=" + strings.Repeat("x", 65), status: 400, wrong: []string{"limit", "after"},
		}, {
			name: "get", op: "getClient", given: (*world).withClient,
			request: "GET /client/12", status: 200, want: `{"id":"12","name":"Ringme","blocked":false}`,
		}, {
			name: "get one without a name", op: "getClient", given: func(w *world) { w.client("x.y-z_1") },
			request: "GET /client/x.y-z_1", status: 200, want: `{"id":"x.y-z_1","blocked":false}`,
		}, {
			name: "get one that differs in case", op: "getClient", given: func(w *world) { w.client("abc") },
			request: "GET /client/ABC", status: 404, want: `{"message":"there is no client ABC","status":"client_not_found"}`,
		}, {
			name: "no id of other characters", op: "getClient",
			request: "GET /client/a%20b", status: 400, wrong: []string{"client_id"},
		}, {
			name: "no id with an escaped slash", op: "getClient", given: (*world).withClient,
			request: "GET /client/1%2F2", status: 400, wrong: []string{"client_id"},
		}, {
			name: "no id of 65 characters", op: "getClient",
			request: "GET /client/" + strings.Repeat("x", 65), status: 400, wrong: []string{"client_id"},
		},
	}
}

func clientWrites() []scenario {
	return []scenario{
		{
			name: "create", op: "putClient", request: "PUT /client/12", body: `{"name":"Ringme"}`,
			status: 201, want: `{"id":"12","name":"Ringme","blocked":false}`,
			then: func(w *world) { w.get("/client/12", `{"id":"12","name":"Ringme","blocked":false}`) },
		}, {
			name: "{} is enough to create", op: "putClient", request: "PUT /client/12", body: `{}`,
			status: 201, want: `{"id":"12","blocked":false}`,
		}, {
			name: "create under an id of 64 characters", op: "putClient",
			request: "PUT /client/" + strings.Repeat("x", 64), body: `{}`, status: 201,
		}, {
			name: "update", op: "putClient", given: (*world).withClient,
			request: "PUT /client/12", body: `{"name":"Ringme 2"}`, status: 200, want: `{"id":"12","name":"Ringme 2","blocked":false}`,
			then: func(w *world) { w.get("/client/12", `{"id":"12","name":"Ringme 2","blocked":false}`) },
		}, {
			name: "a missing field stays as it is", op: "putClient", given: (*world).withClient,
			request: "PUT /client/12", body: `{}`, status: 200, want: `{"id":"12","name":"Ringme","blocked":false}`,
		}, {
			name: "the empty name removes it", op: "putClient", given: (*world).withClient,
			request: "PUT /client/12", body: `{"name":""}`, status: 200, want: `{"id":"12","blocked":false}`,
		}, {
			name: "agents and events outlive an update", op: "putClient", given: (*world).withEvents,
			request: "PUT /client/12", body: `{"name":"x"}`, status: 200,
			then: func(w *world) {
				w.get("/client/12/agent/local/136/event/1",
					`{"url":"`+seedURL+`","id":1,"method":"GET","event_type":"agent-login"}`)
			},
		}, {
			name: "a name of 255 characters, not bytes", op: "putClient",
			request: "PUT /client/12", body: `{"name":"` + strings.Repeat("ы", 255) + `"}`, status: 201,
		}, {
			name: "a name with what HTML and JSON escape", op: "putClient",
			request: "PUT /client/12", body: `{"name":"<b>\"A\" & B\\C\u2028😀\/"}`, status: 201,
			want: `{"id":"12","name":"<b>\"A\" & B\\C\u2028😀/","blocked":false}`,
		}, {
			name: "no name of 256", op: "putClient",
			request: "PUT /client/12", body: `{"name":"` + strings.Repeat("ы", 256) + `"}`,
			status: 400, wrong: []string{"name"},
		}, {
			name: "no control characters", op: "putClient", given: (*world).withClient,
			request: "PUT /client/12", body: `{"name":"a\u0000b"}`, status: 400, wrong: []string{"name"},
		}, {
			name: "no null", op: "putClient", given: (*world).withClient,
			request: "PUT /client/12", body: `{"name":null}`, status: 400, wrong: []string{"name"},
		}, {
			name: "no number", op: "putClient", given: (*world).withClient,
			request: "PUT /client/12", body: `{"name":12}`, status: 400, wrong: []string{"name"},
		}, {
			name: "no fields that it has not", op: "putClient", given: (*world).withClient,
			request: "PUT /client/12", body: `{"title":"x","id":"13"}`, status: 400, wrong: []string{"title", "id"},
		}, {
			name: "names of fields are exact", op: "putClient", given: (*world).withClient,
			request: "PUT /client/12", body: `{"Name":"x"}`, status: 400, wrong: []string{"Name"},
		}, {
			name: "path and body may both be wrong", op: "putClient",
			request: "PUT /client/a%20b", body: `{"name":12}`, status: 400, wrong: []string{"client_id", "name"},
		},
	}
}

func clientDeletes() []scenario {
	return []scenario{
		{
			name: "delete", op: "deleteClient", given: (*world).withClient, request: "DELETE /client/12", status: 204,
			then: func(w *world) { w.get("/client/", `[]`) },
		}, {
			name: "delete as some clients do, with a type and an empty body", op: "deleteClient", given: (*world).withClient,
			request: "DELETE /client/12", status: 204,
			header: map[string]string{"Content-Type": "application/json", "Content-Length": "0"},
		}, {
			name: "deleting takes agents and events along, and no other client's", op: "deleteClient",
			given: func(w *world) {
				w.withEvents()
				w.client("13").local(136).event(gen.RequestMethodGET, gen.EventTypeAgentLogin)
			},
			request: "DELETE /client/12", status: 204,
			then: func(w *world) {
				w.get("/client/", `[{"id":"13","blocked":false}]`)
				w.get("/client/13/agent/local/136/event/",
					`[{"url":"`+seedURL+`","id":3,"method":"GET","event_type":"agent-login"}]`)
				w.client("12")
				w.get("/client/12/agent/local/", `[]`)
				w.get("/client/12/agent/remote/", `[]`)
			},
		}, {
			name: "deleting logs out who is available, and leaves what is owed", op: "deleteClient",
			given: func(w *world) {
				w.client("12").local(136).event(gen.RequestMethodGET, gen.EventTypeAgentLogin).
					event(gen.RequestMethodPOST, gen.EventTypeAgentLogout).login().
					remote(7).event(gen.RequestMethodPOST, gen.EventTypeAgentLogout)
			},
			request: "DELETE /client/12", status: 204,
			then: func(w *world) {
				w.owes("GET "+seedURL+" pending|12|local|136|available|api",
					"POST "+seedURL+" pending|12|local|136|logged_out|api")
			},
		},
	}
}

// ownClient is about @me, which is the token's client.
func ownClient() []scenario {
	notFound := `{"message":"@me stands for the client of the token, and an operator's has none","status":"client_not_found"}`
	two := func(w *world) {
		w.withClient()
		w.client("13").local(136)
	}
	return []scenario{
		{
			name: "@me, percent-encoded, is the token's client", op: "getClient", given: two, header: asAll.header(),
			request: "GET /client/%40me", status: 200, want: `{"id":"12","name":"Ringme","blocked":false}`,
		}, {
			name: "@me is the token's client", op: "getClient", given: two, header: asStranger.header(),
			request: "GET /client/@me", status: 200, want: `{"id":"13","blocked":false}`,
		}, {
			name: "@me is nobody for an operator", op: "getClient", given: (*world).withClient,
			request: "GET /client/%40me", status: 404, want: notFound,
		}, {
			name: "@me creates nobody", op: "putClient", request: "PUT /client/%40me", body: `{}`, status: 404, want: notFound,
		}, {
			name: "@me deletes nobody", op: "deleteClient", given: two,
			request: "DELETE /client/@me", status: 404, want: notFound,
		}, {
			name: "@me has no agents for an operator", op: "getLocalAgent", given: two,
			request: "GET /client/@me/agent/local/136", status: 404, want: notFound,
		}, {
			name: "messages name the client that @me is", op: "getLocalAgent", given: two, header: asAll.header(),
			request: "GET /client/@me/agent/local/136", status: 404,
			want: `{"message":"there is no local agent 136 of client 12","status":"agent_not_found"}`,
		},
	}
}
