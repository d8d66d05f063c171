package main

import (
	"encoding/hex"
	"encoding/json"
	"errors"
	"io"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	collector "go.opentelemetry.io/proto/otlp/collector/trace/v1"
	otlp "go.opentelemetry.io/proto/otlp/trace/v1"
	"google.golang.org/protobuf/proto"

	"github.com/agentevents/agentevents/gen"

	"github.com/agentevents/agentevents/store/pgtest"
)

// tracedSpan is one as a collector gets it.
type tracedSpan struct {
	name, trace, id, parent string
	kind                    otlp.Span_SpanKind
	failed                  bool
	attributes              map[string]string
}

// traceparent is what somebody is told who becomes a part of it.
func (s tracedSpan) traceparent() string { return "00-" + s.trace + "-" + s.id + "-01" }

// spans is a collector.
type spans struct {
	testing.TB
	mu  sync.Mutex
	got []tracedSpan
}

// collect makes the program send its traces here.
func collect(t *testing.T) *spans {
	t.Helper()
	s := &spans{TB: t}
	server := httptest.NewServer(s)
	t.Cleanup(server.Close)
	t.Setenv(endpointVariable, server.URL)
	return s
}

func (s *spans) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	body, _ := io.ReadAll(r.Body)
	var request collector.ExportTraceServiceRequest
	if err := proto.Unmarshal(body, &request); err != nil || r.URL.Path != "/v1/traces" {
		s.Errorf("%s: %v", r.URL, err)
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, of := range request.ResourceSpans {
		for _, scope := range of.ScopeSpans {
			for _, x := range scope.Spans {
				s.got = append(s.got, readSpan(x))
			}
		}
	}
	w.Header().Set("Content-Type", "application/x-protobuf")
}

func readSpan(x *otlp.Span) tracedSpan {
	s := tracedSpan{
		x.Name, hex.EncodeToString(x.TraceId), hex.EncodeToString(x.SpanId), hex.EncodeToString(x.ParentSpanId),
		x.Kind, x.GetStatus().GetCode() == otlp.Status_STATUS_CODE_ERROR,
		map[string]string{},
	}
	for _, a := range x.Attributes {
		s.attributes[a.Key] = strings.Trim(a.Value.String()[strings.Index(a.Value.String(), ":")+1:], `"`)
	}
	return s
}

// under are the spans that have another one as their parent, or none.
func (s *spans) under(parent tracedSpan) []tracedSpan {
	s.mu.Lock()
	defer s.mu.Unlock()
	return slices.DeleteFunc(slices.Clone(s.got), func(x tracedSpan) bool { return x.trace != parent.trace || x.parent != parent.id })
}

// one is the only span under another one.
func (s *spans) one(parent tracedSpan, name string) tracedSpan {
	s.Helper()
	found := s.under(parent)
	if len(found) != 1 || found[0].name != name {
		s.Fatalf("under %+v is not one %s but %+v, of\n%+v", parent, name, found, s.got)
	}
	return found[0]
}

// told is a receiver that notes the traceparents it is sent, and answers with a status.
type told struct {
	url     string
	headers chan string
	mu      sync.Mutex
	status  int
}

func tell(t *testing.T, status int) *told {
	t.Helper()
	r := &told{headers: make(chan string, 1000), status: status}
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, req *http.Request) {
		r.mu.Lock()
		defer r.mu.Unlock()
		w.WriteHeader(r.status)
		r.headers <- strings.Join(req.Header.Values("traceparent"), ",")
	}))
	r.url = server.URL
	t.Cleanup(server.Close)
	return r
}

func (r *told) answer(status int) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.status = status
}

// caller is who sets a status, as a part of a trace of its own.
var caller = tracedSpan{trace: "4bf92f3577b34da6a3ce929d0e0e4736", id: "00f067aa0ba902b7"}

// traced is the program with agents 1 and 2 of client 12 and a registration of each.
func traced(t *testing.T, url string, r *told, env ...string) *program {
	t.Helper()
	p := startOn(t, url, append(env, "AGENTEVENTS_LOG_LEVEL=debug", "AGENTEVENTS_RETRY_SCHEDULE=100ms", "AGENTEVENTS_RETRY_JITTER=0%")...)
	p.put("/client/12", `{}`)
	for _, agent := range []string{"1", "2"} {
		p.put("/client/12/agent/local/"+agent, `{"extension_name":"x"}`)
		p.post("/client/12/agent/local/"+agent+"/event/", `{"url":"`+r.url+`","method":"GET","event_type":"agent-login"}`)
	}
	return p
}

// changes sets statuses for the caller.
func (p *program) changes(path, body string) {
	p.Helper()
	r, err := http.NewRequestWithContext(p.Context(), http.MethodPut, p.url+basePath+path, strings.NewReader(body))
	if err != nil {
		p.Fatal(err)
	}
	r.Header.Set("traceparent", caller.traceparent())
	p.send(r)
}

const available = `{"agent_status":"available"}`

// The spans of a status change are one tree, down to the request that the receiver gets.
func TestTrace(t *testing.T) {
	s, r := collect(t), tell(t, http.StatusOK)
	p := traced(t, pgtest.URL(t), r)
	p.changes("/client/12/agent/local/1/status", available)
	header := <-r.headers
	p.stop()
	p.ends(time.Minute)

	request := s.one(caller, "putLocalAgentStatus")
	change := s.one(request, "status change")
	attempt := s.one(change, "attempt")
	if header != attempt.traceparent() {
		t.Errorf("the receiver was told %q, the attempt is %q", header, attempt.traceparent())
	}
	if request.kind != otlp.Span_SPAN_KIND_SERVER || attempt.kind != otlp.Span_SPAN_KIND_CLIENT {
		t.Errorf("the request is a %v, the attempt a %v", request.kind, attempt.kind)
	}
	for got, want := range map[string]string{
		request.attributes["http.route"]:                basePath + "/client/:client_id/agent/local/:agent_id/status",
		request.attributes["http.response.status_code"]: "200",
		change.attributes["agentevents.sequence"]:       "1",
		attempt.attributes["agentevents.verdict"]:       "delivered",
	} {
		if got != want {
			t.Errorf("an attribute is %q, want %q", got, want)
		}
	}
	for _, line := range []string{"msg=request method=PUT path=" + basePath + "/client/12/agent/local/1/status", "msg=attempt"} {
		if !p.logs(line, "trace_id="+caller.trace) {
			t.Errorf("the line %s does not say of which trace it is:\n%s", line, p.log)
		}
	}
}

// logs says whether a line that has one text has another, too.
func (p *program) logs(line, text string) bool {
	for l := range strings.SplitSeq(p.log.String(), "\n") {
		if strings.Contains(l, line) && strings.Contains(l, text) {
			return true
		}
	}
	return false
}

// One request may make several changes.
func TestTraceOfManyStatuses(t *testing.T) {
	s, r := collect(t), tell(t, http.StatusOK)
	p := traced(t, pgtest.URL(t), r)
	p.changes("/client/12/status/", `[{"agent_type":"local","agent_id":1,"agent_status":"available"},
		{"agent_type":"local","agent_id":2,"agent_status":"available"},
		{"agent_type":"local","agent_id":2,"agent_status":"available"}]`)
	headers := []string{<-r.headers, <-r.headers}
	p.stop()
	p.ends(time.Minute)
	changes := s.under(s.one(caller, "putStatuses"))
	if len(changes) != 2 {
		t.Fatalf("the request has made %+v", changes)
	}
	for _, change := range changes {
		if attempt := s.one(change, "attempt"); !slices.Contains(headers, attempt.traceparent()) {
			t.Errorf("the receiver was told %q, an attempt is %q", headers, attempt.traceparent())
		}
	}
}

// What goes out after a restart is of the trace that it was of before.
func TestTraceSurvivesARestart(t *testing.T) {
	s, r := collect(t), tell(t, http.StatusServiceUnavailable)
	url := pgtest.URL(t)
	p := traced(t, url, r)
	p.changes("/client/12/agent/local/1/status", available)
	<-r.headers
	p.stop()
	p.ends(time.Minute)
	change := s.one(s.one(caller, "putLocalAgentStatus"), "status change")
	before := s.under(change)

	for len(r.headers) > 0 {
		<-r.headers
	}
	r.answer(http.StatusOK)
	p = startOn(t, url)
	header := <-r.headers
	p.stop()
	p.ends(time.Minute)
	all := s.under(change)
	if last := all[len(all)-1]; len(all) != len(before)+1 || last.name != "attempt" || header != last.traceparent() || last.failed {
		t.Errorf("the receiver was told %q, under the change is %+v", header, all)
	}
	if !before[0].failed || before[0].attributes["agentevents.verdict"] != "retry" {
		t.Errorf("the first attempt is %+v", before[0])
	}
}

// Without anybody to send traces to nothing is said of any, not even what a caller or the store says.
func TestNoTrace(t *testing.T) {
	r := tell(t, http.StatusServiceUnavailable)
	url := pgtest.URL(t)
	p := traced(t, url, r)
	p.changes("/client/12/agent/local/1/status", available)
	if header := <-r.headers; header != "" {
		t.Errorf("the receiver was told %q", header)
	}
	p.stop()
	p.ends(time.Minute)

	t.Setenv(tracesEndpointVariable, collectorOf(t))
	p = startOn(t, url, "AGENTEVENTS_RETRY_SCHEDULE=100ms")
	for header := ""; header == ""; {
		header = <-r.headers // of a change without one
	}
	p.changes("/client/12/agent/local/2/status", available)
	p.stop()
	p.ends(time.Minute)

	t.Setenv("OTEL_SDK_DISABLED", "true")
	for len(r.headers) > 0 {
		<-r.headers
	}
	p = startOn(t, url, "AGENTEVENTS_LOG_LEVEL=debug")
	if headers := []string{<-r.headers, <-r.headers}; headers[0] != "" || headers[1] != "" {
		t.Errorf("the receiver was told %q", headers)
	}
	p.stop()
	p.ends(time.Minute)
	if strings.Contains(p.log.String(), "trace_id") {
		t.Errorf("the log is about a trace:\n%s", p.log)
	}
}

// collectorOf is the URL for traces alone of a collector that nobody looks at.
func collectorOf(t *testing.T) string {
	t.Helper()
	server := httptest.NewServer(&spans{TB: t})
	t.Cleanup(server.Close)
	return server.URL + "/v1/traces"
}

// What is not sampled is not sent to the collector, and the receiver is told so.
func TestTraceThatIsNotSampled(t *testing.T) {
	s, r := collect(t), tell(t, http.StatusOK)
	t.Setenv("OTEL_TRACES_SAMPLER", "always_off")
	p := traced(t, pgtest.URL(t), r)
	p.changes("/client/12/agent/local/1/status", available)
	if header := <-r.headers; !strings.HasPrefix(header, "00-"+caller.trace+"-") || !strings.HasSuffix(header, "-00") {
		t.Errorf("the receiver was told %q", header)
	}
	p.stop()
	p.ends(time.Minute)
	if len(s.got) > 0 {
		t.Errorf("the collector has got %+v", s.got)
	}
}

// A collector that is not there holds up nothing.
func TestTraceToNobody(t *testing.T) {
	hold := make(chan struct{})
	hanging := httptest.NewServer(http.HandlerFunc(func(http.ResponseWriter, *http.Request) { <-hold }))
	defer hanging.Close()
	defer close(hold)
	for _, endpoint := range []string{closedPort(t), hanging.URL} {
		t.Setenv(endpointVariable, endpoint)
		r := tell(t, http.StatusOK)
		p := traced(t, pgtest.URL(t), r)
		p.changes("/client/12/agent/local/1/status", available)
		<-r.headers
		p.stop()
		p.ends(flushTimeout + 30*time.Second)
		if !p.logs("level=WARN", "traces") {
			t.Errorf("nothing is said of it:\n%s", p.log)
		}
	}
}

func TestTraceToNonsense(t *testing.T) {
	for _, endpoint := range []string{"nonsense", "127.0.0.1:4318", "tcp://secret@127.0.0.1:4318", "http://", "http://%zz"} {
		t.Setenv(endpointVariable, endpoint)
		code, _, stderr := call(t, []string{
			"AGENTEVENTS_ADDR=127.0.0.1:0", "AGENTEVENTS_DATABASE_URL=" + pgtest.URL(t),
		}, "serve")
		if code != exitFailed || !strings.Contains(stderr, endpointVariable+" and") || strings.Contains(stderr, "secret") {
			t.Errorf("%s: exit code %d, standard error %q", endpoint, code, stderr)
		}
	}
}

// A change that is not committed ends in its trace as what has failed.
func TestTraceOfAChangeThatIsNotCommitted(t *testing.T) {
	s := collect(t)
	log := slog.New(slog.DiscardHandler)
	tr, err := newTraces(t.Context(), log)
	if err != nil {
		t.Fatal(err)
	}
	for _, err := range []error{errors.New("disk full"), nil} {
		_, ended := tr.change(t.Context())
		ended(7, err)
	}
	tr.close(log)
	if len(s.got) != 2 || !s.got[0].failed || s.got[1].failed || s.got[0].attributes["agentevents.sequence"] != "" {
		t.Errorf("the collector has got %+v", s.got)
	}
}

// ended returns a delivery of client 12 when it has ended.
func (p *program) ended(id int) (d gen.DeliveryDetail) {
	p.Helper()
	look := time.NewTicker(10 * time.Millisecond)
	defer look.Stop()
	for d.Delivery.FinishedAt == nil {
		<-look.C
		p.read200("/client/12/delivery/"+strconv.Itoa(id), &d)
	}
	return d
}

func (p *program) read200(path string, into any) {
	p.Helper()
	if err := json.Unmarshal([]byte(p.get(p.url+basePath+path)), into); err != nil {
		p.Fatal(err)
	}
}

// The log shows of which trace each attempt was, and in the request that was sent last what its receiver was told.
func TestTraceInTheLog(t *testing.T) {
	collect(t)
	r := tell(t, http.StatusServiceUnavailable)
	p := traced(t, pgtest.URL(t), r)
	p.changes("/client/12/agent/local/1/status", available)
	told := []string{<-r.headers}
	r.answer(http.StatusOK)
	d := p.ended(1)
	for len(r.headers) > 0 {
		told = append(told, <-r.headers)
	}
	var shown []string
	for _, a := range d.Attempts {
		shown = append(shown, a.Traceparent)
	}
	last := told[len(told)-1]
	if !slices.Equal(shown, told) || len(told) < 2 || d.Delivery.LastAttempt.Traceparent != last {
		t.Errorf("the receiver was told %q, the attempts are %q, the last one %q", told, shown, d.Delivery.LastAttempt.Traceparent)
	}
	if d.Request.Headers["traceparent"] != last || !strings.Contains(d.Request.Curl, "traceparent: "+last) {
		t.Errorf("the receiver was told %q, shown is %+v", last, d.Request)
	}
	p.post("/client/12/delivery/1/redeliver", "")
	again := p.ended(1)
	if header := <-r.headers; again.Request.Headers["traceparent"] != header || again.Request.Headers["agentevents-replay"] != "true" {
		t.Errorf("the replay said %q, shown is %+v", header, again.Request)
	}
	p.stop()
	p.ends(time.Minute)
}

// A test of an event is an attempt under the request that asks for it.
func TestTraceOfATest(t *testing.T) {
	s, r := collect(t), tell(t, http.StatusOK)
	p := traced(t, pgtest.URL(t), r)
	request, err := http.NewRequestWithContext(t.Context(), http.MethodPost, p.url+basePath+"/client/12/agent/local/1/event/1/test", nil)
	if err != nil {
		t.Fatal(err)
	}
	request.Header.Set("traceparent", caller.traceparent())
	p.send(request)
	header := <-r.headers
	var tests []gen.EventTestResult
	p.read200("/client/12/agent/local/1/event/1/test", &tests)
	p.stop()
	p.ends(time.Minute)
	attempt := s.one(s.one(caller, "testLocalAgentEvent"), "attempt")
	if header != attempt.traceparent() || attempt.attributes["agentevents.test"] != "true" {
		t.Errorf("the receiver was told %q, the attempt is %+v", header, attempt)
	}
	if len(tests) != 1 || tests[0].Request.Headers["traceparent"] != header || tests[0].Attempt.Traceparent != header {
		t.Errorf("the receiver was told %q, the tests are %+v", header, tests)
	}
}

// Headers that the exporter cannot read are refused, and nobody repeats what may be a token.
func TestWrongTraceHeaders(t *testing.T) {
	t.Setenv(endpointVariable, "http://127.0.0.1:1")
	for _, wrong := range []string{"Bearer secret", "=secret", "authorization=secret%zz", "a=b,secret"} {
		for _, name := range headerVariables {
			t.Setenv(name, wrong)
			code, _, stderr := call(t, []string{"AGENTEVENTS_DATABASE_URL=" + pgtest.URL(t)}, "serve")
			if code != exitFailed || !strings.Contains(stderr, name+" must be NAME=VALUE") || strings.Contains(stderr, "secret") {
				t.Errorf("%s=%s: exit code %d, %s", name, wrong, code, stderr)
			}
			t.Setenv(name, "")
		}
	}
}
