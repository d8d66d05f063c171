package schema_test

import (
	"database/sql"
	"os"
	"path/filepath"
	"strings"
	"testing"

	_ "github.com/jackc/pgx/v5/stdlib" // the driver of PostgreSQL
	_ "github.com/mattn/go-sqlite3"    // the driver of SQLite

	"github.com/agentevents/agentevents/store/internal/schema"
	"github.com/agentevents/agentevents/store/pgtest"
)

func TestMain(m *testing.M) { os.Exit(pgtest.Main(m, pgtest.Suite{})) }

// openEmpty opens a database without tables.
func openEmpty(t *testing.T) (*sql.DB, schema.Schema) {
	t.Helper()
	driver, url, s := "sqlite3", filepath.Join(t.TempDir(), "agentevents.db"), schema.SQLite
	if pgtest.OnPostgres() {
		driver, url, s = "pgx", pgtest.Database(t), schema.Postgres
	}
	db, err := sql.Open(driver, url)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = db.Close() })
	return db, s
}

func wantError(t *testing.T, err error, text string) {
	t.Helper()
	if err == nil || !strings.Contains(err.Error(), text) {
		t.Errorf("the error is %v, want one with %q", err, text)
	}
}

func TestMigrateIsRepeatable(t *testing.T) {
	db, s := openEmpty(t)
	wantError(t, s.Check(t.Context(), db), "no database of agentevents")
	for range 2 { // the second call has nothing to do
		if err := s.Migrate(t.Context(), db); err != nil {
			t.Fatal(err)
		}
		if err := s.Check(t.Context(), db); err != nil {
			t.Error(err)
		}
	}
}

func TestCheckRefusesAnOlderDatabase(t *testing.T) {
	db, s := openEmpty(t)
	if err := s.Migrate(t.Context(), db); err != nil {
		t.Fatal(err)
	}
	const undo = "DELETE FROM goose_db_version WHERE version_id = (SELECT max(version_id) FROM goose_db_version)"
	if _, err := db.ExecContext(t.Context(), undo); err != nil {
		t.Fatal(err)
	}
	wantError(t, s.Check(t.Context(), db), "`agentevents serve` migrates it")
}

func TestNewerDatabaseIsRefused(t *testing.T) {
	db, s := openEmpty(t)
	if err := s.Migrate(t.Context(), db); err != nil {
		t.Fatal(err)
	}
	const newer = "INSERT INTO goose_db_version (version_id, is_applied) VALUES (99999, true)"
	if _, err := db.ExecContext(t.Context(), newer); err != nil {
		t.Fatal(err)
	}
	wantError(t, s.Migrate(t.Context(), db), "schema version 99999")
	wantError(t, s.Check(t.Context(), db), "schema version 99999")
}
