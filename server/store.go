package main

import (
	"context"
	"errors"

	"github.com/agentevents/agentevents/store"
)

// withStore calls a function with the store. Another process may serve the store at the same time.
func (s storeSettings) withStore(ctx context.Context, fn func(*store.Store) error) error {
	o, err := s.options()
	if err != nil {
		return err
	}
	st, err := store.OpenAlongside(ctx, o)
	if err != nil {
		return err
	}
	return errors.Join(fn(st), st.Close())
}
