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

const testEventPath = "/client/12/agent/local/136/event/1/test"

// newLiveServerWithEvent is a site with an event of a URL that its API might refuse.
func newLiveServerWithEvent(t *testing.T, url string) *liveServer {
	t.Helper()
	ls := newLiveServer(t).withAgents()
	_, err := ls.store.CreateEvent(t.Context(), store.AgentKey{Client: "12", Type: gen.AgentTypeLocal, ID: 136},
		gen.AgentEventCreate{URL: url, Method: gen.RequestMethodGET, EventType: gen.EventTypeAgentLogin})
	if err != nil {
		t.Fatal(err)
	}
	return ls
}

func (ls *liveServer) sendTest() (m gen.EventTestResult) {
	ls.Helper()
	g := ls.call("POST", testEventPath, "")
	if err := json.Unmarshal([]byte(g.body), &m); err != nil || g.status != http.StatusOK {
		ls.Fatalf("%d %s", g.status, g.body)
	}
	return m
}

// A test goes through the same guard as deliveries: what may not be reached is told, and nothing of it is reached.
func TestContractTestDeliveryToForbiddenURL(t *testing.T) {
	t.Parallel()
	for url, want := range map[string]string{
		"http://10.0.0.1/x":              "the address 10.0.0.1 is not one that receivers may live at",
		"http://169.254.169.254/latest":  "the address 169.254.169.254 is not one that receivers may live at",
		"http://[::ffff:192.168.0.1]/":   "is not one that receivers may live at",
		"ftp://example.com/":             "http or https",
		"http://u:secret@10.0.0.1/?k=v1": "the address 10.0.0.1 is not one that receivers may live at",
	} {
		ls := newLiveServerWithEvent(t, url)
		m := ls.sendTest()
		if !strings.Contains(m.Attempt.Error, want) || m.Attempt.Status != 0 || m.Attempt.Verdict != "failed" {
			t.Errorf("the test of %s: %+v, want %s", url, m.Attempt, want)
		}
		if m.Request.Curl == "" || m.Request.URL == "" {
			t.Errorf("the test of %s shows %+v", url, m.Request)
		}
		var list []gen.EventTestResult
		if err := json.Unmarshal([]byte(ls.call("GET", testEventPath, "").body), &list); err != nil {
			t.Fatal(err)
		}
		if diff := cmp.Diff([]gen.EventTestResult{m}, list, ignoreChangedAt); diff != "" {
			t.Errorf("the list (-want +got):\n%s", diff)
		}
	}
}

// ignoreChangedAt leaves the time aside that a sample says that it happened at.
var ignoreChangedAt = cmp.FilterPath(func(p cmp.Path) bool {
	return slices.ContainsFunc(p, func(s cmp.PathStep) bool { return s.String() == ".Curl" || s.String() == `["agentevents-changed-at"]` })
}, cmp.Ignore())

// A receiver that cannot be reached is told of.
func TestContractTestDeliveryToClosedPort(t *testing.T) {
	t.Parallel()
	gone := httptest.NewServer(http.NotFoundHandler())
	gone.Close()
	m := newLiveServerWithEvent(t, gone.URL).sendTest()
	if !strings.Contains(m.Attempt.Error, "refused") || m.Attempt.Verdict != "retry" || m.Attempt.Status != 0 {
		t.Errorf("the test: %+v", m.Attempt)
	}
}

// Only so many tests of a client are under way at a time: one more is told to come again, and may when one of them is done.
func TestContractTestDeliveryLimit(t *testing.T) {
	t.Parallel()
	reached, release := make(chan struct{}), make(chan struct{})
	receiver := httptest.NewServer(http.HandlerFunc(func(http.ResponseWriter, *http.Request) {
		reached <- struct{}{}
		<-release
	}))
	defer receiver.Close()
	ls := newLiveServerWithEvent(t, receiver.URL)
	var tests sync.WaitGroup
	for range auth.MaxTestsPerClient {
		tests.Go(func() { ls.expect(ls.call("POST", testEventPath, ""), http.StatusOK, "") })
		<-reached
	}
	refused := ls.call("POST", testEventPath, "")
	ls.expect(refused, http.StatusTooManyRequests, `{"message":"too many tests are under way, try again","status":"too_many_tests"}`)
	if refused.header.Get("Retry-After") == "" {
		t.Error("it does not say when")
	}
	close(release)
	tests.Wait()
	go func() { <-reached }()
	ls.sendTest()
}

// A test is stored although nobody waits for its answer any more.
func TestContractTestDeliveryOfClosedConnection(t *testing.T) {
	t.Parallel()
	reached, release := make(chan struct{}), make(chan struct{})
	receiver := httptest.NewServer(http.HandlerFunc(func(http.ResponseWriter, *http.Request) {
		close(reached)
		<-release
	}))
	defer receiver.Close()
	ls := newLiveServerWithEvent(t, receiver.URL)
	givenUp := make(chan error)
	go func() {
		resp, err := ls.Client().Post(ls.URL+contract.BasePath+testEventPath, "", nil)
		if err == nil {
			_ = resp.Body.Close()
		}
		givenUp <- err
	}()
	<-reached
	ls.CloseClientConnections()
	if err := <-givenUp; err == nil {
		t.Error("there is an answer")
	}
	close(release)
	ls.Close() // waits for what the handler is at
	tests, err := ls.store.Samples(t.Context(), store.AgentKey{Client: "12", Type: gen.AgentTypeLocal, ID: 136}, 1)
	if err != nil || len(tests) != 1 || tests[0].Attempt.Status != http.StatusOK {
		t.Errorf("stored are %+v, %v", tests, err)
	}
}
