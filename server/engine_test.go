package main

import (
	"context"
	"database/sql"
	"flag"
	"net/url"
	"os"
	"strings"
	"testing"

	_ "github.com/jackc/pgx/v5/stdlib" // the driver pgx
	_ "github.com/mattn/go-sqlite3"    // the driver sqlite3

	"github.com/agentevents/agentevents/store"
	"github.com/agentevents/agentevents/store/pgtest"
)

// onPostgres are the tests of what is promised, which run on SQLite as all do, and then again on PostgreSQL.
const onPostgres = "^Test(Contract.*|Token.*|GracefulStop|ListenerFails|StopEndsPolls)$"

func TestMain(m *testing.M) {
	if pgtest.OnPostgres() {
		_ = flag.Set("rapid.checks", "20") // each takes several times as long; the command line goes before
	}
	os.Exit(pgtest.Main(m, pgtest.Suite{Run: onPostgres, Prepare: prepare}))
}

// prepare makes the tables of which each test on PostgreSQL has a copy.
func prepare(ctx context.Context, url string) error {
	s, err := store.Open(ctx, store.Options{URL: url})
	if err != nil {
		return err
	}
	return s.Close()
}

// openBeside is another connection to a store's database, in which nothing that is written survives a crash.
func openBeside(t testing.TB, databaseURL string) *sql.DB {
	t.Helper()
	driver, name := "pgx", databaseURL
	if file, ok := strings.CutPrefix(databaseURL, "sqlite:"); ok {
		driver, name = "sqlite3", "file:"+url.PathEscape(file)+"?_busy_timeout=5000&_txlock=immediate&_synchronous=OFF"
	}
	db, err := sql.Open(driver, name)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := db.Close(); err != nil {
			t.Error(err)
		}
	})
	return db
}
