package store_test

import (
	"testing"
	"time"

	"github.com/agentevents/agentevents/gen"
	"github.com/agentevents/agentevents/store"
	"github.com/agentevents/agentevents/webhook"
)

const (
	enabled  = gen.AgentEventStateValueEnabled
	disabled = gen.AgentEventStateValueDisabled
)

func (f *fixture) state(k store.AgentKey, event int64, to gen.AgentEventStateValue) gen.AgentEventState {
	f.t.Helper()
	st, err := f.SetEventState(f.ctx, k, event, to)
	f.check(err)
	return st
}

// want compares the number of deliveries in each state; states without a name must have none.
func (f *fixture) want(want map[string]int) {
	f.t.Helper()
	got := f.states()
	for state, n := range got {
		if want[state] != n {
			f.t.Errorf("%d deliveries are %s, want %d: %v", n, state, want[state], got)
		}
	}
	for state, n := range want {
		if got[state] != n {
			f.t.Errorf("%d deliveries are %s, want %d: %v", got[state], state, n, got)
		}
	}
}

func TestEventStateHasReasonAndTime(t *testing.T) {
	f := open(t)
	k := f.agent()
	id := f.createEvents(k, crm, gen.EventTypeAgentLogin)[0]
	since := f.clock.Now()
	check := func(got gen.AgentEventState, state gen.AgentEventStateValue, reason string) {
		t.Helper()
		if got.State != state || got.Reason != reason || !got.Since.Equal(since) {
			t.Errorf("%+v, want %s for %q since %v", got, state, reason, since)
		}
	}
	st, err := f.EventState(f.ctx, k, id)
	f.check(err)
	check(st, enabled, "")
	f.clock.add(time.Minute)
	check(f.state(k, id, enabled), enabled, "") // unchanged
	f.clock.add(time.Minute)
	since = f.clock.Now()
	check(f.state(k, id, disabled), disabled, "disabled by a request")
	f.clock.add(time.Minute)
	check(f.state(k, id, disabled), disabled, "disabled by a request")
	since = f.clock.Now()
	check(f.state(k, id, enabled), enabled, "")
	if _, err := f.SetEventState(f.ctx, k, id+1, enabled); err == nil {
		t.Error("no error for a missing event")
	}
}

// Parked deliveries block no other. New changes are parked, too, and all return to their places.
func TestDisabledEventParksItsDeliveries(t *testing.T) {
	f := open(t)
	k := f.agent()
	off := f.createEvents(k, crm, both...)
	f.createEvents(k, crm+"/other", both...)
	f.login(k) // 1 and 2
	for _, id := range off {
		f.state(k, id, disabled)
	}
	f.logout(k) // 3 and 4
	f.want(map[string]int{"parked": 2, "pending": 2})
	other := f.claimOne()
	if other.ID != 2 {
		t.Fatalf("claimed %+v, want the other event's", other)
	}
	for _, id := range off {
		f.state(k, id, enabled)
	}
	f.claimNone()
	for _, want := range []int64{1, 3, 4} { // the first one is older than the delivery in flight
		next := f.record(other, webhook.Delivered, true)
		if next == nil || next.ID != want {
			t.Fatalf("next %+v, want %d", next, want)
		}
		other = *next
	}
	f.finish(other)
	f.want(map[string]int{"delivered": 4})
	f.wantDrained()
}

// The disabled event's head waited for its retry.
func TestDisablingAnEventMakesTheNextDeliveryDue(t *testing.T) {
	f := open(t)
	k := f.agent()
	off := f.createEvents(k, crm, gen.EventTypeAgentLogin)[0]
	f.createEvents(k, crm, gen.EventTypeAgentLogin)
	f.login(k)
	f.record(f.claimOne(), webhook.Retry, true)
	f.claimNone()
	f.state(k, off, disabled)
	f.finish(f.claimOne())
	f.wantDrained()
	f.state(k, off, enabled)
	f.finish(f.claimOne()) // at once, without its earlier delay
	f.wantDrained()
}

// The result of a delivery counts although its event was disabled during the flight.
func TestResultOfAParkedDeliveryCounts(t *testing.T) {
	for _, test := range []struct {
		verdict webhook.Verdict
		parked  string
		again   bool
	}{
		{webhook.Delivered, "delivered", false},
		{webhook.Failed, "failed", false},
		{webhook.Gone, "failed", false},
		{webhook.Retry, "parked", true},
	} {
		t.Run(string(test.verdict), func(t *testing.T) {
			f := open(t)
			k := f.agent()
			id := f.createEvents(k, crm, gen.EventTypeAgentLogin)[0]
			f.login(k)
			d := f.claimOne()
			f.state(k, id, disabled)
			f.want(map[string]int{"parked": 1})
			f.record(d, test.verdict, true)
			f.want(map[string]int{test.parked: 1})
			f.claimNone()
			if st := f.state(k, id, disabled); st.Reason != "disabled by a request" {
				t.Errorf("reason: %q", st.Reason)
			}
			f.state(k, id, enabled)
			if test.again {
				again := f.claimOne()
				if again.Attempt != 2 || again.WebhookID != d.WebhookID {
					t.Errorf("again: %+v", again)
				}
				f.finish(again)
			}
			f.claimNone()
			f.wantDrained()
		})
	}
}

func TestEventToggledDuringAFlightIsNotSentTwice(t *testing.T) {
	f := open(t)
	k := f.agent()
	id := f.createEvents(k, crm, gen.EventTypeAgentLogin)[0]
	f.login(k)
	d := f.claimOne()
	f.state(k, id, disabled)
	f.state(k, id, enabled)
	f.claimNone()
	f.finish(d)
	f.want(map[string]int{"delivered": 1})
	f.wantDrained()
}

// The new lane waits for the delivery in flight, which is first.
func TestEventMovedWhileDisabledKeepsTheOrder(t *testing.T) {
	for _, verdict := range []webhook.Verdict{webhook.Delivered, webhook.Retry, webhook.Failed, "crash"} {
		t.Run(string(verdict), func(t *testing.T) {
			f := open(t)
			k := f.agent()
			ids := f.createEvents(k, crm, both...)
			f.login(k)
			f.logout(k)
			d := f.claimOne()
			for _, id := range ids {
				f.state(k, id, disabled)
				f.redirect(k, id, board)
				f.state(k, id, enabled)
			}
			f.claimNone()
			if verdict == "crash" {
				f.crash()
			} else if next := f.record(d, verdict, true); next != nil {
				t.Fatalf("the lane continued with %+v", next)
			}
			next := f.claimOne()
			if next.URL != board || (next.ID == d.ID) != (verdict != webhook.Delivered) {
				t.Errorf("next: %+v", next)
			}
			f.finish(next)
			f.wantDrained()
		})
	}
}

func TestParkedDeliveryFollowsItsEvent(t *testing.T) {
	f := open(t)
	k := f.agent()
	id := f.createEvents(k, crm, gen.EventTypeAgentLogin)[0]
	f.createEvents(k, board, gen.EventTypeAgentLogout)
	f.state(k, id, disabled)
	f.login(k)
	f.redirect(k, id, board)
	f.logout(k)
	f.state(k, id, enabled)
	d := f.claimOne()
	if d.URL != board || d.Data.AgentStatus != gen.AgentStatusValueAvailable {
		t.Fatalf("claimed %+v, want the login before the logout", d)
	}
	f.finish(d)
	f.wantDrained()
}

// After a 410, the delivery has failed and its event is disabled. Other events at the receiver are not affected.
func TestGoneDisablesOneEvent(t *testing.T) {
	f := open(t)
	k := f.agent()
	ids := f.createEvents(k, crm, both[0], both[0])
	f.login(k)
	first := f.claimOne()
	f.logout(k)
	f.login(k)
	next := f.record(first, webhook.Gone, true)
	if next == nil || next.ID != 2 {
		t.Fatalf("next: %+v, want the other event's", next)
	}
	f.want(map[string]int{"failed": 1, "parked": 1, "pending": 2})
	st, err := f.EventState(f.ctx, k, ids[0])
	f.check(err)
	if st.State != disabled || st.Reason != "the receiver answered 410 Gone" || !st.Since.Equal(f.clock.Now()) {
		t.Errorf("state: %+v", st)
	}
	f.finish(*next)
	f.state(k, ids[0], enabled)
	f.finish(f.claimOne())
	f.want(map[string]int{"failed": 1, "delivered": 3})
	f.wantDrained()
}

func TestGoneFromAnEarlierURLDoesNotCount(t *testing.T) {
	f := open(t)
	for n, url := range []string{board, crm + "/other"} {
		k := f.agentN(int64(n) + 1)
		id := f.createEvents(k, crm, gen.EventTypeAgentLogin)[0]
		f.login(k)
		d := f.claimOne()
		f.redirect(k, id, url)
		f.record(d, webhook.Gone, true)
		if st, err := f.EventState(f.ctx, k, id); err != nil || st.State != enabled {
			t.Errorf("moved to %s: %+v, %v", url, st, err)
		}
		again := f.claimOne()
		if again.ID != d.ID || again.URL != url {
			t.Errorf("again: %+v", again)
		}
		f.finish(again)
	}
	f.want(map[string]int{"delivered": 2})
	f.wantDrained()
}

func TestDeletionCancelsParkedDeliveries(t *testing.T) {
	f := open(t)
	k := f.agent()
	id := f.createEvents(k, crm, gen.EventTypeAgentLogin)[0]
	f.login(k)
	d := f.claimOne()
	f.state(k, id, disabled)
	f.logout(k)
	f.login(k)
	f.check(f.DeleteEvent(f.ctx, k, id))
	f.want(map[string]int{"cancelled": 2})
	f.record(d, webhook.Delivered, true)
	f.want(map[string]int{"cancelled": 2})
	f.wantDrained()
}

// The window also ends while an event is disabled or a breaker is open, but not for a delivery in flight.
func TestWindowEndsForWaitingDeliveries(t *testing.T) {
	f := open(t)
	k := f.agent()
	off := f.createEvents(k, board, gen.EventTypeAgentLogin)[0]
	f.state(k, off, disabled)
	f.login(k)
	f.createLanes("12", 1000, 300, crm)
	f.sql("UPDATE receivers SET failures = 5, waits = 9999999999999 WHERE host = 'crm.example'")
	f.sql("UPDATE event_versions SET url = '" + crm + "' WHERE id = (SELECT version_id FROM deliveries WHERE id = 2)")
	f.clock.add(24*time.Hour - time.Millisecond)
	if n, err := f.RepairLanes(f.ctx); err != nil || n != 0 {
		t.Fatalf("repaired %d lanes, %v", n, err)
	}
	f.want(map[string]int{"parked": 1, "pending": 300})
	f.sql("UPDATE receivers SET failures = 0, waits = NULL")
	inFlight := f.claimOneLane()
	f.sql("UPDATE receivers SET failures = 5, waits = 9999999999999 WHERE host = 'crm.example'")
	f.clock.add(time.Millisecond)
	if n, err := f.RepairLanes(f.ctx); err != nil || n != 0 {
		t.Fatalf("repaired %d lanes, %v", n, err)
	}
	f.want(map[string]int{"failed": 300, "pending": 1})
	f.finish(inFlight)
	f.want(map[string]int{"failed": 300, "delivered": 1})
	f.state(k, off, enabled)
	f.claimNone()
	f.wantDrained()
}
