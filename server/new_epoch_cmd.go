package main

import (
	"context"
	"fmt"
	"io"

	"github.com/agentevents/agentevents/store"
)

// newEpoch gives a store another epoch and prints it. A store needs it if it was restored by other means than backup.
func newEpoch(ctx context.Context, s settings, stdout io.Writer) error {
	return s.withStore(ctx, func(st *store.Store) error {
		epoch, err := st.NewEpoch(ctx)
		if err != nil {
			return err
		}
		_, err = fmt.Fprintln(stdout, "epoch", epoch)
		return err
	})
}
