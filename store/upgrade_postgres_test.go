package store_test

import (
	"database/sql"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/agentevents/agentevents/gen"
	"github.com/agentevents/agentevents/store"
	"github.com/agentevents/agentevents/store/pgtest"
	"github.com/agentevents/agentevents/webhook"
)

// Many processes start on an empty database, and all but one wait for the migration.
func TestOneProcessMigrates(t *testing.T) {
	pgtest.PostgresOnly(t, "one process owns a file")
	f := &fixture{t: t, ctx: t.Context(), clock: newClock(), url: pgtest.Empty(t)}
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

// A later version migrates while this one runs. Only a new start of this version is refused.
func TestStoreSurvivesAMigrationByALaterVersion(t *testing.T) {
	pgtest.PostgresOnly(t, "one process owns a file")
	f := open(t)
	k := f.agent()
	f.createEvents(k, crm, gen.EventTypeAgentLogin, gen.EventTypeAgentLogout)
	day := func() {
		t.Helper()
		f.login(k)
		f.finish(f.claimOne())
		f.logout(k)
		f.record(f.claimOne(), webhook.Failed, false)
		f.sequences()
		f.clock.add(24 * time.Hour) // the number of secrets is limited
		f.create(f.creations()["rotation"], f.operator())
		if _, err := f.Deliveries(f.ctx, k.Client, store.DeliveryFilter{}, 0, 10); err != nil {
			t.Error(err)
		}
	}
	for range 8 { // prepares the statements
		day()
	}
	for _, table := range []string{
		"clients", "agents", "receivers", "secrets", "lanes", "agent_events", "status_changes", "deliveries",
		"attempts", "tokens",
		"idempotency_keys",
	} {
		f.sql("ALTER TABLE " + table + " ADD COLUMN later TEXT NOT NULL DEFAULT ''")
	}
	f.sql("INSERT INTO goose_db_version (version_id, is_applied) VALUES (1000, true)")
	day()
	f.verifyRows()
	s, err := store.Open(f.ctx, store.Options{URL: f.url})
	if err == nil {
		t.Error("it starts on an unknown schema", s.Close())
	} else if !strings.Contains(err.Error(), "schema version 1000") {
		t.Error(err)
	}
}

// The migration waits for older transactions, beyond the lock timeout, and repairs an index whose creation was
// interrupted.
func TestIndexIsCreatedWhileOthersRead(t *testing.T) {
	pgtest.PostgresOnly(t, "one process owns a file")
	f := open(t)
	f.check(f.Close())
	f.sql("UPDATE pg_index SET indisvalid = FALSE WHERE indexrelid = 'deliveries_agent'::regclass")
	f.undoAfter("00002")
	f.sql("DELETE FROM goose_db_version WHERE version_id >= 2")
	db := f.db()
	defer db.Close()
	other, err := db.BeginTx(f.ctx, &sql.TxOptions{Isolation: sql.LevelRepeatableRead})
	f.check(err)
	_, err = other.ExecContext(f.ctx, "SELECT count(*) FROM clients")
	f.check(err)
	opened := make(chan error)
	go func() {
		s, err := store.Open(f.ctx, store.Options{URL: f.url + "&lock_timeout=100"})
		if err == nil {
			err = s.Close()
		}
		opened <- err
	}()
	f.untilTrue(db, opened,
		"SELECT count(*) > 0 FROM pg_stat_activity WHERE datname = current_database() AND wait_event_type = 'Lock' "+
			"AND query LIKE 'CREATE INDEX%' AND clock_timestamp() - query_start > interval '300 ms'")
	f.check(other.Rollback())
	f.check(<-opened)
	f.untilTrue(db, nil, "SELECT indisvalid FROM pg_index WHERE indexrelid = 'deliveries_agent'::regclass")
}

// undoAfter undoes the migrations after a number, the last first.
func (f *fixture) undoAfter(number string) {
	f.t.Helper()
	files, err := filepath.Glob("internal/schema/migrations/postgres/*.sql")
	f.check(err)
	slices.Sort(files)
	for _, file := range slices.Backward(files) {
		if filepath.Base(file) < number+"~" {
			return
		}
		_, down, _ := strings.Cut(string(readFile(f.t, file)), "-- +goose Down")
		f.sql(down)
	}
}

// untilTrue waits for a condition in the database. The end of the operation before that is an error.
func (f *fixture) untilTrue(db *sql.DB, ended <-chan error, condition string) {
	f.t.Helper()
	look, limit := time.NewTicker(10*time.Millisecond), time.After(patience)
	defer look.Stop()
	for so := false; !so; {
		select {
		case <-look.C:
			f.check(db.QueryRowContext(f.ctx, condition).Scan(&so))
		case err := <-ended:
			f.t.Fatalf("it has ended (%v) before %s", err, condition)
		case <-limit:
			f.t.Fatalf("the condition never became true: %s", condition)
		}
	}
}

// verifyRows is verify for a newer schema.
func (f *fixture) verifyRows() {
	f.t.Helper()
	f.sql("DELETE FROM goose_db_version WHERE version_id = 1000")
	f.verify()
	f.sql("INSERT INTO goose_db_version (version_id, is_applied) VALUES (1000, true)")
}
