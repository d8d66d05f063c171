package e2e

import (
	"net/http"
	"testing"
	"time"

	"github.com/agentevents/agentevents/gen"
	"github.com/agentevents/agentevents/server/lab"
)

// inTurn answers each request with the next status, and with the last one from then on.
func inTurn(statuses ...int) func(*lab.Arrival) lab.Reply {
	n := 0 // a receiver asks one request at a time
	return func(*lab.Arrival) lab.Reply {
		n = min(n+1, len(statuses))
		return lab.Reply{Status: statuses[n-1]}
	}
}

// The schedule is what the configuration says: by default the second attempt comes after 4 s at the earliest.
func TestRetrySchedule(t *testing.T) {
	t.Parallel()
	p := serve(t, newStore(t), "AGENTEVENTS_RETRY_SCHEDULE=100ms,200ms", "AGENTEVENTS_RETRY_JITTER=0%")
	a := newAPI(t, p)
	a.putClient()
	a.putAgent(gen.AgentTypeLocal, 1, "x")
	r := newScriptedReceiver(t, inTurn(500, 500, 500, 200))
	a.register(gen.AgentTypeLocal, 1, r.URL, gen.RequestMethodPOST, gen.EventTypeAgentLogin)
	a.set(gen.AgentTypeLocal, 1, gen.AgentStatusUpdate{AgentStatus: gen.AgentStatusValueAvailable})
	attempts := r.wait(t, 4)
	for i, least := range []time.Duration{100, 200, 200} {
		if gap := attempts[i+1].At.Sub(attempts[i].At); gap < (least-5)*time.Millisecond || gap > 4*time.Second {
			t.Errorf("the next attempt came after %v, want %v", gap, least*time.Millisecond)
		}
	}
	equal(t, "exit code", p.stop(t), 0)
	equal(t, "attempts", len(r.arrivals()), 4)
}

// What waits for a receiver that was repaired goes out at once when it is asked for, and is no replay.
func TestRedeliverPendingAtOnce(t *testing.T) {
	t.Parallel()
	r := newReceiver(t)
	r.answer(http.StatusInternalServerError)
	p := serve(t, newStore(t), "AGENTEVENTS_RETRY_SCHEDULE=1h")
	a := newAPI(t, p)
	a.putClient()
	a.login(r, 1, 2, 3)
	r.wait(t, 3)
	for id := range int64(3) {
		eventually(t, "the attempt is recorded", func() bool { return a.delivery(id+1).Delivery.Attempts == 1 })
	}
	r.answer(http.StatusOK)
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
func TestDeployWindow(t *testing.T) {
	t.Parallel()
	for _, test := range []struct {
		window string
		state  gen.DeliveryState
		made   int
	}{{"1m", gen.DeliveryStateDelivered, 5}, {"0s", gen.DeliveryStateFailed, 1}} {
		r := newScriptedReceiver(t, inTurn(404, 401, 302, 405, 200))
		p := serve(t, newStore(t), "AGENTEVENTS_RETRY_SCHEDULE=100ms", "AGENTEVENTS_DEPLOY_WINDOW="+test.window)
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
