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
	"github.com/agentevents/agentevents/server/internal/contract"
	"github.com/agentevents/agentevents/server/internal/telemetry"
	"github.com/agentevents/agentevents/store/pgtest"
)

// tracedSpan is a span that the collector received.
type tracedSpan struct {
	name, trace, id, parent string
	kind                    otlp.Span_SpanKind
	failed                  bool
	attributes              map[string]string
}

// traceparent returns the header of requests within the span.
func (s tracedSpan) traceparent() string { return "00-" + s.trace + "-" + s.id + "-01" }

// spanCollector is an OpenTelemetry collector.
type spanCollector struct {
	testing.TB
	mu  sync.Mutex
	got []tracedSpan
}

// collect starts a collector, and configures the program to send its traces there.
func collect(t *testing.T) *spanCollector {
	t.Helper()
	s := &spanCollector{TB: t}
	server := httptest.NewServer(s)
	t.Cleanup(server.Close)
	t.Setenv(otlpEndpoint, server.URL)
	return s
}

func (s *spanCollector) ServeHTTP(w http.ResponseWriter, r *http.Request) {
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

// childrenOf returns the spans of a parent.
func (s *spanCollector) childrenOf(parent tracedSpan) []tracedSpan {
	s.mu.Lock()
	defer s.mu.Unlock()
	return slices.DeleteFunc(slices.Clone(s.got),
		func(x tracedSpan) bool { return x.trace != parent.trace || x.parent != parent.id })
}

// onlyChildOf returns the only span of a parent. The test fails if there are others or if its name differs.
func (s *spanCollector) onlyChildOf(parent tracedSpan, name string) tracedSpan {
	s.Helper()
	found := s.childrenOf(parent)
	if len(found) != 1 || found[0].name != name {
		s.Fatalf("the children of %+v must be one %s, are %+v, of\n%+v", parent, name, found, s.got)
	}
	return found[0]
}

// traceReceiver is a receiver that records each traceparent, and answers with a status.
type traceReceiver struct {
	url          string
	traceparents chan string
	mu           sync.Mutex
	status       int
}

func newTraceReceiver(t *testing.T, status int) *traceReceiver {
	t.Helper()
	r := &traceReceiver{traceparents: make(chan string, 1000), status: status}
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, req *http.Request) {
		r.mu.Lock()
		defer r.mu.Unlock()
		w.WriteHeader(r.status)
		r.traceparents <- strings.Join(req.Header.Values("traceparent"), ",")
	}))
	r.url = server.URL
	t.Cleanup(server.Close)
	return r
}

func (r *traceReceiver) setStatus(status int) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.status = status
}

// clientSpan is the span of the client that sets a status.
var clientSpan = tracedSpan{trace: "4bf92f3577b34da6a3ce929d0e0e4736", id: "00f067aa0ba902b7"}

// startTraced starts the program with agents 1 and 2 of client 12 and an event of each.
func startTraced(t *testing.T, url string, r *traceReceiver, env ...string) *program {
	t.Helper()
	p := startOn(t, url,
		append(env, "AGENTEVENTS_LOG_LEVEL=debug", "AGENTEVENTS_RETRY_SCHEDULE=100ms",
			"AGENTEVENTS_RETRY_JITTER=0%")...)
	p.put("/client/12", `{}`)
	for _, agent := range []string{"1", "2"} {
		p.put("/client/12/agent/local/"+agent, `{"extension_name":"x"}`)
		p.post("/client/12/agent/local/"+agent+"/event/", `{"url":"`+r.url+
			`","method":"GET","event_type":"agent-login"}`)
	}
	return p
}

// putStatusTraced sends a request within clientSpan.
func (p *program) putStatusTraced(path, body string) {
	p.Helper()
	r,
		err := http.NewRequestWithContext(p.Context(), http.MethodPut, p.url+contract.BasePath+path,
		strings.NewReader(body))
	if err != nil {
		p.Fatal(err)
	}
	r.Header.Set("traceparent", clientSpan.traceparent())
	p.send(r)
}

// The variables of OpenTelemetry.
const (
	otlpEndpoint       = "OTEL_EXPORTER_OTLP_ENDPOINT"
	otlpTracesEndpoint = "OTEL_EXPORTER_OTLP_TRACES_ENDPOINT"
)

var otlpHeaders = []string{"OTEL_EXPORTER_OTLP_HEADERS", "OTEL_EXPORTER_OTLP_TRACES_HEADERS"}

const available = `{"agent_status":"available"}`

// The spans of a status change form one tree. The receiver's request belongs to its last span.
func TestTraceSpansRequestToAttempt(t *testing.T) {
	s, r := collect(t), newTraceReceiver(t, http.StatusOK)
	p := startTraced(t, pgtest.URL(t), r)
	p.putStatusTraced("/client/12/agent/local/1/status", available)
	header := <-r.traceparents
	p.stop()
	p.waitForExit(time.Minute)

	request := s.onlyChildOf(clientSpan, "putLocalAgentStatus")
	change := s.onlyChildOf(request, "status change")
	attempt := s.onlyChildOf(change, "attempt")
	if header != attempt.traceparent() {
		t.Errorf("the receiver got %q, the attempt is %q", header, attempt.traceparent())
	}
	if request.kind != otlp.Span_SPAN_KIND_SERVER || attempt.kind != otlp.Span_SPAN_KIND_CLIENT {
		t.Errorf("the request is a %v, the attempt a %v", request.kind, attempt.kind)
	}
	for got, want := range map[string]string{
		request.attributes["http.route"]: contract.BasePath +
			"/client/:client_id/agent/local/:agent_id/status",
		request.attributes["http.response.status_code"]: "200",
		change.attributes["agentevents.sequence"]:       "1",
		attempt.attributes["agentevents.verdict"]:       "delivered",
	} {
		if got != want {
			t.Errorf("an attribute is %q, want %q", got, want)
		}
	}
	for _, line := range []string{
		"msg=request method=PUT path=" + contract.BasePath + "/client/12/agent/local/1/status", "msg=attempt",
	} {
		if !p.hasLogged(line, "trace_id="+clientSpan.trace) {
			t.Errorf("the line %s lacks the trace id:\n%s", line, p.log)
		}
	}
}

// hasLogged reports whether a line of the log has both texts.
func (p *program) hasLogged(line, text string) bool {
	for l := range strings.SplitSeq(p.log.String(), "\n") {
		if strings.Contains(l, line) && strings.Contains(l, text) {
			return true
		}
	}
	return false
}

// One request may change several statuses. Each change has a span.
func TestTraceHasASpanPerChange(t *testing.T) {
	s, r := collect(t), newTraceReceiver(t, http.StatusOK)
	p := startTraced(t, pgtest.URL(t), r)
	p.putStatusTraced("/client/12/status/", `[{"agent_type":"local","agent_id":1,"agent_status":"available"},
		{"agent_type":"local","agent_id":2,"agent_status":"available"},
		{"agent_type":"local","agent_id":2,"agent_status":"available"}]`)
	headers := []string{<-r.traceparents, <-r.traceparents}
	p.stop()
	p.waitForExit(time.Minute)
	changes := s.childrenOf(s.onlyChildOf(clientSpan, "putStatuses"))
	if len(changes) != 2 {
		t.Fatalf("the changes are %+v", changes)
	}
	for _, change := range changes {
		if attempt := s.onlyChildOf(change, "attempt"); !slices.Contains(headers, attempt.traceparent()) {
			t.Errorf("the receiver got %q, an attempt is %q", headers, attempt.traceparent())
		}
	}
}

// An attempt after a restart belongs to the trace of its status change.
func TestTraceSurvivesARestart(t *testing.T) {
	s, r := collect(t), newTraceReceiver(t, http.StatusServiceUnavailable)
	url := pgtest.URL(t)
	p := startTraced(t, url, r)
	p.putStatusTraced("/client/12/agent/local/1/status", available)
	<-r.traceparents
	p.stop()
	p.waitForExit(time.Minute)
	change := s.onlyChildOf(s.onlyChildOf(clientSpan, "putLocalAgentStatus"), "status change")
	before := s.childrenOf(change)

	for len(r.traceparents) > 0 {
		<-r.traceparents
	}
	r.setStatus(http.StatusOK)
	p = startOn(t, url)
	header := <-r.traceparents
	p.stop()
	p.waitForExit(time.Minute)
	all := s.childrenOf(change)
	if last := all[len(all)-1]; len(all) != len(before)+1 || last.name != "attempt" || header != last.traceparent() ||
		last.failed {
		t.Errorf("the receiver got %q, the change has the spans %+v", header, all)
	}
	if !before[0].failed || before[0].attributes["agentevents.verdict"] != "retry" {
		t.Errorf("the first attempt is %+v", before[0])
	}
}

// Without a collector, no request to a receiver has a traceparent, even if the client sent one or the store has one.
func TestNoTraceparentWithoutCollector(t *testing.T) {
	r := newTraceReceiver(t, http.StatusServiceUnavailable)
	url := pgtest.URL(t)
	p := startTraced(t, url, r)
	p.putStatusTraced("/client/12/agent/local/1/status", available)
	if header := <-r.traceparents; header != "" {
		t.Errorf("the receiver got %q", header)
	}
	p.stop()
	p.waitForExit(time.Minute)

	t.Setenv(otlpTracesEndpoint, newTracesEndpoint(t))
	p = startOn(t, url, "AGENTEVENTS_RETRY_SCHEDULE=100ms")
	for header := ""; header == ""; {
		header = <-r.traceparents // the first change has no traceparent
	}
	p.putStatusTraced("/client/12/agent/local/2/status", available)
	p.stop()
	p.waitForExit(time.Minute)

	t.Setenv("OTEL_SDK_DISABLED", "true")
	for len(r.traceparents) > 0 {
		<-r.traceparents
	}
	p = startOn(t, url, "AGENTEVENTS_LOG_LEVEL=debug")
	if headers := []string{<-r.traceparents, <-r.traceparents}; headers[0] != "" || headers[1] != "" {
		t.Errorf("the receiver got %q", headers)
	}
	p.stop()
	p.waitForExit(time.Minute)
	if strings.Contains(p.log.String(), "trace_id") {
		t.Errorf("the log has a trace id:\n%s", p.log)
	}
}

// newTracesEndpoint is the URL for traces of a collector whose spans are not checked.
func newTracesEndpoint(t *testing.T) string {
	t.Helper()
	server := httptest.NewServer(&spanCollector{TB: t})
	t.Cleanup(server.Close)
	return server.URL + "/v1/traces"
}

// The collector does not get an unsampled trace. Its traceparent has the flag 00.
func TestUnsampledTraceIsNotExported(t *testing.T) {
	s, r := collect(t), newTraceReceiver(t, http.StatusOK)
	t.Setenv("OTEL_TRACES_SAMPLER", "always_off")
	p := startTraced(t, pgtest.URL(t), r)
	p.putStatusTraced("/client/12/agent/local/1/status", available)
	if header := <-r.traceparents; !strings.HasPrefix(header, "00-"+clientSpan.trace+"-") ||
		!strings.HasSuffix(header, "-00") {
		t.Errorf("the receiver got %q", header)
	}
	p.stop()
	p.waitForExit(time.Minute)
	if len(s.got) > 0 {
		t.Errorf("the collector has got %+v", s.got)
	}
}

// An unreachable collector delays neither deliveries nor the stop.
func TestUnreachableCollectorDelaysNothing(t *testing.T) {
	hold := make(chan struct{})
	hanging := httptest.NewServer(http.HandlerFunc(func(http.ResponseWriter, *http.Request) { <-hold }))
	defer hanging.Close()
	defer close(hold)
	for _, endpoint := range []string{closedPort(t), hanging.URL} {
		t.Setenv(otlpEndpoint, endpoint)
		r := newTraceReceiver(t, http.StatusOK)
		p := startTraced(t, pgtest.URL(t), r)
		p.putStatusTraced("/client/12/agent/local/1/status", available)
		<-r.traceparents
		p.stop()
		p.waitForExit(time.Minute) // the export of the last spans takes two seconds of it
		if !p.hasLogged("level=WARN", "traces") {
			t.Errorf("the log has no warning about traces:\n%s", p.log)
		}
	}
}

func TestServeRejectsInvalidTraceEndpoint(t *testing.T) {
	for _, endpoint := range []string{
		"nonsense", "127.0.0.1:4318", "tcp://secret@127.0.0.1:4318", "http://", "http://%zz",
	} {
		t.Setenv(otlpEndpoint, endpoint)
		code, _, stderr := runCommand(t, []string{
			"AGENTEVENTS_ADDR=127.0.0.1:0", "AGENTEVENTS_DATABASE_URL=" + pgtest.URL(t),
		}, "serve")
		if code != exitFailed || !strings.Contains(stderr, otlpEndpoint+" and") || strings.Contains(stderr, "secret") {
			t.Errorf("%s: exit code %d, standard error %q", endpoint, code, stderr)
		}
	}
}

// If a change is not committed, its span has the status error.
func TestSpanOfUncommittedChangeFails(t *testing.T) {
	s := collect(t)
	log := slog.New(slog.DiscardHandler)
	tr, err := telemetry.NewTraces(t.Context(), "test", log)
	if err != nil {
		t.Fatal(err)
	}
	for _, err := range []error{errors.New("disk full"), nil} {
		_, ended := tr.StatusChange(t.Context())
		ended(7, err)
	}
	tr.Close(log)
	if len(s.got) != 2 || !s.got[0].failed || s.got[1].failed || s.got[0].attributes["agentevents.sequence"] != "" {
		t.Errorf("the collector has got %+v", s.got)
	}
}

// waitForDelivery waits until a delivery of client 12 has finished, and returns it.
func (p *program) waitForDelivery(id int) (d gen.DeliveryDetail) {
	p.Helper()
	ticker := time.NewTicker(10 * time.Millisecond)
	defer ticker.Stop()
	for d.Delivery.FinishedAt == nil {
		<-ticker.C
		p.getJSON("/client/12/delivery/"+strconv.Itoa(id), &d)
	}
	return d
}

func (p *program) getJSON(path string, into any) {
	p.Helper()
	if err := json.Unmarshal([]byte(p.get(p.url+contract.BasePath+path)), into); err != nil {
		p.Fatal(err)
	}
}

// The delivery log has the traceparent of each attempt and of the last request.
func TestDeliveryLogHasTraceparents(t *testing.T) {
	collect(t)
	r := newTraceReceiver(t, http.StatusServiceUnavailable)
	p := startTraced(t, pgtest.URL(t), r)
	p.putStatusTraced("/client/12/agent/local/1/status", available)
	received := []string{<-r.traceparents}
	r.setStatus(http.StatusOK)
	d := p.waitForDelivery(1)
	for len(r.traceparents) > 0 {
		received = append(received, <-r.traceparents)
	}
	var logged []string
	for _, a := range d.Attempts {
		logged = append(logged, a.Traceparent)
	}
	last := received[len(received)-1]
	if !slices.Equal(logged, received) || len(received) < 2 || d.Delivery.LastAttempt.Traceparent != last {
		t.Errorf("the receiver got %q, the attempts are %q, the last one %q", received, logged,
			d.Delivery.LastAttempt.Traceparent)
	}
	if d.Request.Headers["traceparent"] != last || !strings.Contains(d.Request.Curl, "traceparent: "+last) {
		t.Errorf("the receiver got %q, the log has %+v", last, d.Request)
	}
	p.post("/client/12/delivery/1/redeliver", "")
	redelivered := p.waitForDelivery(1)
	if header := <-r.traceparents; redelivered.Request.Headers["traceparent"] != header ||
		redelivered.Request.Headers["agentevents-replay"] != "true" {
		t.Errorf("the redelivery had %q, the log has %+v", header, redelivered.Request)
	}
	p.stop()
	p.waitForExit(time.Minute)
}

// A test delivery is an attempt within the trace of its request.
func TestTraceOfATestDelivery(t *testing.T) {
	s, r := collect(t), newTraceReceiver(t, http.StatusOK)
	p := startTraced(t, pgtest.URL(t), r)
	request,
		err := http.NewRequestWithContext(t.Context(), http.MethodPost, p.url+contract.BasePath+
		"/client/12/agent/local/1/event/1/test", nil)
	if err != nil {
		t.Fatal(err)
	}
	request.Header.Set("traceparent", clientSpan.traceparent())
	p.send(request)
	header := <-r.traceparents
	var tests []gen.EventTestResult
	p.getJSON("/client/12/agent/local/1/event/1/test", &tests)
	p.stop()
	p.waitForExit(time.Minute)
	attempt := s.onlyChildOf(s.onlyChildOf(clientSpan, "testLocalAgentEvent"), "attempt")
	if header != attempt.traceparent() || attempt.attributes["agentevents.test"] != "true" {
		t.Errorf("the receiver got %q, the attempt is %+v", header, attempt)
	}
	if len(tests) != 1 || tests[0].Request.Headers["traceparent"] != header || tests[0].Attempt.Traceparent != header {
		t.Errorf("the receiver got %q, the tests are %+v", header, tests)
	}
}

// The server rejects invalid headers for the collector. The error does not contain them: they may include a token.
func TestServeRejectsInvalidTraceHeaders(t *testing.T) {
	t.Setenv(otlpEndpoint, "http://127.0.0.1:1")
	for _, wrong := range []string{"Bearer secret", "=secret", "authorization=secret%zz", "a=b,secret"} {
		for _, name := range otlpHeaders {
			t.Setenv(name, wrong)
			code, _, stderr := runCommand(t, []string{"AGENTEVENTS_DATABASE_URL=" + pgtest.URL(t)}, "serve")
			if code != exitFailed || !strings.Contains(stderr, name+" must be NAME=VALUE") ||
				strings.Contains(stderr, "secret") {
				t.Errorf("%s=%s: exit code %d, %s", name, wrong, code, stderr)
			}
			t.Setenv(name, "")
		}
	}
}
