package servertest

import (
	"context"
	"database/sql"
	"net/url"
	"strings"
	"testing"

	_ "github.com/jackc/pgx/v5/stdlib" // the driver pgx
	_ "github.com/mattn/go-sqlite3"    // the driver sqlite3

	"github.com/agentevents/agentevents/store"
)

// PrepareStore creates the tables of the template database. Each test on PostgreSQL gets a copy of it.
func PrepareStore(ctx context.Context, url string) error {
	s, err := store.Open(ctx, store.Options{URL: url})
	if err != nil {
		return err
	}
	return s.Close()
}

// OpenDatabase opens another connection to the database of a store, with durability off.
func OpenDatabase(t testing.TB, databaseURL string) *sql.DB {
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
