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

// fakeReceivers is a transport for test deliveries. It answers every request.
type fakeReceivers struct {
	mu     sync.Mutex
	status int // 0 is 200
	got    []*http.Request
}

func (r *fakeReceivers) RoundTrip(req *http.Request) (*http.Response, error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.got = append(r.got, req)
	answer := httptest.NewRecorder()
	if r.status != 0 {
		answer.WriteHeader(r.status)
	}
	_, _ = io.WriteString(answer, "received")
	return answer.Result(), nil
}

// setStatus sets the status of answers, and discards the recorded requests.
func (r *fakeReceivers) setStatus(status int) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.status, r.got = status, nil
}

func (r *fakeReceivers) last() *http.Request {
	r.mu.Lock()
	defer r.mu.Unlock()
	if len(r.got) == 0 {
		return nil
	}
	return r.got[len(r.got)-1]
}

func testDeliveryScenarios() []scenario {
	const path = " /client/12/agent/{kind}/{id}/event/{event}/test"
	const test, list = "POST" + path, "GET" + path
	receiverAnswers := func(status int, more func(*testServer)) func(*testServer) {
		return func(ts *testServer) {
			ts.withEvents()
			ts.receivers.setStatus(status)
			if more != nil {
				more(ts)
			}
		}
	}
	sends := func(name string, setup, after func(*testServer)) scenario {
		return scenario{name: name, op: "test{Kind}AgentEvent", setup: setup, request: test, status: 200, after: after}
	}
	return []scenario{
		{
			name: "a login event", op: "test{Kind}AgentEvent", representative: true, setup: receiverAnswers(200, nil),
			request: test, status: 200, after: func(ts *testServer) {
				ts.wantTest("GET", "agent_status=available", 200, webhook.Delivered)
			},
		},
		sends("a POST for a logout", receiverAnswers(204, func(ts *testServer) {
			ts.put(ts.kind.fill("/client/12/agent/{kind}/{id}/event/{event}"),
				`{"method":"POST","event_type":"agent-logout"}`)
		}), func(ts *testServer) { ts.wantTest("POST", "agent_status=logged_out", 204, webhook.Delivered) }),
		sends("an answer 410 does not disable the event", receiverAnswers(410, nil), func(ts *testServer) {
			ts.wantTest("GET", "agent_status=available", 410, webhook.Gone)
			ts.wantGet(ts.kind.fill("/client/12/agent/{kind}/{id}/event/{event}/state"),
				ts.kind.fill(`{"state":"enabled","since":"{now}"}`))
		}),
		sends("an answer 503 is not retried", receiverAnswers(503, nil), func(ts *testServer) {
			ts.wantTest("GET", "agent_status=available", 503, webhook.Retry)
		}),
		sends("a disabled event", receiverAnswers(200, func(ts *testServer) {
			ts.put(ts.kind.fill("/client/12/agent/{kind}/{id}/event/{event}/state"), `{"state":"disabled"}`)
		}), func(ts *testServer) { ts.wantTest("GET", "agent_status=available", 200, webhook.Delivered) }),
		sends("only the test delivery is stored",
			receiverAnswers(410, func(ts *testServer) { ts.client("12").agent(ts.kind.id).login() }),
			func(ts *testServer) {
				if diff := cmp.Diff(withoutTable(ts.rowsBefore, "samples"),
					withoutTable(ts.dump(), "samples")); diff != "" {
					ts.Errorf("the store has changed:\n%s", diff)
				}
			}),
		{
			name: "an empty list", op: "list{Kind}AgentEventTests", representative: true,
			setup: (*testServer).withEvents, request: list, status: 200, wantBody: `[]`,
		},
		{
			name: "the newest test delivery comes first", op: "list{Kind}AgentEventTests", request: list, status: 200,
			setup: receiverAnswers(200, func(ts *testServer) {
				for range 3 {
					ts.send(scenario{request: ts.kind.fill(test)})
				}
				ts.send(scenario{request: ts.kind.other().fill(test)})
			}),
			after: func(ts *testServer) {
				var tests []gen.EventTestResult
				ts.must(json.Unmarshal(ts.response.body, &tests))
				if len(tests) != 3 || tests[0].ID != 3 || tests[1].ID != 2 || tests[2].ID != 1 {
					ts.Errorf("the tests are %s", ts.response.body)
				}
			},
		},
		{
			name: "only the latest hundred are kept", op: "list{Kind}AgentEventTests", request: list, status: 200,
			setup: receiverAnswers(200, func(ts *testServer) {
				for range 102 {
					ts.send(scenario{request: ts.kind.fill(test)})
				}
			}),
			after: func(ts *testServer) {
				var tests []gen.EventTestResult
				ts.must(json.Unmarshal(ts.response.body, &tests))
				if len(tests) != 100 || tests[0].ID != 102 || tests[99].ID != 3 {
					ts.Errorf("%d tests", len(tests))
				}
				if rows := ts.rows(ts.db, "SELECT id FROM samples"); len(rows) != 100 {
					ts.Errorf("the store has %d tests", len(rows))
				}
			},
		},
	}
}

// withoutTable returns a dump without the rows of a table.
func withoutTable(dump []string, table string) (rest []string) {
	for _, row := range dump {
		if !strings.HasPrefix(row, table+": ") && !strings.HasPrefix(row, "sqlite_sequence: "+table+"|") {
			rest = append(rest, row)
		}
	}
	return rest
}

// wantTest checks that the answer and the list have the receiver's request, and the attempt.
func (ts *testServer) wantTest(method, pairs string, status int, verdict webhook.Verdict) {
	ts.Helper()
	var m gen.EventTestResult
	ts.must(json.Unmarshal(ts.response.body, &m))
	want := gen.Attempt{
		Number: 1, StartedAt: m.At, DurationMs: m.Attempt.DurationMs, Status: status, Verdict: string(verdict),
		Answer: "received",
	}
	if diff := cmp.Diff(want, m.Attempt); diff != "" || time.Since(m.At.Time) > time.Minute {
		ts.Errorf("the attempt, at %v (-want +got):\n%s", m.At, diff)
	}
	pairs += ts.kind.fill("&agent_type={kind}&event_source=api&agent_id=0&{field}=test")
	ts.wantSent(method, pairs, m.Request)
	changedAt := regexp.MustCompile(`(agentevents-changed-at(?:":"|: ))[^"']*`)
	list := ts.send(scenario{request: ts.kind.fill("GET /client/12/agent/{kind}/{id}/event/{event}/test")})
	ts.wantJSON("list", "["+changedAt.ReplaceAllString(string(ts.response.body), "$1")+"]",
		changedAt.ReplaceAll(list.body, []byte("$1")))
}

// wantSent compares the receiver's request with the request in the answer.
func (ts *testServer) wantSent(method, pairs string, r gen.SentRequest) {
	ts.Helper()
	got := ts.receivers.last()
	if got == nil {
		ts.Fatal("the receiver got nothing")
	}
	content, body := got.URL.RawQuery, ""
	if got.Method == http.MethodPost {
		text, err := io.ReadAll(got.Body)
		ts.must(err)
		content, body = string(text), string(text)
	}
	if got.Method != method || content != pairs || string(r.Method) != method || r.URL != got.URL.String() ||
		r.Body != body {
		ts.Errorf("the receiver got %s %s %q, the answer has %s %s %q", got.Method, got.URL, content,
			r.Method, r.URL, r.Body)
	}
	if data := formPairsJSON(content); jsonOf(r.Data) != data {
		ts.Errorf("the data are %s, want %s", jsonOf(r.Data), data)
	}
	got.Body = io.NopCloser(strings.NewReader(body))
	ts.must(ts.checkCallback(ts.kind.fill("create{Kind}AgentEvent"), got))
	for name, value := range r.Headers {
		if got.Header.Get(name) != value {
			ts.Errorf("the receiver got %s: %q, the answer has %q", name, got.Header.Get(name), value)
		}
	}
	ts.wantTestHeaders(got.Header, content)
}

func (ts *testServer) wantTestHeaders(h http.Header, content string) {
	ts.Helper()
	if h.Get("agentevents-test") != "true" || h.Get("agentevents-attempt") != "1" || h.Get("agentevents-replay") != "" {
		ts.Errorf("the receiver got %v", h)
	}
	secret := ts.rows(ts.db, "SELECT secret FROM secrets WHERE client_id = '12'")[0]
	ts.must(webhook.Verify(h, content, secret))
	if values, err := url.ParseQuery(content); err != nil || values.Get("agent_id") != "0" {
		ts.Errorf("the receiver got %s", content)
	}
}
