package store_test

import (
	"errors"
	"fmt"
	"sync"
	"testing"
	"time"

	"github.com/agentevents/agentevents/gen"
	"github.com/agentevents/agentevents/store"
	"github.com/agentevents/agentevents/store/benchfill"
	"github.com/agentevents/agentevents/store/pgtest"
	"github.com/agentevents/agentevents/webhook"
)

// agentOf creates an agent of a client, with an event for each type, and returns its key.
func (f *fixture) agentOf(client string) store.AgentKey {
	f.t.Helper()
	k := store.AgentKey{Client: client, Type: gen.AgentTypeLocal, ID: 136}
	_, _, err := f.PutClient(f.ctx, client, gen.ClientUpdate{})
	f.check(err)
	_, _, err = f.PutAgent(f.ctx, k, store.AgentUpdate{Name: &client})
	f.check(err)
	f.createEvents(k, crm, both...)
	return k
}

// pruneNow prunes a minute later.
func (f *fixture) pruneNow() {
	f.t.Helper()
	f.clock.add(time.Minute)
	f.check(f.PruneAll(f.ctx))
}

// wantKept checks the numbers of changes and of deliveries of a client.
func (f *fixture) wantKept(client string, changes, deliveries int) {
	f.t.Helper()
	for table, want := range map[string]int{"status_changes": changes, "deliveries": deliveries} {
		n := f.count(fmt.Sprintf("SELECT count(*) FROM %s WHERE client_id = '%s'", table, client))
		if n != want {
			f.t.Errorf("client %s has %d rows of %s, want %d", client, n, table, want)
		}
	}
}

// wantFeed checks that a client's feed begins at its first change, or that changes are no longer kept.
func (f *fixture) wantFeed(client string, truncated bool) {
	f.t.Helper()
	_, err := f.StatusChanges(f.ctx, client, new(int64(0)), "", 9)
	var refused *store.Error
	if is := errors.As(err, &refused) && refused.Kind == store.Truncated; is != truncated || !is && err != nil {
		f.t.Errorf("the feed of client %s from its begin: %v; want it truncated: %t", client, err, truncated)
	}
}

// A client that makes many changes shortens its own log and feed.
func TestClientDoesNotShortenTheLogOfAnother(t *testing.T) {
	f := open(t)
	f.keepRows = 100
	f.restart()
	quiet, busy := f.agentOf("12"), f.agentOf("13")
	f.changeStatus(quiet, 20)
	f.clock.add(time.Minute)
	f.changeStatus(busy, 300)
	f.pruneNow()
	f.wantKept("12", 20, 20)
	f.wantKept("13", 80, 80)
	f.wantFeed("12", false)
	f.wantFeed("13", true)
	f.verify()
}

// A client with fewer rows than its share keeps all of them, and the others share what it does not need. Rows are
// counted across a restart and a crash.
func TestClientsShareTheLog(t *testing.T) {
	f := open(t)
	f.keepRows = 100
	f.restart()
	small, middle, large := f.agentOf("12"), f.agentOf("13"), f.agentOf("14")
	f.changeStatus(large, 60)
	f.pruneNow()
	f.wantKept("14", 60, 60)
	f.restart()
	f.changeStatus(small, 10)
	f.changeStatus(middle, 80)
	f.crash()
	f.pruneNow()
	f.wantKept("12", 10, 10)
	f.wantKept("13", 45, 45)
	f.wantKept("14", 45, 45)
	f.changeStatus(large, 40)
	f.pruneNow()
	f.wantKept("13", 45, 45)
	f.wantKept("14", 45, 45)
	f.wantFeed("12", false)
	f.verify()
}

// Pending deliveries stay, and count. They are pruned soon after their end.
func TestPendingSurplusIsPrunedAfterItsEnd(t *testing.T) {
	f := open(t)
	f.keepRows = 100
	f.restart()
	quiet, busy := f.agentOf("12"), f.agentOf("13")
	f.changeStatus(quiet, 20)
	for range 100 {
		f.login(busy)
		f.logout(busy)
	}
	f.pruneNow()
	f.wantKept("12", 20, 20)
	f.wantKept("13", 200, 200)
	for next := new(f.claimOne()); next != nil; {
		next = f.record(*next, webhook.Delivered, true)
	}
	f.pruneNow()
	f.wantKept("12", 20, 20)
	f.wantKept("13", 80, 80)
	f.verify()
}

func TestLimitsShowTheKeptRows(t *testing.T) {
	f := open(t)
	f.keepRows = 100
	f.restart()
	k := f.agentOf("12")
	f.createEvents(k, board, gen.EventTypeAgentLogin)
	f.changeStatus(k, 20)
	f.pruneNow()
	m, err := f.Limits(f.ctx, "12")
	f.check(err)
	want := [2]gen.ClientLimit{{Limit: 100, Used: 20}, {Limit: 100, Used: 30}}
	if got := [2]gen.ClientLimit{m.StatusChange, m.Delivery}; got != want {
		t.Errorf("the limits are %v, want %v", got, want)
	}
}

// An earlier version deletes rows without subtracting them.
func TestWrongCountsAreCorrected(t *testing.T) {
	f := open(t)
	k := f.agentOf("12")
	f.changeStatus(k, 20)
	f.pruneNow()
	f.sql("DELETE FROM attempts; DELETE FROM deliveries WHERE id <= 10; DELETE FROM status_changes WHERE id <= 10")
	f.sql("UPDATE retained SET changes = 25; INSERT INTO retained (client_id, changes, deliveries) VALUES ('13', 7, 7)")
	f.clock.add(time.Hour)
	f.pruneNow()
	if n := f.count("SELECT sum(changes * 1000 + deliveries) FROM retained"); n != 10_010 {
		t.Errorf("10 changes and 10 deliveries are counted as %d", n)
	}
	if n := f.count("SELECT count(*) FROM retained"); n != 1 {
		t.Errorf("%d clients are counted", n)
	}
}

// Several processes count the same changes and delete the same rows.
func TestProcessesShareRetention(t *testing.T) {
	pgtest.PostgresOnly(t, "one process owns a file")
	f := open(t)
	f.keepRows = 100
	f.restart()
	other := f.of(f.url)
	other.keepRows = 100
	other.open()
	defer func() { f.check(other.Close()) }()
	quiet, busy := f.agentOf("12"), f.agentOf("13")
	f.changeStatus(quiet, 20)
	for range 3 {
		f.changeStatus(busy, 100)
		f.clock.add(time.Minute)
		var both sync.WaitGroup
		for _, s := range []*fixture{f, other} {
			both.Go(func() {
				if err := s.PruneAll(s.ctx); err != nil {
					t.Error(err)
				}
			})
		}
		both.Wait()
		f.pruneNow()
		f.wantKept("12", 20, 20)
		f.wantKept("13", 80, 80)
		f.verify()
	}
}

// PostgreSQL finds a batch of rows to delete by the index of their ids, or by that of a client and their ids.
func TestPruningReadsByIndex(t *testing.T) {
	pgtest.PostgresOnly(t, "SQLite's plans do not depend on row estimates")
	f := open(t)
	f.keepRows = 15_000
	f.restart()
	size := benchfill.Size{Agents: 10_000, Events: 10_000, Deliveries: 20_000}
	f.check(benchfill.Fill(f.ctx, f.url, size, f.clock.Now(), func(int, int) {}))
	f.sql("VACUUM (ANALYZE)")
	seen := f.watch()
	f.pruneNow()
	f.lookAt(seen, " AS old")
}
