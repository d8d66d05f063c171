package main

import (
	"context"
	"errors"
	"log/slog"

	"github.com/agentevents/agentevents/store"
)

// withStore calls a function with the store, which another process may serve at the same time.
func (s settings) withStore(ctx context.Context, fn func(*store.Store) error) error {
	c, err := s.validate()
	if err != nil {
		return err
	}
	st, err := store.OpenAlongside(ctx, store.Options{URL: c.databaseURL, Log: slog.New(slog.DiscardHandler)})
	if err != nil {
		return err
	}
	return errors.Join(fn(st), st.Close())
}
