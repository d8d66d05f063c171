package api

import (
	"strings"

	"github.com/agentevents/agentevents/gen"
)

func clientScenarios() []scenario {
	return append(append(clientReads(), clientWrites()...), append(clientDeletes(), ownClient()...)...)
}

func clientReads() []scenario {
	three := func(ts *testServer) {
		ts.client("9")
		ts.client("12").withName("Ringme")
		ts.client("a.b-C_d")
	}
	return []scenario{
		{
			name: "an empty list", op: "listClients", representative: true, request: "GET /client/", status: 200,
			wantBody: `[]`,
		}, {
			name: "list in the order of ids; the name is optional", op: "listClients", setup: three,
			request: "GET /client/", status: 200,
			wantBody: `[{"id":"12","name":"Ringme","blocked":false},{"id":"9","blocked":false},{"id":"a.b-C_d",` +
				`"blocked":false}]`,
		}, {
			name: "list with a limit", op: "listClients", setup: three,
			request: "GET /client/?limit=2", status: 200,
			wantBody: `[{"id":"12","name":"Ringme","blocked":false},{"id":"9","blocked":false}]`,
		}, {
			name: "list after an id", op: "listClients", setup: three,
			request: "GET /client/?after=12", status: 200,
			wantBody: `[{"id":"9","blocked":false},{"id":"a.b-C_d","blocked":false}]`,
		}, {
			name: "list after an id that does not exist", op: "listClients", setup: three,
			request: "GET /client/?after=8&limit=1", status: 200, wantBody: `[{"id":"9","blocked":false}]`,
		}, {
			name: "list after the last", op: "listClients", setup: three,
			request: "GET /client/?after=z", status: 200, wantBody: `[]`,
		}, {
			name: "unknown query parameters pass", op: "listClients", setup: three,
			request: "GET /client/?limit=1&foo=bar&foo%5B0%5D=1&sort&=&page=2", status: 200,
			wantBody: `[{"id":"12","name":"Ringme","blocked":false}]`,
		}, {
			name: "a limit of 0", op: "listClients", request: "GET /client/?limit=0", status: 400,
			wantFields: []string{"limit"},
		}, {
			name: "a limit above a million", op: "listClients",
			request: "GET /client/?limit=1000001", status: 400, wantFields: []string{"limit"},
		}, {
			name: "a limit must be a number", op: "listClients",
			request: "GET /client/?limit=ten", status: 400, wantFields: []string{"limit"},
		}, {
			name: "each invalid parameter is named", op: "listClients",
			request: "GET /client/?limit=-1&after=" + strings.Repeat("x", 65), status: 400,
			wantFields: []string{"limit", "after"},
		}, {
			name: "get", op: "getClient", representative: true, setup: (*testServer).withClient,
			request: "GET /client/12", status: 200, wantBody: `{"id":"12","name":"Ringme","blocked":false}`,
		}, {
			name: "get a client without a name", op: "getClient", setup: func(ts *testServer) { ts.client("x.y-z_1") },
			request: "GET /client/x.y-z_1", status: 200, wantBody: `{"id":"x.y-z_1","blocked":false}`,
		}, {
			name: "get an id in another case", op: "getClient", setup: func(ts *testServer) { ts.client("abc") },
			request: "GET /client/ABC", status: 404,
			wantBody: `{"message":"there is no client ABC","status":"client_not_found"}`,
		}, {
			name: "an id of other characters", op: "getClient",
			request: "GET /client/a%20b", status: 400, wantFields: []string{"client_id"},
		}, {
			name: "an id with an escaped slash", op: "getClient", setup: (*testServer).withClient,
			request: "GET /client/1%2F2", status: 400, wantFields: []string{"client_id"},
		}, {
			name: "an id of 65 characters", op: "getClient",
			request: "GET /client/" + strings.Repeat("x", 65), status: 400, wantFields: []string{"client_id"},
		},
	}
}

func clientWrites() []scenario {
	return []scenario{
		{
			name: "create", op: "putClient", representative: true, request: "PUT /client/12", body: `{"name":"Ringme"}`,
			status: 201, wantBody: `{"id":"12","name":"Ringme","blocked":false}`,
			after: func(ts *testServer) { ts.wantGet("/client/12", `{"id":"12","name":"Ringme","blocked":false}`) },
		}, {
			name: "{} is enough to create", op: "putClient", request: "PUT /client/12", body: `{}`,
			status: 201, wantBody: `{"id":"12","blocked":false}`,
		}, {
			name: "create under an id of 64 characters", op: "putClient",
			request: "PUT /client/" + strings.Repeat("x", 64), body: `{}`, status: 201,
		}, {
			name: "update", op: "putClient", setup: (*testServer).withClient,
			request: "PUT /client/12", body: `{"name":"Ringme 2"}`, status: 200,
			wantBody: `{"id":"12","name":"Ringme 2","blocked":false}`,
			after: func(ts *testServer) {
				ts.wantGet("/client/12", `{"id":"12","name":"Ringme 2","blocked":false}`)
			},
		}, {
			name: "an absent field is not changed", op: "putClient", setup: (*testServer).withClient,
			request: "PUT /client/12", body: `{}`, status: 200, wantBody: `{"id":"12","name":"Ringme","blocked":false}`,
		}, {
			name: "an empty name removes it", op: "putClient", setup: (*testServer).withClient,
			request: "PUT /client/12", body: `{"name":""}`, status: 200, wantBody: `{"id":"12","blocked":false}`,
		}, {
			name: "an update keeps agents and events", op: "putClient", setup: (*testServer).withEvents,
			request: "PUT /client/12", body: `{"name":"x"}`, status: 200,
			after: func(ts *testServer) {
				ts.wantGet("/client/12/agent/local/136/event/1",
					`{"url":"`+exampleURL+`","id":1,"method":"GET","event_type":"agent-login"}`)
			},
		}, {
			name: "a name of 255 characters, not bytes", op: "putClient",
			request: "PUT /client/12", body: `{"name":"` + strings.Repeat("ы", 255) + `"}`, status: 201,
		}, {
			name: "a name with characters that HTML and JSON escape", op: "putClient",
			request: "PUT /client/12", body: `{"name":"<b>\"A\" & B\\C\u2028😀\/"}`, status: 201,
			wantBody: `{"id":"12","name":"<b>\"A\" & B\\C\u2028😀/","blocked":false}`,
		}, {
			name: "a name of 256 characters is refused", op: "putClient",
			request: "PUT /client/12", body: `{"name":"` + strings.Repeat("ы", 256) + `"}`,
			status: 400, wantFields: []string{"name"},
		}, {
			name: "control characters are refused", op: "putClient", setup: (*testServer).withClient,
			request: "PUT /client/12", body: `{"name":"a\u0000b"}`, status: 400, wantFields: []string{"name"},
		}, {
			name: "null is refused", op: "putClient", setup: (*testServer).withClient,
			request: "PUT /client/12", body: `{"name":null}`, status: 400, wantFields: []string{"name"},
		}, {
			name: "a number is refused", op: "putClient", setup: (*testServer).withClient,
			request: "PUT /client/12", body: `{"name":12}`, status: 400, wantFields: []string{"name"},
		}, {
			name: "unknown fields are refused", op: "putClient", setup: (*testServer).withClient,
			request: "PUT /client/12", body: `{"title":"x","id":"13"}`, status: 400,
			wantFields: []string{"title", "id"},
		}, {
			name: "names of fields are case-sensitive", op: "putClient", setup: (*testServer).withClient,
			request: "PUT /client/12", body: `{"Name":"x"}`, status: 400, wantFields: []string{"Name"},
		}, {
			name: "errors of path and body are combined", op: "putClient",
			request: "PUT /client/a%20b", body: `{"name":12}`, status: 400, wantFields: []string{"client_id", "name"},
		},
	}
}

func clientDeletes() []scenario {
	return []scenario{
		{
			name: "delete", op: "deleteClient", representative: true, setup: (*testServer).withClient,
			request: "DELETE /client/12", status: 204,
			after: func(ts *testServer) { ts.wantGet("/client/", `[]`) },
		}, {
			name: "delete with a Content-Type and an empty body", op: "deleteClient", setup: (*testServer).withClient,
			request: "DELETE /client/12", status: 204,
			header: map[string]string{"Content-Type": "application/json", "Content-Length": "0"},
		}, {
			name: "delete deletes the agents and events of this client only", op: "deleteClient",
			setup: func(ts *testServer) {
				ts.withEvents()
				ts.client("13").local(136).event(gen.RequestMethodGET, gen.EventTypeAgentLogin)
			},
			request: "DELETE /client/12", status: 204,
			after: func(ts *testServer) {
				ts.wantGet("/client/", `[{"id":"13","blocked":false}]`)
				ts.wantGet("/client/13/agent/local/136/event/",
					`[{"url":"`+exampleURL+`","id":3,"method":"GET","event_type":"agent-login"}]`)
				ts.client("12")
				ts.wantGet("/client/12/agent/local/", `[]`)
				ts.wantGet("/client/12/agent/remote/", `[]`)
			},
		}, {
			name: "delete logs out available agents and keeps their deliveries", op: "deleteClient",
			setup: func(ts *testServer) {
				ts.client("12").local(136).event(gen.RequestMethodGET, gen.EventTypeAgentLogin).
					event(gen.RequestMethodPOST, gen.EventTypeAgentLogout).login().
					remote(7).event(gen.RequestMethodPOST, gen.EventTypeAgentLogout)
			},
			request: "DELETE /client/12", status: 204,
			after: func(ts *testServer) {
				ts.wantDeliveries("GET "+exampleURL+" pending|12|local|136|available|api",
					"POST "+exampleURL+" pending|12|local|136|logged_out|api")
			},
		},
	}
}

// ownClient returns requests with @me, the token's client.
func ownClient() []scenario {
	notFound := `{"message":"@me is the client of the token; an operator has none",` +
		`"status":"client_not_found"}`
	two := func(ts *testServer) {
		ts.withClient()
		ts.client("13").local(136)
	}
	return []scenario{
		{
			name: "@me, percent-encoded, is the token's client", op: "getClient", setup: two, header: allToken.header(),
			request: "GET /client/%40me", status: 200, wantBody: `{"id":"12","name":"Ringme","blocked":false}`,
		}, {
			name: "@me is the token's client", op: "getClient", setup: two, header: otherClientToken.header(),
			request: "GET /client/@me", status: 200, wantBody: `{"id":"13","blocked":false}`,
		}, {
			name: "@me with a token of the operator", op: "getClient", setup: (*testServer).withClient,
			request: "GET /client/%40me", status: 404, wantBody: notFound,
		}, {
			name: "create @me with a token of the operator", op: "putClient", request: "PUT /client/%40me", body: `{}`,
			status: 404, wantBody: notFound,
		}, {
			name: "delete @me with a token of the operator", op: "deleteClient", setup: two,
			request: "DELETE /client/@me", status: 404, wantBody: notFound,
		}, {
			name: "@me with a token of the operator, below the client", op: "getLocalAgent", setup: two,
			request: "GET /client/@me/agent/local/136", status: 404, wantBody: notFound,
		}, {
			name: "messages name the client for @me", op: "getLocalAgent", setup: two, header: allToken.header(),
			request: "GET /client/@me/agent/local/136", status: 404,
			wantBody: `{"message":"there is no local agent 136 of client 12","status":"agent_not_found"}`,
		},
	}
}
