package main

import (
	"context"
	"errors"
	"fmt"
	"slices"

	"golang.org/x/sync/errgroup"

	"github.com/agentevents/agentevents/gen"
	"github.com/agentevents/agentevents/server/lab"
)

// concurrency is how many changes are under way at a time where they come as fast as they are taken.
const concurrency = 32

// contest has the same changes made to floors and to the program, in turn. The agents log in and out in turn, each in
// the order of its changes.
type contest struct {
	*bench
	workload
	*receivers
	rate    float64 // 0 for as fast as changes are taken
	changes int
	where   string // the target and the round, for progress and faults
}

// warmUp is how many changes come before n that count, for every target: connections are open then, and the program has
// what it keeps in memory.
func warmUp(n int) int { return min(n/20, 1000) }

// throughput is burst, steady, shift and fanout. In each round it measures every target once, at every rate.
func throughput(ctx context.Context, b *bench, w workload) error {
	if w.agents < 1 || w.receivers < 1 || (len(w.rates) == 0 && w.changes < 1) {
		return errors.New("needs agents, receivers and changes")
	}
	r, err := openReceivers(w.receivers, 0)
	if err != nil {
		return err
	}
	defer r.close()
	if w.agents == w.changes {
		w.agents += warmUp(w.changes) // so that no agent changes twice
	}
	targets, err := b.targets(ctx, w, r.urls)
	if err != nil {
		return err
	}
	rates := w.rates
	if len(rates) == 0 {
		rates = []float64{0}
	}
	for round := range w.count {
		for _, rate := range rates {
			x := contest{bench: b, workload: w, receivers: r, rate: rate, changes: w.changes}
			if rate > 0 {
				x.changes = max(1, int(rate*w.lasts.Seconds()))
			}
			for _, t := range targets {
				if err := x.round(ctx, t, round); err != nil {
					return fmt.Errorf("%s: %w", t.label(), err)
				}
			}
		}
	}
	return nil
}

// round measures a target once.
func (x *contest) round(ctx context.Context, t target, round int) error {
	parts := []string{t.label()}
	if x.rate > 0 {
		parts = []string{fmt.Sprintf("rate=%.0f", x.rate), t.label()}
	}
	x.where = fmt.Sprintf("%s, round %d of %d, %s", x.name, round+1, x.count, t.label())
	var changes []change
	var used usage
	err := t.serve(ctx, func(s *site) (err error) {
		changes, used, err = x.measure(ctx, s)
		return err
	})
	if err != nil {
		return err
	}
	arrivals := x.harvest(ctx) // no request can arrive any more
	if ctx.Err() != nil {
		return ctx.Err()
	}
	x.check(x.where, x.name, changes, x.workload.receivers, arrivals)
	times := latencyOf(changes, arrivals, x.name, span{})
	x.result(x.workload, len(times), slices.Concat(
		[]value{{rateOf(changes, arrivals), "deliveries/s"}}, latencies(times), used.values(len(times))), parts...)
	return nil
}

// rateOf is how many deliveries arrived per second, from the first change to the last arrival.
func rateOf(changes []change, arrivals []*lab.Arrival) float64 {
	if len(changes) == 0 || len(arrivals) == 0 {
		return 0
	}
	first := slices.MinFunc(changes, func(a, b change) int { return a.sent.Compare(b.sent) }).sent
	return float64(len(arrivals)) / arrivals[len(arrivals)-1].At.Sub(first).Seconds()
}

// measure has the changes made at a site, and reads what that took.
func (x *contest) measure(ctx context.Context, s *site) (changes []change, used usage, err error) {
	calls, err := x.calls(s)
	if err != nil {
		return nil, used, err
	}
	first := warmUp(x.changes)
	if _, err := x.send(ctx, s, calls[:first]); err != nil {
		return nil, used, err
	}
	x.harvest(ctx)
	used, err = measureUsage(ctx, s.pid, s.database, func() (err error) {
		changes, err = x.send(ctx, s, calls[first:])
		return err
	})
	return changes, used, err
}

// send sends calls, and waits until all their deliveries have arrived.
func (x *contest) send(ctx context.Context, s *site, calls []call) (changes []change, err error) {
	group, ctx := errgroup.WithContext(ctx)
	group.Go(func() (err error) {
		l := load{addr: s.addr, connections: concurrency, rate: x.rate, calls: calls}
		changes, err = l.send(ctx, ctx)
		return err
	})
	group.Go(func() error {
		all := len(calls) * x.workload.receivers
		x.confirmed(ctx, x.name, all, func(n int) { x.show("%s: %d of %d", x.where, n, all) })
		return nil
	})
	err = group.Wait()
	return changes, err
}

// calls are the requests that make the changes at a site, those of the warm-up first.
func (x *contest) calls(s *site) (all []call, err error) {
	for i := range warmUp(x.changes) + x.changes {
		c := change{client: x.name, agent: int64(i%x.agents + 1), status: gen.AgentStatusValueAvailable}
		if i/x.agents%2 == 1 {
			c.status = gen.AgentStatusValueLoggedOut
		}
		if s.receiver != "" {
			c.sequence = int64(i + 1)
		}
		one, err := s.call(c)
		if err != nil {
			return nil, err
		}
		all = append(all, one)
	}
	return all, nil
}
