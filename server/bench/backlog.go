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
	clientA = "a" // the client whose receiver dies
	clientB = "b" // one with the same host and port
	clientC = "c" // one with another receiver

	// failuresInAll is how many requests the dead receiver may get before its breaker is open: five, and as many as
	// were on their way together.
	failuresInAll = 5 + perReceiver
	// perReceiver is how many requests of one client a receiver may get at a time.
	perReceiver = 32
	// betweenProbes is the shortest time between two probes of a dead receiver, less some tolerance.
	betweenProbes = 4 * time.Second
)

// backlog lets the one receiver of a client with very many agents be dead while changes pile up for it, and then come
// back. Two more clients have agents that change at a steady rate all the time: one at the same host and port, where its
// own requests are answered, and one elsewhere.
type backlog struct {
	rounds, agents, each, bulk, others int
	rate                               float64
	before, dead                       time.Duration
}

func (*backlog) name() string { return "backlog" }

func (w *backlog) flags(f *flag.FlagSet) {
	f.IntVar(&w.rounds, "backlog-rounds", 1, "how many `rounds`")
	f.IntVar(&w.agents, "backlog-agents", 5000, "`agents` of the client whose receiver dies")
	f.IntVar(&w.each, "backlog-changes", 10, "`changes` of each of these while it is dead")
	f.IntVar(&w.bulk, "backlog-bulk", 1000, "how many of these `changes` go in one request, up to 1000")
	f.IntVar(&w.others, "backlog-others", 200, "`agents` of each of the two other clients")
	f.Float64Var(&w.rate, "backlog-rate", 25, "`changes` per second of each of the two other clients")
	f.DurationVar(&w.before, "backlog-before", 15*time.Second, "how long the others are measured before")
	f.DurationVar(&w.dead, "backlog-dead", 42*time.Second, "how long the receiver is dead at least; probes come after 5, 15, 45, 105 s")
}

func (w *backlog) run(ctx context.Context, h *house) (*report, error) {
	out := &report{Workload: w.name(), What: fmt.Sprintf(
		"the receiver of client A with %d agents is dead while each changes %d times, and comes back. Clients B, at the same "+
			"host and port, and C, elsewhere, have %.0f changes per second each.", w.agents, w.each, w.rate)}
	urls, err := h.receivers.open(2)
	if err != nil {
		return nil, err
	}
	h.say("backlog: registers %d agents", w.agents+2*w.others)
	prepared, err := h.prepare(ctx, h.sqlite(), w.name(), func(c *caller) error { return c.register(ctx, slices.Concat(w.fleet(urls)...)) })
	for round := 1; err == nil && round <= w.rounds; round++ {
		fleet := w.fleet(urls)
		x := story{backlog: *w, house: h, round: round, a: fleet[0], others: fleet[1:]}
		err = h.round(ctx, h.sqlite(), prepared, func(c *caller) error {
			defer c.reportHeldUp(out, round)
			return x.run(ctx, c)
		})
		if err == nil {
			err = x.report(out)
		}
	}
	return out, err
}

// fleet is the agents of A, B and C.
func (w *backlog) fleet(urls []string) [][]*agent {
	return [][]*agent{
		agents(clientA, w.agents, urls[0]), agents(clientB, w.others, urls[0]), agents(clientC, w.others, urls[1]),
	}
}

// story is a round.
type story struct {
	backlog
	*house
	round  int
	a      []*agent
	others [][]*agent

	changes                                  []change
	began, died, piled, back, flows, drained time.Time
	got                                      Harvest
}

func (x *story) say(format string, args ...any) {
	x.house.say("backlog %d/%d: %s", x.round, x.rounds, fmt.Sprintf(format, args...))
}

// run has the others change while A lives through its story.
func (x *story) run(ctx context.Context, c *caller) (err error) {
	if err := x.warm(ctx, c); err != nil {
		return err
	}
	until, stop := context.WithCancel(ctx)
	defer stop()
	made := make([][]change, 1+len(x.others))
	group, ctx := errgroup.WithContext(ctx)
	for i, all := range x.others {
		group.Go(func() (err error) {
			made[i], err = c.steady(ctx, until, all, x.rate)
			return err
		})
	}
	group.Go(func() (err error) {
		defer stop()
		made[len(x.others)], err = x.tell(ctx, c)
		return err
	})
	err = group.Wait()
	x.changes = slices.Concat(made...)
	for _, all := range x.others {
		client := all[0].client
		err = errors.Join(err, x.receivers.confirmed(ctx, client, count(x.changes, client)))
	}
	return err
}

// warm has some agents of each client log in and out, so that their receivers have shown that they are quick.
func (x *story) warm(ctx context.Context, c *caller) error {
	for _, all := range append(x.others, x.a[:min(len(x.a), 200)]) {
		for range 2 {
			if _, err := c.bulk(ctx, all, 1000); err != nil {
				return err
			}
		}
		if err := x.receivers.confirmed(ctx, all[0].client, 2*len(all)); err != nil {
			return err
		}
	}
	_, err := x.receivers.take()
	return err
}

// tell is what happens to A.
func (x *story) tell(ctx context.Context, c *caller) (changes []change, err error) {
	x.say("%v before", x.before)
	x.began = time.Now()
	sleep(ctx, x.before)
	x.say("A's receiver is dead, and %d changes pile up", x.agents*x.each)
	x.died = time.Now()
	if err := x.receivers.answer(clientA, http.StatusInternalServerError); err != nil {
		return nil, err
	}
	for range x.each {
		more, err := c.bulk(ctx, x.a, x.bulk)
		if err != nil {
			return nil, err
		}
		changes = append(changes, more...)
	}
	x.piled = time.Now()
	x.say("all are there after %.0f s", x.piled.Sub(x.died).Seconds())
	sleep(ctx, time.Until(x.died.Add(x.dead)))
	return changes, x.drain(ctx, len(changes))
}

// drain lets the receiver come back and waits until it has everything.
func (x *story) drain(ctx context.Context, n int) error {
	x.back = time.Now()
	if err := x.receivers.answer(clientA, http.StatusOK); err != nil {
		return err
	}
	x.say("it is back and waits for the next probe")
	if err := x.receivers.confirmed(ctx, clientA, 1); err != nil {
		return err
	}
	x.flows = time.Now()
	x.say("it is found")
	err := x.receivers.confirmed(ctx, clientA, n)
	x.drained = time.Now()
	x.say("%d are delivered after %.0f s", n, x.drained.Sub(x.flows).Seconds())
	return err
}

func (x *story) report(out *report) (err error) {
	if x.got, err = x.receivers.take(); err != nil {
		return err
	}
	for _, client := range []string{clientB, clientC} {
		x.reportOther(out, client)
	}
	n := float64(x.agents * x.each)
	out.figure(x.round, "seconds in which these piled up", x.piled.Sub(x.died).Seconds())
	out.figure(x.round, "seconds from coming back to being found", x.flows.Sub(x.back).Seconds())
	out.figure(x.round, "seconds to drain", x.drained.Sub(x.flows).Seconds())
	out.figure(x.round, "deliveries per second while draining", n/x.drained.Sub(x.flows).Seconds())
	allowed := failuresInAll + int(x.back.Sub(x.died)/betweenProbes)
	out.atMost(x.round, "requests of A to the dead receiver", x.failed(), allowed)
	out.atMost(x.round, "most requests of A together", x.got.AtOne[clientA], perReceiver)
	for _, client := range []string{clientA, clientB, clientC} {
		faultsOf(x.changes, x.got, client, 1).report(out, x.round, "client "+client)
	}
	return nil
}

// failed is how many requests of A were answered with an error.
func (x *story) failed() (n int) {
	for _, a := range x.got.Arrivals {
		if a.Client == clientA && !a.confirmed() {
			n++
		}
	}
	return n
}

// reportOther says how long another client's changes took in each part of the story.
func (x *story) reportOther(out *report, client string) {
	before := client + ", before"
	for _, part := range []struct {
		of, base string
		span
	}{
		{before, "", span{x.began, x.died}},
		{client + ", while it piles up", before, span{x.died, x.piled}},
		{client + ", while it is dead after that", before, span{x.piled, x.flows}},
		{client + ", while it drains", before, span{x.flows, x.drained}},
	} {
		out.latency(x.round, part.of, part.base, times(x.changes, x.got, client, part.span))
	}
}
