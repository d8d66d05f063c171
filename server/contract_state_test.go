package main

func stateScenarios() []scenario {
	const (
		path     = " /client/12/agent/{kind}/{id}/event/{event}/state"
		put      = "put{Kind}AgentEventState"
		enabled  = `{"state":"enabled","since":"{now}"}`
		disabled = `{"state":"disabled","reason":"disabled by a request","since":"{now}"}`
	)
	return []scenario{
		{
			name: "a new event is enabled", op: "get{Kind}AgentEventState", given: (*world).withEvents,
			request: "GET" + path, status: 200, want: enabled,
		}, {
			name: "disable", op: put, given: (*world).withEvents,
			request: "PUT" + path, body: `{"state":"disabled"}`, status: 200, want: disabled,
			then: func(w *world) {
				w.get(w.kind.fill("/client/12/agent/{kind}/{id}/event/{event}/state"), w.kind.fill(disabled))
			},
		}, {
			name: "enable what is enabled", op: put, given: (*world).withEvents,
			request: "PUT" + path, body: `{"state":"enabled"}`, status: 200, want: enabled,
		}, {
			name: "a state is required", op: put, given: (*world).withEvents,
			request: "PUT" + path, body: `{}`, status: 400, wrong: []string{"state"},
		}, {
			name: "no other state, and nothing else", op: put, given: (*world).withEvents,
			request: "PUT" + path, body: `{"state":"paused","reason":"x"}`, status: 400, wrong: []string{"state", "reason"},
		},
	}
}

func secretScenarios() []scenario {
	return []scenario{
		{
			name: "a client has a secret", op: "getSecret", given: (*world).withClient,
			request: "GET /client/12/secret/", status: 200,
		}, {
			name: "rotate", op: "rotateSecret", given: (*world).withClient,
			request: "POST /client/12/secret/rotate", status: 200,
		},
	}
}
