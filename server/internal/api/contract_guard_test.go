package api

import (
	"encoding/json"
	"net/http"
	"net/http/httptest"
	"slices"
	"strings"
	"sync"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/agentevents/agentevents/gen"
	"github.com/agentevents/agentevents/server/internal/auth"
	"github.com/agentevents/agentevents/server/internal/contract"
	"github.com/agentevents/agentevents/store"
)

const sampleEvent = "/client/12/agent/local/136/event/1/test"

// sampled is a site with an event of a URL that its API might refuse.
func sampled(t *testing.T, url string) *site {
	t.Helper()
	s := newSite(t).withAgents()
	_, err := s.store.CreateEvent(t.Context(), store.AgentKey{Client: "12", Type: gen.AgentTypeLocal, ID: 136},
		gen.AgentEventCreate{URL: url, Method: gen.RequestMethodGET, EventType: gen.EventTypeAgentLogin})
	if err != nil {
		t.Fatal(err)
	}
	return s
}

func (s *site) sample() (m gen.EventTestResult) {
	s.Helper()
	g := s.ask("POST", sampleEvent, "")
	if err := json.Unmarshal([]byte(g.body), &m); err != nil || g.status != http.StatusOK {
		s.Fatalf("%d %s", g.status, g.body)
	}
	return m
}

// A test goes through the same guard as deliveries: what may not be reached is told, and nothing of it is reached.
func TestContractSampleOfForbidden(t *testing.T) {
	t.Parallel()
	for url, want := range map[string]string{
		"http://10.0.0.1/x":              "the address 10.0.0.1 is not one that receivers may live at",
		"http://169.254.169.254/latest":  "the address 169.254.169.254 is not one that receivers may live at",
		"http://[::ffff:192.168.0.1]/":   "is not one that receivers may live at",
		"ftp://example.com/":             "http or https",
		"http://u:secret@10.0.0.1/?k=v1": "the address 10.0.0.1 is not one that receivers may live at",
	} {
		s := sampled(t, url)
		m := s.sample()
		if !strings.Contains(m.Attempt.Error, want) || m.Attempt.Status != 0 || m.Attempt.Verdict != "failed" {
			t.Errorf("the test of %s: %+v, want %s", url, m.Attempt, want)
		}
		if m.Request.Curl == "" || m.Request.URL == "" {
			t.Errorf("the test of %s shows %+v", url, m.Request)
		}
		var list []gen.EventTestResult
		if err := json.Unmarshal([]byte(s.ask("GET", sampleEvent, "").body), &list); err != nil {
			t.Fatal(err)
		}
		if diff := cmp.Diff([]gen.EventTestResult{m}, list, withoutChangedAt); diff != "" {
			t.Errorf("the list (-want +got):\n%s", diff)
		}
	}
}

// withoutChangedAt leaves the time aside that a sample says that it happened at.
var withoutChangedAt = cmp.FilterPath(func(p cmp.Path) bool {
	return slices.ContainsFunc(p, func(s cmp.PathStep) bool { return s.String() == ".Curl" || s.String() == `["agentevents-changed-at"]` })
}, cmp.Ignore())

// A receiver that cannot be reached is told of.
func TestContractSampleOfNobody(t *testing.T) {
	t.Parallel()
	gone := httptest.NewServer(http.NotFoundHandler())
	gone.Close()
	m := sampled(t, gone.URL).sample()
	if !strings.Contains(m.Attempt.Error, "refused") || m.Attempt.Verdict != "retry" || m.Attempt.Status != 0 {
		t.Errorf("the test: %+v", m.Attempt)
	}
}

// Only so many tests of a client are under way at a time: one more is told to come again, and may when one of them is done.
func TestContractManySamples(t *testing.T) {
	t.Parallel()
	reached, release := make(chan struct{}), make(chan struct{})
	receiver := httptest.NewServer(http.HandlerFunc(func(http.ResponseWriter, *http.Request) {
		reached <- struct{}{}
		<-release
	}))
	defer receiver.Close()
	s := sampled(t, receiver.URL)
	var tests sync.WaitGroup
	for range auth.MaxTestsPerClient {
		tests.Go(func() { s.expect(s.ask("POST", sampleEvent, ""), http.StatusOK, "") })
		<-reached
	}
	refused := s.ask("POST", sampleEvent, "")
	s.expect(refused, http.StatusTooManyRequests, `{"message":"too many tests are under way, try again","status":"too_many_tests"}`)
	if refused.header.Get("Retry-After") == "" {
		t.Error("it does not say when")
	}
	close(release)
	tests.Wait()
	go func() { <-reached }()
	s.sample()
}

// A test is stored although nobody waits for its answer any more.
func TestContractSampleGivenUp(t *testing.T) {
	t.Parallel()
	reached, release := make(chan struct{}), make(chan struct{})
	receiver := httptest.NewServer(http.HandlerFunc(func(http.ResponseWriter, *http.Request) {
		close(reached)
		<-release
	}))
	defer receiver.Close()
	s := sampled(t, receiver.URL)
	givenUp := make(chan error)
	go func() {
		resp, err := s.Client().Post(s.URL+contract.BasePath+sampleEvent, "", nil)
		if err == nil {
			_ = resp.Body.Close()
		}
		givenUp <- err
	}()
	<-reached
	s.CloseClientConnections()
	if err := <-givenUp; err == nil {
		t.Error("there is an answer")
	}
	close(release)
	s.Close() // waits for what the handler is at
	tests, err := s.store.Samples(t.Context(), store.AgentKey{Client: "12", Type: gen.AgentTypeLocal, ID: 136}, 1)
	if err != nil || len(tests) != 1 || tests[0].Attempt.Status != http.StatusOK {
		t.Errorf("stored are %+v, %v", tests, err)
	}
}
