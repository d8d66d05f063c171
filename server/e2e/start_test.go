package e2e

import (
	"bytes"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
)

// A start that cannot succeed ends at once, with another exit code than 0 and one clear message.
func testRefusedStart(t *testing.T, bin programs) {
	served := newFile(t)
	owner := bin.serve(t, "sqlite:"+served)
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
		{"another process serves the file", "sqlite:" + served, nil, []string{served, "another process serves this database"}},
		{"the database is newer", newerStore(t, bin), nil, []string{"schema version 99999", "this program knows"}},
		{"the file is no database", "sqlite:" + garbage, nil, []string{garbage}},
		{"there is no such directory", "sqlite:" + filepath.Join(t.TempDir(), "none", "x.db"), nil, []string{"none"}},
		{"the address is taken", newStore(t), []string{"AGENTEVENTS_ADDR=" + taken.Addr().String()}, []string{taken.Addr().String()}},
	} {
		t.Run(c.name, func(t *testing.T) {
			p := bin.start(t, c.store, c.env...)
			code := p.wait(t)
			if code <= 0 {
				t.Errorf("exit code %d", code)
			}
			message := lastLine(p.out.String())
			t.Logf("exit code %d: %s", code, message)
			contains(t, "message", message, c.want...)
		})
	}
	if !owner.ready() {
		t.Error("the process that owns the file is not ready any more")
	}
}

// newerStore is a database that a later version of the program has changed.
func newerStore(t *testing.T, bin programs) string {
	t.Helper()
	store := newStore(t)
	equal(t, "exit code", bin.serve(t, store).stop(t), 0)
	if _, err := open(t, store).Exec("INSERT INTO goose_db_version (version_id, is_applied) VALUES (99999, TRUE)"); err != nil {
		t.Fatal(err)
	}
	return store
}

// All that is wrong with the configuration is said at once, and nothing is begun.
func testConfiguration(t *testing.T, bin programs) {
	stdout, stderr, code := bin.run(t, []string{
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
	contains(t, "message", stderr, "AGENTEVENTS_ADDR", "AGENTEVENTS_DATABASE_URL", "oracle", "AGENTEVENTS_ALLOW_NETWORKS",
		"banana", "AGENTEVENTS_LOG_LEVEL", "AGENTEVENTS_LOG_FORMAT")
	if strings.Contains(stderr, "tiger") {
		t.Error("the message tells a password")
	}
}

func testUnknownVariable(t *testing.T, bin programs) {
	p := bin.serve(t, newStore(t), "AGENTEVENTS_LISTEN=127.0.0.1:1")
	contains(t, "log", p.out.String(), "AGENTEVENTS_LISTEN")
}

func testHelpAndVersion(t *testing.T, bin programs) {
	help, stderr, code := bin.run(t, nil, "--help")
	equal(t, "exit code of --help", code, 0)
	equal(t, "standard error of --help", stderr, "")
	contains(t, "help", help, "serve", "version", "AGENTEVENTS_ADDR", "127.0.0.1:8080", "AGENTEVENTS_DATABASE_URL",
		"sqlite:agentevents.db", "AGENTEVENTS_ALLOW_NETWORKS", "AGENTEVENTS_LOG_LEVEL", "AGENTEVENTS_LOG_FORMAT")

	version, stderr, code := bin.run(t, nil, "version")
	equal(t, "exit code of version", code, 0)
	equal(t, "standard error of version", stderr, "")
	contains(t, "version", version, "agentevents "+bin.version)

	_, stderr, code = bin.run(t, nil, "swerve")
	if code <= 0 {
		t.Errorf("exit code %d of an unknown command", code)
	}
	contains(t, "message", stderr, "swerve")
}

// run runs the binary in an empty directory to its end, and sees to it that it leaves nothing there.
func (bin programs) run(t *testing.T, env []string, args ...string) (stdout, stderr string, code int) {
	t.Helper()
	var out, errs bytes.Buffer
	cmd := exec.Command(bin.server, args...)
	cmd.Dir, cmd.Env, cmd.Stdout, cmd.Stderr = t.TempDir(), append(cleanEnv(), env...), &out, &errs
	_ = cmd.Run() // the exit code tells more
	if left, err := os.ReadDir(cmd.Dir); err != nil || len(left) > 0 {
		t.Errorf("%v left behind: %v (%v)", args, left, err)
	}
	return out.String(), errs.String(), cmd.ProcessState.ExitCode()
}

func contains(t *testing.T, what, text string, parts ...string) {
	t.Helper()
	for _, part := range parts {
		if !strings.Contains(text, part) {
			t.Errorf("the %s does not say %q:\n%s", what, part, text)
		}
	}
}

func lastLine(text string) string {
	text = strings.TrimSpace(text)
	return text[strings.LastIndex(text, "\n")+1:]
}
