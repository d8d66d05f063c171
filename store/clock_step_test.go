package store_test

import (
	"bytes"
	"log/slog"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/agentevents/agentevents/gen"
	"github.com/agentevents/agentevents/store"
	"github.com/agentevents/agentevents/store/pgtest"
	"github.com/agentevents/agentevents/webhook"
)

// maxAhead is the step of the clock in these tests. It is shorter than the longest delay, so that no time counts as
// wrong.
const maxAhead = 40 * time.Minute

// retry records an answer that delays a delivery by 5 s and says nothing about its receiver.
func retry(f *fixture, d webhook.Delivery) {
	f.recordAnswer(d, busy(http.StatusTooEarly, 5*time.Second))
}

// logins creates agents with one event each, and logs them in.
func (f *fixture) logins(n int64) {
	f.t.Helper()
	for id := range n {
		k := f.agentN(id + 1)
		f.createEvents(k, crm, gen.EventTypeAgentLogin)
		f.login(k)
	}
}

// Deliveries fail while the clock is ahead. After the step back, each is due after its own delay, whatever is behind it
// in its lane.
func TestDelaysSurviveAStepBackOfTheClock(t *testing.T) {
	for name, after := range map[string]func(*fixture){
		"while it runs": (*fixture).watchClock,
		"while it is off": func(f *fixture) {
			f.clock.add(maxAhead)
			f.watchClock()
			f.clock.add(-maxAhead)
			f.restart()
		},
	} {
		t.Run(name, func(t *testing.T) {
			f := open(t)
			const agents = 510 // more than one commit changes
			f.logins(agents)
			f.watchClock()
			f.clock.add(maxAhead)
			f.watchClock()
			for _, d := range f.claimAll() {
				retry(f, d)
			}
			f.createLanes("12", 1000, 1, board)
			k := store.AgentKey{Client: "12", Type: gen.AgentTypeLocal, ID: 1}
			f.createEvents(k, crm, gen.EventTypeAgentLogout)
			f.logout(k) // behind a delivery that is retried
			f.clock.add(-maxAhead)
			after(f)
			if claimed := f.claim(); len(claimed) != 1 {
				t.Errorf("%d deliveries are due at once, want the one without an attempt", len(claimed))
			}
			f.clock.add(5 * time.Second)
			claimed := f.claimAll()
			if len(claimed) != agents {
				t.Errorf("%d deliveries are due after their delay, want %d", len(claimed), agents)
			}
			for _, d := range claimed {
				f.finish(d)
			}
			if left := f.states()["pending"]; left != 1 {
				t.Errorf("%d deliveries are pending, want the one in flight", left)
			}
			f.verify()
		})
	}
}

// Workers keep their lanes as long as they may send. The lanes of a dead worker are free a lease later.
func TestLeasesSurviveAStepBackOfTheClock(t *testing.T) {
	f := open(t)
	f.createLanes("12", 1, 2, crm)
	f.watchClock()
	f.clock.add(maxAhead)
	held := f.claim()
	f.clock.add(-maxAhead)
	f.watchClock()
	f.clock.add(leaseTime - time.Millisecond)
	f.claimNone()
	f.finish(held[0])
	f.clock.add(time.Millisecond)
	if again := f.claimOne(); again.ID != held[1].ID {
		t.Errorf("claimed %d, want %d", again.ID, held[1].ID)
	}
	f.verify()
}

// The breaker and the pause keep the rest of their waits.
func TestReceiversWaitsSurviveAStepBackOfTheClock(t *testing.T) {
	f := open(t)
	f.createLanes("12", 1, 6, crm)
	f.createLanes("12", 20, 1, board)
	f.watchClock()
	f.clock.add(maxAhead)
	for _, d := range f.claim() {
		if d.URL == board {
			f.recordAnswer(d, busy(429, 10*time.Minute))
		} else {
			f.recordAnswer(d, answer(0))
		}
	}
	f.createLanes("12", 30, 1, crm) // not tried yet, and blocked by the breaker
	f.clock.add(-maxAhead)
	f.watchClock()
	f.claimNone()
	f.clock.add(5 * time.Second)
	probe := f.claimOne()
	if probe.URL != crm {
		t.Errorf("claimed %s", probe.URL)
	}
	f.clock.add(-maxAhead) // during the probe
	f.watchClock()
	f.recordAnswer(probe, answer(204))
	f.clock.add(10*time.Minute - 6*time.Second)
	for _, d := range f.claim() {
		if d.URL == board {
			t.Error("the pause that the receiver asked for is cut short")
		}
	}
	f.clock.add(6 * time.Second)
	if d := f.claimOne(); d.URL != board {
		t.Errorf("claimed %s", d.URL)
	}
	f.verify()
}

// Two processes notice the same step.
func TestOneProcessSubtractsAStepOfTheClock(t *testing.T) {
	pgtest.PostgresOnly(t, "several processes share a database there")
	f := open(t)
	other, err := store.Open(f.ctx, store.Options{URL: f.url, Now: f.clock.Now})
	f.check(err)
	defer other.Close()
	f.createLanes("12", 1, 1, crm)
	f.watchClock()
	f.clock.add(maxAhead)
	f.check(other.WatchClock(f.ctx))
	d := f.claimOne()
	o := webhook.Outcome{
		Attempt: webhook.Attempt{StartedAt: f.clock.Now(), Verdict: webhook.Retry}, Delay: maxAhead + time.Minute,
	}
	_, err = f.Record(f.ctx, d, o, false)
	f.check(err)
	f.clock.add(-maxAhead)
	f.watchClock()
	f.check(other.WatchClock(f.ctx))
	f.clock.add(maxAhead + time.Minute - time.Millisecond)
	f.claimNone()
	f.clock.add(time.Millisecond)
	f.claimOne()
}

// The line has the size of the step. A small difference is no step.
func TestClockStepIsLogged(t *testing.T) {
	var log bytes.Buffer
	f := open(t)
	f.log = slog.New(slog.NewTextHandler(&log, nil))
	f.restart()
	for _, step := range []time.Duration{0, time.Second, time.Hour, -time.Second, 12 * time.Second} {
		f.clock.add(step)
		f.watchClock()
	}
	if log.Len() > 0 {
		t.Errorf("the log says %s", log.String())
	}
	f.clock.add(-maxAhead)
	f.watchClock()
	f.watchClock()
	if text := log.String(); strings.Count(text, "\n") != 1 ||
		!strings.Contains(text, "level=WARN msg=\"clock stepped back\" by=40m0s") {
		t.Errorf("the log says %s", text)
	}
}

// The step is subtracted when the database is back.
func TestStepOfTheClockSurvivesADatabaseFailure(t *testing.T) {
	f := open(t)
	f.createLanes("12", 1, 1, crm)
	f.watchClock()
	f.clock.add(maxAhead)
	retry(f, f.claimOne())
	f.clock.add(-maxAhead)
	broken := true
	f.BeforeStatements(func() error {
		if broken {
			return brokenDisk()
		}
		return nil
	})
	if err := f.WatchClock(f.ctx); err == nil {
		t.Error("the failure was not returned")
	}
	broken = false
	f.watchClock()
	f.clock.add(5 * time.Second)
	f.claimOne()
}

func TestPruningContinuesAfterAStepBackOfTheClock(t *testing.T) {
	f := open(t)
	f.keepRows = 1
	f.restart()
	f.clock.add(48 * time.Hour)
	f.check(f.PruneAll(f.ctx))
	f.clock.add(-48 * time.Hour)
	f.changeStatus(f.agent(), 10)
	f.check(f.PruneAll(f.ctx))
	if n := f.count("SELECT count(*) FROM status_changes"); n != 1 {
		t.Errorf("%d changes are kept, want 1", n)
	}
}

func (f *fixture) watchClock() {
	f.t.Helper()
	f.check(f.WatchClock(f.ctx))
}

// claimAll claims all due lanes, without a limit for each receiver.
func (f *fixture) claimAll() []webhook.Delivery {
	f.t.Helper()
	claimed, _, err := f.Claim(f.ctx, webhook.ClaimLimits{
		Lanes: 10_000, PerReceiver: 10_000, Take: func(string, int64) bool { return true },
	})
	f.check(err)
	return claimed
}
