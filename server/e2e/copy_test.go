package e2e

import (
	"regexp"
	"strings"
	"testing"

	"github.com/agentevents/agentevents/store/pgtest"
)

// A copy prints one line for each table if its output is not a terminal. A second copy is refused: the first is
// complete.
func TestCopyToPostgresIsVerified(t *testing.T) {
	pgtest.PostgresOnly(t, "a copy goes from SQLite to PostgreSQL")
	t.Parallel()
	from, to := "sqlite:"+newFile(t), pgtest.Empty(t)
	p := serve(t, from)
	a := newAPI(t, p)
	a.putClient()
	equal(t, "exit code", p.stop(t), 0)
	copying := []string{"copy", "--from=" + from, "--to=" + to}
	stdout, stderr, code := command(t, nil, copying...)
	if code != 0 || !strings.HasSuffix(stdout, " is a verified copy of "+from+"\n") {
		t.Errorf("exit code %d\n%s", code, stdout)
	}
	if !regexp.MustCompile(`^(\w+ +\d+ of \d+ rows\n){10,}$`).MatchString(stderr) {
		t.Errorf("the progress is %q", stderr)
	}
	contains(t, "progress", stderr, "clients        1 of 1 rows\n")

	_, stderr, code = command(t, nil, copying...)
	equal(t, "exit code of a second copy", code, 1)
	contains(t, "message", stderr, "if an earlier copy was complete, nothing is left to do")
	_, stderr, code = command(t, databaseAt(to), "verify")
	equal(t, "exit code of verify", code, 0)
	equal(t, "standard error of verify", stderr, "")
}
