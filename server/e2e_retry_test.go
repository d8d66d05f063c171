package main_test

import (
	"net/http"
	"net/http/httptest"
	"sync/atomic"
	"testing"
	"time"

	"github.com/agentevents/agentevents/gen"
)

// The schedule is what the configuration says: by default the second attempt comes after 4 s at the earliest.
func testRetrySchedule(t *testing.T, bin programs) {
	p := bin.serve(t, newStore(t), "AGENTEVENTS_RETRY_SCHEDULE=100ms,200ms", "AGENTEVENTS_RETRY_JITTER=0%")
	a := newAPI(t, p)
	a.putClient()
	a.putAgent(gen.AgentTypeLocal, 1, "x")
	var n atomic.Int64
	arrived := make(chan time.Time, 10)
	r := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, req *http.Request) {
		arrived <- time.Now()
		if n.Add(1) < 4 {
			w.WriteHeader(http.StatusInternalServerError)
		}
	}))
	defer r.Close()
	a.register(gen.AgentTypeLocal, 1, r.URL, gen.RequestMethodPOST, gen.EventTypeAgentLogin)
	a.set(gen.AgentTypeLocal, 1, gen.AgentStatusUpdate{AgentStatus: gen.AgentStatusValueAvailable})
	last := <-arrived
	for _, least := range []time.Duration{100, 200, 200} {
		at := <-arrived
		if gap := at.Sub(last); gap < (least-5)*time.Millisecond || gap > 4*time.Second {
			t.Errorf("the next attempt came after %v, want %v", gap, least*time.Millisecond)
		}
		last = at
	}
	equal(t, "exit code", p.stop(t), 0)
	equal(t, "attempts", n.Load(), 4)
}
