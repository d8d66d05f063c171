package main

import (
	"context"
	"fmt"
	"time"

	"github.com/agentevents/agentevents/server/lab"
)

// trial is one round of isolation, backlog or soak with one program.
type trial struct {
	program
	workload
	*receivers
	where string // the workload, the round and the program, for progress and faults

	began   time.Time
	changes []change
}

// story is what happens in a trial.
type story interface {
	// clients are the agents of each client.
	clients() [][]*agent
	// run is called beside the program, on a store that has only the agents with their events.
	run(ctx context.Context, c *caller) error
	// report is called when the program has stopped, with all requests that have arrived.
	report(arrivals []*lab.Arrival)
}

// eachRound measures all programs in turn, with n receivers and further variables.
func (b *bench) eachRound(
	ctx context.Context, w workload, n int, variables []string, newStory func(trial, int) story,
) error {
	r, err := openReceivers(n, w.delay)
	if err != nil {
		return err
	}
	defer r.close()
	programs, err := b.programs(ctx)
	if err != nil {
		return err
	}
	stores := make([]string, len(programs))
	for i, p := range programs {
		b.say("%s: prepares a store, %s", w.name, p.label())
		clients := newStory(trial{program: p, workload: w, receivers: r}, 0).clients()
		if stores[i], err = p.prepare(ctx, func(c *caller) error { return c.register(ctx, clients...) }); err != nil {
			return fmt.Errorf("%s: %w", p.label(), err)
		}
	}
	for round := range w.count {
		for i, p := range programs {
			where := fmt.Sprintf("%s, round %d of %d, %s", w.name, round+1, w.count, p.label())
			s := newStory(trial{program: p, workload: w, receivers: r, where: where}, round)
			err := p.round(ctx, stores[i], func(c *caller) error { return s.run(ctx, c) }, variables...)
			if err != nil {
				return fmt.Errorf("%s: %w", p.label(), err)
			}
			arrivals := r.harvest(ctx)
			if ctx.Err() != nil {
				return ctx.Err()
			}
			s.report(arrivals)
		}
	}
	return nil
}

// measureLatency reports how long the deliveries of a client took, of the changes in a span.
func (x *trial) measureLatency(arrivals []*lab.Arrival, client string, within span, parts ...string) {
	times := latencyOf(x.changes, arrivals, client, within)
	x.result(x.workload, len(times), latencies(times), append(parts, x.label())...)
}
