package main

import (
	"os"
	"testing"

	_ "github.com/jackc/pgx/v5/stdlib" // the driver pgx
	_ "github.com/mattn/go-sqlite3"    // the driver sqlite3

	"github.com/agentevents/agentevents/server/internal/servertest"
	"github.com/agentevents/agentevents/store/pgtest"
)

// onPostgres matches the tests of guarantees. They run on PostgreSQL too.
const onPostgres = "^Test(GracefulStop|FailedListenerEndsTheServer|StopAnswersPolls)$"

func TestMain(m *testing.M) {
	os.Exit(pgtest.Main(m, pgtest.Suite{Run: onPostgres, Prepare: servertest.PrepareStore}))
}
