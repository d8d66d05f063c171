package store_test

import (
	"testing"
	"time"

	"github.com/agentevents/agentevents/gen"
	"github.com/agentevents/agentevents/store"
	"github.com/agentevents/agentevents/webhook"
)

// What is pending goes at once when it is sent again, after what is before it, and is no replay.
func TestRedeliverPending(t *testing.T) {
	f := open(t)
	k := f.agent()
	f.register(k, crm, both...)
	f.login(k)
	first := f.claimOne()
	f.get(first, answer(500))
	f.logout(k)
	f.claimNone()
	d := f.redeliver(2)
	if d.State != gen.DeliveryStatePending || d.Replays != 0 {
		t.Errorf("delivery: %+v", d)
	}
	again := f.claimOne()
	if again.ID != first.ID || again.WebhookID != first.WebhookID || again.Replay || again.Attempt != 2 {
		t.Errorf("sent: %+v", again)
	}
	next := f.get(again, answer(200))
	if next == nil || next.ID != 2 || next.Replay {
		t.Fatalf("after it: %+v", next)
	}
	f.finish(*next)
	f.drained()
}

// One that is under way stays so, and what it comes to counts.
func TestRedeliverPendingInFlight(t *testing.T) {
	f := open(t)
	k := f.agent()
	f.register(k, crm, gen.EventTypeAgentLogin)
	f.login(k)
	d := f.claimOne()
	f.redeliver(d.ID)
	f.claimNone()
	f.get(d, answer(500))
	f.claimNone()
	f.clock.add(time.Hour)
	f.finish(f.claimOne())
	f.drained()
}

func TestRedeliverPendingOverAWait(t *testing.T) {
	for _, test := range []struct {
		name string
		o    webhook.Outcome
		now  bool
	}{
		{"that the schedule has set", answer(500), true},
		{"that the receiver has set for it", busy(503, time.Hour), true},
		{"that the receiver has set for all", busy(429, time.Hour), false},
	} {
		t.Run(test.name, func(t *testing.T) {
			f := open(t)
			f.lanes("12", 1, 1, crm)
			d := f.claimOne()
			f.get(d, test.o)
			f.claimNone()
			f.redeliver(d.ID)
			if claimed := f.claim(); (len(claimed) == 1) != test.now {
				t.Errorf("claimed %+v, want it at once: %t", claimed, test.now)
			}
		})
	}
}

// At an open breaker the next probe is now, but for a pause that the receiver has asked for.
func TestRedeliverPendingAtAnOpenBreaker(t *testing.T) {
	f := open(t)
	f.lanes("12", 1, 9, crm)
	flying := f.claim()
	for _, d := range flying[:6] {
		f.get(d, answer(500))
	}
	for _, d := range flying[6:8] {
		f.check(f.Release(f.ctx, d))
	}
	f.claimNone()
	f.redeliver(flying[6].ID)
	probe := f.claimOne()
	f.claimNone()
	f.redeliver(flying[6].ID) // while it is under way
	f.claimNone()
	f.get(probe, answer(500))
	f.get(flying[8], busy(429, time.Minute))
	f.redeliver(flying[6].ID)
	f.probe(time.Minute, answer(200))
}

// A replay of what is pending makes it due, and counts it once.
func TestReplayOfWhatIsPending(t *testing.T) {
	f := open(t)
	f.lanes("12", 1, 4, crm)
	k := store.AgentKey{Client: "12", Type: gen.AgentTypeLocal, ID: 1}
	for _, d := range f.claim() {
		f.get(d, answer(408))
	}
	f.logout(k)
	f.claimNone()
	r, err := f.CreateReplay(f.ctx, "12", store.DeliveryFilter{State: gen.DeliveryStatePending})
	f.check(err)
	if r.Total != 5 {
		t.Errorf("%d in all, want 5", r.Total)
	}
	f.work(func() bool {
		r, err = f.Replay(f.ctx, "12", r.ID)
		return err == nil && r.FinishedAt != nil
	})
	if r.Redelivered != 5 || r.Skipped != 0 || r.Filter.State != gen.ReplayFilterState(gen.DeliveryStatePending) {
		t.Errorf("replay: %+v", r)
	}
	claimed := f.claim()
	if len(claimed) != 4 {
		t.Fatalf("claimed %+v, want all four lanes", claimed)
	}
	for _, d := range claimed {
		if d.Replay || d.Attempt != 2 {
			t.Errorf("sent: %+v", d)
		}
		for next := f.get(d, answer(200)); next != nil; {
			next = f.get(*next, answer(200))
		}
	}
	f.drained()
}

// A test of an event that the receiver takes closes its breaker; one that it does not take says nothing.
func TestTestIsASignOfLife(t *testing.T) {
	f := open(t)
	f.lanes("12", 1, 7, crm)
	f.openBreaker()
	event := f.events()[0]
	test := func(url string, status int) {
		a := webhook.Attempt{StartedAt: f.clock.Now(), Status: status, Verdict: webhook.Judge(status, nil)}
		_, err := f.SaveTestDelivery(f.ctx, event, gen.AgentTypeLocal, webhook.Delivery{URL: url, WebhookID: "msg_1"},
			a)
		f.check(err)
	}
	test(crm, 404)
	test(board, 200) // where the event was before
	f.claimNone()
	test(crm, 200)
	if claimed := f.claim(); len(claimed) != 2 {
		t.Errorf("claimed %d after a test that succeeded, want the two lanes that were not tried", len(claimed))
	}
}

// events are the ids of all events.
func (f *fixture) events() (ids []int64) {
	f.t.Helper()
	db := f.db()
	defer db.Close()
	rows, err := db.Query("SELECT id FROM agent_events ORDER BY id")
	f.check(err)
	defer rows.Close()
	for rows.Next() {
		var id int64
		f.check(rows.Scan(&id))
		ids = append(ids, id)
	}
	f.check(rows.Err())
	return ids
}

// How long what a receiver answers while it is deployed is tried again: from the change on, from when it is sent
// again, and from when its receiver came back after an outage.
func TestDeployWindow(t *testing.T) {
	const deploy = 15 * time.Minute
	f := open(t)
	f.DeployWindow = deploy
	f.lanes("12", 1, 7, crm)
	left := func(d webhook.Delivery) time.Duration { return time.Until(d.DeployingUntil).Round(time.Minute) }
	first := f.oneLane()
	if got := left(first); got != deploy {
		t.Errorf("%s are left at the change, want %s", got, deploy)
	}
	f.clock.add(5 * time.Minute) // the lease is over
	second := f.oneLane()
	if got := left(second); got != deploy-5*time.Minute {
		t.Errorf("%s are left after five minutes, want ten minutes", got)
	}
	f.check(f.Release(f.ctx, second))
	f.clock.add(time.Hour)
	for range 5 {
		f.get(f.oneLane(), answer(500))
	}
	f.clock.add(5 * time.Second)
	probe := f.oneLane()
	if got := left(probe); got != deploy {
		t.Errorf("%s are left for the probe, want %s", got, deploy)
	}
	f.get(probe, answer(404)) // it is back
	if got := left(f.oneLane()); got != deploy {
		t.Errorf("%s are left when the receiver is back, want %s", got, deploy)
	}
}

func TestDeployWindowOfAReplay(t *testing.T) {
	f := open(t)
	f.DeployWindow = 15 * time.Minute
	f.lanes("12", 1, 1, crm)
	d := f.claimOne()
	f.get(d, answer(400))
	f.clock.add(time.Hour)
	f.redeliver(d.ID)
	if got := time.Until(f.claimOne().DeployingUntil).Round(time.Minute); got != f.DeployWindow {
		t.Errorf("%s are left when it is sent again, want %s", got, f.DeployWindow)
	}
}
