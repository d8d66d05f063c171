package main

import (
	"context"
	"errors"
	"net/http"
	"slices"
	"time"

	"github.com/agentevents/agentevents/server/lab"
)

// The clients of backlog.
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
// of two more clients change at a rate meanwhile.
type outage struct {
	trial
	affected []*agent   // of the client whose receiver goes down
	others   [][]*agent // of each of the others

	died, piled, back, found, drained time.Time
	growth                            float64 // bytes of memory that the program has more when all are pending
	used                              usage   // by the drain
}

func newBacklog(t trial) (story, error) {
	if len(t.urls) < 2 {
		return nil, errors.New("needs at least 2 receivers")
	}
	n := max(1, t.agents/25)
	return &outage{
		trial: t, affected: agents(down, t.agents, 0, 1, t.urls[:1]),
		others: [][]*agent{agents(neighbour, n, 0, 1, t.urls[:1]), agents(elsewhere, n, 1, 1, t.urls[1:2])},
	}, nil
}

func (x *outage) setup() setup { return setup{clients: append(x.others, x.affected)} }

// run has the other clients change while the receiver goes down and comes back.
func (x *outage) run(ctx context.Context, c *caller) error {
	if err := x.warm(ctx, c, 2, append(x.others, x.affected)...); err != nil {
		return err
	}
	until, stop := context.WithCancel(ctx)
	defer stop()
	var streams []stream
	for _, all := range x.others {
		streams = append(streams, steadily(all, x.rate(0), maxOutage))
	}
	err := x.play(ctx, until, c, streams, func(ctx context.Context) ([]change, error) {
		defer stop()
		return x.goDown(ctx, c)
	})
	x.delivered(ctx, neighbour, elsewhere)
	return err
}

// goDown is what happens to the client whose receiver goes down.
func (x *outage) goDown(ctx context.Context, c *caller) (changes []change, err error) {
	x.began = time.Now()
	x.say("%s: %v before the receiver goes down", x.where, x.lasts/3)
	sleep(ctx, x.lasts/3)
	before, _ := memory(c.pid)
	x.died = time.Now()
	x.answer(down, http.StatusInternalServerError)
	changes, err = c.send(ctx, ctx, stream{x.affected, x.workload.changes * len(x.affected), 0})
	if err != nil {
		return nil, err
	}
	x.piled = time.Now()
	sleep(ctx, time.Until(x.died.Add(x.lasts)))
	now, _ := memory(c.pid)
	x.growth = now - before
	x.say("%s: the receiver of %d deliveries comes back", x.where, len(changes))
	x.used, err = measureUsage(ctx, c, func() error { x.drain(ctx, len(changes)); return nil })
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
	n, refused, together := deliveries(x.changes, down), 0, maxTogether(arrivals, down)
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
	}, x.used.values(n)), x.label)
	allowed := maxFailures + int(x.back.Sub(x.died)/minProbeGap)
	x.neverIf(refused > allowed, "%s: %d requests while it is down, allowed are %d", x.where, refused, allowed)
	x.neverIf(together > maxPerReceiver, "%s: %d requests at a time", x.where, together)
	x.check(x.where, down, x.changes, arrivals)
	for _, client := range []string{neighbour, elsewhere} {
		x.check(x.where, client, x.changes, arrivals)
		x.measureLatency(arrivals, client, span{x.began, x.died}, "client="+client, "when=before")
		x.measureLatency(arrivals, client, span{x.died, x.piled}, "client="+client, "when=pile-up")
		x.measureLatency(arrivals, client, span{x.piled, x.found}, "client="+client, "when=down")
		x.measureLatency(arrivals, client, span{x.found, x.drained}, "client="+client, "when=drain")
	}
}
