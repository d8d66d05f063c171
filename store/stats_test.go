package store_test

import (
	"errors"
	"fmt"
	"testing"
	"time"

	"github.com/agentevents/agentevents/gen"
	"github.com/agentevents/agentevents/store"
	"github.com/agentevents/agentevents/webhook"
)

func (f *fixture) wantStats(want store.Stats) {
	f.t.Helper()
	got, err := f.Stats(f.ctx)
	f.check(err)
	if got != want {
		f.t.Errorf("stats are %+v, want %+v", got, want)
	}
}

func (f *fixture) wantCounts(want store.Counts) {
	f.t.Helper()
	if got := f.Counts(); got != want {
		f.t.Errorf("counts are %+v, want %+v", got, want)
	}
}

func TestStatsMeasureDueLanes(t *testing.T) {
	f := open(t)
	f.wantStats(store.Stats{})
	f.createLanes("12", 1, 3, "http://a.example/")
	f.clock.add(time.Minute)
	f.createLanes("13", 1, 2, "http://b.example/")
	f.wantStats(store.Stats{Ready: store.Backlog{Lanes: 5, Oldest: time.Minute}, Pending: 5})

	d := f.claimOneLane() // a delivery in flight is not due
	f.wantStats(store.Stats{Ready: store.Backlog{Lanes: 4, Oldest: time.Minute}, Pending: 5})
	f.recordAnswer(d, answer(503)) // nor is one that waits for its next attempt
	f.wantStats(store.Stats{Ready: store.Backlog{Lanes: 4, Oldest: time.Minute}, Pending: 5})
	f.clock.add(time.Hour)
	f.wantStats(store.Stats{Ready: store.Backlog{Lanes: 5, Oldest: 61 * time.Minute}, Pending: 5})
}

// Their lanes are due, but the server is not at fault.
func TestStatsSeparateReceiversThatWait(t *testing.T) {
	f := open(t)
	f.createLanes("12", 1, 7, "http://down.example/")
	for range webhook.BreakerThreshold {
		f.recordAnswer(f.claimOneLane(), answer(503))
	}
	f.clock.add(time.Second)
	f.wantStats(store.Stats{Waiting: store.Backlog{Lanes: 2, Oldest: time.Second}, Pending: 7, Breakers: 1})
	f.clock.add(time.Minute) // a probe of one lane is due
	f.wantStats(store.Stats{Waiting: store.Backlog{Lanes: 2, Oldest: 61 * time.Second}, Pending: 7, Breakers: 1})

	f.createLanes("13", 1, 2, "http://busy.example/")
	f.clock.add(time.Second)
	for _, d := range f.claim() {
		if d.URL == "http://busy.example/" {
			f.recordAnswer(d, busy(429, time.Hour))
			break
		}
	}
	before := f.clock.Now()
	f.crash() // releases the claimed lanes
	oldest := 62*time.Second + f.clock.Now().Sub(before)
	got, err := f.Stats(f.ctx)
	f.check(err)
	if want := (store.Backlog{Lanes: 3, Oldest: oldest}); got.Ready.Lanes != 0 || got.Waiting != want {
		t.Errorf("stats are %+v, want none ready and waiting %+v", got, want)
	}
}

func TestStatsCountDisabledEvents(t *testing.T) {
	f := open(t)
	k := f.agent()
	ids := f.createEvents(k, "http://a.example/", both...)
	f.login(k)
	for _, id := range ids {
		_, err := f.SetEventState(f.ctx, k, id, gen.AgentEventStateValueDisabled)
		f.check(err)
	}
	f.wantStats(store.Stats{Disabled: 2}) // parked deliveries are not pending
	_, err := f.SetEventState(f.ctx, k, ids[0], gen.AgentEventStateValueEnabled)
	f.check(err)
	f.wantStats(store.Stats{Ready: store.Backlog{Lanes: 1}, Pending: 1, Disabled: 1})
}

func TestStatsOfAFailedDatabaseAreUnavailable(t *testing.T) {
	f := open(t)
	failure := brokenDisk()
	f.BeforeStatements(func() error { return failure })
	_, err := f.Stats(f.ctx)
	failure = nil
	var known *store.Error
	if !errors.As(err, &known) || known.Kind != store.Unavailable {
		t.Errorf("the error is %v", err)
	}
}

func TestCountsMatchTheRows(t *testing.T) {
	f := open(t)
	k := f.agent()
	ids := f.createEvents(k, "http://a.example/", both...)
	f.login(k)
	f.login(k) // no change
	f.wantCounts(store.Counts{Logins: 1})
	f.record(f.claimOne(), webhook.Delivered, false)
	f.wantCounts(store.Counts{Logins: 1, Delivered: 1})
	f.logout(k)
	f.record(f.claimOne(), webhook.Failed, false)
	f.wantCounts(store.Counts{Logins: 1, Logouts: 1, Delivered: 1, Failed: 1})

	f.login(k)
	f.record(f.claimOne(), webhook.Retry, false)
	f.clock.add(25 * time.Hour) // the end of its window
	f.claimNone()
	f.wantCounts(store.Counts{Logins: 2, Logouts: 1, Delivered: 1, Failed: 2, Expired: 1})

	_, err := f.SetStatuses(f.ctx, k.Client, []gen.AgentStatusUpdateItem{
		{AgentType: k.Type, AgentID: k.ID, AgentStatus: gen.AgentStatusValueLoggedOut},
		{AgentType: k.Type, AgentID: 9, AgentStatus: gen.AgentStatusValueLoggedOut}, // refused
		{AgentType: k.Type, AgentID: k.ID, AgentStatus: gen.AgentStatusValueAvailable},
	})
	f.check(err)
	_, err = f.SetEventState(f.ctx, k, ids[1], gen.AgentEventStateValueDisabled)
	f.check(err)
	f.check(f.DeleteEvent(f.ctx, k, ids[0])) // cancels a pending delivery
	f.check(f.DeleteEvent(f.ctx, k, ids[1])) // and a parked one
	f.check(f.DeleteAgent(f.ctx, k))         // logs the agent out
	f.wantCounts(store.Counts{Logins: 3, Logouts: 3, Delivered: 1, Failed: 2, Cancelled: 2, Expired: 1})
	if got := fmt.Sprint(f.states()); got != "map[cancelled:2 delivered:1 failed:2]" {
		t.Errorf("the rows say %s", got)
	}
}

func TestCountsIncludeRepairedLanes(t *testing.T) {
	f := open(t)
	k := f.agent()
	f.createEvents(k, "http://a.example/", both...)
	f.login(k)
	f.sql("UPDATE lanes SET due_at = NULL")
	if n, err := f.RepairLanes(f.ctx); n != 1 || err != nil {
		t.Errorf("repaired %d lanes, %v", n, err)
	}
	f.wantCounts(store.Counts{Logins: 1, Repaired: 1})
}

// A failure at any statement, including the commit, counts nothing.
func TestOnlyCommitsAreCounted(t *testing.T) {
	s := &faultyFixture{fixture: openInMemory(t)}
	k := s.agent()
	s.createEvents(k, "http://a.example/", both...)
	s.BeforeStatements(s.before)
	counts := func() string { return fmt.Sprint(s.Counts()) }
	s.attempt("login", func() error {
		_, err := s.SetStatus(s.ctx, k, gen.AgentStatusUpdate{AgentStatus: gen.AgentStatusValueAvailable})
		return err
	}, counts)
	d := s.claimOne()
	s.attempt("record", func() error {
		_, err := s.Record(s.ctx, d, webhook.Outcome{Attempt: webhook.Attempt{Verdict: webhook.Delivered}}, false)
		return err
	}, counts)
	if s.failed < 10 {
		t.Errorf("only %d statements failed", s.failed)
	}
	s.wantCounts(store.Counts{Logins: 1, Delivered: 1})
}

// BenchmarkStats measures a scrape with 200,000 pending deliveries, each in a lane of its own.
func BenchmarkStats(b *testing.B) {
	const n = 200_000
	f := open(b)
	k := f.agent()
	f.createEvents(k, "http://a.example/", both...)
	f.login(k)
	f.sql(fmt.Sprintf(`WITH RECURSIVE n (i) AS (SELECT 1000 UNION ALL SELECT i + 1 FROM n WHERE i < %d)
		INSERT INTO lanes (receiver_id, kind, agent_id, pending, due_at)
		SELECT receiver_id, kind, n.i, 1, due_at FROM lanes, n WHERE lanes.id = 1`, n+998))
	f.sql(`INSERT INTO deliveries (webhook_id, change_id, event_id, lane_id, version_id, state, due_at,
		expires_at, created_at)
		SELECT 'msg', 1, 1, l.id, 1, 'pending', l.due_at, l.due_at, l.due_at
			FROM lanes l WHERE l.id > 1`)
	for b.Loop() {
		m, err := f.Stats(f.ctx)
		if err != nil || m.Pending != n || m.Ready.Lanes != n {
			b.Fatal(m, err)
		}
	}
}

// Later deliveries and deletions do not change the due time of a lane that is due.
func TestDueLaneKeepsItsDueTime(t *testing.T) {
	f := open(t)
	k := f.agent()
	events := f.createEvents(k, crm, gen.EventTypeAgentLogin, gen.EventTypeAgentLogin)
	f.login(k)
	f.clock.add(10 * time.Minute)
	f.check(f.DeleteEvent(f.ctx, k, events[1]))
	f.clock.add(time.Second)
	stats, err := f.Stats(f.ctx)
	f.check(err)
	if want := 10*time.Minute + time.Second; stats.Ready.Oldest != want {
		t.Errorf("the oldest is due for %v, want %v", stats.Ready.Oldest, want)
	}
	f.finish(f.claimOne())
	f.wantDrained()
}
