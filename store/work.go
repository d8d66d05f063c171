package store

import (
	"context"
	"errors"
	"sync"
	"time"
)

// Work does what is to be done beside deliveries, until ctx ends: replays at once, and every second what can wait. None
// of it waits for another.
func (s *Store) Work(ctx context.Context) {
	var jobs sync.WaitGroup
	jobs.Go(func() { s.repeat(ctx, s.replays, s.replay) })
	jobs.Go(func() { s.repeat(ctx, nil, s.prune) })
	jobs.Go(func() { s.repeat(ctx, nil, s.writeCounts) })
	jobs.Go(func() { s.repeat(ctx, nil, s.maintain) })
	jobs.Go(func() { s.repeat(ctx, nil, s.watchClock) })
	if s.peers != nil {
		jobs.Go(func() { s.repeat(ctx, nil, s.lookForChanges) })
	}
	jobs.Wait()
	s.try(context.WithoutCancel(ctx), s.writeCounts)
}

// maintain looks after SQLite's file.
func (s *Store) maintain(ctx context.Context) error { return failure(s.engine.maintain(ctx)) }

// writeCounts writes what is counted in memory.
func (s *Store) writeCounts(ctx context.Context) error {
	return errors.Join(s.writeRepeats(ctx), s.shareRequests(ctx))
}

// repeat does a job at once, every second and when it is asked to, until ctx ends.
func (s *Store) repeat(ctx context.Context, asked <-chan struct{}, job func(context.Context) error) {
	tick := time.NewTicker(time.Second)
	defer tick.Stop()
	for {
		s.try(ctx, job)
		select {
		case <-ctx.Done():
			return
		case <-asked:
		case <-tick.C:
		}
	}
}

// try does a job, which nobody waits for.
func (s *Store) try(ctx context.Context, job func(context.Context) error) {
	if err := job(ctx); err != nil && ctx.Err() == nil {
		s.Log.Warn("work of the store", "error", err)
	}
}

// signal tells whoever waits on a channel with one place that there is something.
func signal(c chan struct{}) {
	select {
	case c <- struct{}{}:
	default:
	}
}
