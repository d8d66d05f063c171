package postgres

import (
	"os"
	"testing"

	"github.com/agentevents/agentevents/store/cluster"
)

func TestMain(m *testing.M) { os.Exit(cluster.Main(m, cluster.Suite{})) }

// openTest opens a database of the test alone.
func openTest(t *testing.T) *DB {
	t.Helper()
	cluster.PostgresOnly(t, "it is about its server")
	db, err := Open(t.Context(), Options{URL: cluster.Database(t)})
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
