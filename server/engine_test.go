package main

import (
	"os"
	"testing"

	_ "github.com/jackc/pgx/v5/stdlib" // the driver pgx
	_ "github.com/mattn/go-sqlite3"    // the driver sqlite3

	"github.com/agentevents/agentevents/server/internal/servertest"
	"github.com/agentevents/agentevents/store/pgtest"
)

// onPostgres are the tests of what is promised: they run on SQLite as all do, and then again on PostgreSQL.
const onPostgres = "^Test(GracefulStop|ListenerFails|StopEndsPolls)$"

func TestMain(m *testing.M) {
	os.Exit(pgtest.Main(m, pgtest.Suite{Run: onPostgres, Prepare: servertest.PrepareStore}))
}
