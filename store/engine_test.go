package store_test

import (
	"context"
	"database/sql"
	"os"
	"strings"
	"testing"

	"github.com/jackc/pgx/v5/pgconn"
	_ "github.com/jackc/pgx/v5/stdlib" // the driver pgx
	"github.com/mattn/go-sqlite3"

	"github.com/agentevents/agentevents/store"
	"github.com/agentevents/agentevents/store/pgtest"
)

// TestMain runs all tests on SQLite, and then on PostgreSQL.
func TestMain(m *testing.M) {
	os.Exit(pgtest.Main(m, pgtest.Suite{Prepare: prepare}))
}

// prepare creates the tables of the template. Each test on PostgreSQL has a copy of it.
func prepare(ctx context.Context, url string) error {
	s, err := store.Open(ctx, store.Options{URL: url})
	if err != nil {
		return err
	}
	return s.Close()
}

// db opens the database alongside the store. Without values, one statement may contain several.
func (f *fixture) db() *sql.DB {
	f.t.Helper()
	driver, name := "sqlite3", strings.TrimPrefix(f.url, "sqlite:")+"?_busy_timeout=5000"
	if pgtest.OnPostgres() {
		driver, name = "pgx", f.url+"&default_query_exec_mode=simple_protocol"
	}
	db, err := sql.Open(driver, name)
	f.check(err)
	return db
}

// brokenDisk returns the driver's error for a failed disk.
func brokenDisk() error {
	if pgtest.OnPostgres() {
		return &pgconn.PgError{Severity: "ERROR", Code: "58030", Message: "could not read block 0"}
	}
	return sqlite3.Error{Code: sqlite3.ErrIoErr}
}

// crash restarts the store as after a kill. On SQLite, deliveries in flight are due at once. On PostgreSQL, where
// another process may have them in flight, it moves the clock to the end of their leases.
func (f *fixture) crash() {
	f.t.Helper()
	f.restart()
	if pgtest.OnPostgres() {
		f.clock.add(leaseTime)
	}
}
