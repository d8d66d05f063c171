package main

import (
	"context"
	"fmt"
	"io"

	"github.com/agentevents/agentevents/store"
)

type backupCommand struct {
	storeSettings
	To string `command:"" placeholder:"PATH" required:"" help:"${backup_to}"`
}

func (b backupCommand) run(ctx context.Context, stdout io.Writer) error {
	o, err := b.options()
	if err != nil {
		return err
	}
	backup, err := store.Backup(ctx, o, b.To)
	if err != nil {
		return err
	}
	_, err = fmt.Fprintf(stdout, "path     %s\nsize     %d\nsequence %d\n", backup.Path, backup.Size, backup.Sequence)
	return err
}
