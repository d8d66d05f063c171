package store_test

import (
	"bytes"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/agentevents/agentevents/store"
	"github.com/agentevents/agentevents/store/pgtest"
)

// One file is served by one process, whatever names it has.
func TestOneFileOfManyNames(t *testing.T) {
	pgtest.SQLiteOnly(t, "it is about the file")
	for name, link := range map[string]func(old, new string) error{"symbolic": os.Symlink, "hard": os.Link} {
		t.Run(name, func(t *testing.T) {
			dir := t.TempDir()
			file, other := filepath.Join(dir, "agentevents.db"), filepath.Join(dir, "other.db")
			if name == "symbolic" { // which leads nowhere yet, by way of another one
				between := filepath.Join(dir, "between.db")
				must(t, os.Symlink("agentevents.db", between), os.Symlink(between, other))
			}
			first := file
			if name == "symbolic" {
				first = other
			}
			s, err := store.Open(t.Context(), store.Options{URL: "sqlite:" + first})
			must(t, err)
			defer s.Close()
			if name == "hard" {
				must(t, link(file, other))
			}
			for _, second := range []string{file, other} {
				_, err = store.Open(t.Context(), store.Options{URL: "sqlite:" + second})
				if err == nil || !strings.Contains(err.Error(), "another process serves this database") && !strings.Contains(err.Error(), "2 names") {
					t.Errorf("%s is served too: %v", second, err)
				}
			}
			if _, err := os.Lstat(other + ".lock"); err == nil {
				t.Error("the link is locked, and not the file")
			}
		})
	}
}

// A link that leads to itself is an error.
func TestLinksInACircle(t *testing.T) {
	dir := t.TempDir()
	a, b := filepath.Join(dir, "a.db"), filepath.Join(dir, "b.db")
	must(t, os.Symlink(a, b), os.Symlink(b, a))
	_, err := store.Open(t.Context(), store.Options{URL: "sqlite:" + a})
	if err == nil || !strings.Contains(err.Error(), "too many links") {
		t.Errorf("the error is %v", err)
	}
}

// What a store has is its owner's alone, also if it was not.
func TestModesAreMended(t *testing.T) {
	pgtest.SQLiteOnly(t, "it is about the file")
	f := open(t)
	file := strings.TrimPrefix(f.url, "sqlite:")
	f.check(f.Close())
	loose := []string{file, file + ".lock", file + "-wal"}
	for _, name := range loose {
		w, err := os.OpenFile(name, os.O_CREATE, 0o600)
		must(t, err, w.Close(), os.Chmod(name, 0o644))
	}
	var log bytes.Buffer
	f.log = slog.New(slog.NewTextHandler(&log, nil))
	f.open()
	for _, name := range append(loose, file+"-shm") {
		if info, err := os.Stat(name); err != nil || info.Mode() != 0o600 {
			t.Errorf("%s: %v, %v", name, info.Mode(), err)
		}
		if want := "file=" + name + " mode=0644"; (name != file+"-shm") != strings.Contains(log.String(), want) {
			t.Errorf("the log: %s", &log)
		}
	}
	log.Reset()
	f.restart()
	if log.Len() > 0 {
		t.Errorf("the next time the log says %s", &log)
	}
}

func must(t testing.TB, errs ...error) {
	t.Helper()
	for _, err := range errs {
		if err != nil {
			t.Fatal(err)
		}
	}
}
