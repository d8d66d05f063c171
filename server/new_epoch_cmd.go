package main

import (
	"context"
	"fmt"
	"io"

	"github.com/agentevents/agentevents/store"
)

// newEpoch is for a store that was restored by any other means.
func newEpoch(ctx context.Context, s settings, stdout io.Writer) error {
	return s.beside(ctx, func(st *store.Store) error {
		epoch, err := st.NewEpoch(ctx)
		if err != nil {
			return err
		}
		_, err = fmt.Fprintln(stdout, "epoch", epoch)
		return err
	})
}
