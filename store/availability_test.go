package store_test

import (
	"errors"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/jackc/pgx/v5/pgconn"

	"github.com/agentevents/agentevents/gen"
	"github.com/agentevents/agentevents/store"
	"github.com/agentevents/agentevents/store/internal/sqldb"
	"github.com/agentevents/agentevents/store/pgtest"
)

// moveClock replaces the clock that is never set; the test adds to the returned offset.
func (f *fixture) moveClock() *atomic.Int64 {
	var ahead atomic.Int64
	f.SetMonotonic(func() time.Time { return time.Now().Add(time.Duration(ahead.Load())) })
	return &ahead
}

// The number of callers does not matter.
func TestReadinessCheckWritesOnceASecond(t *testing.T) {
	f := open(t)
	stopped := time.Now() // independent of the machine's speed
	var ahead atomic.Int64
	f.SetMonotonic(func() time.Time { return stopped.Add(time.Duration(ahead.Load())) })
	var writes atomic.Int64
	f.WatchStatements(func(writing bool, statement string) {
		if writing && (strings.Contains(statement, "probes") ||
			strings.HasPrefix(statement, "INSERT INTO probe_room")) {
			writes.Add(1)
		}
	})
	for second := range int64(3) {
		var all sync.WaitGroup
		for range 50 {
			all.Go(func() {
				if err := f.Ready(f.ctx); err != nil {
					t.Error(err)
				}
			})
		}
		all.Wait()
		if n := writes.Load(); n != second+1 {
			t.Errorf("in second %d it had written %d times", second, n)
		}
		ahead.Add(int64(time.Second))
	}
}

// A full server permits updates of rows for a while, but no new pages.
func TestStoreIsNotReadyOnAFullServer(t *testing.T) {
	pgtest.PostgresOnly(t, "a file has its own test")
	f := open(t)
	ahead := f.moveClock()
	f.check(f.Ready(f.ctx))
	var full atomic.Bool
	f.RefuseStatements(func(statement string) error {
		if full.Load() && strings.HasPrefix(statement, "INSERT") {
			return &pgconn.PgError{
				Severity: "ERROR", Code: "53100", Message: "could not extend file: No space left on device",
			}
		}
		return nil
	})
	full.Store(true)
	ahead.Add(int64(time.Second))
	for range 3 {
		if err := f.Ready(f.ctx); err == nil {
			t.Error("it is ready")
		}
		ahead.Add(int64(3 * time.Second))
	}
	full.Store(false)
	f.check(f.Ready(f.ctx))
}

// The readiness check itself succeeds. A locked row does not make the store unready.
func TestStoreIsNotReadyWhileChangesFail(t *testing.T) {
	f := open(t)
	ahead := f.moveClock()
	f.check(f.Ready(f.ctx))
	k := f.agent()
	var broken atomic.Bool
	f.RefuseStatements(func(statement string) error {
		if broken.Load() && strings.Contains(statement, "status_changes") {
			return brokenDisk()
		}
		return nil
	})
	broken.Store(true)
	_, err := f.SetStatus(f.ctx, k, gen.AgentStatusUpdate{AgentStatus: gen.AgentStatusValueAvailable})
	var known *store.Error
	if !errors.As(err, &known) || known.Kind != store.Unavailable || !known.Logged() {
		t.Fatal(err)
	}
	if err := f.Ready(f.ctx); err == nil {
		t.Error("it is ready")
	}
	broken.Store(false)
	ahead.Add(int64(3 * time.Second))
	f.check(f.Ready(f.ctx))
	if pgtest.OnPostgres() {
		err = f.Write(f.ctx, func(*sqldb.Tx) error { return &pgconn.PgError{Code: "55P03"} })
		if err == nil {
			t.Error("a lock timeout is no error")
		}
		f.check(f.Ready(f.ctx))
	}
}
