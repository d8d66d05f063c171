package api

import (
	"flag"
	"os"
	"testing"

	"github.com/agentevents/agentevents/server/internal/servertest"
	"github.com/agentevents/agentevents/store/pgtest"
)

// onPostgres matches the tests of what the API guarantees. They run on PostgreSQL too.
const onPostgres = "^Test(Contract.*|Token.*)$"

func TestMain(m *testing.M) {
	if pgtest.OnPostgres() {
		_ = flag.Set("rapid.checks", "20") // PostgreSQL is several times slower; the command line overrides it
	}
	os.Exit(pgtest.Main(m, pgtest.Suite{Run: onPostgres, Prepare: servertest.PrepareStore}))
}
