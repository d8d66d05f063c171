package postgres

import (
	"os"
	"testing"

	"github.com/agentevents/agentevents/store/pgtest"
)

func TestMain(m *testing.M) { os.Exit(pgtest.Main(m, pgtest.Suite{})) }

// openTest opens a database of the test's own.
func openTest(t *testing.T) *DB {
	t.Helper()
	pgtest.PostgresOnly(t, "it is about its server")
	db, err := Open(t.Context(), Options{URL: pgtest.Database(t)})
	check(t, err)
	t.Cleanup(func() { check(t, db.Close()) })
	return db
}

func check(t testing.TB, errs ...error) {
	t.Helper()
	for _, err := range errs {
		if err != nil {
			t.Fatal(err)
		}
	}
}
