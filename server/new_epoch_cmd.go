package main

import (
	"context"
	"fmt"
	"io"
	"log/slog"

	"github.com/agentevents/agentevents/store"
)

type newEpochCommand struct{ storeSettings }

// run gives a store a new epoch and prints it. A store that was restored from anything but the file of backup needs
// one.
func (n newEpochCommand) run(ctx context.Context, stdout io.Writer, log *slog.Logger) error {
	return n.withStore(ctx, func(st *store.Store) error {
		epoch, err := st.NewEpoch(ctx)
		if err != nil {
			return err
		}
		audit(log, "newEpoch", slog.String("epoch", epoch))
		_, err = fmt.Fprintln(stdout, "epoch", epoch)
		return err
	})
}
