package store_test

import (
	"strings"
	"testing"
	"time"

	"github.com/agentevents/agentevents/gen"
	"github.com/agentevents/agentevents/store"
	"github.com/agentevents/agentevents/webhook"
)

// expiredLine is the log line about the first delivery of agent 136, at secretURL.
const expiredLine = `level=WARN msg="delivery expired" client=12 agent_type=local agent_id=136 event=1 ` +
	`delivery=1 sequence=1 webhook_id=msg_…`

// repairNone runs RepairLanes, which must find no inconsistent lane.
func (f *fixture) repairNone() {
	f.t.Helper()
	if n, err := f.RepairLanes(f.ctx); err != nil || n != 0 {
		f.t.Errorf("repaired %d lanes, %v", n, err)
	}
}

// The window ends before any attempt, as after a stop of two days. Each delivery has one attempt, in order. If that
// fails, the delivery expires.
func TestExpiredDeliveryHasAnAttemptFirst(t *testing.T) {
	f, log := openWithLog(t)
	k := f.agent()
	f.createEvents(k, secretURL, both...)
	f.login(k)
	f.logout(k)
	f.login(k)
	f.clock.add(48 * time.Hour)
	f.restart()
	f.repairNone()
	f.want(map[string]int{"pending": 3})
	first := f.claimOne()
	if next := f.record(first, webhook.Retry, true); next != nil {
		t.Errorf("the lane continued with %+v", next)
	}
	log.wantLines()
	second := f.claimAfter(first.ID)
	log.wantLines(expiredLine + atCRM + "attempts=1")
	third := f.record(second, webhook.Delivered, true)
	if third == nil || third.Sequence != 3 {
		t.Fatalf("the lane continued with %+v, want change 3", third)
	}
	f.finish(*third)
	f.want(map[string]int{"failed": 1, "delivered": 2})
	f.wantCounts(store.Counts{Failed: 1, Expired: 1, Delivered: 2})
	f.wantDrained()
}

// claimAfter claims until a delivery other than the given one is due.
func (f *fixture) claimAfter(id int64) webhook.Delivery {
	f.t.Helper()
	for range 3 {
		if claimed := f.claim(); len(claimed) > 0 {
			if claimed[0].ID == id {
				f.t.Fatalf("delivery %d is handed out again", id)
			}
			return claimed[0]
		}
	}
	f.t.Fatal("no delivery is due")
	return webhook.Delivery{}
}

// The changes are stored while the clock is a day behind. Their windows are over as soon as the clock is right.
func TestChangesOfAWrongClockAreTried(t *testing.T) {
	f, log := openWithLog(t)
	f.watchClock()
	f.clock.add(-25 * time.Hour)
	f.watchClock()
	f.createLanes("12", 1, 77, crm)
	f.clock.add(25 * time.Hour)
	f.watchClock()
	f.repairNone()
	if text := strings.Join(log.take(), ""); strings.Contains(text, "expired") {
		t.Errorf("the log says %s", text)
	}
	claimed := f.claim()
	if len(claimed) != 77 {
		t.Errorf("claimed %d deliveries, want 77", len(claimed))
	}
	for _, d := range claimed {
		f.finish(d)
	}
	f.want(map[string]int{"delivered": 77})
	f.wantDrained()
}

// Deliveries without an attempt expire behind an open breaker, by RepairLanes or by a claim.
func TestDeliveriesExpireWhileTheirReceiverIsDown(t *testing.T) {
	for name, expire := range map[string]func(*fixture){
		"RepairLanes": (*fixture).repairNone,
		"claims": func(f *fixture) {
			for range 7 {
				f.claimNone()
			}
		},
	} {
		t.Run(name, func(t *testing.T) {
			f, log := openWithLog(t)
			f.createLanes("12", 1, 7, secretURL)
			f.openBreaker()
			log.take()
			f.clock.add(25 * time.Hour)
			expire(f)
			f.want(map[string]int{"failed": 7})
			lines := strings.Join(log.take(), "\n")
			if strings.Count(lines, "delivery expired") != 7 || strings.Count(lines, "attempts=0") != 2 ||
				strings.Contains(lines, secret) {
				t.Errorf("the log has\n%s", lines)
			}
			f.wantCounts(store.Counts{Logins: 7, Failed: 7, Expired: 7, BreakerOpenings: 1})
			f.wantDrained()
		})
	}
}

// Parked deliveries expire by RepairLanes, or when their event is enabled.
func TestParkedDeliveriesExpire(t *testing.T) {
	for name, expire := range map[string]func(f *fixture, k store.AgentKey){
		"RepairLanes": func(f *fixture, _ store.AgentKey) { f.repairNone() },
		"when it is enabled": func(f *fixture, k store.AgentKey) {
			f.state(k, 1, gen.AgentEventStateValueEnabled)
			f.claimNone()
		},
	} {
		t.Run(name, func(t *testing.T) {
			f, log := openWithLog(t)
			k := f.agent()
			f.createEvents(k, secretURL, gen.EventTypeAgentLogin)
			f.state(k, 1, gen.AgentEventStateValueDisabled)
			f.login(k)
			f.clock.add(25 * time.Hour)
			expire(f, k)
			log.wantLines(expiredLine + atCRM + "attempts=0")
			f.want(map[string]int{"failed": 1})
			f.wantCounts(store.Counts{Logins: 1, Failed: 1, Expired: 1})
			f.wantDrained()
		})
	}
}

// One call fails all expired deliveries, in any number of lanes and in more than one commit.
func TestRepairLanesFailsAllExpiredDeliveries(t *testing.T) {
	f := open(t)
	f.agent()
	const agents = 250
	for id := range int64(agents) {
		k := f.agentN(id + 1000)
		for _, event := range f.createEvents(k, crm, gen.EventTypeAgentLogin) {
			f.state(k, event, gen.AgentEventStateValueDisabled)
		}
		f.login(k)
	}
	f.clock.add(25 * time.Hour)
	f.repairNone()
	f.want(map[string]int{"failed": agents})
	f.wantDrained()
}

// A redelivery begins a new window without an attempt.
func TestExpiredRedeliveryHasAnAttemptFirst(t *testing.T) {
	f, _ := openWithLog(t)
	k := f.agent()
	f.createEvents(k, secretURL, gen.EventTypeAgentLogin)
	f.login(k)
	f.record(f.claimOne(), webhook.Failed, false)
	f.redeliver(1)
	f.clock.add(48 * time.Hour)
	f.repairNone()
	d := f.claimOne()
	f.record(d, webhook.Retry, false)
	f.claimNone()
	f.want(map[string]int{"failed": 1})
	f.wantDrained()
}

// The receiver accepts one request an hour. Expired deliveries do not wait for their turn.
func TestDeliveriesExpireWhileTheirReceiverPauses(t *testing.T) {
	f := open(t)
	f.createLanes("12", 1, 50, crm)
	for range 26 {
		if claimed := f.claim(); len(claimed) > 0 {
			f.recordAnswer(claimed[0], busy(429, time.Hour))
			for _, d := range claimed[1:] {
				f.check(f.Release(f.ctx, d))
			}
		}
		f.clock.add(time.Hour - time.Second)
		f.repairNone()
		f.clock.add(time.Second)
	}
	if states := f.states(); states["pending"] > 1 {
		t.Errorf("after 26 hours: %v", states)
	}
}
