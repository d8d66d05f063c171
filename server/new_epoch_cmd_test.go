package main

import (
	"path/filepath"
	"regexp"
	"strings"
	"testing"

	"github.com/agentevents/agentevents/store"
)

func TestNewEpochDiffersEachTime(t *testing.T) {
	file := filepath.Join(t.TempDir(), "agentevents.db")
	if code, out, stderr := runCommand(t, nil, "new-epoch", "--database-url=sqlite:"+file); code != exitFailed ||
		out != "" ||
		!strings.Contains(stderr, "there is no database yet") {
		t.Errorf("without a store: exit code %d, standard error %q\n%s", code, stderr, out)
	}
	s, err := store.Open(t.Context(), store.Options{URL: "sqlite:" + file})
	if err != nil {
		t.Fatal(err)
	}
	defer s.Close()
	seen := map[string]bool{}
	for range 3 {
		code, out, stderr := runCommand(t, nil, "new-epoch", "--database-url=sqlite:"+file)
		if code != 0 || stderr != "" || !regexp.MustCompile(`^epoch [0-9a-f]{16}\n$`).MatchString(out) {
			t.Errorf("exit code %d, standard error %q\n%s", code, stderr, out)
		}
		seen[out] = true
	}
	if len(seen) != 3 {
		t.Errorf("the epochs are %v", seen)
	}
}
