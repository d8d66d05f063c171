package api

import (
	"encoding/json"
	"io"
	"net/http"
	"net/http/httptest"
	"net/url"
	"regexp"
	"strings"
	"sync"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/agentevents/agentevents/gen"
	"github.com/agentevents/agentevents/webhook"
)

// receivers stand where the network begins. They answer all that is sent at once.
type receivers struct {
	mu     sync.Mutex
	status int // 0 is 200
	got    []*http.Request
}

func (r *receivers) RoundTrip(req *http.Request) (*http.Response, error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.got = append(r.got, req)
	answer := httptest.NewRecorder()
	if r.status != 0 {
		answer.WriteHeader(r.status)
	}
	_, _ = io.WriteString(answer, "heard")
	return answer.Result(), nil
}

// answer sets what is answered, and forgets what has come.
func (r *receivers) answer(status int) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.status, r.got = status, nil
}

func (r *receivers) last() *http.Request {
	r.mu.Lock()
	defer r.mu.Unlock()
	if len(r.got) == 0 {
		return nil
	}
	return r.got[len(r.got)-1]
}

func sampleScenarios() []scenario {
	const test, list = "POST /client/12/agent/{kind}/{id}/event/{event}/test", "GET /client/12/agent/{kind}/{id}/event/{event}/test"
	given := func(status int, more func(*world)) func(*world) {
		return func(w *world) {
			w.withEvents()
			w.receivers.answer(status)
			if more != nil {
				more(w)
			}
		}
	}
	with := func(name string, given func(*world), then func(*world)) scenario {
		return scenario{name: name, op: "test{Kind}AgentEvent", given: given, request: test, status: 200, then: then}
	}
	return []scenario{
		with("test", given(200, nil), func(w *world) {
			w.tested("GET", "agent_status=available", 200, webhook.Delivered)
		}),
		with("test a POST for a logout", given(204, func(w *world) {
			w.put(w.kind.fill("/client/12/agent/{kind}/{id}/event/{event}"), `{"method":"POST","event_type":"agent-logout"}`)
		}), func(w *world) { w.tested("POST", "agent_status=logged_out", 204, webhook.Delivered) }),
		with("410 disables nothing", given(410, nil), func(w *world) {
			w.tested("GET", "agent_status=available", 410, webhook.Gone)
			w.get(w.kind.fill("/client/12/agent/{kind}/{id}/event/{event}/state"), w.kind.fill(`{"state":"enabled","since":"{now}"}`))
		}),
		with("503 is not tried again", given(503, nil), func(w *world) {
			w.tested("GET", "agent_status=available", 503, webhook.Retry)
		}),
		with("what is disabled is tested too", given(200, func(w *world) {
			w.put(w.kind.fill("/client/12/agent/{kind}/{id}/event/{event}/state"), `{"state":"disabled"}`)
		}), func(w *world) { w.tested("GET", "agent_status=available", 200, webhook.Delivered) }),
		with("nothing but the test is stored", given(410, func(w *world) { w.client("12").agent(w.kind.id).login() }),
			func(w *world) {
				if diff := cmp.Diff(without(w.before, "samples"), without(w.dump(), "samples")); diff != "" {
					w.Errorf("the store has changed:\n%s", diff)
				}
			}),
		{
			name: "no tests", op: "list{Kind}AgentEventTests", given: (*world).withEvents, request: list, status: 200, want: `[]`,
		},
		{
			name: "tests, the newest first", op: "list{Kind}AgentEventTests", request: list, status: 200,
			given: given(200, func(w *world) {
				for range 3 {
					w.send(scenario{request: w.kind.fill(test)})
				}
				w.send(scenario{request: w.kind.other().fill(test)})
			}),
			then: func(w *world) {
				var tests []gen.EventTestResult
				w.must(json.Unmarshal(w.reply.body, &tests))
				if len(tests) != 3 || tests[0].ID != 3 || tests[1].ID != 2 || tests[2].ID != 1 {
					w.Errorf("the tests are %s", w.reply.body)
				}
			},
		},
		{
			name: "of very many tests the latest hundred", op: "list{Kind}AgentEventTests", request: list, status: 200,
			given: given(200, func(w *world) {
				for range 102 {
					w.send(scenario{request: w.kind.fill(test)})
				}
			}),
			then: func(w *world) {
				var tests []gen.EventTestResult
				w.must(json.Unmarshal(w.reply.body, &tests))
				if len(tests) != 100 || tests[0].ID != 102 || tests[99].ID != 3 {
					w.Errorf("%d tests", len(tests))
				}
				if rows := w.rows(w.db, "SELECT id FROM samples"); len(rows) != 100 {
					w.Errorf("%d tests are kept", len(rows))
				}
			},
		},
	}
}

// without leaves a table out of a dump.
func without(dump []string, table string) (rest []string) {
	for _, row := range dump {
		if !strings.HasPrefix(row, table+": ") && !strings.HasPrefix(row, "sqlite_sequence: "+table+"|") {
			rest = append(rest, row)
		}
	}
	return rest
}

// tested looks at the answer to a test: it says what the receiver got, and what became of it, and so does the list.
func (w *world) tested(method, pairs string, status int, verdict webhook.Verdict) {
	w.Helper()
	var m gen.EventTestResult
	w.must(json.Unmarshal(w.reply.body, &m))
	want := gen.Attempt{
		Number: 1, StartedAt: m.At, DurationMs: m.Attempt.DurationMs, Status: status, Verdict: string(verdict), Answer: "heard",
	}
	if diff := cmp.Diff(want, m.Attempt); diff != "" || time.Since(m.At.Time) > time.Minute {
		w.Errorf("the attempt, at %v (-want +got):\n%s", m.At, diff)
	}
	pairs += w.kind.fill("&agent_type={kind}&event_source=api&agent_id=0&{field}=test")
	w.sentSample(method, pairs, m.Request)
	changedAt := regexp.MustCompile(`(agentevents-changed-at(?:":"|: ))[^"']*`)
	list := w.send(scenario{request: w.kind.fill("GET /client/12/agent/{kind}/{id}/event/{event}/test")})
	w.same("list", "["+changedAt.ReplaceAllString(string(w.reply.body), "$1")+"]", changedAt.ReplaceAll(list.body, []byte("$1")))
}

// sentSample compares what the receiver got with what is shown and with what it must be.
func (w *world) sentSample(method, pairs string, r gen.SentRequest) {
	w.Helper()
	got := w.receivers.last()
	if got == nil {
		w.Fatal("the receiver got nothing")
	}
	content, body := got.URL.RawQuery, ""
	if got.Method == http.MethodPost {
		text, err := io.ReadAll(got.Body)
		w.must(err)
		content, body = string(text), string(text)
	}
	if got.Method != method || content != pairs || string(r.Method) != method || r.URL != got.URL.String() || r.Body != body {
		w.Errorf("the receiver got %s %s %q, shown is %s %s %q", got.Method, got.URL, content, r.Method, r.URL, r.Body)
	}
	if shown := pairsOf(content); quoted(r.Data) != shown {
		w.Errorf("the data are %s, want %s", quoted(r.Data), shown)
	}
	got.Body = io.NopCloser(strings.NewReader(body))
	w.must(w.checkCallback(w.kind.fill("create{Kind}AgentEvent"), got))
	for name, value := range r.Headers {
		if got.Header.Get(name) != value {
			w.Errorf("the receiver got %s: %q, shown is %q", name, got.Header.Get(name), value)
		}
	}
	w.sampleHeaders(got.Header, content)
}

func (w *world) sampleHeaders(h http.Header, content string) {
	w.Helper()
	if h.Get("agentevents-test") != "true" || h.Get("agentevents-attempt") != "1" || h.Get("agentevents-replay") != "" {
		w.Errorf("the receiver got %v", h)
	}
	secret := w.rows(w.db, "SELECT secret FROM secrets WHERE client_id = '12'")[0]
	w.must(webhook.Verify(h, content, secret))
	if values, err := url.ParseQuery(content); err != nil || values.Get("agent_id") != "0" {
		w.Errorf("the receiver got %s", content)
	}
}
