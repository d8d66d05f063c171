package main

import (
	"context"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"

	"github.com/agentevents/agentevents/store"
)

var backupReport = regexp.MustCompile(`^path     (\S+)\nsize     [0-9]+\nsequence 0\n$`)

func TestBackupWritesAConsistentCopy(t *testing.T) {
	dir := t.TempDir()
	file, to := filepath.Join(dir, "agentevents.db"), filepath.Join(dir, "copy.db")
	env := []string{"AGENTEVENTS_DATABASE_URL=sqlite:" + file, "AGENTEVENTS_TO=" + filepath.Join(dir, "else.db")}
	s, err := store.Open(t.Context(), store.Options{URL: "sqlite:" + file})
	if err != nil {
		t.Fatal(err)
	}
	defer s.Close()
	code, out, stderr := runCommand(t, env, "backup", "--to="+to)
	if report := backupReport.FindStringSubmatch(out); code != 0 || stderr != "" || report == nil || report[1] != to {
		t.Errorf("exit code %d, standard error %q\n%s", code, stderr, out)
	}
	code, out, stderr = runCommand(t, nil, "verify", "--database-url=sqlite:"+to)
	if code != 0 || stderr != "" || !strings.HasSuffix(out, "copy.db is consistent\n") {
		t.Errorf("verify: exit code %d, standard error %q\n%s", code, stderr, out)
	}
	code, out, stderr = runCommand(t, env, "backup", "--to="+to)
	if code != exitFailed || out != "" || stderr != "agentevents: "+to+" is there already\n" {
		t.Errorf("to an existing file: exit code %d, standard error %q\n%s", code, stderr, out)
	}
	code, out, stderr = runCommand(t, env, "backup")
	if code != exitUsage || out != "" || !strings.Contains(stderr, "--to=PATH") {
		t.Errorf("without --to: exit code %d, standard error %q\n%s", code, stderr, out)
	}
}

func TestBackupOfPostgreSQLNamesPgDump(t *testing.T) {
	code, out,
		stderr := runCommand(t, nil, "backup", "--database-url=postgres://x:secret@127.0.0.1:1/y", "--to=copy.db")
	if code != exitFailed || out != "" || !strings.Contains(stderr, "pg_dump") || strings.Contains(stderr, "secret") {
		t.Errorf("exit code %d, standard error %q\n%s", code, stderr, out)
	}
}

// A signal cancels the context of the command.
func TestInterruptedBackupLeavesNoFile(t *testing.T) {
	file, dir := filepath.Join(t.TempDir(), "agentevents.db"), t.TempDir()
	s, err := store.Open(t.Context(), store.Options{URL: "sqlite:" + file})
	if err != nil {
		t.Fatal(err)
	}
	defer s.Close()
	ctx, interrupt := context.WithCancel(t.Context())
	interrupt()
	var stdout, stderr strings.Builder
	code := run(ctx, []string{
		"backup", "--database-url=sqlite:" + file, "--to=" + dir + "/copy.db",
	}, nil, &stdout, &stderr)
	left, err := os.ReadDir(dir)
	if code != exitFailed || stdout.String() != "" || !strings.Contains(stderr.String(), "canceled") || err != nil ||
		len(left) > 0 {
		t.Errorf("exit code %d, standard error %q, left behind %v, %v\n%s", code, &stderr, left, err, &stdout)
	}
}
