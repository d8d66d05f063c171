package main

import (
	"context"
	"errors"
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
	unasked = "unasked" // one more whose receivers always answer, each of which is asked but once

	// beginning is how long nobody can know that receivers hang, and a little more: until the first attempts at them
	// have failed.
	beginning = 12 * time.Second
	// rush is the time in which each receiver that is to hang gets its first changes. In a shorter one these alone
	// would take longer than it does in the half in which all answer, and make it look bad.
	rush = 2 * time.Second
)

// isolation compares how long changes take to healthy receivers while all receivers answer with how long they take
// while some hang until the attempt's timeout. The two halves of a round have the same load, each with a new server on
// the same store. Before, all receivers have shown that they are quick: that is the worst case, since each may have 32
// requests at a time then. In the first 2 s each receiver that is to hang gets changes of some agents, so that no
// breaker can be open when all hang together. A few receivers more are asked for the first time, all the time through.
type isolation struct {
	rounds, receivers, hanging, unasked, agents, first int
	bulk                                               bool
	rate                                               float64
	lasts                                              time.Duration
}

func (*isolation) name() string { return "isolation" }

func (w *isolation) flags(f *flag.FlagSet) {
	f.IntVar(&w.rounds, "isolation-rounds", 2, "how many `rounds`, each with and without receivers that hang")
	f.IntVar(&w.receivers, "isolation-receivers", 1000, "how many `receivers`")
	f.IntVar(&w.hanging, "isolation-hanging", 300, "how many of these `receivers` hang")
	f.IntVar(&w.unasked, "isolation-unasked", 50, "how many more `receivers` are asked once each")
	f.IntVar(&w.agents, "isolation-agents", 5, "`agents` of each receiver")
	f.IntVar(&w.first, "isolation-first", 1, "`agents` of each receiver that is to hang that change in the first 2 s")
	f.BoolVar(&w.bulk, "isolation-bulk", false, "have these change at once, as many in a request as can be")
	f.Float64Var(&w.rate, "isolation-rate", 150, "`changes` per second, over all receivers")
	f.DurationVar(&w.lasts, "isolation-half", 50*time.Second, "how long half a round lasts; after some 45 s the breakers are open")
}

func (w *isolation) run(ctx context.Context, h *house) (*report, error) {
	if w.hanging > w.receivers || w.first > w.agents || w.rate <= 0 {
		return nil, errors.New("not so many can hang or change, or nothing changes at all")
	}
	out := &report{Workload: w.name(), What: fmt.Sprintf(
		"%d receivers with %d agents each, %.0f changes per second. In half of the time %d of the receivers hang; the "+
			"others are measured.", w.receivers, w.agents, w.rate, w.hanging)}
	urls, err := h.receivers.open(w.receivers + w.unasked)
	if err != nil {
		return nil, err
	}
	engines, err := h.engines(ctx)
	for _, e := range engines {
		h.say("isolation: registers %d agents, %s", w.receivers*w.agents+w.unasked, e.name)
		prepared, err := h.prepare(ctx, e, w.name(), func(c *caller) error {
			return c.register(ctx, slices.Concat(w.fleet(urls)...))
		})
		for round := 1; err == nil && round <= w.rounds; round++ {
			err = w.round(ctx, h, e, prepared, urls, round, out)
		}
		if err != nil {
			return nil, fmt.Errorf("%s: %w", e.name, err)
		}
	}
	return out, err
}

// fleet is the agents of the receivers that are to hang, of the healthy ones, and of those that are asked once.
func (w *isolation) fleet(urls []string) [][]*agent {
	return [][]*agent{
		agents(hanging, w.hanging*w.agents, urls[:w.hanging]...),
		agents(healthy, (w.receivers-w.hanging)*w.agents, urls[w.hanging:w.receivers]...),
		agents(unasked, w.unasked, urls[w.receivers:]...),
	}
}

func (w *isolation) round(
	ctx context.Context, h *house, e *engine, prepared string, urls []string, round int, out *report,
) error {
	for _, status := range []int{http.StatusOK, 0} {
		fleet := w.fleet(urls)
		x := half{
			isolation: *w, remote: h.receivers, engine: e.name, toHang: fleet[0], others: fleet[1], once: fleet[2], status: status,
		}
		h.say("isolation %d/%d: %v in which %s", round, w.rounds, w.lasts, x.name())
		err := h.round(ctx, e, prepared, func(c *caller) error {
			defer c.reportHeldUp(out, round)
			return x.run(ctx, c)
		})
		if err != nil {
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
	remote               *remote
	engine               string
	toHang, others, once []*agent
	status               int

	began   time.Time
	changes []change
}

func (x *half) name() string {
	if x.status == 0 {
		return x.engine + ", some hang"
	}
	return x.calm()
}

// calm is the name of the half that the other one is held against.
func (x *half) calm() string { return x.engine + ", all answer" }

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
	for _, client := range []string{healthy, unasked} {
		if err := x.remote.confirmed(ctx, client, count(x.changes, client)); err != nil {
			return err
		}
	}
	return x.remote.answer(hanging, http.StatusOK)
}

// warm has every agent log in and out, which suffices for all receivers to be allowed as much as can be.
func (x *half) warm(ctx context.Context, c *caller) error {
	for _, all := range [][]*agent{x.toHang, x.others} {
		for range 2 {
			if _, err := c.bulk(ctx, all, 1000); err != nil {
				return err
			}
		}
		if err := x.remote.confirmed(ctx, all[0].client, 2*len(all)); err != nil {
			return err
		}
	}
	sleep(ctx, 2*time.Second) // until that is over and done with
	_, err := x.remote.take()
	return err
}

// load makes the changes: at a steady rate for all, and besides for those that are to hang and those that are asked once.
func (x *half) load(ctx context.Context, c *caller) ([]change, error) {
	made := make([][]change, 3)
	group, ctx := errgroup.WithContext(ctx)
	for i, some := range []struct {
		agents []*agent
		rate   float64
		lasts  time.Duration
	}{
		{shuffled(slices.Concat(x.toHang, x.others)), x.rate, x.lasts},
		{x.once, float64(len(x.once)) / x.lasts.Seconds(), x.lasts},
		{x.toHang[:x.first*x.hanging], float64(x.first*x.hanging) / rush.Seconds(), rush},
	} {
		group.Go(func() (err error) {
			if x.bulk && some.lasts == rush {
				made[i], err = c.bulk(ctx, some.agents, 1000)
				return err
			}
			until, cancel := context.WithTimeout(ctx, some.lasts)
			defer cancel()
			made[i], err = c.steady(ctx, until, some.agents, some.rate)
			return err
		})
	}
	err := group.Wait()
	return slices.Concat(made...), err
}

// report says what the half has shown, as a whole and in parts, each against the same part of the other half: at the
// beginning there is more to do in both.
func (x *half) report(out *report, round int, got Harvest) {
	turn := x.began.Add(beginning)
	for _, part := range []struct {
		name, client string
		span
	}{
		{"", healthy, span{from: x.began}},
		{", first 12 s", healthy, span{x.began, turn}},
		{", after that", healthy, span{from: turn}},
		{", never asked before", unasked, span{from: x.began}},
	} {
		base := ""
		if x.status == 0 {
			base = x.calm() + part.name
		}
		out.latency(round, x.name()+part.name, base, times(x.changes, got, part.client, part.span))
	}
	if x.status == 0 {
		x.reportHanging(out, round, got)
	}
	for _, client := range []string{healthy, unasked} {
		faultsOf(x.changes, got, client, 1).report(out, round, client+", while "+x.name())
	}
}

// reportHanging says how much the receivers that hang were asked.
func (x *half) reportHanging(out *report, round int, got Harvest) {
	all := span{x.began, x.began.Add(x.lasts)}
	late := span{all.to.Add(-beginning), all.to}
	out.figure(round, x.engine+", most requests that hung together", float64(got.Together[hanging]))
	out.figure(round, x.engine+", requests that hung", float64(asked(got, hanging, all)))
	out.figure(round, x.engine+", of these in the last 12 s", float64(asked(got, hanging, late)))
}
