package main

import (
	"path/filepath"
	"regexp"
	"strings"
	"testing"

	"github.com/agentevents/agentevents/store"
)

// A command that changes the store leaves a line as a request does, without the secret. One that is refused, or only
// reads, leaves none.
func TestCommandsAreAudited(t *testing.T) {
	url := "--database-url=sqlite:" + filepath.Join(t.TempDir(), "agentevents.db")
	s, err := store.Open(t.Context(), store.Options{URL: strings.TrimPrefix(url, "--database-url=")})
	must(t, err)
	must(t, s.Close())
	_, out, log := runCommand(t, nil, "application", "create", "--operator", "--name=PBX", url)
	made := regexp.MustCompile(`^id     (\S+)\nsecret (\S+)\n$`).FindStringSubmatch(out)
	if len(made) != 3 || strings.Contains(log, made[2]) || !regexp.MustCompile(`^time=\S+ level=INFO msg=command `+
		`operation=createApplication user=\S* created=`+made[1]+` client="" access=operator\n$`).MatchString(log) {
		t.Errorf("create prints %q and logs %q", out, log)
	}
	if _, out, log := runCommand(t, nil, "application", "list", url); log != "" {
		t.Errorf("list prints %q and logs %q", out, log)
	}
	if _, _, log := runCommand(t, nil, "application", "revoke", "x", url); strings.Contains(log, "msg=command") {
		t.Errorf("a refused revoke logs %q", log)
	}
	_, _, log = runCommand(t, []string{"AGENTEVENTS_LOG_FORMAT=json"}, "new-epoch", url)
	if !strings.HasPrefix(log, `{"time":"`) || !strings.Contains(log, `"msg":"command","operation":"newEpoch"`) {
		t.Errorf("in JSON, new-epoch logs %q", log)
	}
	_, _, log = runCommand(t, nil, "application", "revoke", made[1], url)
	if !strings.Contains(log, "msg=command operation=deleteApplication ") ||
		!strings.Contains(log, "deleted="+made[1]) {
		t.Errorf("revoke logs %q", log)
	}
}
