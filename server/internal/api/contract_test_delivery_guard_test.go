package api

import (
	"encoding/json"
	"fmt"
	"net/http"
	"net/http/httptest"
	"slices"
	"strings"
	"sync"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/agentevents/agentevents/gen"
	"github.com/agentevents/agentevents/server/internal/contract"
	"github.com/agentevents/agentevents/store"
)

const testEventPath = "/client/12/agent/local/136/event/1/test"

// newLiveServerWithEvent returns a server with an event whose URL the API might refuse.
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

// The guard of deliveries also guards test deliveries: the answer reports the forbidden URL, and no request is sent. It
// does not have the address. The log has it.
func TestContractTestDeliveryToForbiddenURLFails(t *testing.T) {
	t.Parallel()
	for url, want := range map[string]string{
		"http://10.0.0.1/x":              "the receiver's address is not allowed",
		"http://169.254.169.254/latest":  "the receiver's address is not allowed",
		"http://[::ffff:192.168.0.1]/":   "the receiver's address is not allowed",
		"ftp://example.com/":             "http or https",
		"http://u:secret@10.0.0.1/?k=v1": "the receiver's address is not allowed",
	} {
		ls := newLiveServerWithEvent(t, url)
		m := ls.sendTest()
		if !strings.Contains(m.Attempt.Error, want) || m.Attempt.Status != 0 || m.Attempt.Verdict != "failed" {
			t.Errorf("the test of %s: %+v, want %s", url, m.Attempt, want)
		}
		if strings.Contains(m.Attempt.Error, "0.") {
			t.Errorf("the test of %s shows the address: %s", url, m.Attempt.Error)
		}
		if log := ls.log.String(); url[:4] == "http" && !strings.Contains(log, "is not public") {
			t.Errorf("the log of the test of %s has no detail:\n%s", url, log)
		}
		if m.Request.Curl == "" || m.Request.URL == "" {
			t.Errorf("the test of %s has the request %+v", url, m.Request)
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

// ignoreChangedAt ignores the header agentevents-changed-at.
var ignoreChangedAt = cmp.FilterPath(func(p cmp.Path) bool {
	return slices.ContainsFunc(p,
		func(s cmp.PathStep) bool { return s.String() == ".Curl" || s.String() == `["agentevents-changed-at"]` })
}, cmp.Ignore())

// The answer reports that the receiver is unreachable.
func TestContractTestDeliveryReportsClosedPort(t *testing.T) {
	t.Parallel()
	closed := httptest.NewServer(http.NotFoundHandler())
	closed.Close()
	m := newLiveServerWithEvent(t, closed.URL).sendTest()
	if !strings.Contains(m.Attempt.Error, "refused") || m.Attempt.Verdict != "retry" || m.Attempt.Status != 0 {
		t.Errorf("the test: %+v", m.Attempt)
	}
}

// A test delivery above a client's limit gets 429 until another one has finished. It counts for the hour.
func TestContractTestDeliveriesAreLimited(t *testing.T) {
	t.Parallel()
	reached, release := make(chan struct{}), make(chan struct{})
	receiver := httptest.NewServer(http.HandlerFunc(func(http.ResponseWriter, *http.Request) {
		reached <- struct{}{}
		<-release
	}))
	defer receiver.Close()
	ls := newLiveServerWithEvent(t, receiver.URL)
	var tests sync.WaitGroup
	for range maxTestDeliveriesPerClient {
		tests.Go(func() { ls.expect(ls.call("POST", testEventPath, ""), http.StatusOK, "") })
		<-reached
	}
	refused := ls.callAs(ls.clientToken("12", gen.AccessLevelAll), "POST", testEventPath, "")
	ls.expect(refused, http.StatusTooManyRequests, `{"message":"too many test deliveries are in progress; try again",`+
		`"status":"too_many_tests"}`)
	if refused.header.Get("Retry-After") == "" {
		t.Error("there is no Retry-After")
	}
	if left := refused.header.Get("X-RateLimit-Remaining"); left != "99999" {
		t.Errorf("%s requests are left", left)
	}
	close(release)
	tests.Wait()
	go func() { <-reached }()
	ls.sendTest()
}

// If other clients take all places with tests that hang, a client's test is sent nevertheless. The test that it evicts
// is answered 429.
func TestContractTestDeliveryOfQuietClient(t *testing.T) {
	t.Parallel()
	reached := make(chan struct{}, maxTestDeliveries)
	receiver := httptest.NewServer(http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) {
		if r.URL.Path == "/hang" {
			reached <- struct{}{}
			<-r.Context().Done()
		}
	}))
	defer receiver.Close()
	ls := newLiveServerWithEvent(t, receiver.URL+"/hang")
	evicted := make(chan liveResponse, 1)
	go func() { evicted <- ls.call("POST", testEventPath, "") }()
	<-reached
	for i := range maxTestDeliveries - 1 {
		if _, ok := ls.tests.acquire(fmt.Sprint("other", i), func() {}); !ok {
			t.Fatal("there is no room")
		}
	}
	ls.expect(ls.call("PUT", "/client/13", `{}`), http.StatusCreated, "")
	ls.expect(ls.call("PUT", "/client/13/agent/local/1", `{"extension_name":"a"}`), http.StatusCreated, "")
	event, err := ls.store.CreateEvent(t.Context(), store.AgentKey{Client: "13", Type: gen.AgentTypeLocal, ID: 1},
		gen.AgentEventCreate{URL: receiver.URL, Method: gen.RequestMethodGET, EventType: gen.EventTypeAgentLogin})
	if err != nil {
		t.Fatal(err)
	}
	ls.expect(ls.call("POST", fmt.Sprintf("/client/13/agent/local/1/event/%d/test", event.ID), ""), http.StatusOK, "")
	ls.expect(<-evicted, http.StatusTooManyRequests, "")
}

// A test delivery is stored even if the client closes the connection.
func TestContractTestDeliveryOutlivesTheConnection(t *testing.T) {
	t.Parallel()
	reached, release := make(chan struct{}), make(chan struct{})
	receiver := httptest.NewServer(http.HandlerFunc(func(http.ResponseWriter, *http.Request) {
		close(reached)
		<-release
	}))
	defer receiver.Close()
	ls := newLiveServerWithEvent(t, receiver.URL)
	answered := make(chan error)
	go func() {
		resp, err := ls.Client().Post(ls.URL+contract.BasePath+testEventPath, "", nil)
		if err == nil {
			_ = resp.Body.Close()
		}
		answered <- err
	}()
	<-reached
	ls.CloseClientConnections()
	if err := <-answered; err == nil {
		t.Error("the request was answered")
	}
	close(release)
	ls.Close() // waits for the handler
	agent := store.AgentKey{Client: "12", Type: gen.AgentTypeLocal, ID: 136}
	tests, err := ls.store.TestDeliveries(t.Context(), agent, 1)
	if err != nil || len(tests) != 1 || tests[0].Attempt.Status != http.StatusOK {
		t.Errorf("the store has %+v, %v", tests, err)
	}
}
