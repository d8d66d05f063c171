package main

import (
	"context"
	"fmt"
	"slices"

	"github.com/agentevents/agentevents/server/lab"
)

// concurrency is how many changes are under way at a time where they come as fast as they are taken.
const concurrency = 32

// contest is a round of burst, steady, shift or fanout: the same changes are made to the floors and to the program. The
// agents log in and out in turn.
type contest struct {
	trial
	busy []*agent
	used usage
}

func newThroughput(t trial) (story, error) {
	return &contest{trial: t, busy: agents(t.name, t.agents, 0, len(t.urls), t.urls)}, nil
}

func (x *contest) setup() setup {
	return setup{clients: [][]*agent{x.busy[:1]}, clones: x.agents, floors: true}
}

// run has some changes come before those that count: connections are open then, and the target has what it keeps in
// memory.
func (x *contest) run(ctx context.Context, c *caller) error {
	n, rate := x.workload.changes, x.rate(x.variant)
	if rate > 0 {
		n = max(1, int(rate*x.lasts.Seconds()))
	}
	before := min(n/20, 1000)
	if err := x.send(ctx, c, stream{x.busy, before, rate}); err != nil {
		return err
	}
	x.harvest(ctx)
	turn := before % len(x.busy)
	next := stream{slices.Concat(x.busy[turn:], x.busy[:turn]), n, rate}
	var err error
	x.used, err = measureUsage(ctx, c, func() error { return x.send(ctx, c, next) })
	return err
}

// send sends a stream, and waits until all its deliveries have arrived.
func (x *contest) send(ctx context.Context, c *caller, s stream) (err error) {
	x.changes, err = c.send(ctx, ctx, s)
	x.delivered(ctx, x.name)
	return err
}

func (x *contest) report(arrivals []*lab.Arrival) {
	parts := []string{x.label}
	if rate := x.rate(x.variant); rate > 0 {
		parts = []string{fmt.Sprintf("rate=%.0f", rate), x.label}
	}
	times := latencyOf(x.changes, arrivals, x.name, span{})
	x.result(x.workload, len(times), slices.Concat(
		[]value{{rateOf(x.changes, arrivals), "deliveries/s"}}, latencies(times), x.used.values(len(times))), parts...)
	x.check(x.where, x.name, x.changes, arrivals)
}

// rateOf is how many deliveries arrived per second, from the first change to the last arrival.
func rateOf(changes []change, arrivals []*lab.Arrival) float64 {
	if len(changes) == 0 || len(arrivals) == 0 {
		return 0
	}
	first := slices.MinFunc(changes, func(a, b change) int { return a.sent.Compare(b.sent) }).sent
	return float64(len(arrivals)) / arrivals[len(arrivals)-1].At.Sub(first).Seconds()
}
