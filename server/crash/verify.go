package main

import (
	"context"
	"os/exec"
	"strings"
)

// verify lets the program look through a store that nobody serves.
func (s *scene) verify(ctx context.Context, databaseURL string) error {
	cmd := exec.CommandContext(ctx, s.binary, "verify", "--database-url", databaseURL) //nolint:gosec // what the user said is to be tried
	out, err := cmd.CombinedOutput()
	if err == nil || ctx.Err() != nil {
		return ctx.Err()
	}
	for line := range strings.Lines(string(out)) {
		if !strings.HasPrefix(line, "ok ") {
			s.book.wrong(complaint, "verify, of %s: %s", databaseURL, strings.TrimSpace(line))
		}
	}
	return nil
}
