package store_test

import (
	"errors"
	"fmt"
	"slices"
	"testing"
	"time"

	"github.com/agentevents/agentevents/gen"
	"github.com/agentevents/agentevents/store"
	"github.com/agentevents/agentevents/webhook"
)

// flip makes an agent log in and out, and returns the number of changes.
func (f *fixture) flip(k store.AgentKey, times int) {
	f.t.Helper()
	for range times {
		f.login(k)
		f.logout(k)
	}
}

// openSwept opens a store whose slices have one delivery.
func openSwept(t *testing.T) *fixture {
	t.Helper()
	t.Cleanup(store.SetSweptRows(1))
	return open(t)
}

func (f *fixture) sweepAll() {
	f.t.Helper()
	f.check(f.SweepAll(f.ctx))
	if n := f.count("SELECT count(*) FROM event_sweeps"); n != 0 {
		f.t.Errorf("%d sweeps are left", n)
	}
	f.verify()
}

// Each change of an event holds at once: a delivery that has not followed it yet is not sent as before.
func TestChangesOfEventsHoldAtOnce(t *testing.T) {
	for name, test := range map[string]struct {
		change func(f *fixture, k store.AgentKey, id int64)
		want   map[string]int
	}{
		"disable": {
			func(f *fixture, k store.AgentKey, id int64) { f.state(k, id, disabled) }, map[string]int{"parked": 5},
		},
		"delete": {
			func(f *fixture, k store.AgentKey, id int64) { f.check(f.DeleteEvent(f.ctx, k, id)) },
			map[string]int{"cancelled": 5},
		},
	} {
		t.Run(name, func(t *testing.T) {
			f := openSwept(t)
			k := f.agent()
			id := f.createEvents(k, crm, gen.EventTypeAgentLogin)[0]
			f.flip(k, 5)
			test.change(f, k, id)
			f.verify()
			f.claimNone()
			f.sweepAll()
			f.claimNone()
			f.want(test.want)
			f.wantDrained()
		})
	}
}

// openToMove opens such a store with an event to move: its deliveries 1, 3 and 5 wait in the lane of crm, and those of
// another event, 2, 4 and 6, in that of board.
func openToMove(t *testing.T) (f *fixture, k store.AgentKey, event int64) {
	t.Helper()
	f = openSwept(t)
	k = f.agent()
	event = f.createEvents(k, crm, gen.EventTypeAgentLogin)[0]
	f.createEvents(k, board+"/other", gen.EventTypeAgentLogout)
	f.flip(k, 3)
	return f, k, event
}

// The deliveries of a moved event go to its new URL alone, in their order, and a delivery that was enqueued there
// meanwhile waits for them.
func TestMovedEventKeepsItsOrderInSlices(t *testing.T) {
	f, k, moved := openToMove(t)
	f.redirect(k, moved, board)
	f.claimNone()
	f.sweepAll()
	d := f.claimOne()
	for _, want := range []int64{1, 2, 3, 4, 5, 6} {
		if d.Sequence != want || d.URL != board && want%2 == 1 {
			t.Fatalf("%d is sent to %s, want %d", d.Sequence, d.URL, want)
		}
		if next := f.record(d, webhook.Delivered, true); next != nil {
			d = *next
		}
	}
	f.wantDrained()
}

// A worker that holds the lane does not get the next delivery of it while others must come before that.
func TestLaneIsNotKeptDuringASweep(t *testing.T) {
	f, k, moved := openToMove(t)
	var ours webhook.Delivery
	for _, d := range f.claim() {
		if d.URL == board+"/other" {
			ours = d
		} else {
			f.check(f.Release(f.ctx, d))
		}
	}
	f.redirect(k, moved, board)
	if next := f.record(ours, webhook.Delivered, true); next != nil {
		t.Errorf("%d follows in the lane", next.Sequence)
	}
	f.login(k) // 7: not handed off either
	f.claimNone()
	f.sweepAll()
	if d := f.claimOne(); d.Sequence != 1 {
		t.Errorf("%d is first, want 1", d.Sequence)
	}
}

// Several changes of one event, each before the deliveries have followed the last, count as the last.
func TestLastChangeOfAnEventWins(t *testing.T) {
	f := openSwept(t)
	k := f.agent()
	id := f.createEvents(k, crm, gen.EventTypeAgentLogin)[0]
	f.flip(k, 4)
	f.state(k, id, disabled)
	f.redirect(k, id, board)
	f.verify()
	f.state(k, id, enabled)
	f.redirect(k, id, crm+"/last")
	f.verify()
	f.sweepAll()
	d := f.claimOne()
	if d.Sequence != 1 || d.URL != crm+"/last" {
		t.Errorf("%d is sent to %s", d.Sequence, d.URL)
	}
	f.finish(d)
	f.want(map[string]int{"delivered": 4})
	f.wantDrained()
}

// The deliveries of a deleted agent still follow the last change of its event.
func TestSweepOfADeletedAgentContinues(t *testing.T) {
	f := openSwept(t)
	k := f.agent()
	id := f.createEvents(k, crm, gen.EventTypeAgentLogin)[0]
	f.flip(k, 3)
	f.redirect(k, id, board)
	f.check(f.DeleteAgent(f.ctx, k))
	f.claimNone()
	f.sweepAll()
	d := f.claimOne()
	if d.URL != board {
		t.Errorf("sent to %s", d.URL)
	}
	f.finish(d)
	f.want(map[string]int{"delivered": 3})
}

// A result that arrives before its delivery has followed a change: the old URL's failure does not count, and the
// delivery is due at once at the new one.
func TestFailureBeforeASweepDoesNotCount(t *testing.T) {
	f := openSwept(t)
	k := f.agent()
	id := f.createEvents(k, crm, gen.EventTypeAgentLogin)[0]
	f.flip(k, 3)
	f.finishOne()
	second := f.claimOne() // 3
	f.state(k, id, disabled)
	f.state(k, id, enabled)
	f.redirect(k, id, board) // moves 3, which is in flight
	f.record(second, webhook.Gone, true)
	if st, err := f.EventState(f.ctx, k, id); err != nil || st.State != enabled {
		t.Errorf("%+v, %v", st, err)
	}
	f.sweepAll()
	d := f.claimOne()
	if d.ID != second.ID || d.URL != board || d.Failures != 0 {
		t.Errorf("%d is sent to %s with %d failures", d.Sequence, d.URL, d.Failures)
	}
	f.finish(d)
	f.want(map[string]int{"delivered": 3})
}

// finishOne delivers the first delivery.
func (f *fixture) finishOne() {
	f.t.Helper()
	f.record(f.claimOne(), webhook.Delivered, false)
}

// While the deliveries of a deleted event are being cancelled, an ended one cannot be redelivered, because it would be
// cancelled, too.
func TestRedeliveryWaitsForACancellation(t *testing.T) {
	f := openSwept(t)
	k := f.agent()
	id := f.createEvents(k, crm, gen.EventTypeAgentLogin)[0]
	f.flip(k, 2)
	f.finishOne()
	f.finishOne()
	f.flip(k, 2)
	f.sql("UPDATE deliveries SET state = 'pending', finished_at = NULL WHERE id IN (1)") // before the ended one
	f.sql("UPDATE lanes SET pending = pending + 1")
	f.check(f.DeleteEvent(f.ctx, k, id))
	_, err := f.Redeliver(f.ctx, k.Client, 2)
	var refused *store.Error
	if !errors.As(err, &refused) || refused.Kind != store.Conflict {
		t.Errorf("error %v", err)
	}
	_, _, err = f.CreateReplay(f.ctx, k.Client, store.DeliveryFilter{State: gen.DeliveryStateDelivered})
	f.check(err)
	f.check(f.ReplayAll(f.ctx)) // finishes the sweep first
	f.want(map[string]int{"pending": 1, "cancelled": 3})
	if d := f.claimOne(); d.ID != 2 {
		t.Errorf("%d is redelivered", d.ID)
	}
}

// Nor can it while they follow the last change of a deleted agent's event: it would be parked for ever.
func TestRedeliveryWaitsForASweepOfADeletedAgent(t *testing.T) {
	f := openSwept(t)
	k := f.agent()
	id := f.createEvents(k, crm, gen.EventTypeAgentLogin)[0]
	f.flip(k, 3)
	for range 3 {
		f.finishOne()
	}
	for _, earlier := range []int64{1, 2} {
		_, err := f.Redeliver(f.ctx, k.Client, earlier)
		f.check(err)
	}
	f.state(k, id, disabled)
	f.check(f.DeleteAgent(f.ctx, k))
	_, err := f.Redeliver(f.ctx, k.Client, 3)
	var refused *store.Error
	if !errors.As(err, &refused) || refused.Kind != store.Conflict {
		t.Errorf("error %v", err)
	}
	f.sweepAll()
	_, err = f.Redeliver(f.ctx, k.Client, 3)
	f.check(err)
	f.want(map[string]int{"parked": 2, "pending": 1})
}

func TestFailedSweepBlocksNoOther(t *testing.T) {
	f := openSwept(t)
	agents := f.agentsWith("12", 1, 1)
	for i, k := range agents {
		f.flip(k, 3)
		f.state(k, int64(i+1), disabled)
	}
	allow := f.refuse("deliveries", agents[0])
	for range 3 {
		if err := f.SweepAll(f.ctx); err == nil {
			t.Error("no error")
		}
	}
	f.want(map[string]int{"parked": 4, "pending": 2})
	allow()
	f.sweepAll()
	f.want(map[string]int{"parked": 6})
}

// No transaction changes more than a slice, however many deliveries an event has.
func TestSlicesAreBounded(t *testing.T) {
	t.Cleanup(store.SetSweptRows(3))
	f := open(t)
	k := f.agent()
	id := f.createEvents(k, crm, gen.EventTypeAgentLogin)[0]
	f.flip(k, 10)
	var parked []int
	f.state(k, id, disabled)
	for f.count("SELECT count(*) FROM event_sweeps") > 0 {
		parked = append(parked, f.states()["parked"])
		f.check(f.SweepNext(f.ctx, id))
	}
	if !slices.Equal(parked, []int{3, 6, 9}) {
		t.Errorf("%v were parked before each slice", parked)
	}
	f.want(map[string]int{"parked": 10})
}

// The log says why a delivery waits.
func TestWaitingForASweep(t *testing.T) {
	f, k, moved := openToMove(t)
	f.redirect(k, moved, board)
	for id, want := range map[int64]string{
		2: "an event of this agent and receiver has just been changed, and its deliveries come here first",
		5: "its event has just been changed, and the deliveries follow in turn",
	} {
		l, err := f.Delivery(f.ctx, k.Client, id)
		f.check(err)
		if l.Waiting == nil || l.Waiting.Reason != want {
			t.Errorf("delivery %d waits: %+v", id, l.Waiting)
		}
	}
}

// A version stays as long as anything refers to it, and for an hour after that.
func TestUnusedVersionsAreDeleted(t *testing.T) {
	f := open(t)
	k := f.agent()
	id := f.createEvents(k, crm, gen.EventTypeAgentLogin)[0]
	f.flip(k, 1)
	f.record(f.claimOne(), webhook.Retry, false)
	f.redirect(k, id, board)       // version 2: the delivery follows, and its attempt keeps version 1
	f.redirect(k, id, board+"/x")  // version 3
	f.redirect(k, id, crm+"/last") // version 4
	versions := func(want ...int) {
		t.Helper()
		var got []int
		for n := 1; n <= 5; n++ {
			if f.count(fmt.Sprintf("SELECT count(*) FROM event_versions WHERE id = %d", n)) > 0 {
				got = append(got, n)
			}
		}
		if !slices.Equal(got, want) {
			t.Errorf("versions %v, want %v", got, want)
		}
		f.verify()
	}
	prune := func() {
		t.Helper()
		f.clock.add(time.Hour + time.Second)
		f.check(f.PruneAll(f.ctx))
	}
	prune()
	versions(1, 2, 3, 4)
	f.redirect(k, id, board) // uses version 2 again
	prune()
	versions(1, 2, 4) // 4 is unused, but was used an hour ago
	prune()
	versions(1, 2)
	f.check(f.DeleteEvent(f.ctx, k, id))
	f.clock.add(31 * 24 * time.Hour)
	prune()
	prune()
	prune()
	versions()
}
