package store_test

import (
	"bytes"
	"log/slog"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/agentevents/agentevents/gen"
	"github.com/agentevents/agentevents/store"
	"github.com/agentevents/agentevents/store/pgtest"
	"github.com/agentevents/agentevents/webhook"
)

const (
	crm   = "http://crm.example/hook"
	board = "http://wallboard.example/hook"
)

var both = []gen.EventType{gen.EventTypeAgentLogin, gen.EventTypeAgentLogout}

func TestLaneSendsInOrder(t *testing.T) {
	f := open(t)
	k := f.agent()
	f.createEvents(k, crm, both...)
	f.login(k)
	f.logout(k)
	f.login(k)

	first := f.claimOne()
	f.claimNone() // another one is in flight
	second := f.record(first, webhook.Delivered, true)
	if second == nil || second.Sequence <= first.Sequence {
		t.Fatalf("second: %+v", second)
	}
	if f.record(*second, webhook.Retry, true) != nil {
		t.Fatal("the lane continued past a delivery that must be retried")
	}
	f.claimNone() // the head waits, and so do the deliveries behind it
	f.clock.add(5 * time.Second)
	again := f.claimOne()
	if again.ID != second.ID || again.Attempt != 2 || again.WebhookID != second.WebhookID {
		t.Fatalf("again: %+v, want %+v", again, second)
	}
	third := f.record(again, webhook.Failed, true)
	if third == nil || third.Sequence <= second.Sequence {
		t.Fatalf("third: %+v", third)
	}
	f.record(*third, webhook.Delivered, true)
	f.claimNone()
	f.wantDrained()
}

// Two events of one change at one receiver share the lane. Other receivers have other lanes.
func TestLaneIsAgentAndReceiver(t *testing.T) {
	f := open(t)
	k := f.agent()
	f.createEvents(k, "http://CRM.example:80/a", gen.EventTypeAgentLogin)
	f.createEvents(k, "http://crm.example/b", gen.EventTypeAgentLogin)
	f.createEvents(k, "https://crm.example/b", gen.EventTypeAgentLogin)
	if st := f.login(k); st.Deliveries != 3 {
		t.Fatalf("deliveries: %d, want 3", st.Deliveries)
	}
	claimed := f.claim()
	if len(claimed) != 2 || claimed[0].Lane == claimed[1].Lane {
		t.Fatalf("claimed %+v, want one of each of two lanes", claimed)
	}
	for _, d := range claimed {
		if next := f.record(d, webhook.Delivered, true); next != nil {
			f.record(*next, webhook.Delivered, true)
		}
	}
	f.wantDrained()
}

// Rule 1: a removal makes the next delivery of a lane due if no worker holds the lane.
func TestDeletionDuringAFlightLeavesTheNextDue(t *testing.T) {
	f := open(t)
	k := f.agent()
	gone := f.createEvents(k, crm, gen.EventTypeAgentLogin)[0]
	f.createEvents(k, crm, gen.EventTypeAgentLogin)
	f.login(k)
	d := f.claimOne()
	f.check(f.DeleteEvent(f.ctx, k, gone))
	f.claimNone() // a worker still holds the lane
	next := f.record(d, webhook.Delivered, true)
	if next == nil || next.ID == d.ID {
		t.Fatalf("next: %+v", next)
	}
	f.record(*next, webhook.Delivered, true)
	f.wantDrained()
	if states := f.states(); states["cancelled"] != 1 || states["delivered"] != 1 {
		t.Errorf("states: %v", states)
	}
}

// Rule 1: the deleted head waited for its retry.
func TestDeletionOfAWaitingHeadMakesTheNextDue(t *testing.T) {
	f := open(t)
	k := f.agent()
	gone := f.createEvents(k, crm, gen.EventTypeAgentLogin)[0]
	f.createEvents(k, crm, gen.EventTypeAgentLogin)
	f.login(k)
	f.record(f.claimOne(), webhook.Retry, true)
	f.claimNone()
	f.check(f.DeleteEvent(f.ctx, k, gone))
	f.record(f.claimOne(), webhook.Delivered, true)
	f.wantDrained()
}

// Rule 1: each lane subtracts its own deliveries, if the event has deliveries in two lanes.
func TestDeletionIsCountedInBothLanes(t *testing.T) {
	f := open(t)
	k := f.agent()
	id := f.createEvents(k, crm, gen.EventTypeAgentLogin)[0]
	for range 3 {
		f.login(k)
		f.logout(k)
	}
	d := f.claimOne()
	f.redirect(k, id, board)
	f.check(f.DeleteEvent(f.ctx, k, id))
	if n, err := f.RepairLanes(f.ctx); err != nil || n != 0 {
		t.Errorf("repaired %d lanes, %v", n, err)
	}
	f.record(d, webhook.Delivered, true)
	f.want(map[string]int{"cancelled": 3})
	f.wantDrained()
}

// Rule 2: a kept lane keeps its claim and renews its lease. Only a release ends it.
func TestKeptLaneRenewsItsLease(t *testing.T) {
	f := open(t)
	k := f.agent()
	f.createEvents(k, crm, both...)
	f.login(k)
	f.logout(k)
	first := f.claimOne()
	f.clock.add(14 * time.Second)
	second := f.record(first, webhook.Delivered, true)
	if second.Claim != first.Claim {
		t.Errorf("claim: %d, want %d", second.Claim, first.Claim)
	}
	f.clock.add(14 * time.Second)
	f.claimNone() // 28 s after the claim, but the lease was renewed
	f.record(*second, webhook.Delivered, true)
	f.wantDrained()
}

func TestReleasedLaneIsDueAtOnce(t *testing.T) {
	f := open(t)
	k := f.agent()
	f.createEvents(k, crm, both...)
	f.login(k)
	f.logout(k)
	if f.record(f.claimOne(), webhook.Delivered, false) != nil {
		t.Fatal("the lane was kept and not released")
	}
	f.record(f.claimOne(), webhook.Delivered, false)
	f.wantDrained()
}

// Rule 2: the next delivery waits for its retry.
func TestLaneIsNotKeptForADeliveryThatIsNotDue(t *testing.T) {
	f := open(t)
	k := f.agent()
	off := f.createEvents(k, crm, gen.EventTypeAgentLogin)[0]
	f.createEvents(k, crm, gen.EventTypeAgentLogin)
	f.state(k, off, disabled)
	f.login(k)
	waits := f.claimOne()
	f.record(waits, webhook.Retry, true)
	f.state(k, off, enabled)
	first := f.claimOne()
	if next := f.record(first, webhook.Delivered, true); first.ID >= waits.ID || next != nil {
		t.Fatalf("the lane continued from %+v with %+v", first, next)
	}
	f.claimNone()
	f.clock.add(5 * time.Second)
	f.finish(f.claimOne())
	f.wantDrained()
}

// The expired delivery fails.
func TestLaneIsNotKeptForAnExpiredDelivery(t *testing.T) {
	f := open(t)
	k := f.agent()
	f.createEvents(k, crm, both...)
	f.login(k)
	f.finish(f.claimOne())
	f.logout(k)
	f.record(f.claimOne(), webhook.Retry, false)
	f.clock.add(24*time.Hour - time.Second)
	f.redeliver(1) // ahead of the delivery that was tried
	d := f.claimOne()
	f.clock.add(time.Second)
	if next := f.record(d, webhook.Delivered, true); next != nil {
		t.Fatalf("the lane continued with %+v", next)
	}
	f.want(map[string]int{"delivered": 1, "failed": 1})
	f.wantDrained()
}

// Fencing: after the end of its lease, a worker cannot change the delivery.
func TestResultAfterTheLeaseDoesNotCount(t *testing.T) {
	f := open(t)
	k := f.agent()
	f.createEvents(k, crm, gen.EventTypeAgentLogin)
	f.login(k)
	late := f.claimOne()
	f.clock.add(15 * time.Second)
	again := f.claimOne()
	if again.ID != late.ID || again.Claim == late.Claim || again.WebhookID != late.WebhookID {
		t.Fatalf("again: %+v, want %+v under a new claim", again, late)
	}
	if f.record(late, webhook.Failed, true) != nil {
		t.Error("an invalid claim kept the lane")
	}
	f.check(f.Release(f.ctx, late))
	f.claimNone() // neither call released the holder's lane
	if states := f.states(); states["pending"] != 1 {
		t.Errorf("states: %v", states)
	}
	f.record(again, webhook.Delivered, true)
	f.wantDrained()
}

// Rule 4: pending deliveries follow their event to another receiver, in the order of their changes. A delivery in
// flight keeps its lane until its result.
func TestMoveWaitsForTheDeliveryInFlight(t *testing.T) {
	for _, verdict := range []webhook.Verdict{webhook.Delivered, webhook.Retry, webhook.Failed} {
		t.Run(string(verdict), func(t *testing.T) {
			f := open(t)
			k := f.agent()
			ids := f.createEvents(k, crm, both...)
			f.login(k)
			f.logout(k)
			inFlight := f.claimOne()
			for _, id := range ids {
				f.redirect(k, id, board)
			}
			f.claimNone() // the new lane waits for the delivery in flight
			if f.record(inFlight, verdict, true) != nil {
				t.Fatal("the old lane continued with a moved delivery")
			}
			if verdict != webhook.Delivered { // the delivery gets the corrected URL
				followed := f.claimOne()
				if followed.ID != inFlight.ID || followed.URL != board || followed.Attempt != 2 {
					t.Fatalf("followed: %+v", followed)
				}
				f.finish(followed)
				f.wantDrained()
				return
			}
			next := f.claimOne()
			if next.ID == inFlight.ID || next.URL != board {
				t.Fatalf("next: %+v", next)
			}
			f.finish(next)
			f.wantDrained()
		})
	}
}

// Rule 4 after a crash: the delivery that was in flight is sent to the new receiver, before the deliveries behind it.
func TestMoveSurvivesACrash(t *testing.T) {
	f := open(t)
	k := f.agent()
	ids := f.createEvents(k, crm, both...)
	f.login(k)
	f.logout(k)
	inFlight := f.claimOne()
	for _, id := range ids {
		f.redirect(k, id, board)
	}
	f.crash()
	d := f.claimOne()
	if d.ID != inFlight.ID || d.URL != board {
		t.Fatalf("claimed %+v, want the delivery that was in flight", d)
	}
	f.finish(d)
	f.wantDrained()
}

// Rule 4 for the holder of the new lane: it must wait for the delivery that will move there.
func TestKeptLaneWaitsForAMovingDelivery(t *testing.T) {
	f := open(t)
	k := f.agent()
	id := f.createEvents(k, crm, gen.EventTypeAgentLogin)[0]
	f.createEvents(k, board, both...)
	f.login(k)
	claimed := f.claim() // a delivery in each lane
	f.logout(k)
	f.redirect(k, id, board)
	if next := f.record(claimed[1], webhook.Delivered, true); claimed[1].URL != board || next != nil {
		t.Fatalf("the lane continued from %+v with %+v", claimed[1], next)
	}
	f.claimNone()
	f.record(claimed[0], webhook.Retry, true)
	f.finish(f.claimOne())
	f.want(map[string]int{"delivered": 3})
	f.wantDrained()
}

// Rule 4: two deliveries in flight swap their lanes, and both leases end.
func TestCrossingMovesDoNotBlockEachOther(t *testing.T) {
	for name, lose := range map[string]func(*fixture, []webhook.Delivery){
		"crash":            func(f *fixture, _ []webhook.Delivery) { f.crash() },
		"end of the lease": func(f *fixture, _ []webhook.Delivery) { f.clock.add(15 * time.Second) },
		"release": func(f *fixture, claimed []webhook.Delivery) {
			for _, d := range claimed {
				f.check(f.Release(f.ctx, d))
			}
		},
	} {
		t.Run(name, func(t *testing.T) {
			f := open(t)
			k := f.agent()
			one := f.createEvents(k, crm, gen.EventTypeAgentLogin)[0]
			two := f.createEvents(k, board, gen.EventTypeAgentLogin)[0]
			f.login(k)
			claimed := f.claim()
			f.redirect(k, one, board)
			f.redirect(k, two, crm)
			f.claimNone()
			lose(f, claimed)
			again := f.claim()
			if len(again) != 2 || again[0].URL == again[1].URL {
				t.Fatalf("claimed %+v, want both", again)
			}
			for _, d := range again {
				f.finish(d)
			}
			f.wantDrained()
		})
	}
}

// The delivery moved after the end of its lease, so another worker may hold it.
func TestLateResultOfAMovedDeliveryDoesNotCount(t *testing.T) {
	for _, verdict := range []webhook.Verdict{webhook.Delivered, webhook.Retry, webhook.Failed, webhook.Gone} {
		t.Run(string(verdict), func(t *testing.T) {
			f := open(t)
			k := f.agent()
			id := f.createEvents(k, crm, gen.EventTypeAgentLogin)[0]
			f.login(k)
			late := f.claimOne()
			f.clock.add(15 * time.Second)
			f.redirect(k, id, board)
			again := f.claimOne()
			if again.ID != late.ID || again.Lane == late.Lane {
				t.Fatalf("again: %+v", again)
			}
			f.record(late, verdict, true)
			f.check(f.Release(f.ctx, again))
			again = f.claimOne() // at once, without the delay of the late result
			f.record(late, verdict, true)
			f.record(again, webhook.Delivered, true)
			f.want(map[string]int{"delivered": 1})
			f.wantDrained()
		})
	}
}

func TestMoveAndBackLeavesTheDeliveryInItsLane(t *testing.T) {
	f := open(t)
	k := f.agent()
	id := f.createEvents(k, crm, gen.EventTypeAgentLogin)[0]
	f.createEvents(k, board, gen.EventTypeAgentLogin)
	f.login(k)
	claimed := f.claim()
	f.redirect(k, id, board)
	f.redirect(k, id, crm)
	f.logout(k)
	f.record(claimed[1], webhook.Delivered, true)
	f.record(claimed[0], webhook.Retry, true)
	f.claimNone()
	f.clock.add(5 * time.Second)
	if again := f.claimOne(); again.URL != crm || again.Lane != claimed[0].Lane {
		t.Errorf("again: %+v, want the delivery in its first lane", again)
	} else {
		f.finish(again)
	}
	f.wantDrained()
}

func TestDeletionOfAMovingDeliveryFreesTheOtherLane(t *testing.T) {
	f := open(t)
	k := f.agent()
	gone := f.createEvents(k, crm, gen.EventTypeAgentLogin)[0]
	f.createEvents(k, board, gen.EventTypeAgentLogout)
	f.login(k)
	f.claimOne()
	f.redirect(k, gone, board)
	f.logout(k)
	f.claimNone()
	f.check(f.DeleteEvent(f.ctx, k, gone))
	f.finish(f.claimOne())
	f.clock.add(15 * time.Second) // the holder of the old lane never records a result
	f.claimNone()
	f.wantDrained()
}

// Rule 5: lane ids are never reused, and a new agent with the same id has the same lane.
func TestRecreatedAgentKeepsItsOrder(t *testing.T) {
	f := open(t)
	k := f.agent()
	f.createEvents(k, crm, both...)
	f.login(k)
	f.check(f.DeleteAgent(f.ctx, k)) // enqueues the logout
	f.agent()
	f.createEvents(k, crm, both...)
	f.login(k)
	for _, want := range []gen.AgentStatusValue{"available", "logged_out", "available"} {
		d := f.claimOne()
		if d.Data.AgentStatus != want {
			t.Errorf("status: %s, want %s", d.Data.AgentStatus, want)
		}
		f.record(d, webhook.Delivered, false)
	}
	f.wantDrained()
}

// Rule 6: a due time that is later than any delay allows is corrected to now.
func TestDueTimeOfAWrongClockIsRepaired(t *testing.T) {
	f := open(t)
	k := f.agent()
	f.createEvents(k, crm, gen.EventTypeAgentLogin)
	f.clock.add(365 * 24 * time.Hour)
	f.login(k)
	f.record(f.claimOne(), webhook.Retry, true)
	f.clock.add(-365 * 24 * time.Hour)
	f.claimNone()
	if n, err := f.RepairLanes(f.ctx); err != nil || n != 1 {
		t.Fatalf("repaired %d lanes, %v; want 1", n, err)
	}
	f.record(f.claimOne(), webhook.Delivered, true)
	f.wantDrained()
}

// The limit depends on the schedule.
func TestLongDelayOfTheScheduleIsNotRepaired(t *testing.T) {
	f := open(t)
	f.longest = 24 * time.Hour
	f.restart()
	k := f.agent()
	f.createEvents(k, crm, gen.EventTypeAgentLogin)
	f.login(k)
	o := webhook.Outcome{Attempt: webhook.Attempt{Verdict: webhook.Retry}, Delay: 23 * time.Hour}
	_, err := f.Record(f.ctx, f.claimOne(), o, false)
	f.check(err)
	if n, err := f.RepairLanes(f.ctx); err != nil || n != 0 {
		t.Fatalf("repaired %d lanes, %v; want 0", n, err)
	}
	f.claimNone()
	f.clock.add(23 * time.Hour)
	f.finish(f.claimOne())
	f.wantDrained()
}

// Rule 6 applies to leases and to the waits of receivers, too.
func TestLeaseAndWaitOfAWrongClockAreRepaired(t *testing.T) {
	f := open(t)
	k := f.agent()
	f.createEvents(k, crm, gen.EventTypeAgentLogin)
	f.createEvents(k, board, gen.EventTypeAgentLogin)
	f.login(k)
	f.clock.add(time.Hour)
	f.sql("UPDATE receivers SET waits = 9999999999999 WHERE host = 'wallboard.example'")
	lost := f.claimOne()
	f.sql("UPDATE lanes SET lease_until = 9999999999999, due_at = 9999999999999 WHERE id = 1")
	if n, err := f.RepairLanes(f.ctx); err != nil || n != 1 {
		t.Fatalf("repaired %d lanes, %v; want 1", n, err)
	}
	f.finish(f.claimOne()) // the lease is shortened and not dropped: a worker may hold it
	f.clock.add(15 * time.Second)
	again := f.claimOne()
	if again.ID != lost.ID {
		t.Errorf("again: %+v", again)
	}
	f.finish(again)
	f.wantDrained()
}

// Rule 7: on SQLite, a delivery that was in flight when the process died is due at once. On PostgreSQL, where another
// process may have it in flight, it is due at the end of its lease.
func TestStartDropsLeases(t *testing.T) {
	f := open(t)
	k := f.agent()
	f.createEvents(k, crm, gen.EventTypeAgentLogin)
	f.login(k)
	before := f.claimOne()
	if pgtest.OnPostgres() {
		f.restart()
		f.claimNone()
	}
	f.crash()
	after := f.claimOne()
	if after.ID != before.ID || after.WebhookID != before.WebhookID || after.Attempt != 1 {
		t.Fatalf("after the restart: %+v, want %+v", after, before)
	}
	if f.record(before, webhook.Failed, true) != nil {
		t.Error("the claim of the dead process kept the lane")
	}
	f.record(after, webhook.Delivered, true)
	f.wantDrained()
}

// Rule 8: RepairLanes repairs a lane that is not due and one with a wrong count, and logs the number.
func TestInconsistentLanesAreRepairedAndLogged(t *testing.T) {
	f := open(t)
	var log bytes.Buffer
	f.log = slog.New(slog.NewTextHandler(&log, nil))
	f.restart()
	k := f.agent()
	f.createEvents(k, crm, gen.EventTypeAgentLogin)
	f.createEvents(k, board, gen.EventTypeAgentLogin)
	f.login(k)
	if n, err := f.RepairLanes(f.ctx); err != nil || n != 0 {
		t.Fatalf("repaired %d consistent lanes, %v", n, err)
	}
	f.sql("UPDATE lanes SET due_at = NULL WHERE id = 1")
	f.sql("UPDATE lanes SET pending = 7 WHERE id = 2")
	if log.Len() > 0 {
		t.Errorf("before a lane is inconsistent, the log has %s", log.String())
	}
	if n, err := f.RepairLanes(f.ctx); err != nil || n != 2 {
		t.Fatalf("repaired %d lanes, %v; want 2", n, err)
	}
	if !strings.Contains(log.String(), "level=ERROR") || !strings.Contains(log.String(), "lanes=2") {
		t.Errorf("the log says %q", log.String())
	}
	for _, d := range f.claim() {
		f.record(d, webhook.Delivered, true)
	}
	f.wantDrained()
	f.sql("UPDATE lanes SET pending = 3 WHERE id = 1") // the lane is empty
	if n, err := f.RepairLanes(f.ctx); err != nil || n != 1 {
		t.Fatalf("repaired %d lanes, %v; want 1", n, err)
	}
	f.claimNone()
	f.wantDrained()
}

// Rule 8: one call repairs a lane that a worker has leased, so that a claim finds it when that worker dies.
func TestLeasedLaneIsRepaired(t *testing.T) {
	f := open(t)
	k := f.agent()
	f.createEvents(k, crm, gen.EventTypeAgentLogin)
	f.login(k)
	before := f.claimOne()
	f.sql("UPDATE lanes SET due_at = NULL, pending = pending + 1")
	for _, want := range []int{1, 0} {
		if n, err := f.RepairLanes(f.ctx); err != nil || n != want {
			t.Errorf("repaired are %d lanes, %v; want %d", n, err, want)
		}
	}
	f.claimNone()
	f.clock.add(15 * time.Second) // the end of its lease
	if d := f.claimOne(); d.ID != before.ID {
		t.Errorf("claimed is %+v", d)
	} else {
		f.record(d, webhook.Delivered, true)
	}
	f.wantDrained()
}

// Rule 8: the lane's delivery was cancelled, and its worker died. The next claim resets the lane.
func TestEmptyLaneAfterItsLeaseIsConsistent(t *testing.T) {
	f := open(t)
	k := f.agent()
	id := f.createEvents(k, crm, gen.EventTypeAgentLogin)[0]
	f.login(k)
	f.claimOne()
	f.check(f.DeleteEvent(f.ctx, k, id))
	f.clock.add(15 * time.Second)
	if n, err := f.RepairLanes(f.ctx); err != nil || n != 0 {
		t.Errorf("repaired %d lanes, %v", n, err)
	}
	f.claimNone()
	f.wantDrained()
}

// The last attempt is at the end of the window, even if the delay is longer.
func TestDeliveryIsRetriedUntilItsWindowEnds(t *testing.T) {
	f := open(t)
	k := f.agent()
	f.createEvents(k, crm, both...)
	f.login(k)
	f.clock.add(24*time.Hour - 2*time.Second)
	f.logout(k)
	f.record(f.claimOne(), webhook.Retry, true) // the delay is 5 s, and the window ends in 2 s
	f.want(map[string]int{"pending": 2})
	f.clock.add(2 * time.Second)
	f.claimNone() // the login fails, and the logout is due
	f.finish(f.claimOne())
	f.want(map[string]int{"failed": 1, "delivered": 1})
	f.wantDrained()
}

// The corrected URL counts at once, whatever the old receiver answers.
func TestURLCorrectedDuringAFlightIsUsedNext(t *testing.T) {
	for _, verdict := range []webhook.Verdict{webhook.Retry, webhook.Failed, webhook.Gone} {
		t.Run(string(verdict), func(t *testing.T) {
			f := open(t)
			k := f.agent()
			id := f.createEvents(k, crm, gen.EventTypeAgentLogin)[0]
			f.login(k)
			d := f.claimOne()
			f.redirect(k, id, crm+"/right")
			f.record(d, verdict, true)
			again := f.claimOne()
			if again.ID != d.ID || again.URL != crm+"/right" {
				t.Fatalf("again: %+v", again)
			}
			f.finish(again)
			f.want(map[string]int{"delivered": 1})
			f.wantDrained()
		})
	}
}

// A claim takes no more lanes of one receiver than its limit.
func TestClaimIsFairAmongReceivers(t *testing.T) {
	f := open(t)
	for id := range int64(20) {
		k := f.agentN(id + 1)
		f.createEvents(k, crm, gen.EventTypeAgentLogin)
		f.login(k)
	}
	last := f.agentN(21)
	f.createEvents(last, board, gen.EventTypeAgentLogin)
	f.login(last)

	asked := 0
	claimed, next, err := f.Claim(f.ctx, webhook.ClaimLimits{Lanes: 4, PerReceiver: 3, Take: func(string, int64) bool {
		asked++
		return asked != 1
	}})
	f.check(err)
	if len(claimed) != 3 || asked != 4 || next != 0 {
		t.Fatalf("claimed %d of %d asked, next %v", len(claimed), asked, next)
	}
	boards := 0
	for _, d := range claimed {
		if d.URL == board {
			boards++
		}
	}
	if boards != 1 {
		t.Errorf("%d lanes of the receiver with one lane were claimed, want 1", boards)
	}
	claimed, _, err = f.Claim(f.ctx, webhook.ClaimLimits{
		Lanes: 100, PerReceiver: 100, Full: []int64{claimed[0].Receiver},
		Take: func(string, int64) bool { return true },
	})
	f.check(err)
	for _, d := range claimed {
		if d.URL == board {
			t.Errorf("claimed for a full receiver: %+v", d)
		}
	}
}

func TestClaimReturnsTheTimeOfTheNextDueLane(t *testing.T) {
	f := open(t)
	k := f.agent()
	room := webhook.ClaimLimits{Lanes: 10, PerReceiver: 10, Take: func(string, int64) bool { return true }}
	if _, next, err := f.Claim(f.ctx, room); err != nil || next >= 0 {
		t.Errorf("next %v, %v; want none", next, err)
	}
	f.createEvents(k, crm, gen.EventTypeAgentLogin)
	f.login(k)
	f.record(f.claimOne(), webhook.Retry, true)
	if _, next, err := f.Claim(f.ctx, room); err != nil || next != 5*time.Second {
		t.Errorf("next %v, %v; want 5s", next, err)
	}
}

// The next claim over all lanes finds the lanes that were left.
func TestFreshClaimFindsOnlyLanesOfChanges(t *testing.T) {
	f := open(t)
	k, other := f.agent(), store.AgentKey{Client: "12", Type: gen.AgentTypeLocal, ID: 137}
	name := "000*095@ringme.ru"
	_, _, err := f.PutAgent(f.ctx, other, store.AgentUpdate{Name: &name})
	f.check(err)
	f.createEvents(k, crm, both...)
	f.createEvents(other, board, both...)
	f.login(k)
	refuse := func(string, int64) bool { return false }
	accept := func(string, int64) bool { return true }
	refused := f.claimFresh(refuse)
	f.login(other)
	fresh := f.claimFresh(accept)
	if len(refused) != 0 || len(fresh) != 1 || fresh[0].URL != board {
		t.Fatalf("claimed %+v, then %+v; want none, then the lane of the last change", refused, fresh)
	}
	if again := f.claimFresh(accept); len(again) != 0 {
		t.Fatalf("claimed %+v, without a change", again)
	}
	if d := f.claimOne(); d.URL != crm {
		t.Errorf("claimed %+v, want the lane that was left", d)
	}
	f.record(fresh[0], webhook.Retry, true) // no change makes it due again
	f.clock.add(5 * time.Second)
	if d := f.claimFresh(accept); len(d) != 1 || d[0].ID != fresh[0].ID {
		t.Errorf("claimed %+v, want the one that is due again: its result requests a claim over all lanes", d)
	}
}

// claimFresh claims lanes of changes only, unless the store requests a claim over all lanes.
func (f *fixture) claimFresh(take func(string, int64) bool) []webhook.Delivery {
	f.t.Helper()
	claimed, _, err := f.Claim(f.ctx, webhook.ClaimLimits{Fresh: true, Lanes: 1000, PerReceiver: 100, Take: take})
	f.check(err)
	return claimed
}

// No change refers to the deliveries of the previous process.
func TestFirstClaimLooksAtAllLanes(t *testing.T) {
	f := open(t)
	k := f.agent()
	f.createEvents(k, crm, both...)
	f.login(k)
	before := f.claimOne()
	f.crash()
	if d := f.claimFresh(func(string, int64) bool { return true }); len(d) != 1 || d[0].ID != before.ID {
		t.Errorf("claimed %+v, want the delivery that was in flight", d)
	}
}

// Full receivers do not use up the limit of the claim.
func TestFreshClaimSkipsFullReceivers(t *testing.T) {
	f := open(t)
	f.createLanes("1", 1, 2, crm)
	f.createLanes("2", 1, 2, crm)
	f.createLanes("3", 1, 1, crm)
	claimed, _, err := f.Claim(f.ctx, webhook.ClaimLimits{
		Fresh: true, Lanes: 2, PerReceiver: 100, Full: []int64{f.receiverOf("1"), f.receiverOf("2")},
		Take: func(_ string, r int64) bool { return r == f.receiverOf("3") },
	})
	f.check(err)
	if len(claimed) != 1 || claimed[0].Receiver != f.receiverOf("3") {
		t.Errorf("claimed %+v, want the lane of the receiver that has room", claimed)
	}
}

func (f *fixture) receiverOf(client string) (id int64) {
	f.t.Helper()
	db := f.db()
	defer db.Close()
	f.check(db.QueryRow(pgtest.Numbered("SELECT id FROM receivers WHERE client_id = ?"), client).Scan(&id))
	return id
}

// The kept lane's result closes the breaker.
func TestClosedBreakerNotifiesTheDispatcherThoughTheLaneIsKept(t *testing.T) {
	f := open(t)
	f.createLanes("1", 1, 2, crm)
	for range webhook.BreakerThreshold {
		f.recordAnswer(f.claimOneLane(), answer(0))
		f.clock.add(time.Hour)
	}
	probe := f.claimOneLane()
	for len(f.Due()) > 0 {
		<-f.Due()
	}
	f.logout(store.AgentKey{Client: "1", Type: gen.AgentTypeLocal, ID: agentOf(f, probe)})
	for len(f.Due()) > 0 {
		<-f.Due()
	}
	if next := f.recordAnswer(probe, answer(200)); next == nil {
		t.Fatal("the lane was not kept")
	}
	if len(f.Due()) == 0 {
		t.Error("the dispatcher was not notified that the receiver is back")
	}
}

func agentOf(f *fixture, d webhook.Delivery) int64 {
	id, err := strconv.ParseInt(d.Data.AgentID, 10, 64)
	f.check(err)
	return id
}

func TestInconsistentLaneIsRepairedAmongMany(t *testing.T) {
	f := open(t)
	f.createEvents(f.agent(), crm, gen.EventTypeAgentLogin)
	f.login(store.AgentKey{Client: "12", Type: gen.AgentTypeLocal, ID: 136})
	f.sql(`WITH RECURSIVE g (n) AS (SELECT 1 UNION ALL SELECT n + 1 FROM g WHERE n < 16000)
		INSERT INTO lanes (receiver_id, kind, agent_id, pending, due_at) SELECT l.receiver_id, l.kind, 100000 + n, 1,
			l.due_at FROM lanes l, g`)
	f.sql(`INSERT INTO deliveries (webhook_id, change_id, event_id, lane_id, version_id, state, due_at,
		expires_at, created_at, client_id)
		SELECT 'msg_' || l.id, d.change_id, d.event_id, l.id, d.version_id, d.state, d.due_at, d.expires_at,
			d.created_at, d.client_id
		FROM deliveries d, lanes l WHERE l.id <> d.lane_id`)
	f.sql("UPDATE lanes SET pending = 2 WHERE agent_id = 100007")
	if n, err := f.RepairLanes(f.ctx); n != 1 || err != nil {
		t.Errorf("repaired %d lanes: %v", n, err)
	}
	if n := f.count("SELECT count(*) FROM lanes WHERE pending <> 1"); n != 0 {
		t.Errorf("%d lanes are inconsistent", n)
	}
}
