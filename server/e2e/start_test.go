package e2e

import (
	"bytes"
	"net"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/agentevents/agentevents/store/pgtest"
)

// A start that cannot succeed ends immediately, with an exit code above 0 and a message that names the cause.
func TestFailedStartNamesTheCause(t *testing.T) {
	t.Parallel()
	served := newFile(t)
	owner := serve(t, "sqlite:"+served)
	garbage := newFile(t)
	if err := os.WriteFile(garbage, bytes.Repeat([]byte("not a database\n"), 1000), 0o600); err != nil {
		t.Fatal(err)
	}
	taken, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer taken.Close()
	for _, c := range []struct {
		name, store string
		env         []string
		want        []string
	}{
		{
			"another process serves the file", "sqlite:" + served, nil,
			[]string{served, "another process serves this database"},
		},
		{"the database is newer", newerStore(t), nil, []string{"schema version 99999", "this program knows"}},
		{"the file is not a database", "sqlite:" + garbage, nil, []string{garbage}},
		{"there is no such directory", "sqlite:" + filepath.Join(t.TempDir(), "none", "x.db"), nil, []string{"none"}},
		{
			"the address is in use", newStore(t),
			[]string{"AGENTEVENTS_ADDR=" + taken.Addr().String()},
			[]string{taken.Addr().String()},
		},
	} {
		t.Run(c.name, func(t *testing.T) {
			p := start(t, c.store, c.env...)
			code := p.wait(t)
			if code <= 0 {
				t.Errorf("exit code %d", code)
			}
			message := lastLine(p.Log.String())
			t.Logf("exit code %d: %s", code, message)
			contains(t, "message", message, c.want...)
		})
	}
	if !owner.ready() {
		t.Error("the process that serves the file is no longer ready")
	}
}

// newerStore returns a database that a later version of the program has migrated.
func newerStore(t *testing.T) string {
	t.Helper()
	store := newStore(t)
	equal(t, "exit code", serve(t, store).stop(t), 0)
	if _, err := open(t, store).Exec(
		"INSERT INTO goose_db_version (version_id, is_applied) VALUES (99999, TRUE)",
	); err != nil {
		t.Fatal(err)
	}
	return store
}

// One message lists all errors of the configuration, and nothing starts.
func TestEveryConfigurationErrorIsReported(t *testing.T) {
	pgtest.SQLiteOnly(t, "no database is opened")
	t.Parallel()
	stdout, stderr, code := command(t, []string{
		"AGENTEVENTS_ADDR=nowhere",
		"AGENTEVENTS_DATABASE_URL=oracle://scott:tiger@db/agents",
		"AGENTEVENTS_ALLOW_NETWORKS=10.0.0.0/8,banana",
		"AGENTEVENTS_LOG_LEVEL=loud",
		"AGENTEVENTS_LOG_FORMAT=xml",
	}, "serve")
	if code <= 0 || stdout != "" {
		t.Errorf("exit code %d, standard output %q", code, stdout)
	}
	t.Log(stderr)
	contains(t, "message", stderr, "AGENTEVENTS_ADDR", "AGENTEVENTS_DATABASE_URL", "oracle",
		"AGENTEVENTS_ALLOW_NETWORKS",
		"banana", "AGENTEVENTS_LOG_LEVEL", "AGENTEVENTS_LOG_FORMAT")
	if strings.Contains(stderr, "tiger") {
		t.Error("the message contains a password")
	}
}

func TestUnknownVariableIsLogged(t *testing.T) {
	pgtest.SQLiteOnly(t, "the configuration does not depend on the engine")
	t.Parallel()
	p := serve(t, newStore(t), "AGENTEVENTS_LISTEN=127.0.0.1:1")
	contains(t, "log", p.Log.String(), "AGENTEVENTS_LISTEN")
}

func TestHelpAndVersionPrintAndExit(t *testing.T) {
	pgtest.SQLiteOnly(t, "no database is opened")
	t.Parallel()
	help, stderr, code := command(t, nil, "--help")
	equal(t, "exit code of --help", code, 0)
	equal(t, "standard error of --help", stderr, "")
	contains(t, "help", help, "agentevents serve", "http://127.0.0.1:8080", "application create", "verify", "version")

	help, stderr, code = command(t, nil, "serve", "--help")
	equal(t, "exit code of serve --help", code, 0)
	equal(t, "standard error of serve --help", stderr, "")
	contains(t, "help of serve", help, "AGENTEVENTS_", "--addr", "127.0.0.1:8080", "--database-url",
		"sqlite:agentevents.db", "--allow-networks", "--log-level", "--log-format")

	output, stderr, code := command(t, nil, "version")
	equal(t, "exit code of version", code, 0)
	equal(t, "standard error of version", stderr, "")
	contains(t, "version", output, "agentevents "+version+"\n")

	_, stderr, code = command(t, nil, "swerve")
	if code <= 0 {
		t.Errorf("exit code %d of an unknown command", code)
	}
	contains(t, "message", stderr, "swerve")
}

func lastLine(text string) string {
	text = strings.TrimSpace(text)
	return text[strings.LastIndex(text, "\n")+1:]
}
