package main

import (
	"context"
	"fmt"
	"io"
	"log/slog"

	"github.com/agentevents/agentevents/store"
)

type backupCommand struct {
	To string `command:"" placeholder:"PATH" required:"" help:"${backup_to}"`
}

func (b backupCommand) run(ctx context.Context, s settings, stdout io.Writer) error {
	c, err := s.validate()
	if err != nil {
		return err
	}
	made, err := store.Backup(ctx, store.Options{URL: c.databaseURL, Log: slog.New(slog.DiscardHandler)}, b.To)
	if err != nil {
		return err
	}
	_, err = fmt.Fprintf(stdout, "path     %s\nsize     %d\nsequence %d\n", made.Path, made.Size, made.Sequence)
	return err
}
