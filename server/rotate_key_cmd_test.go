package main

import (
	"bytes"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/agentevents/agentevents/gen"
	"github.com/agentevents/agentevents/store"
)

func TestRotateKey(t *testing.T) {
	dir := t.TempDir()
	keyFile := func(name string, digit byte) string {
		path := filepath.Join(dir, name)
		must(t, os.WriteFile(path, append(bytes.Repeat([]byte{'0', digit}, store.KeySize), '\n'), 0o600))
		return path
	}
	oldFile, newFile, url := keyFile("old", '1'), keyFile("new", '2'), "sqlite:"+filepath.Join(dir, "agentevents.db")
	s, err := store.Open(t.Context(), store.Options{URL: url, Key: bytes.Repeat([]byte{1}, store.KeySize)})
	must(t, err)
	_, _, err = s.PutClient(t.Context(), "12", gen.ClientUpdate{})
	must(t, err)
	before, err := s.Secret(t.Context(), "12")
	must(t, err)
	must(t, s.Close())
	rotate := func(from, to string) (code int, stdout, stderr string) {
		return runCommand(t, nil, "rotate-key", "--database-url="+url, "--old-key-file="+from, "--new-key-file="+to)
	}
	if code, _, stderr := rotate(newFile, oldFile); code != exitFailed || !strings.Contains(stderr, "not the store's") {
		t.Errorf("with a wrong old key: %d %s", code, stderr)
	}
	if code, _, stderr := rotate(oldFile, filepath.Join(dir, "agentevents.db")); code != exitFailed ||
		!strings.Contains(stderr, "\n  the file of --new-key-file must contain 64 hexadecimal digits") {
		t.Errorf("with a file that has no key: %d %s", code, stderr)
	}
	code, stdout, stderr := rotate(oldFile, newFile)
	if code != 0 || !strings.HasPrefix(stdout, "clients 1\nkey     ") ||
		!strings.Contains(stderr, "msg=command operation=rotateKey ") || strings.Count(stderr, "\n") != 1 {
		t.Errorf("exit code %d, %s%s", code, stdout, stderr)
	}
	if s, err := store.Open(t.Context(), store.Options{URL: url, Key: bytes.Repeat([]byte{1}, 32)}); err == nil {
		t.Error("the old key opens the store")
		_ = s.Close()
	}
	s, err = store.Open(t.Context(), store.Options{URL: url, Key: bytes.Repeat([]byte{2}, 32)})
	must(t, err)
	after, err := s.Secret(t.Context(), "12")
	if err != nil || after.Secret != before.Secret {
		t.Errorf("the secret is %+v, %v; it was %+v", after, err, before)
	}
	must(t, s.Close())
}
