package api

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"testing"
	"time"

	"github.com/agentevents/agentevents/gen"
	"github.com/agentevents/agentevents/server/internal/servertest"
)

// The test counts waiting polls by the stacks of their goroutines. It is not parallel: polls of other tests would count
// as well.
func TestContractPollsEnd(t *testing.T) {
	ts := newTestServer(t)
	ts.withEvents()
	for _, poll := range []struct {
		name string
		test func(*testServer)
	}{
		{"a change ends a poll", (*testServer).pollEndsByChange},
		{"one change ends many polls", (*testServer).pollsEndByOneChange},
		{"a change of another client does not end a poll", (*testServer).pollIgnoresOtherClients},
		{"a poll ends after its wait", (*testServer).pollTimesOut},
		{"the deletion of the client ends a poll", (*testServer).pollEndsByDeletion},
		{"a closed connection ends a poll", (*testServer).pollEndsByClosedConnection},
		{"a poll starts at the newest change", (*testServer).pollFromNewest},
		{"a stop ends polls", (*testServer).pollsEndByStop}, // last
	} {
		t.Run(poll.name, func(t *testing.T) { ts.runIn(t, func() { poll.test(ts) }) })
	}
}

// pollResult is the answer to a poll.
type pollResult struct {
	*apiResponse
	took time.Duration
	err  error
}

// startPoll sends a poll, and waits until the poll waits.
func (ts *testServer) startPoll(query string) <-chan pollResult {
	ts.Helper()
	before, ended := servertest.WaitingPolls(), make(chan pollResult, 1)
	go func() {
		began := time.Now()
		resp, err := ts.do(scenario{request: "GET /client/12/status_change/" + query})
		ended <- pollResult{resp, time.Since(began), err}
	}()
	servertest.AwaitPolls(ts, before+1)
	return ended
}

// wantPoll checks the answer to a poll.
func (ts *testServer) wantPoll(poll <-chan pollResult, status int, sequences ...int64) pollResult {
	ts.Helper()
	a := <-poll
	ts.must(a.err)
	ts.must(ts.check(a.apiResponse))
	var got []int64
	if a.status == http.StatusOK {
		var page []gen.StatusChange
		ts.must(json.Unmarshal(a.body, &page))
		for _, c := range page {
			got = append(got, c.Sequence)
		}
	}
	if a.status != status || fmt.Sprint(got) != fmt.Sprint(sequences) {
		ts.Errorf("%d %s, want %d and the changes %v", a.status, a.body, status, sequences)
	}
	if a.took > 25*time.Second { // polls must end before their 30 seconds
		ts.Errorf("the poll took %v", a.took)
	}
	return a
}

func (ts *testServer) pollEndsByChange() {
	poll := ts.startPoll("?wait=30")
	ts.client("12").local(136).login()
	a := ts.wantPoll(poll, 200, 1)
	if link := a.header.Get("Link"); link != `</api/ver1.0/client/12/status_change/?after=1&epoch=`+testEpoch+
		`&wait=30>; rel="next"` {
		ts.Errorf("Link is %s", link)
	}
	poll = ts.startPoll("?after=1&wait=30")
	ts.put("/client/12/status/", `[{"agent_type":"local","agent_id":136,"agent_status":"logged_out"},`+
		`{"agent_type":"remote","agent_id":7,"agent_status":"available"}]`)
	ts.wantPoll(poll, 200, 2, 3)
	poll = ts.startPoll("?after=3&wait=30")
	ts.delete("/client/12/agent/remote/7") // logs it out
	ts.wantPoll(poll, 200, 4)
}

func (ts *testServer) pollsEndByOneChange() {
	var polls []<-chan pollResult
	for range 10 {
		polls = append(polls, ts.startPoll("?after=4&wait=30"))
	}
	ts.client("12").local(136).login()
	for _, poll := range polls {
		ts.wantPoll(poll, 200, 5)
	}
}

func (ts *testServer) pollIgnoresOtherClients() {
	poll := ts.startPoll("?after=5&wait=30")
	ts.client("13").local(136).login()
	ts.client("12").local(136).login() // no change
	ts.client("12").local(136).logout()
	ts.wantPoll(poll, 200, 7)
}

func (ts *testServer) pollTimesOut() {
	a := ts.wantPoll(ts.startPoll("?after=7&wait=1"), 200)
	want := `</api/ver1.0/client/12/status_change/?after=7&epoch=` + testEpoch + `&wait=1>; rel="next"`
	if link := a.header.Get("Link"); a.took < time.Second || link != want {
		ts.Errorf("the poll took %v, Link is %s", a.took, link)
	}
}

func (ts *testServer) pollEndsByDeletion() {
	poll := ts.startPoll("?after=7&wait=30")
	ts.delete("/client/12")
	ts.wantPoll(poll, 404)
	ts.client("12").local(136).login()
}

// pollEndsByClosedConnection checks that the poll's goroutine ends.
func (ts *testServer) pollEndsByClosedConnection() {
	ctx, cancel := context.WithCancel(ts.Context())
	r,
		err := http.NewRequestWithContext(ctx, http.MethodGet, ts.server.URL+ts.base+
		"/client/12/status_change/?after=8&wait=30", nil)
	ts.must(err)
	r.Header.Set("Authorization", "Bearer "+operatorToken.token)
	ended := make(chan error)
	go func() {
		_, err := ts.server.Client().Do(r)
		ended <- err
	}()
	servertest.AwaitPolls(ts, 1)
	cancel()
	if err := <-ended; !errors.Is(err, context.Canceled) {
		ts.Errorf("the request ended with %v", err)
	}
	servertest.AwaitPolls(ts, 0)
}

// pollFromNewest checks that start=newest waits for the next change, and that its link follows that change.
func (ts *testServer) pollFromNewest() {
	poll := ts.startPoll("?start=newest&wait=30")
	ts.client("12").local(136).logout()
	a := ts.wantPoll(poll, 200, 9)
	want := `</api/ver1.0/client/12/status_change/?after=9&epoch=` + testEpoch + `&wait=30>; rel="next"`
	if link := a.header.Get("Link"); link != want {
		ts.Errorf("Link is %s, want %s", link, want)
	}
}

func (ts *testServer) pollsEndByStop() {
	first, second := ts.startPoll("?start=newest&wait=30"), ts.startPoll("?after=9&wait=30")
	close(ts.stopping)
	ts.wantPoll(first, 200)
	ts.wantPoll(second, 200)
}
