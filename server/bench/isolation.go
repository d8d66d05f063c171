package main

import (
	"context"
	"flag"
	"fmt"
	"net/http"
	"slices"
	"time"

	"golang.org/x/sync/errgroup"
)

const (
	healthy = "healthy" // the client whose receivers always answer
	hanging = "hanging" // the one whose receivers hang in every second half of a round

	// beginning is how long nobody can know that receivers hang, and a little more: until the first attempts at them
	// have failed.
	beginning = 12 * time.Second
	// burst is the time in which each receiver that is to hang gets its first changes. In a shorter one these alone
	// would take longer than it does in the half in which all answer, and make it look bad.
	burst = 2 * time.Second
)

// isolation compares how long changes take to healthy receivers while all receivers answer with how long they take
// while some hang until the attempt's timeout. The two halves of a round have the same load, each with a new server on
// the same store. Before, all receivers have shown that they are quick: that is the worst case, since each may have 32
// requests at a time then. In the first 2 s each receiver that is to hang gets changes of some agents, so that no breaker
// can be open when all 300 hang together.
type isolation struct {
	rounds, receivers, hanging, agents, first int
	rate                                      float64
	answer, hang                              time.Duration
}

func (*isolation) name() string { return "isolation" }

func (w *isolation) flags(f *flag.FlagSet) {
	f.IntVar(&w.rounds, "isolation-rounds", 2, "how many `rounds`, each with and without receivers that hang")
	f.IntVar(&w.receivers, "isolation-receivers", 1000, "how many `receivers`")
	f.IntVar(&w.hanging, "isolation-hanging", 300, "how many of these `receivers` hang")
	f.IntVar(&w.agents, "isolation-agents", 5, "`agents` of each receiver")
	f.IntVar(&w.first, "isolation-first", 1, "`agents` of each receiver that is to hang that change in the first 2 s")
	f.Float64Var(&w.rate, "isolation-rate", 150, "`changes` per second, over all receivers")
	f.DurationVar(&w.answer, "isolation-answer", 25*time.Second, "how long the half lasts in which all receivers answer")
	f.DurationVar(&w.hang, "isolation-hang", 60*time.Second, "how long the half lasts in which some hang")
}

func (w *isolation) run(ctx context.Context, h *house) (*report, error) {
	out := &report{Workload: w.name(), What: fmt.Sprintf(
		"%d receivers with %d agents each and %.0f changes per second. In half of the time %d of the receivers hang, and "+
			"the others are measured.", w.receivers, w.agents, w.rate, w.hanging)}
	urls, err := h.receivers.open(w.receivers)
	if err != nil {
		return nil, err
	}
	h.say("isolation: registers %d agents", w.receivers*w.agents)
	prepared, err := h.prepare(ctx, w.name(), func(c *caller) error { return c.register(ctx, w.fleet(urls)) })
	for round := 1; err == nil && round <= w.rounds; round++ {
		err = w.round(ctx, h, prepared, urls, round, out)
	}
	return out, err
}

// fleet is all agents, those of the receivers that are to hang first.
func (w *isolation) fleet(urls []string) []*agent {
	return append(agents(hanging, w.hanging*w.agents, urls[:w.hanging]...),
		agents(healthy, (w.receivers-w.hanging)*w.agents, urls[w.hanging:]...)...)
}

func (w *isolation) round(ctx context.Context, h *house, prepared string, urls []string, round int, out *report) error {
	for _, status := range []int{http.StatusOK, 0} {
		lasts := map[int]time.Duration{http.StatusOK: w.answer, 0: w.hang}[status]
		h.say("isolation %d/%d: %v in which %d receivers get %d (0: hang)", round, w.rounds, lasts, w.hanging, status)
		x := half{isolation: *w, remote: h.receivers, fleet: w.fleet(urls), status: status, lasts: lasts}
		if err := h.round(ctx, prepared, func(c *caller) error { return x.run(ctx, c) }); err != nil {
			return err
		}
		got, err := h.receivers.take()
		if err != nil {
			return err
		}
		x.report(out, round, got)
	}
	return nil
}

// half is a half of a round: a load while some receivers answer with a status, or hang if that is 0.
type half struct {
	isolation
	remote *remote
	fleet  []*agent
	status int
	lasts  time.Duration

	began   time.Time
	changes []change
}

func (x *half) run(ctx context.Context, c *caller) (err error) {
	if err := x.warm(ctx, c); err != nil {
		return err
	}
	if err := x.remote.answer(hanging, x.status); err != nil {
		return err
	}
	x.began = time.Now()
	if x.changes, err = x.load(ctx, c); err != nil {
		return err
	}
	if err := x.remote.confirmed(ctx, healthy, count(x.changes, healthy)); err != nil {
		return err
	}
	return x.remote.answer(hanging, http.StatusOK)
}

// warm has every agent log in and out, which suffices for all receivers to be allowed as much as can be.
func (x *half) warm(ctx context.Context, c *caller) error {
	split := x.hanging * x.agents
	for _, all := range [][]*agent{x.fleet[:split], x.fleet[split:]} {
		for range 2 {
			if _, err := c.bulk(ctx, all, 1000); err != nil {
				return err
			}
		}
		if err := x.remote.confirmed(ctx, all[0].client, 2*len(all)); err != nil {
			return err
		}
	}
	_, err := x.remote.take()
	return err
}

// load makes the changes: at a steady rate for all, and the first ones of those that are to hang.
func (x *half) load(ctx context.Context, c *caller) (changes []change, err error) {
	var more []change
	group, ctx := errgroup.WithContext(ctx)
	group.Go(func() (err error) {
		until, cancel := context.WithTimeout(ctx, x.lasts)
		defer cancel()
		changes, err = c.steady(ctx, until, shuffled(x.fleet), x.rate)
		return err
	})
	group.Go(func() (err error) {
		until, cancel := context.WithTimeout(ctx, burst)
		defer cancel()
		if n := x.first * x.hanging; n > 0 {
			more, err = c.steady(ctx, until, x.fleet[:n], float64(n)/burst.Seconds())
		}
		return err
	})
	err = group.Wait()
	return slices.Concat(changes, more), err
}

// report says what the half has shown.
func (x *half) report(out *report, round int, got Harvest) {
	all, of, base := span{from: x.began}, "all answer", ""
	if x.status == 0 {
		of, base = "some hang", "all answer"
	}
	out.latency(round, of, base, times(x.changes, got, healthy, all))
	if x.status == 0 {
		first := span{x.began, x.began.Add(beginning)}
		out.latency(round, of+", first 12 s", base, times(x.changes, got, healthy, first))
		out.latency(round, of+", after that", base, times(x.changes, got, healthy, span{from: first.to}))
		x.reportHanging(out, round, got)
	}
	faultsOf(x.changes, got, healthy).report(out, round, "the healthy receivers, while "+of)
}

// reportHanging says how much the receivers that hang were asked.
func (x *half) reportHanging(out *report, round int, got Harvest) {
	all := span{x.began, x.began.Add(x.lasts)}
	late := span{all.to.Add(-beginning), all.to}
	out.figure(round, "most requests that hung together", float64(got.Together[hanging]))
	out.figure(round, "requests that hung", float64(asked(got, hanging, all)))
	out.figure(round, "of these in the last 12 s", float64(asked(got, hanging, late)))
}
