package main

import (
	"context"
	"fmt"
	"slices"
	"time"

	"golang.org/x/sync/errgroup"

	"github.com/agentevents/agentevents/server/lab"
)

// answerTime is how long receivers take for an answer where there are no floors.
const answerTime = 5 * time.Millisecond

// plan is what happens in a trial: streams of changes come while one phase follows another.
type plan struct {
	clients [][]*agent // the agents of each client that are there
	clones  int        // if set: there is one agent, which is copied until there are so many
	floors  bool       // are measured too
	env     []string   // further variables of the program (NAME=VALUE)

	measured []string // the clients whose latency is reported for each phase; all their deliveries must arrive
	warm     []stream // come before, one after the other, and do not count
	streams  []stream // come side by side
	phases   []phase
	closing  func(arrivals []*lab.Arrival) // reports what else was measured, may be nil
}

// phase is a part of a trial.
type phase struct {
	part   string                                     // of the benchmark's name, may be empty
	do     func(ctx context.Context, c *caller) error // which it lasts for; of the last one nil: until the streams end
	values func(arrivals []*lab.Arrival) []value      // what else was measured in it, may be nil
	span
}

// trial is one variant of a round of a workload with one target.
type trial struct {
	*bench
	workload
	*receivers
	target
	variant int
	where   string // the workload, the round and the target, for progress and faults

	plan
	changes []change
	used    usage // by the target, from the first phase on
}

// measure runs a workload. Each round has every variant with all targets in turn.
func (b *bench) measure(ctx context.Context, w workload) error {
	r, err := openReceivers(w.receivers)
	if err != nil {
		return err
	}
	defer r.close()
	t := trial{bench: b, workload: w, receivers: r}
	if err := w.makePlan(&t); err != nil {
		return err
	}
	if !t.floors {
		r.delay = answerTime
	}
	targets, err := b.targets(ctx, w.name, t.plan, r.urls)
	if err != nil {
		return err
	}
	for round := range w.count {
		for variant := range max(w.variants, len(w.rates), 1) {
			for _, target := range targets {
				t := trial{bench: b, workload: w, receivers: r, target: target, variant: variant}
				t.where = fmt.Sprintf("%s, round %d of %d, %s", w.name, round+1, w.count, t.label)
				if err := t.once(ctx); err != nil {
					return fmt.Errorf("%s: %w", t.label, err)
				}
			}
		}
	}
	return nil
}

// once follows a new plan once, and reports what was measured.
func (x *trial) once(ctx context.Context) error {
	if err := x.makePlan(x); err != nil {
		return err
	}
	x.say("%s", x.where)
	if err := x.round(ctx, x.urls[0], func(c *caller) error { return x.run(ctx, c) }); err != nil {
		return err
	}
	arrivals := x.harvest(ctx) // no request can arrive any more
	if ctx.Err() != nil {
		return ctx.Err()
	}
	for _, client := range x.measured {
		for _, p := range x.phases {
			x.reportPhase(p, client, arrivals)
		}
		x.check(x.where, client, x.changes, arrivals)
	}
	if x.closing != nil {
		x.closing(arrivals)
	}
	return nil
}

// reportPhase reports how long the deliveries of a client took, of the changes in a phase.
func (x *trial) reportPhase(p phase, client string, arrivals []*lab.Arrival) {
	times := latencyOf(x.changes, arrivals, client, p.span)
	values := latencies(times)
	if p.values != nil {
		values = append(p.values(arrivals), values...)
	}
	if len(x.measured) > 1 {
		p.part = "client=" + client + "/" + p.part
	}
	x.result(len(times), values, p.part)
}

// run is called beside the target. After the warm-up all receivers have shown that they are quick, and the target has
// connections, and the memory that it needs for any load.
func (x *trial) run(ctx context.Context, c *caller) (err error) {
	for _, s := range x.warm {
		if x.changes, err = c.send(ctx, ctx, s); err != nil {
			return err
		}
		x.delivered(ctx, s.agents[0].client)
	}
	rest(ctx, c.pid)
	x.harvest(ctx)
	x.changes = nil
	x.used, err = measureUsage(ctx, c, func() error {
		err := x.play(ctx, c)
		x.delivered(ctx, x.measured...)
		return err
	})
	return err
}

// play sends the streams until they end, or the phases do.
func (x *trial) play(ctx context.Context, c *caller) error {
	made := make([][]change, len(x.streams))
	group, ctx := errgroup.WithContext(ctx)
	until, stop := context.WithCancel(ctx)
	defer stop()
	for i, s := range x.streams {
		group.Go(func() (err error) {
			made[i], err = c.send(ctx, until, s)
			return err
		})
	}
	group.Go(func() error {
		for i := range x.phases {
			p := &x.phases[i]
			if i > 0 { // the streams may begin before the first phase
				p.from = x.phases[i-1].to
			}
			if p.do == nil {
				return nil
			}
			if err := p.do(ctx, c); err != nil {
				return err
			}
			p.to = time.Now()
		}
		stop()
		return nil
	})
	err := group.Wait()
	x.changes = slices.Concat(append(made, x.changes)...)
	return err
}

// delivered waits until all deliveries of some clients were confirmed.
func (x *trial) delivered(ctx context.Context, clients ...string) {
	for _, client := range clients {
		n := deliveries(x.changes, client)
		x.show("%s: waits for %d deliveries", x.where, n)
		x.confirmed(ctx, client, n)
	}
}
