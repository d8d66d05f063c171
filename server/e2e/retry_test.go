package e2e

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

// What waits for a receiver that was repaired goes out at once when it is asked for, and is no replay.
func testSendNow(t *testing.T, bin programs) {
	r := newReceiver(t)
	down := atomic.Bool{}
	down.Store(true)
	site := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, req *http.Request) {
		r.ServeHTTP(w, req)
		if down.Load() {
			w.WriteHeader(http.StatusInternalServerError)
		}
	}))
	defer site.Close()
	r.url = site.URL
	p := bin.serve(t, newStore(t), "AGENTEVENTS_RETRY_SCHEDULE=1h")
	a := newAPI(t, p)
	a.putClient()
	a.login(r, 1, 2, 3)
	r.wait(t, 3)
	for id := range int64(3) {
		eventually(t, "the attempt is recorded", func() bool { return a.delivery(id+1).Delivery.Attempts == 1 })
	}
	down.Store(false)
	a.redeliver(1, http.StatusAccepted)
	r.wait(t, 4)
	a.finished(a.redeliverAll(gen.ReplayFilter{State: gen.ReplayFilterState(gen.DeliveryStatePending)}).ID)
	r.wait(t, 6)
	for id := range int64(3) {
		d := a.ended(id + 1).Delivery
		equal(t, "state", d.State, gen.DeliveryStateDelivered)
		equal(t, "replays", d.Replays, 0)
		equal(t, "attempts", d.Attempts, 2)
	}
	equal(t, "exit code", p.stop(t), 0)
}

// What a receiver answers while it is deployed is tried again, within its time.
func testDeployment(t *testing.T, bin programs) {
	var n atomic.Int64
	r := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		w.WriteHeader([]int{404, 401, 302, 405, 200}[min(n.Add(1), 5)-1])
	}))
	defer r.Close()
	for _, test := range []struct {
		window string
		state  gen.DeliveryState
		made   int
	}{{"1m", gen.DeliveryStateDelivered, 5}, {"0s", gen.DeliveryStateFailed, 1}} {
		n.Store(0)
		p := bin.serve(t, newStore(t), "AGENTEVENTS_RETRY_SCHEDULE=100ms", "AGENTEVENTS_DEPLOY_WINDOW="+test.window)
		a := newAPI(t, p)
		a.putClient()
		a.putAgent(gen.AgentTypeLocal, 1, "x")
		a.register(gen.AgentTypeLocal, 1, r.URL, gen.RequestMethodPOST, gen.EventTypeAgentLogin)
		a.set(gen.AgentTypeLocal, 1, gen.AgentStatusUpdate{AgentStatus: gen.AgentStatusValueAvailable})
		d := a.ended(1).Delivery
		equal(t, "state", d.State, test.state)
		equal(t, "attempts", d.Attempts, test.made)
		equal(t, "exit code", p.stop(t), 0)
	}
}
