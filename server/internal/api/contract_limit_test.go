package api

import (
	"fmt"
	"net/http"
	"strconv"
	"testing"

	"github.com/agentevents/agentevents/gen"
	"github.com/agentevents/agentevents/store"
)

// checkLimit looks whether an answer of the API tells of a limit.
func checkLimit(a *reply) error {
	told := map[string]int64{}
	for _, name := range []string{"X-RateLimit-Limit", "X-RateLimit-Remaining", "X-RateLimit-Reset"} {
		n, err := strconv.ParseInt(a.header.Get(name), 10, 64)
		if err != nil || n < 0 || len(a.header.Values(name)) != 1 {
			return fmt.Errorf("%s is %q", name, a.header.Values(name))
		}
		told[name] = n
	}
	limit, left, reset := told["X-RateLimit-Limit"], told["X-RateLimit-Remaining"], told["X-RateLimit-Reset"]
	if left > limit || reset < 1 || reset > 3600 {
		return fmt.Errorf("%d of %d requests are left, for %d s", left, limit, reset)
	}
	if a.request.Header.Get("Authorization") == "Bearer "+asOperator.token && (limit != store.NoLimit || left != limit) {
		return fmt.Errorf("the operator is limited to %d requests, %d are left", limit, left)
	}
	return nil
}

// limited sets what is given of the limits of client 12, which is made if there is none.
func (w *world) limited(u gen.ClientLimitsUpdate) {
	w.Helper()
	_, err := w.store.SetLimits(w.Context(), w.client("12").id, u)
	w.must(err)
}

func limitOf(n int64) gen.ClientLimitUpdate { return gen.ClientLimitUpdate{Limit: &n} }

// limitScenario is a request of a client that may make none. It is refused before anything that is wrong with it.
func limitScenario(e *endpoint, s scenario) scenario {
	want := `{"message":"the client may make 0 requests an hour, and has made them","status":"rate_limit_exceeded"}`
	return s.refused("one too many", http.StatusTooManyRequests, nil, func(s *scenario) {
		given := s.given
		s.given = func(w *world) {
			if given != nil {
				given(w)
			}
			w.limited(gen.ClientLimitsUpdate{RequestsPerHour: limitOf(0)})
			w.set(seedTime)
		}
		s.family += " limited"
		if e.media() != nil {
			s.body = `{"`
		}
		s.header, s.want = asAll.header(), want
		s.answer = map[string]string{
			"Retry-After": "3130", "X-RateLimit-Limit": "0", "X-RateLimit-Remaining": "0", "X-RateLimit-Reset": "3130",
		}
	})
}

func rateLimit(limit, left string) map[string]string {
	return map[string]string{
		"X-RateLimit-Limit": limit, "X-RateLimit-Remaining": left, "X-RateLimit-Reset": "3130", "Retry-After": "",
	}
}

func limitScenarios() []scenario {
	zero := func(w *world) { w.limited(gen.ClientLimitsUpdate{RequestsPerHour: limitOf(0)}) }
	return []scenario{
		{
			name: "whoever asks", op: "getLimits", given: (*world).withEvents, request: "GET /client/12/limit/", status: 200,
		}, {
			name: "whatever is set", op: "putLimits", given: (*world).withEvents, request: "PUT /client/12/limit/",
			body: `{"agent_event":{"limit":5}}`, status: 200,
		}, {
			name: "get", op: "getLimits", given: (*world).withEvents, request: "GET /client/12/limit/", status: 200,
			want: `{"agent_event":{"limit":1000,"used":2},"agent":{"limit":10000,"used":2},` +
				`"requests_per_hour":{"limit":100000,"used":0}}`,
			answer: rateLimit("2147483647", "2147483647"),
		}, {
			name: "get as a client, whose request is counted", op: "getLimits", given: (*world).withClient,
			request: "GET /client/@me/limit", header: asReadOnly.header(), status: 200,
			want: `{"agent_event":{"limit":1000,"used":0},"agent":{"limit":10000,"used":0},` +
				`"requests_per_hour":{"limit":100000,"used":1}}`,
			answer: rateLimit("100000", "99999"),
		}, {
			name: "a refusal says what is left, and takes nothing of it", op: "putLimits", given: (*world).withClient,
			request: "PUT /client/12/limit/", body: `{}`, header: asAll.header(), status: 403,
			want: `{"message":"access denied","status":"access_denied"}`, answer: rateLimit("100000", "100000"),
		}, {
			name: "what the client may not do is refused before", op: "putLimits", given: zero,
			request: "PUT /client/12/limit/", body: `{}`, header: asAll.header(), status: 403,
			want: `{"message":"access denied","status":"access_denied"}`,
		}, {
			name: "the operator's requests are not limited", op: "getClient", given: zero, request: "GET /client/12", status: 200,
			answer: rateLimit("2147483647", "2147483647"),
		}, {
			name: "who is not known is told of no limit", op: "getClient", given: zero, request: "GET /client/12", status: 401,
			header: map[string]string{"Authorization": "Bearer x"}, answer: rateLimit("2147483647", "2147483647"),
		}, {
			name: "set one", op: "putLimits", given: (*world).withEvents, request: "PUT /client/12/limit/",
			body: `{"agent_event":{"limit":0}}`, status: 200,
			want: `{"agent_event":{"limit":0,"used":2},"agent":{"limit":10000,"used":2},` +
				`"requests_per_hour":{"limit":100000,"used":0}}`,
			then: func(w *world) {
				w.get("/client/12/limit/", `{"agent_event":{"limit":0,"used":2},"agent":{"limit":10000,"used":2},`+
					`"requests_per_hour":{"limit":100000,"used":0}}`)
			},
		}, {
			name: "set all to the greatest", op: "putLimits", given: (*world).withClient, request: "PUT /client/12/limit",
			body:   `{"agent_event":{"limit":2147483647},"agent":{"limit":2147483647},"requests_per_hour":{"limit":2147483647}}`,
			status: 200,
			want: `{"agent_event":{"limit":2147483647,"used":0},"agent":{"limit":2147483647,"used":0},` +
				`"requests_per_hour":{"limit":2147483647,"used":0}}`,
		}, {
			name: "set nothing", op: "putLimits", given: (*world).withClient, request: "PUT /client/12/limit/",
			body: `{"agent":{}}`, status: 200,
			want: `{"agent_event":{"limit":1000,"used":0},"agent":{"limit":10000,"used":0},` +
				`"requests_per_hour":{"limit":100000,"used":0}}`,
		}, {
			name: "none beyond that, and none below zero", op: "putLimits", given: (*world).withClient,
			request: "PUT /client/12/limit/", body: `{"agent_event":{"limit":2147483648},"agent":{"limit":-1},"requests_per_hour":{"limit":1.5}}`,
			status: 400, wrong: []string{"agent_event.limit", "agent.limit", "requests_per_hour.limit"},
		}, {
			name: "none that is null or a text", op: "putLimits", given: (*world).withClient, request: "PUT /client/12/limit/",
			body: `{"agent_event":null,"agent":{"limit":null},"requests_per_hour":{"limit":"5"}}`, status: 400,
			wrong: []string{"agent_event", "agent.limit", "requests_per_hour.limit"},
		}, {
			name: "no fields that it has not", op: "putLimits", given: (*world).withClient, request: "PUT /client/12/limit/",
			body: `{"event":{},"agent":{"limit":5,"used":0}}`, status: 400, wrong: []string{"event", "agent.used"},
		},
	}
}

// fullScenarios are about clients that have as much as they may.
func fullScenarios() []scenario {
	full := func(w *world) {
		w.withEvents()
		w.limited(gen.ClientLimitsUpdate{AgentEvent: limitOf(2), Agent: limitOf(2)})
	}
	noAgent := `{"message":"client 12 may have 2 agents and has 2; GET /api/ver1.0/client/12/limit/ shows its limits",` +
		`"status":"agent_limit_exceeded"}`
	event := `{"url":"http://example.com/","method":"GET","event_type":"agent-login"}`
	return []scenario{
		{
			name: "no agent too many", op: "create{Kind}Agent", given: full, request: "POST /client/12/agent/{kind}/",
			body: `{"{field}":"x"}`, status: 409, want: noAgent,
		}, {
			name: "nor by its id", op: "put{Kind}Agent", given: full, request: "PUT /client/12/agent/{kind}/999",
			body: `{"{field}":"x"}`, status: 409, want: noAgent,
		}, {
			name: "an agent that there is already", op: "put{Kind}Agent", given: full, request: "PUT /client/12/agent/{kind}/{id}",
			body: `{"{field}":"x"}`, status: 200,
		}, {
			name: "no event too many", op: "create{Kind}AgentEvent", given: full,
			request: "POST /client/12/agent/{kind}/{id}/event/", body: event, status: 409,
			want: `{"message":"client 12 may have 2 events and has 2; GET /api/ver1.0/client/12/limit/ shows its limits",` +
				`"status":"agent_event_limit_exceeded"}`,
		}, {
			name: "an event in place of one", op: "create{Kind}AgentEvent", request: "POST /client/12/agent/{kind}/{id}/event/",
			given: func(w *world) {
				full(w)
				w.send(scenario{request: "DELETE " + w.kind.fill("/client/12/agent/{other}/{otherID}")})
			},
			body: event, status: 201,
		},
	}
}

// An hour's requests: the last one that is allowed, the first that is not, and the next hour.
func TestContractRateLimit(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	w.withEvents()
	w.limited(gen.ClientLimitsUpdate{RequestsPerHour: limitOf(3)})
	ask := func(status int, left string) {
		t.Helper()
		a := w.send(scenario{request: "GET /client/@me/agent/local/136", header: asCallAPI.header()})
		if a.status != status || a.header.Get("X-RateLimit-Remaining") != left {
			t.Errorf("%d %s, %s are left; want %d and %s", a.status, a.body, a.header.Get("X-RateLimit-Remaining"), status, left)
		}
	}
	ask(200, "2")
	w.send(scenario{request: "GET /client/13", header: asAll.header()})                    // 403
	w.send(scenario{request: "GET /client/12/agent/local/0", header: asReadOnly.header()}) // 400
	ask(200, "0")
	ask(429, "0")
	w.send(scenario{request: "PUT /client/12/agent/local/136/status", body: `{"agent_status":"available"}`})
	w.limited(gen.ClientLimitsUpdate{RequestsPerHour: limitOf(4)})
	ask(200, "0")
	w.limited(gen.ClientLimitsUpdate{RequestsPerHour: limitOf(1)})
	ask(429, "0")
	w.set("2017-05-30T16:00:00Z")
	ask(200, "0")
}
