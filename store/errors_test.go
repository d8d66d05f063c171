package store_test

import (
	"bytes"
	"errors"
	"log/slog"
	"strings"
	"testing"

	"github.com/agentevents/agentevents/store/internal/sqldb"
)

// While the database is unavailable, all statements fail, and their callers log it.
func TestOnlyWrongStatementsAreLogged(t *testing.T) {
	var log bytes.Buffer
	f := open(t)
	f.log = slog.New(slog.NewTextHandler(&log, nil))
	f.restart()
	k := f.agent()
	log.Reset()
	f.rename("secrets", "gone")
	if _, err := f.Secret(f.ctx, k.Client); err == nil || !strings.Contains(log.String(), "SELECT") {
		t.Errorf("the error is %v, and the log: %s", err, &log)
	}
	f.rename("gone", "secrets")
	f.check(f.Close())
	log.Reset()
	if _, err := f.Client(f.ctx, k.Client); err == nil || log.Len() > 0 {
		t.Errorf("the error is %v, and the log: %s", err, &log)
	}
	f.open()
}

// A duplicate key is a client's mistake, also in a statement without GORM.
func TestDuplicateKeysAreNotLogged(t *testing.T) {
	var log bytes.Buffer
	f := open(t)
	f.log = slog.New(slog.NewTextHandler(&log, nil))
	f.restart()
	log.Reset()
	for range 2 {
		err := f.Write(f.ctx, func(tx *sqldb.Tx) error { return tx.Queue("INSERT INTO probes (id, at) VALUES (1, 1)") })
		if err == nil || log.Len() > 0 {
			t.Errorf("the error is %v, and the log: %s", err, &log)
		}
	}
}

func (f *fixture) rename(table, to string) {
	f.t.Helper()
	db := f.db()
	_, err := db.ExecContext(f.ctx, "ALTER TABLE "+table+" RENAME TO "+to)
	f.check(errors.Join(err, db.Close()))
}
