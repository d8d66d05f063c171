package api

import (
	"flag"
	"os"
	"testing"

	"github.com/agentevents/agentevents/server/internal/servertest"
	"github.com/agentevents/agentevents/store/pgtest"
)

// onPostgres are the tests of what the API promises: they run on SQLite as all do, and then again on PostgreSQL.
const onPostgres = "^Test(Contract.*|Token.*)$"

func TestMain(m *testing.M) {
	if pgtest.OnPostgres() {
		_ = flag.Set("rapid.checks", "20") // each takes several times as long; the command line goes before
	}
	os.Exit(pgtest.Main(m, pgtest.Suite{Run: onPostgres, Prepare: servertest.PrepareStore}))
}
