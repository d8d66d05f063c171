package main

import (
	"context"
	"os/exec"
	"strings"
)

// verify lets the program look through a store that nobody serves.
func (c *crash) verify(ctx context.Context, file string) error {
	cmd := exec.CommandContext(ctx, c.binary, "verify", "--database-url", "sqlite:"+file) //nolint:gosec // what the user said is to be tried
	out, err := cmd.CombinedOutput()
	if err == nil || ctx.Err() != nil {
		return ctx.Err()
	}
	for line := range strings.Lines(string(out)) {
		if !strings.HasPrefix(line, "ok ") {
			c.book.wrong(complaint, "verify, of %s: %s", file, strings.TrimSpace(line))
		}
	}
	return nil
}
