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

// A transaction that reads all tables, such as that of pg_dump, keeps no replica from being ready.
func TestReadyWhileAllTablesAreRead(t *testing.T) {
	pgtest.PostgresOnly(t, "SQLite has no such locks")
	f := open(t)
	ahead := f.moved()
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

// A process that is stopped in the middle of its look at the store keeps no other one from being ready.
func TestReadyBesideALookThatDoesNotEnd(t *testing.T) {
	pgtest.PostgresOnly(t, "SQLite has one process")
	f := open(t)
	f.check(f.Write(f.ctx, func(tx *sqldb.Tx) error {
		if err := f.Allocate(tx); err != nil {
			return err
		}
		return f.Ready(f.ctx)
	}))
}

// Each look needs pages that the table has not, and what it wrote is gone.
func TestReadyNeedsRoom(t *testing.T) {
	pgtest.PostgresOnly(t, "a file has its own test")
	f := open(t)
	ahead := f.moved()
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

// One transaction that took too long says nothing of the next one.
func TestReadyAfterASlowTransaction(t *testing.T) {
	f := open(t)
	f.moved()
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
