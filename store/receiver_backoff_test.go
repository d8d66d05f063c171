package store_test

import (
	"testing"
	"time"

	"github.com/agentevents/agentevents/gen"
	"github.com/agentevents/agentevents/store"
	"github.com/agentevents/agentevents/webhook"
)

// A redelivered pending delivery is due at once, after the earlier ones of its lane, and is no replay.
func TestRedeliveredPendingDeliveryIsDueAtOnce(t *testing.T) {
	f := open(t)
	k := f.agent()
	f.createEvents(k, crm, both...)
	f.login(k)
	first := f.claimOne()
	f.recordAnswer(first, answer(500))
	f.logout(k)
	f.claimNone()
	d := f.redeliver(2)
	if d.State != gen.DeliveryStatePending || d.Replays != 0 {
		t.Errorf("delivery: %+v", d)
	}
	again := f.claimOne()
	if again.ID != first.ID || again.WebhookID != first.WebhookID || again.Redelivery || again.Attempt != 2 {
		t.Errorf("sent: %+v", again)
	}
	next := f.recordAnswer(again, answer(200))
	if next == nil || next.ID != 2 || next.Redelivery {
		t.Fatalf("after it: %+v", next)
	}
	f.finish(*next)
	f.wantDrained()
}

// Its result counts.
func TestRedeliveredDeliveryInFlightStaysInFlight(t *testing.T) {
	f := open(t)
	k := f.agent()
	f.createEvents(k, crm, gen.EventTypeAgentLogin)
	f.login(k)
	d := f.claimOne()
	f.redeliver(d.ID)
	f.claimNone()
	f.recordAnswer(d, answer(500))
	f.claimNone()
	f.clock.add(time.Hour)
	f.finish(f.claimOne())
	f.wantDrained()
}

func TestRedeliveryEndsTheWaitButNotAPause(t *testing.T) {
	for _, test := range []struct {
		name string
		o    webhook.Outcome
		now  bool
	}{
		{"set by the schedule", answer(500), true},
		{"set by the receiver for the delivery", busy(503, time.Hour), true},
		{"set by the receiver for all deliveries", busy(429, time.Hour), false},
	} {
		t.Run(test.name, func(t *testing.T) {
			f := open(t)
			f.createLanes("12", 1, 1, crm)
			d := f.claimOne()
			f.recordAnswer(d, test.o)
			f.claimNone()
			f.redeliver(d.ID)
			if claimed := f.claim(); (len(claimed) == 1) != test.now {
				t.Errorf("claimed %+v, want it at once: %t", claimed, test.now)
			}
		})
	}
}

// A pause that the receiver asked for stays.
func TestRedeliveryMakesTheNextProbeDue(t *testing.T) {
	f := open(t)
	f.createLanes("12", 1, 9, crm)
	inFlight := f.claim()
	for _, d := range inFlight[:6] {
		f.recordAnswer(d, answer(500))
	}
	for _, d := range inFlight[6:8] {
		f.check(f.Release(f.ctx, d))
	}
	f.claimNone()
	f.redeliver(inFlight[6].ID)
	probe := f.claimOne()
	f.claimNone()
	f.redeliver(inFlight[6].ID) // while the probe is in flight
	f.claimNone()
	f.recordAnswer(probe, answer(500))
	f.recordAnswer(inFlight[8], busy(429, time.Minute))
	f.redeliver(inFlight[6].ID)
	f.probe(time.Minute, answer(200))
}

// Each pending delivery is counted once.
func TestReplayMakesPendingDeliveriesDue(t *testing.T) {
	f := open(t)
	f.createLanes("12", 1, 4, crm)
	k := store.AgentKey{Client: "12", Type: gen.AgentTypeLocal, ID: 1}
	for _, d := range f.claim() {
		f.recordAnswer(d, answer(408))
	}
	f.logout(k)
	f.claimNone()
	r, _, err := f.CreateReplay(f.ctx, "12", store.DeliveryFilter{State: gen.DeliveryStatePending})
	f.check(err)
	if r.Total != 5 {
		t.Errorf("the total is %d, want 5", r.Total)
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
		if d.Redelivery || d.Attempt != 2 {
			t.Errorf("sent: %+v", d)
		}
		for next := f.recordAnswer(d, answer(200)); next != nil; {
			next = f.recordAnswer(*next, answer(200))
		}
	}
	f.wantDrained()
}

// A failed test delivery says nothing about the receiver.
func TestSuccessfulTestDeliveryClosesTheBreaker(t *testing.T) {
	f := open(t)
	f.createLanes("12", 1, 7, crm)
	f.openBreaker()
	event := f.events()[0]
	test := func(url string, status int) {
		a := webhook.Attempt{StartedAt: f.clock.Now(), Status: status, Verdict: webhook.Judge(status, nil)}
		_, err := f.SaveTestDelivery(f.ctx, event, gen.AgentTypeLocal, webhook.Delivery{URL: url, WebhookID: "msg_1"},
			a)
		f.check(err)
	}
	test(crm, 404)
	test(board, 200) // the event's earlier receiver
	f.claimNone()
	test(crm, 200)
	if claimed := f.claim(); len(claimed) != 2 {
		t.Errorf("claimed %d after a successful test delivery, want the two lanes without an attempt", len(claimed))
	}
}

// events returns the ids of all events.
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

// The deploy window begins with the change, with a redelivery, and with the end of the receiver's last outage.
func TestDeployWindowBeginsWithTheChangeOrTheRecovery(t *testing.T) {
	const deploy = 15 * time.Minute
	f := open(t)
	f.DeployWindow = deploy
	f.createLanes("12", 1, 7, crm)
	left := func(d webhook.Delivery) time.Duration { return time.Until(d.DeployingUntil).Round(time.Minute) }
	first := f.claimOneLane()
	if got := left(first); got != deploy {
		t.Errorf("%s are left at the change, want %s", got, deploy)
	}
	f.clock.add(5 * time.Minute) // the lease has expired
	second := f.claimOneLane()
	if got := left(second); got != deploy-5*time.Minute {
		t.Errorf("%s are left after five minutes, want ten minutes", got)
	}
	f.check(f.Release(f.ctx, second))
	f.clock.add(time.Hour)
	for range 5 {
		f.recordAnswer(f.claimOneLane(), answer(500))
	}
	f.clock.add(5 * time.Second)
	probe := f.claimOneLane()
	if got := left(probe); got != deploy {
		t.Errorf("%s are left for the probe, want %s", got, deploy)
	}
	f.recordAnswer(probe, answer(404)) // the receiver is back
	if got := left(f.claimOneLane()); got != deploy {
		t.Errorf("%s are left when the receiver is back, want %s", got, deploy)
	}
}

func TestDeployWindowBeginsWithARedelivery(t *testing.T) {
	f := open(t)
	f.DeployWindow = 15 * time.Minute
	f.createLanes("12", 1, 1, crm)
	d := f.claimOne()
	f.recordAnswer(d, answer(400))
	f.clock.add(time.Hour)
	f.redeliver(d.ID)
	if got := time.Until(f.claimOne().DeployingUntil).Round(time.Minute); got != f.DeployWindow {
		t.Errorf("%s are left after the redelivery, want %s", got, f.DeployWindow)
	}
}
