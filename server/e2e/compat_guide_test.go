package e2e

import (
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"github.com/agentevents/agentevents/store/pgtest"
)

// The callers in gen/README.md work as they are printed there.
func TestCallersOfTheGuide(t *testing.T) {
	pgtest.SQLiteOnly(t, "requests do not depend on the engine")
	t.Parallel()
	for language, command := range map[string]struct {
		debian, program string
		args            []string
	}{
		"php":    {"php-cli", "php", []string{"-n"}}, // without what the machine's php.ini adds
		"python": {"python3", "python3", nil},
	} {
		t.Run(language, func(t *testing.T) {
			t.Parallel()
			path := installed(t, command.program, command.debian)
			dir := t.TempDir()
			writeScript(t, dir, "caller", fromGuide(t, "gen/README.md", language))
			c := newCompatServer(t).newClient(t)
			run := func(server, secret string) (string, int) {
				t.Helper()
				cmd := exec.Command(path, append(command.args, filepath.Join(dir, "caller"), showURL)...)
				cmd.Env = append(os.Environ(), "SERVER="+server, "APPLICATION_ID="+c.application.ID,
					"APPLICATION_SECRET="+secret)
				out, _ := cmd.CombinedOutput() // the exit code tells more
				return string(out), cmd.ProcessState.ExitCode()
			}
			out, code := run(c.server.URL, c.application.Secret)
			equal(t, "exit code", code, 0)
			event := strings.TrimSpace(strings.TrimPrefix(strings.SplitN(out, "\n", 2)[0], "registered "))
			equal(t, "output", out, "registered "+event+"\n"+event+" agent-login GET "+showURL+"\n")
			c.has(event)

			out, code = run(c.server.URL, strings.Repeat("0", 32))
			contains(t, "output", out, "POST /api/ver1.0/oauth/token: 400 ", `"error":"invalid_client"`)
			if code == 0 {
				t.Error("that it failed does not show in its exit code")
			}
		})
	}
}

// has checks that this is the client's only event.
func (c *originalClient) has(event string) {
	c.Helper()
	list := c.pbx("GET", "/agent/local/136/event/", "", http.StatusOK)
	want := `[{"url":"` + showURL + `","id":` + event + `,"method":"GET","event_type":"agent-login"}]` + "\n"
	equal(c, "list", list, want)
}
