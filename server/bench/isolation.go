package main

import (
	"context"
	"errors"
	"net/http"
	"slices"
	"time"

	"golang.org/x/sync/errgroup"

	"github.com/agentevents/agentevents/server/lab"
)

// The clients of isolation.
const (
	healthy = "healthy" // its receivers always answer
	hanging = "hanging" // its receivers hang in every second half of a round
	fresh   = "fresh"   // its receivers always answer, and get one delivery each
)

const (
	freshReceivers = 50
	// undetected is how long the program cannot know that receivers hang, and a little more: until the first attempts
	// at them have failed.
	undetected = 12 * time.Second
	// rush is the time in which each receiver that hangs gets its first change: so no breaker can be open when all hang
	// together. In a shorter one these changes alone would take longer than they do in the half in which all answer.
	rush = 2 * time.Second
)

// half is a half of a round of isolation.
type half struct {
	trial
	when                 string // calm or hang
	toHang, others, once []*agent
}

// isolation compares the latency at healthy receivers while all receivers answer with that while some hang until the
// attempt's timeout. The two halves of a round have the same load, each with a new program on the same store. Before,
// all receivers have shown that they are quick: that is the worst case, since each may have 32 requests at a time then.
// Some receivers more get their first request meanwhile.
func isolation(ctx context.Context, b *bench, w workload) error {
	if w.hanging >= w.receivers || w.hanging < 1 || w.agents < 1 || len(w.rates) == 0 {
		return errors.New("needs receivers that hang and others, agents and a rate")
	}
	w.count *= 2 // halves
	return b.eachRound(ctx, w, w.receivers+freshReceivers, nil, func(t trial, n int) story {
		return &half{
			trial: t, when: []string{"calm", "hang"}[n%2],
			toHang: agents(hanging, w.hanging*w.agents, 0, t.urls[:w.hanging]...),
			others: agents(healthy, (w.receivers-w.hanging)*w.agents, w.hanging, t.urls[w.hanging:w.receivers]...),
			once:   agents(fresh, freshReceivers, w.receivers, t.urls[w.receivers:]...),
		}
	})
}

func (x *half) clients() [][]*agent { return [][]*agent{x.toHang, x.others, x.once} }

func (x *half) run(ctx context.Context, c *caller) (err error) {
	if err := x.warm(ctx, c, x.toHang, x.others); err != nil {
		return err
	}
	x.say("%s: %s for %v", x.where, x.when, x.lasts)
	if x.when == "hang" {
		x.hang(hanging)
	}
	x.began = time.Now()
	if x.changes, err = x.load(ctx, c); err != nil {
		return err
	}
	for _, client := range []string{healthy, fresh} {
		x.confirmed(ctx, client, count(x.changes, client), ignore)
	}
	x.answer(hanging, http.StatusOK)
	return nil
}

// load makes the changes: at a steady rate for most agents, and besides at the fresh receivers, and first at those that
// hang.
func (x *half) load(ctx context.Context, c *caller) ([]change, error) {
	first, later := x.toHang[:x.hanging], x.toHang[x.hanging:]
	parts := []struct {
		agents []*agent
		rate   float64
		lasts  time.Duration
	}{
		{shuffled(slices.Concat(later, x.others)), x.rates[0], x.lasts},
		{x.once, float64(len(x.once)) / x.lasts.Seconds(), x.lasts},
		{first, float64(len(first)) / rush.Seconds(), rush},
	}
	made := make([][]change, len(parts))
	group, ctx := errgroup.WithContext(ctx)
	for i, p := range parts {
		group.Go(func() (err error) {
			made[i], err = c.toggleSteadily(ctx, ctx, p.agents, p.rate, p.lasts)
			return err
		})
	}
	err := group.Wait()
	return slices.Concat(made...), err
}

// report reports the half as a whole and in parts: in the beginning there is more to do in both halves.
func (x *half) report(arrivals []*lab.Arrival) {
	turn := x.began.Add(undetected)
	x.measureLatency(arrivals, healthy, span{from: x.began}, "part=all", "when="+x.when)
	x.measureLatency(arrivals, healthy, span{x.began, turn}, "part=undetected", "when="+x.when)
	x.measureLatency(arrivals, healthy, span{from: turn}, "part=later", "when="+x.when)
	x.measureLatency(arrivals, fresh, span{from: x.began}, "part=fresh", "when="+x.when)
	together := value{float64(maxTogether(arrivals, hanging)), "requests-at-a-time"}
	x.result(x.workload, count(x.changes, hanging), []value{together}, "part=hanging", "when="+x.when, x.label())
	for _, client := range []string{healthy, fresh} {
		x.check(x.where, client, x.changes, 1, arrivals)
	}
}
