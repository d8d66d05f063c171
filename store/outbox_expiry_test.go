package store_test

import (
	"strings"
	"testing"
	"time"

	"github.com/agentevents/agentevents/gen"
	"github.com/agentevents/agentevents/store"
	"github.com/agentevents/agentevents/webhook"
)

// expiredLine is the line about the first delivery of agent 136, at secretURL.
const expiredLine = `level=WARN msg="delivery expired" client=12 agent_type=local agent_id=136 event=1 ` +
	`delivery=1 sequence=1 webhook_id=msg_…`

// mendAll runs the safety net, which finds no lane to repair.
func (f *fixture) mendAll() {
	f.t.Helper()
	if n, err := f.RepairLanes(f.ctx); err != nil || n != 0 {
		f.t.Errorf("mended %d lanes, %v", n, err)
	}
}

// TestNeverTriedHasOneAttempt has the window of deliveries end before any attempt, as where the server was off for
// two days. Each has one, in order; one that fails then has expired.
func TestNeverTriedHasOneAttempt(t *testing.T) {
	f, log := journaled(t)
	k := f.agent()
	f.register(k, secretURL, both...)
	f.login(k)
	f.logout(k)
	f.login(k)
	f.clock.add(48 * time.Hour)
	f.restart()
	f.mendAll()
	f.want(map[string]int{"pending": 3})
	first := f.claimOne()
	if next := f.record(first, webhook.Retry, true); next != nil {
		t.Errorf("went on with %+v", next)
	}
	log.says()
	second := f.claimAfter(first.ID)
	log.says(expiredLine + atCRM + "attempts=1")
	third := f.record(second, webhook.Delivered, true)
	if third == nil || third.Sequence != 3 {
		t.Fatalf("went on with %+v, want change 3", third)
	}
	f.finish(*third)
	f.want(map[string]int{"failed": 1, "delivered": 2})
	f.wantCounts(store.Counts{Failed: 1, Expired: 1, Delivered: 2})
	f.drained()
}

// claimAfter claims until a delivery other than one is handed out.
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
	f.t.Fatal("nothing is due")
	return webhook.Delivery{}
}

// TestChangesOfAWrongClockAreTried has changes be made while the clock is a day behind, which a short window makes
// look old as soon as it is right.
func TestChangesOfAWrongClockAreTried(t *testing.T) {
	f, log := journaled(t)
	f.watchClock()
	f.clock.add(-25 * time.Hour)
	f.watchClock()
	f.lanes("12", 1, 77, crm)
	f.clock.add(25 * time.Hour)
	f.watchClock()
	f.mendAll()
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
	f.drained()
}

// TestWindowCountsWhileAReceiverIsDown has what was never tried expire behind a breaker, by the safety net or by a
// claim.
func TestWindowCountsWhileAReceiverIsDown(t *testing.T) {
	for name, expire := range map[string]func(*fixture){
		"the safety net": (*fixture).mendAll,
		"claims": func(f *fixture) {
			for range 7 {
				f.claimNone()
			}
		},
	} {
		t.Run(name, func(t *testing.T) {
			f, log := journaled(t)
			f.lanes("12", 1, 7, secretURL)
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
			f.drained()
		})
	}
}

// TestWindowCountsWhileAnEventIsDisabled has what is parked expire, by the safety net or when its event is enabled.
func TestWindowCountsWhileAnEventIsDisabled(t *testing.T) {
	for name, expire := range map[string]func(f *fixture, k store.AgentKey){
		"the safety net": func(f *fixture, _ store.AgentKey) { f.mendAll() },
		"when it is enabled": func(f *fixture, k store.AgentKey) {
			f.state(k, 1, gen.AgentEventStateValueEnabled)
			f.claimNone()
		},
	} {
		t.Run(name, func(t *testing.T) {
			f, log := journaled(t)
			k := f.agent()
			f.register(k, secretURL, gen.EventTypeAgentLogin)
			f.state(k, 1, gen.AgentEventStateValueDisabled)
			f.login(k)
			f.clock.add(25 * time.Hour)
			expire(f, k)
			log.says(expiredLine + atCRM + "attempts=0")
			f.want(map[string]int{"failed": 1})
			f.wantCounts(store.Counts{Logins: 1, Failed: 1, Expired: 1})
			f.drained()
		})
	}
}

// However many have expired, in as many lanes, one look fails all of them, in more than one commit.
func TestManyExpireAtOnce(t *testing.T) {
	f := open(t)
	f.agent()
	const agents = 250
	for id := range int64(agents) {
		k := f.agentN(id + 1000)
		for _, event := range f.register(k, crm, gen.EventTypeAgentLogin) {
			f.state(k, event, gen.AgentEventStateValueDisabled)
		}
		f.login(k)
	}
	f.clock.add(25 * time.Hour)
	f.mendAll()
	f.want(map[string]int{"failed": agents})
	f.drained()
}

// TestRedeliveredHasOneAttempt: what is redelivered begins again, so that it is tried although its window is over
// once more.
func TestRedeliveredHasOneAttempt(t *testing.T) {
	f, _ := journaled(t)
	k := f.agent()
	f.register(k, secretURL, gen.EventTypeAgentLogin)
	f.login(k)
	f.record(f.claimOne(), webhook.Failed, false)
	f.redeliver(1)
	f.clock.add(48 * time.Hour)
	f.mendAll()
	d := f.claimOne()
	f.record(d, webhook.Retry, false)
	f.claimNone()
	f.want(map[string]int{"failed": 1})
	f.drained()
}

// TestWindowCountsWhileAReceiverPauses has a receiver take one request an hour. What is over does not wait for its
// turn.
func TestWindowCountsWhileAReceiverPauses(t *testing.T) {
	f := open(t)
	f.lanes("12", 1, 50, crm)
	for range 26 {
		if claimed := f.claim(); len(claimed) > 0 {
			f.get(claimed[0], busy(429, time.Hour))
			for _, d := range claimed[1:] {
				f.check(f.Release(f.ctx, d))
			}
		}
		f.clock.add(time.Hour - time.Second)
		f.mendAll()
		f.clock.add(time.Second)
	}
	if states := f.states(); states["pending"] > 1 {
		t.Errorf("after 26 hours: %v", states)
	}
}
