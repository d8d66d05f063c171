package main

import (
	"context"
	"fmt"
	"slices"
	"time"

	"golang.org/x/sync/errgroup"

	"github.com/agentevents/agentevents/server/lab"
)

// answerTime is how long receivers take for an answer, but for those of throughput.
const answerTime = 5 * time.Millisecond

// trial is one variant of a round of a workload with one target.
type trial struct {
	*bench
	workload
	*receivers
	target
	variant int
	where   string // the workload, the round and the target, for progress and faults

	began   time.Time
	changes []change
}

// story is what happens in a trial.
type story interface {
	setup() setup
	// run is called beside the target.
	run(ctx context.Context, c *caller) error
	// report is called when the target has stopped, with all requests that have arrived.
	report(arrivals []*lab.Arrival)
}

// setup is what the targets of a workload need.
type setup struct {
	clients [][]*agent // the agents of each client that are there
	clones  int        // if set: there is one agent, which is copied until there are so many
	floors  bool       // are measured too
	env     []string   // further variables of the program (NAME=VALUE)
}

// measure runs a workload. Each round has every variant with all targets in turn.
func (b *bench) measure(ctx context.Context, w workload) error {
	t := trial{bench: b, workload: w}
	var err error
	if t.receivers, err = openReceivers(w.receivers); err != nil {
		return err
	}
	defer t.close()
	first, err := w.newStory(t)
	if err != nil {
		return err
	}
	s := first.setup()
	if !s.floors {
		t.delay = answerTime
	}
	targets, err := b.targets(ctx, w, s, t.urls)
	if err != nil {
		return err
	}
	for round := range w.count {
		for t.variant = range max(w.variants, len(w.rates), 1) {
			for _, t.target = range targets {
				t.where = fmt.Sprintf("%s, round %d of %d, %s", w.name, round+1, w.count, t.label)
				if err := t.once(ctx); err != nil {
					return fmt.Errorf("%s: %w", t.label, err)
				}
			}
		}
	}
	return nil
}

// once runs the workload's story once.
func (x trial) once(ctx context.Context) error {
	s, err := x.newStory(x)
	if err != nil {
		return err
	}
	if err := x.round(ctx, x.urls[0], func(c *caller) error { return s.run(ctx, c) }); err != nil {
		return err
	}
	arrivals := x.harvest(ctx) // no request can arrive any more
	if ctx.Err() == nil {
		s.report(arrivals)
	}
	return ctx.Err()
}

// warm has all agents of some clients change some times, so that the receivers have shown that they are quick, and the
// program has the memory that it needs for any load.
func (x *trial) warm(ctx context.Context, c *caller, times int, clients ...[]*agent) (err error) {
	for _, all := range clients {
		if x.changes, err = c.send(ctx, ctx, stream{all, times * len(all), 0}); err != nil {
			return err
		}
		x.delivered(ctx, all[0].client)
	}
	rest(ctx, c.pid)
	x.harvest(ctx)
	return nil
}

// play sends streams side by side, with a function beside them that may make changes too, and waits for both. The
// streams end early when their context does.
func (x *trial) play(
	ctx, until context.Context, c *caller, streams []stream, beside func(context.Context) ([]change, error),
) error {
	made := make([][]change, len(streams)+1)
	group, ctx := errgroup.WithContext(ctx)
	for i, s := range streams {
		group.Go(func() (err error) {
			made[i], err = c.send(ctx, until, s)
			return err
		})
	}
	group.Go(func() (err error) {
		made[len(streams)], err = beside(ctx)
		return err
	})
	err := group.Wait()
	x.changes = slices.Concat(made...)
	return err
}

// delivered waits until all deliveries of some clients were confirmed.
func (x *trial) delivered(ctx context.Context, clients ...string) {
	for _, client := range clients {
		n := deliveries(x.changes, client)
		x.confirmed(ctx, client, n, func(done int) { x.show("%s: %d of %d", x.where, done, n) })
	}
}

// measureLatency reports how long the deliveries of a client took, of the changes in a span.
func (x *trial) measureLatency(arrivals []*lab.Arrival, client string, within span, parts ...string) {
	times := latencyOf(x.changes, arrivals, client, within)
	x.result(x.workload, len(times), latencies(times), append(parts, x.label)...)
}
