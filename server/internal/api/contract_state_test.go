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
		}, {
			name: "no more than five secrets sign", op: "rotateSecret", given: withRotations(4),
			request: "POST /client/12/secret/rotate", status: 409,
			want: `{"message":"client 12 has 5 secrets that sign, the most that it may have; the oldest ends at 2017-05-31T15:07:50.000Z, ` +
				`then the next rotation is possible","status":"too_many_secrets"}`,
		}, {
			name: "take a rotation back", op: "rollBackSecret", given: withRotations(1),
			request: "POST /client/12/secret/rollback", status: 200, then: (*world).hasOneSecret,
		}, {
			name: "no rotation to take back", op: "rollBackSecret", given: (*world).withClient,
			request: "POST /client/12/secret/rollback", status: 409,
			want: `{"message":"client 12 has no previous secret that still signs, so there is no rotation to take back","status":"no_previous_secret"}`,
		},
	}
}

// withRotations is a client whose secret was rotated so often.
func withRotations(n int) func(*world) {
	return func(w *world) {
		w.withClient()
		for range n {
			_, err := w.store.RotateSecret(w.Context(), "12")
			w.must(err)
		}
	}
}

// hasOneSecret wants a secret to sign that signed before it was rotated, without an end, and no other.
func (w *world) hasOneSecret() {
	w.Helper()
	secret := w.rows(w.db, "SELECT secret FROM secrets WHERE client_id = '12'")[0]
	w.get("/client/12/secret/", fmt.Sprintf(`{"secret":%q,"signing_secrets":[{"secret":%q}]}`, secret, secret))
}
