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

// All tests run on SQLite and then again on PostgreSQL.
func TestMain(m *testing.M) {
	os.Exit(pgtest.Main(m, pgtest.Suite{Prepare: prepare}))
}

// prepare makes the tables of which each test on PostgreSQL has a copy.
func prepare(ctx context.Context, url string) error {
	s, err := store.Open(ctx, store.Options{URL: url})
	if err != nil {
		return err
	}
	return s.Close()
}

// db is the database beside the store. One statement may hold several, if it has no values.
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

// brokenDisk is what the driver says of a disk that fails.
func brokenDisk() error {
	if pgtest.OnPostgres() {
		return &pgconn.PgError{Severity: "ERROR", Code: "58030", Message: "could not read block 0"}
	}
	return sqlite3.Error{Code: sqlite3.ErrIoErr}
}

// crash is a restart after a kill. On SQLite what was in flight is due at once; on PostgreSQL, where others may have it
// in flight, when its lease is over.
func (f *fixture) crash() {
	f.t.Helper()
	f.restart()
	if pgtest.OnPostgres() {
		f.clock.add(leaseTime)
	}
}
