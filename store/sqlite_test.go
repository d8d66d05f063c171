package store

import (
	"context"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/agentevents/agentevents/store/pgtest"
)

func TestSQLiteSettings(t *testing.T) {
	pgtest.SQLiteOnly(t, "it is about the file")
	s, err := Open(context.Background(), Options{
		URL: "sqlite:" + filepath.Join(t.TempDir(), "a b%c?d#.db"), Log: slog.New(slog.NewTextHandler(t.Output(), nil)),
	})
	if err != nil {
		t.Fatal(err)
	}
	defer s.Close()
	for pragma, want := range map[string]string{
		"journal_mode": "wal", "synchronous": "2", "foreign_keys": "1", "busy_timeout": "5000", "auto_vacuum": "2",
		"temp_store": "2",
	} {
		var got string
		if err := s.writes.handle().Raw("PRAGMA " + pragma).Scan(&got).Error; err != nil || got != want {
			t.Errorf("PRAGMA %s is %q, want %q (%v)", pragma, got, want, err)
		}
	}
	if err := s.reader.Exec("DELETE FROM clients").Error; err == nil {
		t.Error("a reader may write")
	}
}

func TestSecondOwnerIsRefused(t *testing.T) {
	pgtest.SQLiteOnly(t, "it is about the file")
	url := "sqlite:" + filepath.Join(t.TempDir(), "agentevents.db")
	s, err := Open(context.Background(), Options{URL: url})
	if err != nil {
		t.Fatal(err)
	}
	defer s.Close()
	link := filepath.Join(t.TempDir(), "link.db")
	if err := os.Symlink(strings.TrimPrefix(url, "sqlite:"), link); err != nil {
		t.Fatal(err)
	}
	for _, second := range []string{url, "sqlite:" + link} {
		_, err = Open(context.Background(), Options{URL: second})
		if err == nil || !strings.Contains(err.Error(), "another process serves this database") {
			t.Errorf("second open of %s: %v", second, err)
		}
	}
}

// After a close all is in the one file, which nobody else may read.
func TestCloseLeavesOneFile(t *testing.T) {
	pgtest.SQLiteOnly(t, "it is about the file")
	file := filepath.Join(t.TempDir(), "agentevents.db")
	s, err := Open(context.Background(), Options{URL: "sqlite:" + file})
	if err != nil {
		t.Fatal(err)
	}
	if _, err := s.Clients(context.Background(), "", 0); err != nil {
		t.Error(err)
	}
	if err := s.Close(); err != nil {
		t.Error(err)
	}
	if info, err := os.Stat(file + "-wal"); err == nil && info.Size() > 0 {
		t.Errorf("%d bytes are left in the write-ahead log", info.Size())
	}
	if info, err := os.Stat(file); err != nil || info.Mode().Perm() != 0o600 {
		t.Errorf("mode %v, %v", info.Mode(), err)
	}
}

func TestNewerDatabaseIsRefused(t *testing.T) {
	pgtest.SQLiteOnly(t, "it is about the file")
	url := "sqlite:" + filepath.Join(t.TempDir(), "agentevents.db")
	s, err := Open(context.Background(), Options{URL: url})
	if err != nil {
		t.Fatal(err)
	}
	err = s.writes.handle().Exec("INSERT INTO goose_db_version (version_id, is_applied) VALUES (99999, 1)").Error
	if err != nil {
		t.Fatal(err)
	}
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
	_, err = Open(context.Background(), Options{URL: url})
	if err == nil || !strings.Contains(err.Error(), "schema version 99999") {
		t.Errorf("open of a newer database: %v", err)
	}
}
