package store_test

import (
	"bytes"
	"errors"
	"fmt"
	"log/slog"
	"net/http"
	"os"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/agentevents/agentevents/gen"
	"github.com/agentevents/agentevents/store"
	"github.com/agentevents/agentevents/store/pgtest"
	"github.com/agentevents/agentevents/webhook"
)

// changeStatus changes an agent's status n times, and delivers each change.
func (f *fixture) changeStatus(k store.AgentKey, n int) {
	f.t.Helper()
	for range n / 2 {
		f.login(k)
		f.logout(k)
		for _, d := range f.claim() {
			f.finish(d)
		}
	}
}

// Finished rows are pruned. Pending and parked deliveries stay, and so does the last change of each agent.
func TestOldFinishedRowsArePruned(t *testing.T) {
	f := open(t)
	k := f.agent()
	f.createEvents(k, crm, both...)
	parked := f.agentN(7)
	f.state(parked, f.createEvents(parked, board, gen.EventTypeAgentLogin)[0], gen.AgentEventStateValueDisabled)
	f.login(parked)
	f.changeStatus(k, 500)
	f.clock.add(20 * 24 * time.Hour)
	f.changeStatus(k, 2)
	f.login(k)
	waits := f.claimOne()
	f.record(waits, webhook.Retry, false)
	f.clock.add(10*24*time.Hour - time.Second)
	f.work(func() bool { return true })
	if n := f.count("SELECT count(*) FROM deliveries"); n != 504 {
		t.Errorf("a second before their time %d deliveries exist", n)
	}
	f.clock.add(time.Minute)
	f.work(func() bool { return f.count("SELECT count(*) FROM status_changes") == 4 })
	for what, want := range map[string]int{
		"deliveries WHERE state = 'parked'": 1, "deliveries WHERE state = 'pending'": 1,
		"deliveries WHERE state = 'delivered'": 2,
		"attempts":                             3, "status_changes": 4,
	} {
		if n := f.count("SELECT count(*) FROM " + what); n != want {
			t.Errorf("%s: %d, want %d", what, n, want)
		}
	}
	f.verify()
	if _, err := f.StatusChanges(f.ctx, "12", new(int64(1)), "", 9); err == nil ||
		!strings.Contains(err.Error(), "the oldest one is 502") {
		t.Errorf("the feed after change 1: %v", err)
	}
}

// Pruning deletes few attempts at once.
func TestHundredAttemptsOfADeliveryAreKept(t *testing.T) {
	f := openInMemory(t)
	k := f.agent()
	f.createEvents(k, crm, gen.EventTypeAgentLogin)
	f.login(k)
	for range 250 {
		busy := webhook.Attempt{StartedAt: f.clock.Now(), Status: http.StatusTooEarly, Verdict: webhook.Retry}
		_, err := f.Record(f.ctx, f.claimOne(), webhook.Outcome{Attempt: busy, Delay: time.Second}, false)
		f.check(err)
		f.clock.add(time.Second)
	}
	f.finish(f.claimOne())
	l, err := f.Delivery(f.ctx, "12", 1)
	f.check(err)
	if n := len(l.Attempts); n != 100 || l.Attempts[0].Number != 152 || l.Attempts[n-1].Number != 251 ||
		l.Delivery.Attempts != 251 {
		t.Errorf("%d attempts are kept of %d", n, l.Delivery.Attempts)
	}
	for range 3 {
		f.redeliver(1)
		f.finish(f.claimOne())
	}
	if n := f.count("SELECT count(*) FROM attempts"); n != 100 {
		t.Errorf("%d attempts are kept after the redeliveries", n)
	}
	f.verify()
	f.changeStatus(k, 50)
	f.changeStatus(k, 50)
	f.sql("WITH RECURSIVE n (i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n " +
		"WHERE i < 99) INSERT INTO attempts (delivery_id, number, started_at, duration, status, error, " +
		"excerpt, verdict, version_id) SELECT d.id, i, 0, 0, 503, '', '', 'retry', d.version_id FROM deliveries d, n")
	f.clock.add(31 * 24 * time.Hour)
	removals := slices.DeleteFunc(f.pruneStatements(true), func(s string) bool {
		return !strings.HasPrefix(s, "DELETE FROM attempts")
	})
	if len(removals) < 2 || f.count("SELECT count(*) FROM attempts") != 0 {
		t.Errorf("all attempts were deleted by %q", removals)
	}
}

func TestSurplusRowsArePruned(t *testing.T) {
	f := open(t)
	f.keepRows = 100
	f.restart()
	k := f.agent()
	f.createEvents(k, crm, both...)
	f.changeStatus(k, 500)
	f.clock.add(time.Minute)
	f.work(func() bool { return f.count("SELECT count(*) FROM status_changes") == 100 })
	if n := f.count("SELECT count(*) FROM deliveries"); n != 100 {
		t.Errorf("%d deliveries are left", n)
	}
	if n := f.count("SELECT min(id) FROM deliveries"); n != 401 {
		t.Errorf("the oldest one is %d", n)
	}
	f.verify()
	f.changeStatus(k, 10)
	f.wantDrained()
}

// pruneStatements prunes, and returns the statements of the writer or of the readers.
func (f *fixture) pruneStatements(writes bool) (statements []string) {
	f.t.Helper()
	watching := true
	f.WatchStatements(func(w bool, statement string) {
		if watching && w == writes && statement != "" {
			statements = append(statements, statement)
		}
	})
	f.check(f.PruneAll(f.ctx))
	watching = false
	return statements
}

func TestPruningWithoutPrunableRowsDoesNotWrite(t *testing.T) {
	f := open(t)
	k := f.agent()
	f.createEvents(k, crm, both...)
	f.changeStatus(k, 20)
	f.login(k)
	f.check(f.PruneAll(f.ctx)) // counts the changes
	f.clock.add(20 * 24 * time.Hour)
	if statements := f.pruneStatements(true); len(statements) > 0 {
		t.Errorf("the writer executed %q", statements)
	}
}

// Prunable rows are found by an index.
func TestPruningScansNoTable(t *testing.T) {
	pgtest.SQLiteOnly(t, "plans are the engine's")
	scanned := []string{"SCAN t", "SCAN added", "SCAN retained"} // results, and one row of each client
	for _, writes := range []bool{false, true} {
		f := open(t)
		f.keepRows = 100
		f.restart()
		k := f.agent()
		f.createEvents(k, crm, both...)
		f.changeStatus(k, 300)
		_, _, err := f.CreateReplay(f.ctx, "12", store.DeliveryFilter{State: gen.DeliveryStateFailed})
		f.check(err)
		f.check(f.ReplayAll(f.ctx))
		f.sql("INSERT INTO samples (event_id, webhook_id, url, method, event_type, kind, started_at, duration, " +
			"status, error, excerpt, verdict, signature) VALUES (1, 'x', '', 'GET', 'agent-login', 'local', " +
			"0, 0, 0, '', '', 'retry', '')")
		f.clock.add(31 * 24 * time.Hour)
		statements := f.pruneStatements(writes)
		if len(statements) < 8 || f.count("SELECT count(*) FROM deliveries") != 0 ||
			f.count("SELECT count(*) FROM replays") != 0 ||
			f.count("SELECT count(*) FROM samples") != 0 {
			t.Fatalf("only these statements were executed: %q", statements)
		}
		for _, statement := range statements {
			for _, step := range f.plan(statement) {
				if strings.HasPrefix(step, "SCAN") && !slices.Contains(scanned, step) &&
					!strings.HasSuffix(step, " receivers_open") && !strings.HasSuffix(step, " event_versions_past") &&
					!strings.Contains(step, "CONSTANT") && !strings.Contains(step, " pragma_") {
					t.Errorf("%s: %s", statement, step)
				}
			}
		}
	}
}

// plan returns SQLite's plan for a statement.
func (f *fixture) plan(statement string) (steps []string) {
	f.t.Helper()
	if words := strings.Fields(statement); len(words) == 0 ||
		!slices.Contains([]string{"SELECT", "DELETE", "UPDATE"}, words[0]) {
		return nil
	}
	db := f.db()
	defer db.Close()
	values := make([]any, strings.Count(statement, "?"))
	rows, err := db.Query("EXPLAIN QUERY PLAN "+statement, values...)
	f.check(err)
	defer rows.Close()
	for rows.Next() {
		var id, parent, none int
		var step string
		f.check(rows.Scan(&id, &parent, &none, &step))
		steps = append(steps, step)
	}
	f.check(rows.Err())
	return steps
}

// The log has one line about it.
func TestPruningEndsThoughTheFileCannotShrink(t *testing.T) {
	pgtest.SQLiteOnly(t, "it is about the file")
	f := open(t)
	var log bytes.Buffer
	f.log = slog.New(slog.NewTextHandler(&log, nil))
	f.check(f.Close())
	f.sql("PRAGMA journal_mode = DELETE; PRAGMA auto_vacuum = 0; VACUUM")
	f.sql("CREATE TABLE waste (x); INSERT INTO waste VALUES (zeroblob(8000000)); DROP TABLE waste")
	f.open()
	left := 1000
	f.BeforeStatements(func() error {
		if left--; left < 0 {
			return errors.New("the pruning does not end")
		}
		return nil
	})
	for range 3 {
		f.check(f.PruneAll(f.ctx))
		f.clock.add(2 * time.Hour)
	}
	if n := f.count("PRAGMA freelist_count"); n < 1000 {
		t.Fatalf("only %d pages are free", n)
	}
	f.Logged()
	if n := strings.Count(log.String(), "auto_vacuum"); n != 1 {
		t.Errorf("%d lines report it:\n%s", n, log.String())
	}
}

// KeepRows limits changes, too, even if not all of them have deliveries.
func TestSurplusChangesArePruned(t *testing.T) {
	f := openInMemory(t)
	f.keepRows = 100
	f.restart()
	k := f.agent()
	f.createEvents(k, crm, gen.EventTypeAgentLogin)
	f.changeStatus(k, 1000)
	f.check(f.PruneAll(f.ctx))
	if changes, deliveries := f.count("SELECT count(*) FROM status_changes"), f.count(
		"SELECT count(*) FROM deliveries",
	); changes != 100 || deliveries != 50 {
		t.Errorf("%d changes with %d deliveries are left", changes, deliveries)
	}
	f.verify()
}

func TestRedeliveryIsKeptFromItsOwnEnd(t *testing.T) {
	f := open(t)
	k := f.agent()
	f.createEvents(k, crm, both...)
	f.login(k)
	d := f.claimOne()
	f.record(d, webhook.Failed, false)
	f.clock.add(30*24*time.Hour - time.Minute)
	f.redeliver(d.ID)
	f.finish(f.claimOne())
	ended := f.clock.Now()
	for _, c := range []struct {
		after time.Duration
		want  int
	}{{2 * time.Hour, 1}, {29 * 24 * time.Hour, 1}, {30*24*time.Hour + time.Minute, 0}} {
		f.clock.add(ended.Add(c.after).Sub(f.clock.Now()))
		f.check(f.PruneAll(f.ctx))
		if n := f.count("SELECT count(*) FROM deliveries"); n != c.want {
			t.Errorf("%v after it ended %d deliveries are kept, want %d", c.after, n, c.want)
		}
	}
	f.verify()
}

func TestPruningShrinksTheFile(t *testing.T) {
	pgtest.SQLiteOnly(t, "it is about the file")
	f := openInMemory(t)
	k := f.agent()
	f.createEvents(k, crm, both...)
	f.changeStatus(k, 4000)
	f.sql("UPDATE attempts SET excerpt = '" + strings.Repeat("x", 2000) + "'")
	size := func() int64 {
		info, err := os.Stat(strings.TrimPrefix(f.url, "sqlite:"))
		f.check(err)
		return info.Size()
	}
	f.restart() // moves the write-ahead log into the file
	before := size()
	f.clock.add(31 * 24 * time.Hour)
	f.work(func() bool {
		return f.count("SELECT count(*) FROM status_changes") == 1 && f.count("PRAGMA freelist_count") <= 1000
	})
	f.work(func() bool { // without a write or a restart
		f.clock.add(time.Second) // a reader may have been in the way
		return size() <= before*3/4
	})
	f.restart()
	if after := size(); after > before*3/4 {
		t.Errorf("the file had %d bytes and has %d", before, after)
	}
	f.verify()
}

// Such a change stayed for its deliveries, or as its agent's last one. It is pruned without waiting for the next full
// prune.
func TestSkippedChangeIsPrunedSoon(t *testing.T) {
	f := open(t)
	f.keepRows = 100
	f.restart()
	k, idle := f.agent(), f.agentN(137)
	f.createEvents(k, crm, gen.EventTypeAgentLogin)
	prune := func() {
		f.clock.add(time.Minute)
		f.check(f.PruneAll(f.ctx))
	}
	exists := func(change int) int {
		return f.count(fmt.Sprintf("SELECT count(*) FROM status_changes WHERE id = %d", change))
	}
	f.login(k)    // 1, not delivered yet
	f.login(idle) // 2
	pending := f.claimOne()
	for range 60 {
		f.logout(k)
		f.login(k)
	}
	prune()
	if exists(1) != 1 || exists(2) != 1 || exists(3) != 0 {
		t.Fatalf("changes 1, 2 and 3 exist: %d, %d and %d", exists(1), exists(2), exists(3))
	}
	for next := &pending; next != nil; {
		next = f.record(*next, webhook.Delivered, true)
	}
	f.logout(idle)
	for range 60 {
		f.logout(k)
		f.login(k)
	}
	prune()
	if exists(1) != 0 || exists(2) != 0 {
		t.Errorf("changes 1 and 2 exist: %d and %d", exists(1), exists(2))
	}
	f.verify()
}
