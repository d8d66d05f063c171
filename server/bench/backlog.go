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

// The clients of backlog and pending.
const (
	down      = "down"      // its receiver goes down
	neighbour = "neighbour" // it has the same host and port, where its requests are answered
	elsewhere = "elsewhere" // it has another receiver
)

const (
	// maxOutage is how long a round may last with changes of the other clients.
	maxOutage = 10 * time.Minute
	// maxPerReceiver is how many requests of one client a receiver may have at a time.
	maxPerReceiver = 32
	// maxFailures is how many requests a receiver may refuse before its breaker is open: five, and as many as were
	// under way together.
	maxFailures = 5 + maxPerReceiver
	// minProbeGap is the shortest time between two probes of a receiver that is down, less some tolerance.
	minProbeGap = 4 * time.Second
)

// outage is a round of backlog: the receiver of a client goes down while changes pile up for it, and comes back. Agents
// of two more clients change at a rate meanwhile. A round of pending has no other clients.
type outage struct {
	trial
	affected []*agent   // of the client whose receiver goes down
	others   [][]*agent // of each of the others

	died, piled, back, found, drained time.Time
	growth                            float64 // bytes of memory that the program has more when all are pending
	used                              usage   // by the drain
}

// backlog measures how changes pile up and drain, and what that costs other clients.
func backlog(ctx context.Context, b *bench, w workload) error {
	if w.agents < 1 || w.changes < 1 || (w.others > 0 && len(w.rates) == 0) {
		return errors.New("needs agents and changes")
	}
	return b.eachRound(ctx, w, 2, nil, func(t trial, _ int) story {
		x := &outage{trial: t, affected: agents(down, w.agents, 0, t.urls[0])}
		if w.others > 0 {
			x.others = [][]*agent{agents(neighbour, w.others, 0, t.urls[0]), agents(elsewhere, w.others, 1, t.urls[1])}
		}
		return x
	})
}

func (x *outage) clients() [][]*agent { return append(x.others, x.affected) }

// run has the other clients change while the receiver goes down and comes back.
func (x *outage) run(ctx context.Context, c *caller) (err error) {
	if err := x.warm(ctx, c, x.clients()...); err != nil {
		return err
	}
	until, stop := context.WithCancel(ctx)
	defer stop()
	made := make([][]change, 1+len(x.others))
	group, ctx := errgroup.WithContext(ctx)
	for i, all := range x.others {
		group.Go(func() (err error) {
			made[i], err = c.toggleSteadily(ctx, until, all, x.rates[0], maxOutage)
			return err
		})
	}
	group.Go(func() (err error) {
		defer stop()
		made[len(x.others)], err = x.goDown(ctx, c)
		return err
	})
	err = group.Wait()
	x.changes = slices.Concat(made...)
	for _, client := range []string{neighbour, elsewhere} {
		x.confirmed(ctx, client, count(x.changes, client), ignore)
	}
	return err
}

// goDown is what happens to the client whose receiver goes down.
func (x *outage) goDown(ctx context.Context, c *caller) (changes []change, err error) {
	x.began = time.Now()
	if len(x.others) > 0 {
		before := x.lasts / 3 // the other clients are measured for as long
		x.say("%s: %v before the receiver goes down", x.where, before)
		sleep(ctx, before)
	}
	before, _ := memory(c.pid)
	x.died = time.Now()
	x.answer(down, http.StatusInternalServerError)
	for range x.workload.changes {
		more, err := c.toggleAll(ctx, x.affected)
		if err != nil {
			return nil, err
		}
		changes = append(changes, more...)
		x.show("%s: %d are pending", x.where, len(changes))
	}
	x.piled = time.Now()
	sleep(ctx, time.Until(x.died.Add(x.lasts)))
	now, _ := memory(c.pid)
	x.growth = now - before
	x.say("%s: the receiver of %d deliveries comes back", x.where, len(changes))
	x.used, err = measureUsage(ctx, c.pid, x.pid(), func() error { x.drain(ctx, len(changes)); return nil })
	return changes, err
}

// drain lets the receiver come back, and waits until it has everything.
func (x *outage) drain(ctx context.Context, n int) {
	x.back = time.Now()
	x.answer(down, http.StatusOK)
	x.confirmed(ctx, down, 1, ignore)
	x.found = time.Now()
	x.confirmed(ctx, down, n, func(done int) { x.show("%s: %d of %d", x.where, done, n) })
	x.drained = time.Now()
}

func (x *outage) report(arrivals []*lab.Arrival) {
	n, refused, together := count(x.changes, down), 0, maxTogether(arrivals, down)
	for _, a := range arrivals {
		if clientOf(a) == down && !a.Confirmed() {
			refused++
		}
	}
	x.result(x.workload, n, slices.Concat([]value{
		{float64(n) / x.drained.Sub(x.found).Seconds(), "deliveries/s"},
		{float64(x.found.Sub(x.back)), "until-found-ns"},
		{x.growth, "growth-B"},
		{float64(refused), "refused"},
		{float64(together), "requests-at-a-time"},
	}, x.used.values(n)), x.label())
	allowed := maxFailures + int(x.back.Sub(x.died)/minProbeGap)
	x.neverIf(refused > allowed, "%s: %d requests while it is down, allowed are %d", x.where, refused, allowed)
	x.neverIf(together > maxPerReceiver, "%s: %d requests at a time", x.where, together)
	for _, client := range []string{down, neighbour, elsewhere} {
		x.check(x.where, client, x.changes, 1, arrivals)
	}
	for _, all := range x.others {
		client := "client=" + all[0].client
		x.measureLatency(arrivals, all[0].client, span{x.began, x.died}, client, "when=before")
		x.measureLatency(arrivals, all[0].client, span{x.died, x.piled}, client, "when=pile-up")
		x.measureLatency(arrivals, all[0].client, span{x.piled, x.found}, client, "when=down")
		x.measureLatency(arrivals, all[0].client, span{x.found, x.drained}, client, "when=drain")
	}
}
