package store_test

import (
	"bytes"
	"errors"
	"fmt"
	"log/slog"
	"strings"
	"testing"
	"time"

	"github.com/agentevents/agentevents/gen"
	"github.com/agentevents/agentevents/store"
	"github.com/agentevents/agentevents/webhook"
)

// limitedTo is an application of client 12 with a limit of pending deliveries.
func limitedTo(pending int64) store.Caller {
	return store.Caller{Client: "12", RequestLimit: 1000, PendingLimit: pending}
}

// wantPending checks that client 12 is admitted below a number of pending deliveries, and refused from it on.
func (f *fixture) wantPending(s *store.Store, pending int64) {
	f.t.Helper()
	err := s.AdmitDeliveries(limitedTo(pending))
	if below := s.AdmitDeliveries(limitedTo(pending + 1)); below != nil {
		f.t.Errorf("below the limit: %v", below)
	}
	f.wantOverQuota(err, pending, pending)
}

func (f *fixture) wantOverQuota(err error, limit, pending int64) {
	f.t.Helper()
	want := fmt.Sprintf("client 12 may have %d pending deliveries and has %d; their number falls when they are "+
		"delivered, fail or expire, and when events are disabled or deleted", limit, pending)
	var refused *store.Error
	if !errors.As(err, &refused) || refused.Kind != store.OverQuota ||
		refused.Status != "pending_delivery_limit_exceeded" || refused.Message != want {
		f.t.Errorf("%#v, want %s", err, want)
	}
}

func (f *fixture) wantUsed(limit, pending int64) {
	f.t.Helper()
	m, err := f.Limits(f.ctx, "12")
	f.check(err)
	if want := (gen.ClientLimit{Limit: limit, Used: pending}); m.PendingDelivery != want {
		f.t.Errorf("pending deliveries: %+v, want %+v", m.PendingDelivery, want)
	}
}

// stopClock replaces the clock that is never set, and returns a function that moves it.
func (f *fixture) stopClock() func(time.Duration) {
	now := time.Now()
	f.SetMonotonic(func() time.Time { return now })
	return func(d time.Duration) { now = now.Add(d) }
}

func TestPendingDeliveriesAreCounted(t *testing.T) {
	f := open(t)
	f.stopClock()
	f.createLanes("12", 1, 3, crm)
	f.createLanes("13", 1, 2, crm)
	f.wantPending(f.Store, 3) // before the first count, those of this process
	f.check(f.CountPending(f.ctx))
	f.wantPending(f.Store, 3)
	f.wantUsed(100_000, 3)

	f.record(f.claimOneLane(), webhook.Delivered, false)
	f.wantPending(f.Store, 3) // until the next count
	f.wantUsed(100_000, 2)
	f.check(f.CountPending(f.ctx))
	f.wantPending(f.Store, 2)
	f.claimOneLane() // one in flight is pending
	k := store.AgentKey{Client: "12", Type: gen.AgentTypeLocal, ID: 3}
	f.logout(k)
	f.wantPending(f.Store, 3)
	f.check(f.CountPending(f.ctx))
	f.wantPending(f.Store, 3)

	events, err := f.Events(f.ctx, k, 0, 0)
	f.check(err)
	_, err = f.SetEventState(f.ctx, k, events[0].ID, gen.AgentEventStateValueDisabled)
	f.check(err)
	f.check(f.CountPending(f.ctx))
	f.wantPending(f.Store, 2) // a parked one does not count
	f.login(k)
	f.wantPending(f.Store, 2)
	f.check(f.DeleteEvent(f.ctx, k, events[1].ID))
	f.check(f.CountPending(f.ctx))
	f.wantPending(f.Store, 1)
	f.wantUsed(100_000, 1)
	if err := f.AdmitDeliveries(store.Caller{}); err != nil {
		t.Errorf("an operator: %v", err)
	}
}

// A count by another process includes what this one has added, and it is not counted twice.
func TestPendingDeliveriesOfAllProcessesCount(t *testing.T) {
	f := open(t)
	f.createLanes("12", 1, 3, crm)
	other, err := store.OpenAlongside(f.ctx, store.Options{URL: f.url, Now: f.clock.Now, Log: f.log})
	f.check(err)
	defer other.Close()
	f.check(other.CountPending(f.ctx))
	f.wantPending(other, 3)
	f.check(f.DeleteClient(f.ctx, "12")) // its deliveries are still sent, and do not count for a new client
	f.createLanes("12", 1, 1, crm)
	f.wantPending(f.Store, 1)
	f.check(f.CountPending(f.ctx))
	f.wantPending(f.Store, 1)
	f.wantUsed(100_000, 1)
}

func TestStatusesBeyondTheLimitOfPendingDeliveriesAreRefused(t *testing.T) {
	f := open(t)
	k := f.agent()
	f.createEvents(k, crm, both...)
	f.createEvents(k, board, both...)
	own := store.WithCaller(f.ctx, limitedTo(4))
	set := func(to gen.AgentStatusValue) error {
		_, err := f.SetStatus(own, k, gen.AgentStatusUpdate{AgentStatus: to})
		return err
	}
	entry := func(to gen.AgentStatusValue) gen.AgentStatusUpdateItem {
		return gen.AgentStatusUpdateItem{AgentType: k.Type, AgentID: k.ID, AgentStatus: to}
	}
	f.check(set(gen.AgentStatusValueAvailable))
	f.check(set(gen.AgentStatusValueLoggedOut))
	f.wantOverQuota(set(gen.AgentStatusValueAvailable), 4, 4)
	f.check(set(gen.AgentStatusValueLoggedOut)) // a repeated status adds nothing
	results, err := f.SetStatuses(own, "12", []gen.AgentStatusUpdateItem{
		entry(gen.AgentStatusValueLoggedOut), entry(gen.AgentStatusValueAvailable),
	})
	f.check(err)
	if len(results) != 2 || results[0].Status == nil || results[1].Error == nil ||
		results[1].Error.Status != "pending_delivery_limit_exceeded" {
		t.Errorf("the results are %+v", results)
	}
	if n := f.count("SELECT count(*) FROM status_changes"); n != 2 {
		t.Errorf("%d changes are stored", n)
	}
	f.login(k) // as the operator
	f.check(f.CountPending(f.ctx))
	f.wantPending(f.Store, 6)
	f.verify()
}

func TestClientsAtTheLimitOfPendingDeliveriesAreReported(t *testing.T) {
	f := open(t)
	var log bytes.Buffer
	f.log = slog.New(slog.NewTextHandler(&log, nil))
	f.restart()
	pass := f.stopClock()
	wantLines := func(clients ...string) {
		t.Helper()
		f.check(f.CountPending(f.ctx))
		for _, client := range clients {
			line := "msg=\"pending deliveries at their limit\" client=" + client + " "
			if strings.Count(log.String(), line) != 1 {
				t.Errorf("client %s has no line: %s", client, &log)
			}
		}
		if n := strings.Count(log.String(), "\n"); n != len(clients) {
			t.Errorf("%d lines, want %d: %s", n, len(clients), &log)
		}
		log.Reset()
	}
	wantAtLimit := func(want int) {
		t.Helper()
		m, err := f.Stats(f.ctx)
		f.check(err)
		if m.AtLimit != want {
			t.Errorf("%d clients are at their limit, want %d", m.AtLimit, want)
		}
	}
	for _, client := range []string{"12", "13", "14"} {
		f.createLanes(client, 1, 2, crm)
		_, err := f.SetLimits(f.ctx, client, gen.ClientLimitsUpdate{PendingDelivery: limitOf(2)})
		f.check(err)
	}
	_, err := f.SetLimits(f.ctx, "14", gen.ClientLimitsUpdate{PendingDelivery: limitOf(3)})
	f.check(err)
	log.Reset()
	wantLines("12", "13")
	wantAtLimit(2)
	pass(time.Hour - 1)
	f.createLanes("14", 3, 1, crm)
	wantLines("14")
	wantAtLimit(3)
	pass(1)
	wantLines("12", "13")
	_, err = f.SetLimits(f.ctx, "13", gen.ClientLimitsUpdate{PendingDelivery: limitOf(3)})
	f.check(err)
	wantLines()
	wantAtLimit(2)
}

// A count that takes long is rare.
func TestPendingDeliveriesAreCountedRarelyIfThatTakesLong(t *testing.T) {
	f := open(t)
	pass := f.stopClock()
	counts, takes := 0, time.Second
	f.WatchStatements(func(_ bool, statement string) {
		if strings.Contains(statement, "pending_limit") && strings.Contains(statement, "GROUP BY") {
			counts++
			pass(takes)
		}
	})
	for _, step := range []struct {
		pass time.Duration
		want int
	}{{0, 1}, {19 * time.Second, 1}, {time.Second, 2}, {19 * time.Second, 2}, {time.Second, 3}} {
		pass(step.pass)
		f.check(f.CountPending(f.ctx))
		if counts != step.want {
			t.Errorf("after %s, %d counts, want %d", step.pass, counts, step.want)
		}
	}
}
