package store

import (
	"context"
	"errors"
	"time"
)

// Work does what is to be done beside deliveries, until ctx ends: replays at once, and every second what can wait.
func (s *Store) Work(ctx context.Context) error {
	tick := time.NewTicker(time.Second)
	defer tick.Stop()
	for {
		err := errors.Join(s.replay(ctx), s.writeRepeats(context.WithoutCancel(ctx)),
			s.shareRequests(context.WithoutCancel(ctx)), s.prune(ctx), s.pruneTokens(ctx))
		if err != nil && ctx.Err() == nil {
			s.Log.Warn("work of the store", "error", err)
		}
		select {
		case <-ctx.Done():
			ctx = context.WithoutCancel(ctx)
			return errors.Join(s.writeRepeats(ctx), s.shareRequests(ctx))
		case <-s.replays:
		case <-tick.C:
		}
	}
}

// signal tells whoever waits on a channel with one place that there is something.
func signal(c chan struct{}) {
	select {
	case c <- struct{}{}:
	default:
	}
}
