package e2e

import (
	"net/http"
	"testing"
	"time"

	"github.com/agentevents/agentevents/gen"
	"github.com/agentevents/agentevents/server/lab"
)

// inTurn answers each request with the next status, and all further ones with the last.
func inTurn(statuses ...int) func(*lab.Arrival) lab.Reply {
	n := 0 // a receiver calls it for one request at a time
	return func(*lab.Arrival) lab.Reply {
		n = min(n+1, len(statuses))
		return lab.Reply{Status: statuses[n-1]}
	}
}

// Retries follow the configured schedule. By default, the second attempt would be at least 4 s after the first.
func TestRetriesFollowTheSchedule(t *testing.T) {
	t.Parallel()
	p := serve(t, newStore(t), "AGENTEVENTS_RETRY_SCHEDULE=100ms,200ms", "AGENTEVENTS_RETRY_JITTER=0%")
	a := newAPI(t, p)
	a.putClient()
	a.putAgent(gen.AgentTypeLocal, 1, "x")
	r := newScriptedReceiver(t, inTurn(500, 500, 500, 200))
	a.createEvent(gen.AgentTypeLocal, 1, r.URL, gen.RequestMethodPOST, gen.EventTypeAgentLogin)
	a.set(gen.AgentTypeLocal, 1, gen.AgentStatusUpdate{AgentStatus: gen.AgentStatusValueAvailable})
	attempts := r.wait(t, 4)
	for i, least := range []time.Duration{100, 200, 200} {
		if gap := attempts[i+1].At.Sub(attempts[i].At); gap < (least-5)*time.Millisecond || gap > 4*time.Second {
			t.Errorf("the next attempt was after %v, want %v", gap, least*time.Millisecond)
		}
	}
	equal(t, "exit code", p.stop(t), 0)
	equal(t, "attempts", len(r.arrivals()), 4)
}

// The redelivery of a pending delivery sends it immediately, and does not count as a replay.
func TestRedeliverySendsPendingDeliveriesImmediately(t *testing.T) {
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
	a.awaitReplay(a.redeliverAll(gen.ReplayFilter{State: gen.ReplayFilterState(gen.DeliveryStatePending)}).ID)
	r.wait(t, 6)
	for id := range int64(3) {
		d := a.awaitFinished(id + 1).Delivery
		equal(t, "state", d.State, gen.DeliveryStateDelivered)
		equal(t, "replays", d.Replays, 0)
		equal(t, "attempts", d.Attempts, 2)
	}
	equal(t, "exit code", p.stop(t), 0)
}

// Within the deploy window, deliveries that a receiver answers with 3xx, 401, 404 or 405 are retried.
func TestDeployWindowRetriesRefusedDeliveries(t *testing.T) {
	t.Parallel()
	for _, test := range []struct {
		window   string
		state    gen.DeliveryState
		attempts int
	}{{"1m", gen.DeliveryStateDelivered, 5}, {"0s", gen.DeliveryStateFailed, 1}} {
		r := newScriptedReceiver(t, inTurn(404, 401, 302, 405, 200))
		p := serve(t, newStore(t), "AGENTEVENTS_RETRY_SCHEDULE=100ms", "AGENTEVENTS_DEPLOY_WINDOW="+test.window)
		a := newAPI(t, p)
		a.putClient()
		a.putAgent(gen.AgentTypeLocal, 1, "x")
		a.createEvent(gen.AgentTypeLocal, 1, r.URL, gen.RequestMethodPOST, gen.EventTypeAgentLogin)
		a.set(gen.AgentTypeLocal, 1, gen.AgentStatusUpdate{AgentStatus: gen.AgentStatusValueAvailable})
		d := a.awaitFinished(1).Delivery
		equal(t, "state", d.State, test.state)
		equal(t, "attempts", d.Attempts, test.attempts)
		equal(t, "exit code", p.stop(t), 0)
	}
}
