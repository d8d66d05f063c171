package sqlite

import (
	"context"
	"database/sql"
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

func TestBackupHasCommittedAndPreparedChanges(t *testing.T) {
	f := openTestFile(t)
	f.write(1000) // only in the write-ahead log
	to := filepath.Join(t.TempDir(), "copy.db")
	saved, err := Backup(t.Context(), f.path, to, func(ctx context.Context, copied *sql.DB) error {
		_, err := copied.ExecContext(ctx, "UPDATE probes SET at = 42")
		return err
	})
	check(t, err)
	info, err := os.Stat(to)
	check(t, err)
	if saved != (Saved{Path: to, Size: info.Size()}) || info.Mode() != 0o600 {
		t.Errorf("made %+v, of mode %s", saved, info.Mode())
	}
	var at, room int
	check(t, Use(to, func(db *sql.DB) error {
		return db.QueryRow("SELECT at, length(room) FROM probes").Scan(&at, &room)
	}))
	if at != 42 || room != 1000 {
		t.Errorf("the copy has %d and %d bytes", at, room)
	}
}

func TestFailedBackupLeavesNothing(t *testing.T) {
	f := openTestFile(t)
	dir := t.TempDir()
	for want, prepare := range map[string]prepareFunc{
		"no epoch": func(context.Context, *sql.DB) error { return errors.New("no epoch") },
		"the copy is damaged": func(ctx context.Context, copied *sql.DB) error {
			_, err := copied.ExecContext(ctx, "CREATE TABLE positive (n CHECK (n > 0)); "+
				"PRAGMA ignore_check_constraints = ON; INSERT INTO positive VALUES (0); "+
				"PRAGMA ignore_check_constraints = OFF")
			return err
		},
	} {
		_, err := Backup(t.Context(), f.path, filepath.Join(dir, "copy.db"), prepare)
		if err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("the error is %v, want one with %q", err, want)
		}
		if left, err := os.ReadDir(dir); err != nil || len(left) > 0 {
			t.Errorf("after %q there is %v, %v", want, left, err)
		}
	}
}
