package store_test

import (
	"context"
	"fmt"
	"testing"
	"time"

	"github.com/jackc/pgx/v5/pgconn"

	"github.com/agentevents/agentevents/store/internal/sqldb"
	"github.com/agentevents/agentevents/store/pgtest"
)

// For example, pg_dump reads all tables in one transaction.
func TestStoreIsReadyWhileAllTablesAreRead(t *testing.T) {
	pgtest.PostgresOnly(t, "SQLite has no such locks")
	f := open(t)
	ahead := f.moveClock()
	f.check(f.Ready(f.ctx))
	db := f.db()
	tx, err := db.BeginTx(f.ctx, nil)
	f.check(err)
	tables, err := tx.Query(
		"SELECT relname FROM pg_class WHERE relkind = 'r' AND relnamespace = current_schema()::regnamespace",
	)
	f.check(err)
	defer tables.Close()
	var names []string
	for tables.Next() {
		var name string
		f.check(tables.Scan(&name))
		names = append(names, name)
	}
	f.check(tables.Err())
	for _, name := range names {
		_, err = tx.Exec("LOCK TABLE " + name + " IN ACCESS SHARE MODE")
		f.check(err)
	}
	ahead.Add(int64(3 * time.Second))
	f.check(f.Ready(f.ctx))
	f.check(tx.Rollback())
	f.check(db.Close())
}

// Another process is suspended during its readiness check.
func TestUnfinishedReadinessCheckBlocksNoOther(t *testing.T) {
	pgtest.PostgresOnly(t, "SQLite has one process")
	f := open(t)
	f.check(f.Write(f.ctx, func(tx *sqldb.Tx) error {
		if err := f.Allocate(tx); err != nil {
			return err
		}
		return f.Ready(f.ctx)
	}))
}

// The rows of the check are rolled back.
func TestReadinessCheckNeedsNewPages(t *testing.T) {
	pgtest.PostgresOnly(t, "a file has its own test")
	f := open(t)
	ahead := f.moveClock()
	size := func() int { return f.count("SELECT pg_relation_size('probe_room')") }
	for range 3 {
		before := size()
		f.check(f.Ready(f.ctx))
		if size() <= before || f.count("SELECT count(*) FROM probe_room") != 0 {
			t.Errorf("the table had %d bytes, has %d, and %d rows", before, size(),
				f.count("SELECT count(*) FROM probe_room"))
		}
		ahead.Add(int64(time.Second))
	}
}

// A slow transaction does not predict the next one.
func TestStoreIsReadyAfterASlowTransaction(t *testing.T) {
	f := open(t)
	f.moveClock()
	for name, slow := range map[string]error{
		"a statement":   &pgconn.PgError{Code: "57014", Message: "canceling statement due to statement timeout"},
		"a transaction": fmt.Errorf("timeout: %w", context.DeadlineExceeded),
	} {
		if err := f.Write(f.ctx, func(*sqldb.Tx) error { return slow }); err == nil {
			t.Errorf("%s that took too long is no error", name)
		}
		if err := f.Ready(f.ctx); err != nil {
			t.Errorf("after %s that took too long: %v", name, err)
		}
	}
}
