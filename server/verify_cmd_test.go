package main

import (
	"database/sql"
	"path/filepath"
	"strings"
	"testing"

	"github.com/agentevents/agentevents/store"
)

func TestVerifyReportsFaults(t *testing.T) {
	file := filepath.Join(t.TempDir(), "agentevents.db")
	s, err := store.Open(t.Context(), store.Options{URL: "sqlite:" + file})
	if err != nil {
		t.Fatal(err)
	}
	consistent := func(when string) {
		t.Helper()
		code, out, stderr := runCommand(t, nil, "verify", "--database-url=sqlite:"+file)
		if code != 0 || stderr != "" || strings.Contains(out, "FAULT") ||
			!strings.HasSuffix(out, "sqlite:"+file+" is consistent\n") {
			t.Errorf("%s: exit code %d, standard error %q\n%s", when, code, stderr, out)
		}
	}
	consistent("while it is open")
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
	consistent("after it was closed")

	execSQL(t, file, "INSERT INTO receivers (client_id, scheme, host, port, probes) "+
		"WITH RECURSIVE n (i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < 22) SELECT i, 'http', 'h', 80, 1 "+
		"FROM n")
	code, out, stderr := runCommand(t, []string{"AGENTEVENTS_DATABASE_URL=sqlite:" + file}, "verify")
	if code != exitFailed || !strings.Contains(stderr, "is inconsistent: 22 faults") ||
		strings.Count(out, "FAULT  ") != 1 ||
		strings.Count(out, "\n          receiver ") != 20 || !strings.Contains(out, "\n          and 2 more\n") {
		t.Errorf("exit code %d, standard error %q\n%s", code, stderr, out)
	}
}

func TestVerifyRequiresAStore(t *testing.T) {
	code, out, stderr := runCommand(t, nil, "verify", "--database-url=sqlite:"+filepath.Join(t.TempDir(), "no.db"))
	if code != exitFailed || out != "" || !strings.Contains(stderr, "/no.db: `agentevents serve` creates it "+
		"(AGENTEVENTS_DATABASE_URL, --database-url)") {
		t.Errorf("exit code %d, standard error %q\n%s", code, stderr, out)
	}
}

func execSQL(t *testing.T, file, statement string) {
	t.Helper()
	db, err := sql.Open("sqlite3", file)
	if err != nil {
		t.Fatal(err)
	}
	defer db.Close()
	if _, err := db.Exec(statement); err != nil {
		t.Fatal(err)
	}
}
