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

func TestLaneKeepsOrder(t *testing.T) {
	f := open(t)
	k := f.agent()
	f.register(k, crm, both...)
	f.login(k)
	f.logout(k)
	f.login(k)

	first := f.claimOne()
	f.claimNone() // one in flight
	second := f.record(first, webhook.Delivered, true)
	if second == nil || second.Sequence <= first.Sequence {
		t.Fatalf("second: %+v", second)
	}
	if f.record(*second, webhook.Retry, true) != nil {
		t.Fatal("went on past a delivery that is to be tried again")
	}
	f.claimNone() // the head waits, and so does what is behind it
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
	f.drained()
}

// Two registrations for one change at one receiver share the lane, others do not.
func TestLaneIsAgentAndReceiver(t *testing.T) {
	f := open(t)
	k := f.agent()
	f.register(k, "http://CRM.example:80/a", gen.EventTypeAgentLogin)
	f.register(k, "http://crm.example/b", gen.EventTypeAgentLogin)
	f.register(k, "https://crm.example/b", gen.EventTypeAgentLogin)
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
	f.drained()
}

// Rule 1: what takes a delivery out of a lane that nobody holds makes the next one due.
func TestDeletionWhileInFlightStrandsNothing(t *testing.T) {
	f := open(t)
	k := f.agent()
	gone := f.register(k, crm, gen.EventTypeAgentLogin)[0]
	f.register(k, crm, gen.EventTypeAgentLogin)
	f.login(k)
	d := f.claimOne()
	f.check(f.DeleteEvent(f.ctx, k, gone))
	f.claimNone() // the lane is still held
	next := f.record(d, webhook.Delivered, true)
	if next == nil || next.ID == d.ID {
		t.Fatalf("next: %+v", next)
	}
	f.record(*next, webhook.Delivered, true)
	f.drained()
	if states := f.states(); states["cancelled"] != 1 || states["delivered"] != 1 {
		t.Errorf("states: %v", states)
	}
}

// Rule 1: a head that waits for its retry and is cancelled lets the next one go at once.
func TestDeletionOfWaitingHeadFreesTheNext(t *testing.T) {
	f := open(t)
	k := f.agent()
	gone := f.register(k, crm, gen.EventTypeAgentLogin)[0]
	f.register(k, crm, gen.EventTypeAgentLogin)
	f.login(k)
	f.record(f.claimOne(), webhook.Retry, true)
	f.claimNone()
	f.check(f.DeleteEvent(f.ctx, k, gone))
	f.record(f.claimOne(), webhook.Delivered, true)
	f.drained()
}

// Rule 1: a lane loses as many as were taken out of it, also when there are others of the event elsewhere.
func TestDeletionOfManyInTwoLanes(t *testing.T) {
	f := open(t)
	k := f.agent()
	id := f.register(k, crm, gen.EventTypeAgentLogin)[0]
	for range 3 {
		f.login(k)
		f.logout(k)
	}
	d := f.claimOne()
	f.redirect(k, id, board)
	f.check(f.DeleteEvent(f.ctx, k, id))
	if n, err := f.RepairLanes(f.ctx); err != nil || n != 0 {
		t.Errorf("mended %d, %v", n, err)
	}
	f.record(d, webhook.Delivered, true)
	f.want(map[string]int{"cancelled": 3})
	f.drained()
}

// Rule 2: going on keeps the claim and renews the lease; only letting go ends it.
func TestGoingOnRenewsTheLease(t *testing.T) {
	f := open(t)
	k := f.agent()
	f.register(k, crm, both...)
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
	f.drained()
}

func TestLettingGoMakesTheRestDueNow(t *testing.T) {
	f := open(t)
	k := f.agent()
	f.register(k, crm, both...)
	f.login(k)
	f.logout(k)
	if f.record(f.claimOne(), webhook.Delivered, false) != nil {
		t.Fatal("went on although it was to let go")
	}
	f.record(f.claimOne(), webhook.Delivered, false)
	f.drained()
}

// Rule 2: who goes on stops before what waits for its retry.
func TestGoingOnStopsBeforeWhatIsNotDue(t *testing.T) {
	f := open(t)
	k := f.agent()
	off := f.register(k, crm, gen.EventTypeAgentLogin)[0]
	f.register(k, crm, gen.EventTypeAgentLogin)
	f.state(k, off, disabled)
	f.login(k)
	waits := f.claimOne()
	f.record(waits, webhook.Retry, true)
	f.state(k, off, enabled)
	first := f.claimOne()
	if next := f.record(first, webhook.Delivered, true); first.ID >= waits.ID || next != nil {
		t.Fatalf("went on from %+v to %+v", first, next)
	}
	f.claimNone()
	f.clock.add(5 * time.Second)
	f.finish(f.claimOne())
	f.drained()
}

// Who goes on stops before what is over, and that has failed.
func TestGoingOnStopsBeforeWhatIsOver(t *testing.T) {
	f := open(t)
	k := f.agent()
	f.register(k, crm, both...)
	f.login(k)
	f.finish(f.claimOne())
	f.logout(k)
	f.record(f.claimOne(), webhook.Retry, false)
	f.clock.add(24*time.Hour - time.Second)
	f.redeliver(1) // before the one that was tried
	d := f.claimOne()
	f.clock.add(time.Second)
	if next := f.record(d, webhook.Delivered, true); next != nil {
		t.Fatalf("went on with %+v", next)
	}
	f.want(map[string]int{"delivered": 1, "failed": 1})
	f.drained()
}

// Fencing: who lost the lease records no verdict.
func TestLateResultIsVoid(t *testing.T) {
	f := open(t)
	k := f.agent()
	f.register(k, crm, gen.EventTypeAgentLogin)
	f.login(k)
	late := f.claimOne()
	f.clock.add(15 * time.Second)
	again := f.claimOne()
	if again.ID != late.ID || again.Claim == late.Claim || again.WebhookID != late.WebhookID {
		t.Fatalf("again: %+v, want %+v under a new claim", again, late)
	}
	if f.record(late, webhook.Failed, true) != nil {
		t.Error("a void claim went on")
	}
	f.check(f.Release(f.ctx, late))
	f.claimNone() // neither took the lane from its holder
	if states := f.states(); states["pending"] != 1 {
		t.Errorf("states: %v", states)
	}
	f.record(again, webhook.Delivered, true)
	f.drained()
}

// Rule 4: pending deliveries follow a URL that moves to another receiver, in sequence order, and one in flight keeps
// its lane until its result.
func TestMoveWaitsForWhatIsInFlight(t *testing.T) {
	for _, verdict := range []webhook.Verdict{webhook.Delivered, webhook.Retry, webhook.Failed} {
		t.Run(string(verdict), func(t *testing.T) {
			f := open(t)
			k := f.agent()
			ids := f.register(k, crm, both...)
			f.login(k)
			f.logout(k)
			flying := f.claimOne()
			for _, id := range ids {
				f.redirect(k, id, board)
			}
			f.claimNone() // the new lane waits
			if f.record(flying, verdict, true) != nil {
				t.Fatal("the old lane went on with what has moved")
			}
			if verdict != webhook.Delivered { // the correction came in time
				followed := f.claimOne()
				if followed.ID != flying.ID || followed.URL != board || followed.Attempt != 2 {
					t.Fatalf("followed: %+v", followed)
				}
				f.finish(followed)
				f.drained()
				return
			}
			next := f.claimOne()
			if next.ID == flying.ID || next.URL != board {
				t.Fatalf("next: %+v", next)
			}
			f.finish(next)
			f.drained()
		})
	}
}

// Rule 4, with a crash: the one in flight goes to the new receiver, before what is behind it.
func TestMoveSurvivesTheLossOfTheLease(t *testing.T) {
	f := open(t)
	k := f.agent()
	ids := f.register(k, crm, both...)
	f.login(k)
	f.logout(k)
	flying := f.claimOne()
	for _, id := range ids {
		f.redirect(k, id, board)
	}
	f.crash()
	d := f.claimOne()
	if d.ID != flying.ID || d.URL != board {
		t.Fatalf("claimed %+v, want what was in flight", d)
	}
	f.finish(d)
	f.drained()
}

// Rule 4 for a holder of the new lane, who does not go on before what is to follow is back.
func TestGoingOnWaitsForWhatMoves(t *testing.T) {
	f := open(t)
	k := f.agent()
	id := f.register(k, crm, gen.EventTypeAgentLogin)[0]
	f.register(k, board, both...)
	f.login(k)
	claimed := f.claim() // one in each lane
	f.logout(k)
	f.redirect(k, id, board)
	if next := f.record(claimed[1], webhook.Delivered, true); claimed[1].URL != board || next != nil {
		t.Fatalf("went on from %+v to %+v", claimed[1], next)
	}
	f.claimNone()
	f.record(claimed[0], webhook.Retry, true)
	f.finish(f.claimOne())
	f.want(map[string]int{"delivered": 3})
	f.drained()
}

// Rule 4: two that are in flight and change places do not wait for each other when both leases are lost.
func TestMovesAcrossEachOther(t *testing.T) {
	for name, lose := range map[string]func(*fixture, []webhook.Delivery){
		"crash": func(f *fixture, _ []webhook.Delivery) { f.crash() },
		"lapse": func(f *fixture, _ []webhook.Delivery) { f.clock.add(15 * time.Second) },
		"release": func(f *fixture, claimed []webhook.Delivery) {
			for _, d := range claimed {
				f.check(f.Release(f.ctx, d))
			}
		},
	} {
		t.Run(name, func(t *testing.T) {
			f := open(t)
			k := f.agent()
			one := f.register(k, crm, gen.EventTypeAgentLogin)[0]
			two := f.register(k, board, gen.EventTypeAgentLogin)[0]
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
			f.drained()
		})
	}
}

// What moved after the loss of its lease is another's by now: whoever lost it changes nothing of it.
func TestLateResultOfWhatHasMoved(t *testing.T) {
	for _, verdict := range []webhook.Verdict{webhook.Delivered, webhook.Retry, webhook.Failed, webhook.Gone} {
		t.Run(string(verdict), func(t *testing.T) {
			f := open(t)
			k := f.agent()
			id := f.register(k, crm, gen.EventTypeAgentLogin)[0]
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
			again = f.claimOne() // at once: no delay of the other's
			f.record(late, verdict, true)
			f.record(again, webhook.Delivered, true)
			f.want(map[string]int{"delivered": 1})
			f.drained()
		})
	}
}

func TestMoveThereAndBack(t *testing.T) {
	f := open(t)
	k := f.agent()
	id := f.register(k, crm, gen.EventTypeAgentLogin)[0]
	f.register(k, board, gen.EventTypeAgentLogin)
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
		t.Errorf("again: %+v, want what stayed where it was", again)
	} else {
		f.finish(again)
	}
	f.drained()
}

func TestDeletionOfWhatMovesFreesTheOtherLane(t *testing.T) {
	f := open(t)
	k := f.agent()
	gone := f.register(k, crm, gen.EventTypeAgentLogin)[0]
	f.register(k, board, gen.EventTypeAgentLogout)
	f.login(k)
	f.claimOne()
	f.redirect(k, gone, board)
	f.logout(k)
	f.claimNone()
	f.check(f.DeleteEvent(f.ctx, k, gone))
	f.finish(f.claimOne())
	f.clock.add(15 * time.Second) // the holder of the old lane never comes back
	f.claimNone()
	f.drained()
}

// Rule 5: lane ids are never used twice, and an agent that was made again keeps its lane.
func TestAgentMadeAgainStaysInOrder(t *testing.T) {
	f := open(t)
	k := f.agent()
	f.register(k, crm, both...)
	f.login(k)
	f.check(f.DeleteAgent(f.ctx, k)) // makes the logout
	f.agent()
	f.register(k, crm, both...)
	f.login(k)
	for _, want := range []gen.AgentStatusValue{"available", "logged_out", "available"} {
		d := f.claimOne()
		if d.Data.AgentStatus != want {
			t.Errorf("status: %s, want %s", d.Data.AgentStatus, want)
		}
		f.record(d, webhook.Delivered, false)
	}
	f.drained()
}

// Rule 6: a due time further away than the longest delay means now.
func TestClockThatWasWrongStrandsNothing(t *testing.T) {
	f := open(t)
	k := f.agent()
	f.register(k, crm, gen.EventTypeAgentLogin)
	f.clock.add(365 * 24 * time.Hour)
	f.login(k)
	f.record(f.claimOne(), webhook.Retry, true)
	f.clock.add(-365 * 24 * time.Hour)
	f.claimNone()
	if n, err := f.RepairLanes(f.ctx); err != nil || n != 1 {
		t.Fatalf("mended %d, %v; want 1", n, err)
	}
	f.record(f.claimOne(), webhook.Delivered, true)
	f.drained()
}

// How long the longest delay is depends on the schedule.
func TestLongDelayIsNotAWrongClock(t *testing.T) {
	f := open(t)
	f.longest = 24 * time.Hour
	f.restart()
	k := f.agent()
	f.register(k, crm, gen.EventTypeAgentLogin)
	f.login(k)
	o := webhook.Outcome{Attempt: webhook.Attempt{Verdict: webhook.Retry}, Delay: 23 * time.Hour}
	_, err := f.Record(f.ctx, f.claimOne(), o, false)
	f.check(err)
	if n, err := f.RepairLanes(f.ctx); err != nil || n != 0 {
		t.Fatalf("mended %d, %v; want 0", n, err)
	}
	f.claimNone()
	f.clock.add(23 * time.Hour)
	f.finish(f.claimOne())
	f.drained()
}

// Rule 6 holds for leases and for receivers that wait, too.
func TestClockThatWasWrongHoldsNothing(t *testing.T) {
	f := open(t)
	k := f.agent()
	f.register(k, crm, gen.EventTypeAgentLogin)
	f.register(k, board, gen.EventTypeAgentLogin)
	f.login(k)
	f.clock.add(time.Hour)
	f.sql("UPDATE receivers SET waits = 9999999999999 WHERE host = 'wallboard.example'")
	lost := f.claimOne()
	f.sql("UPDATE lanes SET lease_until = 9999999999999, due_at = 9999999999999 WHERE id = 1")
	if n, err := f.RepairLanes(f.ctx); err != nil || n != 1 {
		t.Fatalf("mended %d, %v; want 1", n, err)
	}
	f.finish(f.claimOne()) // the lease is not dropped: somebody may really have it
	f.clock.add(15 * time.Second)
	again := f.claimOne()
	if again.ID != lost.ID {
		t.Errorf("again: %+v", again)
	}
	f.finish(again)
	f.drained()
}

// Rule 7: what was in flight when the process died is due at once after the next start. Where another process may have
// it in flight, it is due when the lease is over.
func TestStartDropsLeases(t *testing.T) {
	f := open(t)
	k := f.agent()
	f.register(k, crm, gen.EventTypeAgentLogin)
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
		t.Error("the claim of the dead went on")
	}
	f.record(after, webhook.Delivered, true)
	f.drained()
}

// Rule 8: the safety net mends a lane that is not due and one that counts wrong, and says how many.
func TestRepairLanes(t *testing.T) {
	f := open(t)
	var log bytes.Buffer
	f.log = slog.New(slog.NewTextHandler(&log, nil))
	f.restart()
	k := f.agent()
	f.register(k, crm, gen.EventTypeAgentLogin)
	f.register(k, board, gen.EventTypeAgentLogin)
	f.login(k)
	if n, err := f.RepairLanes(f.ctx); err != nil || n != 0 {
		t.Fatalf("mended %d sound lanes, %v", n, err)
	}
	f.sql("UPDATE lanes SET due_at = NULL WHERE id = 1")
	f.sql("UPDATE lanes SET pending = 7 WHERE id = 2")
	if log.Len() > 0 {
		t.Errorf("before there is anything to mend, the log says %s", log.String())
	}
	if n, err := f.RepairLanes(f.ctx); err != nil || n != 2 {
		t.Fatalf("mended %d, %v; want 2", n, err)
	}
	if !strings.Contains(log.String(), "level=ERROR") || !strings.Contains(log.String(), "lanes=2") {
		t.Errorf("the log says %q", log.String())
	}
	for _, d := range f.claim() {
		f.record(d, webhook.Delivered, true)
	}
	f.drained()
	f.sql("UPDATE lanes SET pending = 3 WHERE id = 1") // of which there is none
	if n, err := f.RepairLanes(f.ctx); err != nil || n != 1 {
		t.Fatalf("mended %d, %v; want 1", n, err)
	}
	f.claimNone()
	f.drained()
}

// Rule 8: one look repairs a lane that a worker has leased, so that it is claimed when that worker dies.
func TestRepairLanesOfALeasedLane(t *testing.T) {
	f := open(t)
	k := f.agent()
	f.register(k, crm, gen.EventTypeAgentLogin)
	f.login(k)
	before := f.claimOne()
	f.sql("UPDATE lanes SET due_at = NULL, pending = pending + 1")
	for _, want := range []int{1, 0} {
		if n, err := f.RepairLanes(f.ctx); err != nil || n != want {
			t.Errorf("repaired are %d lanes, %v; want %d", n, err, want)
		}
	}
	f.claimNone()
	f.clock.add(15 * time.Second) // its lease
	if d := f.claimOne(); d.ID != before.ID {
		t.Errorf("claimed is %+v", d)
	} else {
		f.record(d, webhook.Delivered, true)
	}
	f.drained()
}

// Rule 8: what is due and empty, since its holder died after it was cancelled, is no reason for an alarm.
func TestCancelledAndLostIsNotAstray(t *testing.T) {
	f := open(t)
	k := f.agent()
	id := f.register(k, crm, gen.EventTypeAgentLogin)[0]
	f.login(k)
	f.claimOne()
	f.check(f.DeleteEvent(f.ctx, k, id))
	f.clock.add(15 * time.Second)
	if n, err := f.RepairLanes(f.ctx); err != nil || n != 0 {
		t.Errorf("mended %d, %v", n, err)
	}
	f.claimNone()
	f.drained()
}

// A delivery is tried until its window is over, not only as long as the next delay fits in.
func TestRetryWindow(t *testing.T) {
	f := open(t)
	k := f.agent()
	f.register(k, crm, both...)
	f.login(k)
	f.clock.add(24*time.Hour - 2*time.Second)
	f.logout(k)
	f.record(f.claimOne(), webhook.Retry, true) // in 5 s, but the window is over in 2
	f.want(map[string]int{"pending": 2})
	f.clock.add(2 * time.Second)
	f.claimNone() // the login is over, and the logout free
	f.finish(f.claimOne())
	f.want(map[string]int{"failed": 1, "delivered": 1})
	f.drained()
}

// A URL that is corrected while the old one is asked counts at once, whatever the old one answers.
func TestCorrectionInFlight(t *testing.T) {
	for _, verdict := range []webhook.Verdict{webhook.Retry, webhook.Failed, webhook.Gone} {
		t.Run(string(verdict), func(t *testing.T) {
			f := open(t)
			k := f.agent()
			id := f.register(k, crm, gen.EventTypeAgentLogin)[0]
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
			f.drained()
		})
	}
}

// A claim is fair over receivers and takes no more of one than it may.
func TestClaimIsFair(t *testing.T) {
	f := open(t)
	for id := range int64(20) {
		k := f.agentN(id + 1)
		f.register(k, crm, gen.EventTypeAgentLogin)
		f.login(k)
	}
	last := f.agentN(21)
	f.register(last, board, gen.EventTypeAgentLogin)
	f.login(last)

	asked := 0
	claimed, next, err := f.Claim(f.ctx, webhook.ClaimLimits{Lanes: 4, PerReceiver: 3, Take: func(int64) bool {
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
		t.Errorf("%d claimed for the receiver with one lane, want 1", boards)
	}
	claimed, _, err = f.Claim(f.ctx, webhook.ClaimLimits{
		Lanes: 100, PerReceiver: 100, Full: []int64{claimed[0].Receiver}, Take: func(int64) bool { return true },
	})
	f.check(err)
	for _, d := range claimed {
		if d.URL == board {
			t.Errorf("claimed for a full receiver: %+v", d)
		}
	}
}

func TestNextDue(t *testing.T) {
	f := open(t)
	k := f.agent()
	room := webhook.ClaimLimits{Lanes: 10, PerReceiver: 10, Take: func(int64) bool { return true }}
	if _, next, err := f.Claim(f.ctx, room); err != nil || next >= 0 {
		t.Errorf("next %v, %v; want none", next, err)
	}
	f.register(k, crm, gen.EventTypeAgentLogin)
	f.login(k)
	f.record(f.claimOne(), webhook.Retry, true)
	if _, next, err := f.Claim(f.ctx, room); err != nil || next != 5*time.Second {
		t.Errorf("next %v, %v; want 5s", next, err)
	}
}

// A look at what changes have made due does not find what was left before, and the next look at all lanes does.
func TestClaimOfFreshLanes(t *testing.T) {
	f := open(t)
	k, other := f.agent(), store.AgentKey{Client: "12", Type: gen.AgentTypeLocal, ID: 137}
	name := "000*095@ringme.ru"
	_, _, err := f.PutAgent(f.ctx, other, store.AgentUpdate{Name: &name})
	f.check(err)
	f.register(k, crm, both...)
	f.register(other, board, both...)
	f.login(k)
	refuse := func(int64) bool { return false }
	accept := func(int64) bool { return true }
	refused := f.claimFresh(refuse)
	f.login(other)
	fresh := f.claimFresh(accept)
	if len(refused) != 0 || len(fresh) != 1 || fresh[0].URL != board {
		t.Fatalf("claimed %+v, then %+v; want nothing, then what has changed since", refused, fresh)
	}
	if again := f.claimFresh(accept); len(again) != 0 {
		t.Fatalf("claimed %+v, which nobody has changed", again)
	}
	if d := f.claimOne(); d.URL != crm {
		t.Errorf("claimed %+v, want what was left", d)
	}
	f.record(fresh[0], webhook.Retry, true) // that it is due again is nothing that a change has made
	f.clock.add(5 * time.Second)
	if d := f.claimFresh(accept); len(d) != 1 || d[0].ID != fresh[0].ID {
		t.Errorf("claimed %+v, want the one that is due again: its result has asked for a look at all", d)
	}
}

// claimFresh looks only at what changes have made due, if nothing else has asked for more.
func (f *fixture) claimFresh(take func(int64) bool) []webhook.Delivery {
	f.t.Helper()
	claimed, _, err := f.Claim(f.ctx, webhook.ClaimLimits{Fresh: true, Lanes: 1000, PerReceiver: 100, Take: take})
	f.check(err)
	return claimed
}

// The first look after a start is at all lanes: what was under way before, nobody has changed since.
func TestFirstClaimLooksAtAllLanes(t *testing.T) {
	f := open(t)
	k := f.agent()
	f.register(k, crm, both...)
	f.login(k)
	before := f.claimOne()
	f.crash()
	if d := f.claimFresh(func(int64) bool { return true }); len(d) != 1 || d[0].ID != before.ID {
		t.Errorf("claimed %+v, want what was in flight", d)
	}
}

// A look at what changes have made due passes over receivers that have no slot, and is not full of them.
func TestClaimOfFreshLanesLeavesOutFullReceivers(t *testing.T) {
	f := open(t)
	f.lanes("1", 1, 2, crm)
	f.lanes("2", 1, 2, crm)
	f.lanes("3", 1, 1, crm)
	claimed, _, err := f.Claim(f.ctx, webhook.ClaimLimits{
		Fresh: true, Lanes: 2, PerReceiver: 100, Full: []int64{f.receiverOf("1"), f.receiverOf("2")},
		Take: func(r int64) bool { return r == f.receiverOf("3") },
	})
	f.check(err)
	if len(claimed) != 1 || claimed[0].Receiver != f.receiverOf("3") {
		t.Errorf("claimed %+v, want the one of the receiver that has room", claimed)
	}
}

func (f *fixture) receiverOf(client string) (id int64) {
	f.t.Helper()
	db := f.db()
	defer db.Close()
	f.check(db.QueryRow(pgtest.Numbered("SELECT id FROM receivers WHERE client_id = ?"), client).Scan(&id))
	return id
}

// Who goes on in its lane and has closed a breaker by that lets all other lanes of the receiver come up at once.
func TestGoingOnWakesTheOtherLanesOfTheReceiver(t *testing.T) {
	f := open(t)
	f.lanes("1", 1, 2, crm)
	for range webhook.BreakerThreshold {
		f.get(f.oneLane(), answer(0))
		f.clock.add(time.Hour)
	}
	probe := f.oneLane()
	for len(f.Due()) > 0 {
		<-f.Due()
	}
	f.logout(store.AgentKey{Client: "1", Type: gen.AgentTypeLocal, ID: agentOf(f, probe)})
	for len(f.Due()) > 0 {
		<-f.Due()
	}
	if next := f.get(probe, answer(200)); next == nil {
		t.Fatal("the lane does not go on")
	}
	if len(f.Due()) == 0 {
		t.Error("nobody was told that the receiver is back")
	}
}

func agentOf(f *fixture, d webhook.Delivery) int64 {
	id, err := strconv.ParseInt(d.Data.AgentID, 10, 64)
	f.check(err)
	return id
}

// A lane that is astray is found and mended among very many that are not.
func TestRepairLanesWithABacklog(t *testing.T) {
	f := open(t)
	f.register(f.agent(), crm, gen.EventTypeAgentLogin)
	f.login(store.AgentKey{Client: "12", Type: gen.AgentTypeLocal, ID: 136})
	f.sql(`WITH RECURSIVE g (n) AS (SELECT 1 UNION ALL SELECT n + 1 FROM g WHERE n < 16000)
		INSERT INTO lanes (receiver_id, kind, agent_id, pending, due_at) SELECT l.receiver_id, l.kind, 100000 + n, 1,
			l.due_at FROM lanes l, g`)
	f.sql(`INSERT INTO deliveries (webhook_id, change_id, event_id, lane_id, url, method, state, due_at,
		expires_at, created_at, client_id)
		SELECT 'msg_' || l.id, d.change_id, d.event_id, l.id, d.url, d.method, d.state, d.due_at, d.expires_at,
			d.created_at, d.client_id
		FROM deliveries d, lanes l WHERE l.id <> d.lane_id`)
	f.sql("UPDATE lanes SET pending = 2 WHERE agent_id = 100007")
	if n, err := f.RepairLanes(f.ctx); n != 1 || err != nil {
		t.Errorf("%d lanes were mended: %v", n, err)
	}
	if n := f.count("SELECT count(*) FROM lanes WHERE pending <> 1"); n != 0 {
		t.Errorf("%d lanes are astray", n)
	}
}
