package store_test

import (
	"strings"
	"sync"
	"testing"

	"github.com/agentevents/agentevents/gen"
	"github.com/agentevents/agentevents/store"
	"github.com/agentevents/agentevents/store/cluster"
	"github.com/agentevents/agentevents/webhook"
)

// When many processes start on an empty database, one makes the tables, and the others wait for it.
func TestOneMigrates(t *testing.T) {
	cluster.PostgresOnly(t, "one process owns a file")
	f := &fixture{t: t, ctx: t.Context(), clock: newClock(), url: cluster.Empty(t)}
	var starts sync.WaitGroup
	for range 6 {
		starts.Go(func() {
			s, err := store.Open(f.ctx, store.Options{URL: f.url})
			if err != nil {
				t.Error(err)
				return
			}
			if err := s.Close(); err != nil {
				t.Error(err)
			}
		})
	}
	starts.Wait()
	db := f.db()
	defer db.Close()
	var versions, rows int
	f.check(db.QueryRow("SELECT count(DISTINCT version_id), count(*) FROM goose_db_version").Scan(&versions, &rows))
	if versions != rows || rows < 2 {
		t.Errorf("%d rows for %d versions", rows, versions)
	}
}

// A later version of the program adds to tables while this one works. This one goes on; only a start of it is refused.
func TestTablesGrowMeanwhile(t *testing.T) {
	cluster.PostgresOnly(t, "one process owns a file")
	f := open(t)
	k := f.agent()
	f.register(k, crm, gen.EventTypeAgentLogin, gen.EventTypeAgentLogout)
	day := func() {
		t.Helper()
		f.login(k)
		f.finish(f.claimOne())
		f.logout(k)
		f.record(f.claimOne(), webhook.Failed, false)
		f.sequences()
		if _, err := f.Deliveries(f.ctx, k.Client, store.DeliveryFilter{}, 0, 10); err != nil {
			t.Error(err)
		}
	}
	for range 8 { // so that statements are prepared
		day()
	}
	for _, table := range []string{
		"clients", "agents", "receivers", "secrets", "lanes", "agent_events", "status_changes", "deliveries", "attempts", "tokens",
	} {
		f.sql("ALTER TABLE " + table + " ADD COLUMN later TEXT NOT NULL DEFAULT ''")
	}
	f.sql("INSERT INTO goose_db_version (version_id, is_applied) VALUES (1000, true)")
	day()
	f.verifyRows()
	s, err := store.Open(f.ctx, store.Options{URL: f.url})
	if err == nil {
		t.Error("it starts on tables that it does not know", s.Close())
	} else if !strings.Contains(err.Error(), "schema version 1000") {
		t.Error(err)
	}
}

// verifyRows is verify for a schema that is newer.
func (f *fixture) verifyRows() {
	f.t.Helper()
	f.sql("DELETE FROM goose_db_version WHERE version_id = 1000")
	f.verify()
	f.sql("INSERT INTO goose_db_version (version_id, is_applied) VALUES (1000, true)")
}
