package store_test

import (
	"context"
	"errors"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/agentevents/agentevents/gen"
	"github.com/agentevents/agentevents/store"
	"github.com/agentevents/agentevents/store/pgtest"
	"github.com/agentevents/agentevents/webhook"
)

func (f *fixture) redeliver(id int64) gen.Delivery {
	f.t.Helper()
	d, err := f.Redeliver(f.ctx, "12", id)
	f.check(err)
	return d
}

// A redelivery keeps its webhook-id, is marked as a replay, has a new window, and takes its place by sequence number.
func TestRedeliveryKeepsIDAndOrder(t *testing.T) {
	f := open(t)
	k := f.agent()
	f.createEvents(k, crm, both...)
	f.login(k)
	first := f.claimOne()
	f.record(first, webhook.Failed, false)
	f.clock.add(25 * time.Hour)
	f.logout(k)
	f.login(k)
	if d := f.redeliver(first.ID); d.State != gen.DeliveryStatePending || d.Attempts != 0 || d.Replays != 1 ||
		d.FinishedAt != nil ||
		!d.ExpiresAt.Equal(f.clock.Now().Add(24*time.Hour)) {
		t.Errorf("delivery: %+v", d)
	}
	again := f.claimOne()
	if again.ID != first.ID || again.WebhookID != first.WebhookID || !again.Redelivery || first.Redelivery ||
		again.Attempt != 1 {
		t.Errorf("redelivered: %+v", again)
	}
	next := f.record(again, webhook.Delivered, true)
	if next == nil || next.Sequence != 2 || next.Redelivery {
		t.Fatalf("after it: %+v", next)
	}
	f.finish(*next)
	f.wantDrained()
	f.redeliver(first.ID) // once more
	if d := f.claimOne(); d.ID != first.ID {
		t.Errorf("sent: %+v", d)
	}
}

// Both attempts begin in the same millisecond.
func TestRedeliveryInTheSameMillisecondIsAnotherAttempt(t *testing.T) {
	f := open(t)
	k := f.agent()
	f.createEvents(k, crm, gen.EventTypeAgentLogin)
	f.login(k)
	for range 2 {
		d := f.claimOne()
		f.recordAnswer(d, answer(200))
		f.want(map[string]int{"delivered": 1})
		f.redeliver(d.ID)
	}
	f.finish(f.claimOne())
	f.wantDrained()
}

func TestResultFromBeforeARedeliveryDoesNotCount(t *testing.T) {
	for _, verdict := range []webhook.Verdict{webhook.Delivered, webhook.Failed, webhook.Gone, webhook.Retry} {
		t.Run(string(verdict), func(t *testing.T) {
			f := open(t)
			k := f.agent()
			event := f.createEvents(k, crm, gen.EventTypeAgentLogin)[0]
			f.login(k)
			before := f.claimOne()
			f.check(f.DeleteEvent(f.ctx, k, event)) // cancels the delivery in flight
			f.redeliver(before.ID)
			if next := f.record(before, verdict, true); next != nil {
				t.Errorf("the lane continues with %+v", next)
			}
			l, err := f.Delivery(f.ctx, "12", before.ID)
			f.check(err)
			if l.State != gen.DeliveryStatePending || l.Delivery.Attempts != 0 || len(l.Attempts) != 1 {
				t.Errorf("delivery: %+v with the attempts %+v", l.Delivery, l.Attempts)
			}
			again := f.claimOne()
			if again.ID != before.ID || !again.Redelivery || again.Attempt != 1 {
				t.Errorf("redelivered: %+v", again)
			}
			f.finish(again)
			f.wantDrained()
		})
	}
}

// The delivery was cancelled before it could move to another receiver.
func TestRedeliveryUsesTheLaneOfItsURL(t *testing.T) {
	f := open(t)
	k := f.agent()
	event := f.createEvents(k, crm, gen.EventTypeAgentLogin)[0]
	f.login(k)
	before := f.claimOne()
	f.redirect(k, event, board)
	f.check(f.DeleteEvent(f.ctx, k, event))
	f.redeliver(before.ID)
	f.verify()
	f.claimNone() // the earlier attempt is still in flight
	f.record(before, webhook.Failed, false)
	again := f.claimOne()
	if again.URL != board || again.Lane == before.Lane {
		t.Errorf("redelivered to %s in lane %d, before in lane %d", again.URL, again.Lane, before.Lane)
	}
	f.finish(again)
	f.wantDrained()
}

func TestRedeliveryFollowsItsEvent(t *testing.T) {
	for name, c := range map[string]struct {
		change func(f *fixture, k store.AgentKey, event int64)
		state  gen.DeliveryState
		url    string
	}{
		"unchanged": {func(*fixture, store.AgentKey, int64) {}, gen.DeliveryStatePending, crm},
		"moved": {func(f *fixture, k store.AgentKey, event int64) {
			f.redirect(k, event, board)
		}, gen.DeliveryStatePending, board},
		"deleted": {func(f *fixture, k store.AgentKey, event int64) {
			f.check(f.DeleteEvent(f.ctx, k, event))
		}, gen.DeliveryStatePending, crm},
		"disabled": {func(f *fixture, k store.AgentKey, event int64) {
			f.state(k, event, gen.AgentEventStateValueDisabled)
		}, gen.DeliveryStateParked, crm},
	} {
		t.Run(name, func(t *testing.T) {
			f := open(t)
			k := f.agent()
			event := f.createEvents(k, crm, gen.EventTypeAgentLogin)[0]
			f.login(k)
			f.record(f.claimOne(), webhook.Delivered, false)
			c.change(f, k, event)
			if d := f.redeliver(1); d.State != c.state || d.URL != c.url {
				t.Fatalf("delivery: %+v", d)
			}
			f.verify()
			if c.state == gen.DeliveryStateParked {
				f.claimNone()
				f.state(k, event, gen.AgentEventStateValueEnabled)
			}
			if d := f.claimOne(); d.URL != c.url {
				t.Errorf("sent to %s", d.URL)
			} else {
				f.finish(d)
			}
			f.wantDrained()
		})
	}
}

func TestRedeliveryOfAParkedOrMissingDeliveryIsRefused(t *testing.T) {
	f := openWithEverything(t)
	for id, want := range map[int64]string{
		6:    "delivery 6 is parked: it waits until its event is enabled, or fails when its time is over",
		4711: "there is no delivery 4711 of client 12",
	} {
		if _, err := f.Redeliver(f.ctx, "12", id); err == nil || err.Error() != want {
			t.Errorf("delivery %d: %v, want %s", id, err, want)
		}
	}
	if _, err := f.Redeliver(f.ctx, "13", 1); err == nil || err.Error() != "there is no client 13" {
		t.Errorf("of no client: %v", err)
	}
}

// work runs the store's background jobs until a condition is true.
func (f *fixture) work(done func() bool) {
	f.t.Helper()
	ctx, stop := context.WithCancel(f.ctx)
	defer stop()
	var working sync.WaitGroup
	working.Go(func() { f.Work(ctx) })
	look, limit := time.NewTicker(time.Millisecond), time.After(patience)
	defer look.Stop()
	for !done() {
		select {
		case <-look.C:
		case <-limit:
			f.t.Fatal("the background jobs do not finish")
		}
	}
	stop()
	working.Wait()
}

func (f *fixture) replay(id int64) gen.Replay {
	f.t.Helper()
	r, err := f.Replay(f.ctx, "12", id)
	f.check(err)
	return r
}

// A replay redelivers all matching deliveries that had ended when it was created. It survives a restart.
func TestReplayRedeliversFinishedDeliveries(t *testing.T) {
	f := open(t)
	k := f.agent()
	f.createEvents(k, crm, both...)
	const n = 250
	for i := range n {
		f.set(k, []gen.AgentStatusValue{gen.AgentStatusValueAvailable, gen.AgentStatusValueLoggedOut}[i%2])
		f.record(f.claimOne(), []webhook.Verdict{webhook.Failed, webhook.Delivered}[i%5/4], false)
	}
	r, _, err := f.CreateReplay(f.ctx, "12", store.DeliveryFilter{State: gen.DeliveryStateFailed})
	f.check(err)
	if r.Total != 200 || r.State != "working" || r.Done != 0 {
		t.Errorf("replay: %+v", r)
	}
	f.redeliver(1) // by a request, before the replay
	f.clock.add(time.Minute)
	f.restart()
	f.work(func() bool { return f.replay(1).State == "finished" })
	if r := f.replay(1); r.Redelivered != 199 || r.Skipped != 1 || r.Done != 200 || r.FinishedAt == nil {
		t.Errorf("replay: %+v", r)
	}
	f.finish(f.claimOne())
	f.wantDrained()
	if states := f.states(); states["delivered"] != n {
		t.Errorf("in the end: %v", states)
	}
	list, err := f.Replays(f.ctx, "12", 0, 10)
	f.check(err)
	if len(list) != 1 || list[0].ID != 1 {
		t.Errorf("replays: %+v", list)
	}
	var missing *store.Error
	if _, err := f.Replay(f.ctx, "12", 2); !errors.As(err, &missing) || missing.Kind != store.NotFound {
		t.Errorf("a missing replay: %v", err)
	}
}

func TestReplaySkipsLaterFailures(t *testing.T) {
	f := open(t)
	k := f.agent()
	f.createEvents(k, crm, gen.EventTypeAgentLogin)
	f.login(k)
	f.record(f.claimOne(), webhook.Failed, false)
	_, _, err := f.CreateReplay(f.ctx, "12", store.DeliveryFilter{State: gen.DeliveryStateFailed})
	f.check(err)
	f.clock.add(time.Second)
	f.work(func() bool {
		for _, d := range f.claim() {
			f.record(d, webhook.Failed, false)
		}
		return f.replay(1).State == "finished"
	})
	if r := f.replay(1); r.Redelivered != 1 {
		t.Errorf("replay: %+v", r)
	}
}

// failedOnes creates n failed deliveries.
func (f *fixture) failedOnes(n int) {
	f.t.Helper()
	k := f.agent()
	f.createEvents(k, crm, both...)
	for i := range n {
		f.set(k, []gen.AgentStatusValue{gen.AgentStatusValueAvailable, gen.AgentStatusValueLoggedOut}[i%2])
		f.record(f.claimOne(), webhook.Failed, false)
	}
}

func TestStopDoesNotWaitForReplays(t *testing.T) {
	f := openInMemory(t)
	f.failedOnes(500)
	for range 5 {
		_, _, err := f.CreateReplay(f.ctx, "12", store.DeliveryFilter{State: gen.DeliveryStateFailed})
		f.check(err)
	}
	ctx, stop := context.WithCancel(f.ctx)
	transactions := 0
	f.WatchStatements(func(writes bool, statement string) {
		if writes && strings.HasPrefix(statement, "UPDATE replays") {
			transactions++ // each stores the progress of the replay
			stop()
		}
	})
	if err := f.ReplayAll(ctx); err != nil && !errors.Is(err, context.Canceled) {
		t.Error(err)
	}
	if transactions != 1 {
		t.Errorf("%d transactions, want the one in progress", transactions)
	}
	if n := f.count("SELECT sum(redelivered) FROM replays"); n != 10 {
		t.Errorf("%d are redelivered", n)
	}
}

// A replay finds its deliveries on a reader's connection.
func TestReplaysDoNotBlockTheWriter(t *testing.T) {
	f := open(t)
	f.failedOnes(4)
	looks := 0
	f.WatchStatements(func(writes bool, statement string) {
		selected, is := strings.CutPrefix(statement, "SELECT ")
		if !is || !strings.Contains(selected, " FROM deliveries d WHERE") || strings.Contains(selected, "d.id IN (") {
			return
		}
		if looks++; writes {
			t.Errorf("the writer executed %s", statement)
		}
	})
	for _, state := range []gen.DeliveryState{gen.DeliveryStateDelivered, gen.DeliveryStateFailed} {
		_, _, err := f.CreateReplay(f.ctx, "12", store.DeliveryFilter{State: state, AgentType: gen.AgentTypeLocal})
		f.check(err)
	}
	f.check(f.ReplayAll(f.ctx))
	if r := f.replay(2); r.Redelivered != 4 || looks == 0 {
		t.Errorf("replay, after %d looks: %+v", looks, r)
	}
}

func TestClientHasTenUnfinishedReplaysAtMost(t *testing.T) {
	f := open(t)
	f.failedOnes(2)
	failed := store.DeliveryFilter{State: gen.DeliveryStateFailed}
	for range 10 {
		_, _, err := f.CreateReplay(f.ctx, "12", failed)
		f.check(err)
	}
	var refused *store.Error
	if _, _, err := f.CreateReplay(f.ctx, "12", failed); !errors.As(err, &refused) || refused.Kind != store.Conflict ||
		refused.Status != "too_many_replays" {
		t.Errorf("the eleventh: %v", err)
	}
	_, _, err := f.PutClient(f.ctx, "13", gen.ClientUpdate{})
	f.check(err)
	_, _, err = f.CreateReplay(f.ctx, "13", failed)
	f.check(err)
	f.check(f.ReplayAll(f.ctx))
	_, _, err = f.CreateReplay(f.ctx, "12", failed)
	f.check(err)
}

// The delivery ends in the millisecond of the replay's creation.
func TestReplayCountsAreConsistentInTheSameMillisecond(t *testing.T) {
	f := open(t)
	k := f.agent()
	f.createEvents(k, crm, gen.EventTypeAgentLogin)
	f.login(k)
	d := f.claimOne()
	r, _, err := f.CreateReplay(f.ctx, "12", store.DeliveryFilter{State: gen.DeliveryStateFailed})
	f.check(err)
	f.record(d, webhook.Failed, false)
	f.check(f.ReplayAll(f.ctx))
	if r := f.replay(r.ID); r.Skipped < 0 || r.Total != r.Redelivered+r.Skipped {
		t.Errorf("replay: %+v", r)
	}
}

func TestFailedReplayBlocksNoOtherJob(t *testing.T) {
	f := open(t)
	f.failedOnes(2)
	for _, event := range []int64{1, 2} {
		_, _, err := f.CreateReplay(f.ctx, "12", store.DeliveryFilter{State: gen.DeliveryStateFailed, EventID: event})
		f.check(err)
	}
	trigger := "CREATE TRIGGER broken BEFORE UPDATE ON deliveries WHEN old.event_id = 1 BEGIN " +
		"SELECT raise(ABORT, 'broken'); END"
	if pgtest.OnPostgres() {
		trigger = `CREATE FUNCTION broken() RETURNS trigger LANGUAGE plpgsql AS 'BEGIN RAISE EXCEPTION ''broken''; END';
			CREATE TRIGGER broken BEFORE UPDATE ON deliveries FOR EACH ROW WHEN (old.event_id = 1) EXECUTE FUNCTION
				broken()`
	}
	f.sql(trigger)
	f.work(func() bool { return f.replay(2).State == "finished" })
	if r := f.replay(1); r.State != "working" {
		t.Errorf("replay: %+v", r)
	}
}

func TestReplaysDoNotWaitForRetention(t *testing.T) {
	f := open(t)
	f.failedOnes(2)
	var once sync.Once
	pruning, release := make(chan struct{}), make(chan struct{})
	f.WatchStatements(func(writes bool, statement string) {
		if !writes && (strings.Contains(statement, "max(id)") || strings.Contains(statement, "OFFSET")) {
			once.Do(func() { close(pruning) })
			<-release
		}
	})
	f.work(func() bool {
		<-pruning
		r, _, err := f.CreateReplay(f.ctx, "12", store.DeliveryFilter{State: gen.DeliveryStateFailed})
		f.check(err)
		defer close(release)
		for end := time.Now().Add(patience); f.replay(r.ID).State != "finished"; {
			if time.Now().After(end) {
				t.Error("the replay waits for retention")
				break
			}
		}
		return true
	})
}
