package api

import (
	"fmt"
)

func stateScenarios() []scenario {
	const (
		path     = " /client/12/agent/{kind}/{id}/event/{event}/state"
		put      = "put{Kind}AgentEventState"
		enabled  = `{"state":"enabled","since":"{now}"}`
		disabled = `{"state":"disabled","reason":"disabled by a request","since":"{now}"}`
	)
	return []scenario{
		{
			name: "a new event is enabled", op: "get{Kind}AgentEventState", representative: true,
			setup:   (*testServer).withEvents,
			request: "GET" + path, status: 200, wantBody: enabled,
		}, {
			name: "disable", op: put, representative: true, setup: (*testServer).withEvents,
			request: "PUT" + path, body: `{"state":"disabled"}`, status: 200, wantBody: disabled,
			after: func(ts *testServer) {
				ts.wantGet(ts.kind.fill("/client/12/agent/{kind}/{id}/event/{event}/state"), ts.kind.fill(disabled))
			},
		}, {
			name: "enable an enabled event", op: put, setup: (*testServer).withEvents,
			request: "PUT" + path, body: `{"state":"enabled"}`, status: 200, wantBody: enabled,
		}, {
			name: "a state is required", op: put, setup: (*testServer).withEvents,
			request: "PUT" + path, body: `{}`, status: 400, wantFields: []string{"state"},
		}, {
			name: "another state and unknown fields are refused", op: put, setup: (*testServer).withEvents,
			request: "PUT" + path, body: `{"state":"paused","reason":"x"}`, status: 400,
			wantFields: []string{"state", "reason"},
		},
	}
}

func secretScenarios() []scenario {
	return []scenario{
		{
			name: "a client has a secret", op: "getSecret", representative: true, setup: (*testServer).withClient,
			request: "GET /client/12/secret/", status: 200,
		}, {
			name: "rotate", op: "rotateSecret", representative: true, setup: (*testServer).withClient,
			request: "POST /client/12/secret/rotate", status: 200,
		}, {
			name: "at most five secrets sign", op: "rotateSecret", setup: withRotations(4),
			request: "POST /client/12/secret/rotate", status: 409,
			wantBody: `{"message":"client 12 has 5 secrets that sign, the most that it may have; the oldest ends at ` +
				`2017-05-31T15:07:50.000Z, ` +
				`then the next rotation is possible","status":"too_many_secrets"}`,
		}, {
			name: "roll back a rotation", op: "rollBackSecret", representative: true, setup: withRotations(1),
			request: "POST /client/12/secret/rollback", status: 200, after: (*testServer).wantOneSecret,
		}, {
			name: "roll back without a rotation", op: "rollBackSecret", setup: (*testServer).withClient,
			request: "POST /client/12/secret/rollback", status: 409,
			wantBody: `{"message":"client 12 has no previous secret that still signs, so there is no rotation to ` +
				`take back","status":"no_previous_secret"}`,
		},
	}
}

// withRotations creates a client whose secret was rotated n times.
func withRotations(n int) func(*testServer) {
	return func(ts *testServer) {
		ts.withClient()
		for range n {
			_, err := ts.store.RotateSecret(ts.Context(), "12")
			ts.must(err)
		}
	}
}

// wantOneSecret checks that only the secret from before the rotation signs, and without an end.
func (ts *testServer) wantOneSecret() {
	ts.Helper()
	secret := ts.rows(ts.db, "SELECT secret FROM secrets WHERE client_id = '12'")[0]
	ts.wantGet("/client/12/secret/", fmt.Sprintf(`{"secret":%q,"signing_secrets":[{"secret":%q}]}`, secret, secret))
}
