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
	*trial
	affected []*agent // of the client whose receiver goes down
	before   float64  // bytes of memory that the program has when it goes down

	died, back, found time.Time
	drained           time.Duration // since it was found
	growth            float64       // bytes of memory that the program has more when all are pending
	used              usage         // by the drain
}

func backlog(t *trial) error {
	if len(t.urls) < 2 {
		return errors.New("needs at least 2 receivers")
	}
	n := max(1, t.agents/25)
	x := &outage{trial: t, affected: agents(down, t.agents, 0, 1, t.urls[:1])}
	near, far := agents(neighbour, n, 0, 1, t.urls[:1]), agents(elsewhere, n, 1, 1, t.urls[1:2])
	t.plan = plan{
		clients: [][]*agent{near, far, x.affected}, measured: []string{neighbour, elsewhere}, closing: x.report,
		streams: []stream{steadily(near, t.rate(0), maxOutage), steadily(far, t.rate(0), maxOutage)},
		phases: []phase{
			{part: "when=before", do: func(ctx context.Context, _ *caller) error { return lab.Pause(ctx, t.lasts/3) }},
			{part: "when=pile-up", do: x.pileUp},
			{part: "when=down", do: x.stayDown},
			{part: "when=drain", do: x.drain},
		},
	}
	for _, all := range t.plan.clients {
		t.warm = append(t.warm, stream{all, 2 * len(all), 0})
	}
	return nil
}

func (x *outage) pileUp(ctx context.Context, c *caller) (err error) {
	x.before, _ = memory(c.pid)
	x.died = time.Now()
	x.answer(down, http.StatusInternalServerError)
	x.changes, err = c.send(ctx, ctx, stream{x.affected, x.workload.changes * len(x.affected), 0})
	return err
}

// stayDown lasts until the receiver is found to be back.
func (x *outage) stayDown(ctx context.Context, c *caller) error {
	_ = lab.Pause(ctx, time.Until(x.died.Add(x.lasts)))
	now, _ := memory(c.pid)
	x.growth = now - x.before
	x.say("%s: the receiver of %d deliveries comes back", x.where, len(x.changes))
	x.back = time.Now()
	x.answer(down, http.StatusOK)
	x.confirmed(ctx, down, 1)
	x.found = time.Now()
	return nil
}

func (x *outage) drain(ctx context.Context, c *caller) (err error) {
	x.used, err = measureUsage(ctx, c, func() error {
		x.delivered(ctx, down)
		x.drained = time.Since(x.found)
		return nil
	})
	return err
}

func (x *outage) report(arrivals []*lab.Arrival) {
	n, refused, together := deliveries(x.changes, down), 0, maxTogether(arrivals, down)
	for _, a := range arrivals {
		if clientOf(a) == down && !a.Confirmed() {
			refused++
		}
	}
	x.result(n, slices.Concat([]value{
		{float64(n) / x.drained.Seconds(), "deliveries/s"},
		{float64(x.found.Sub(x.back)), "until-found-ns"},
		{x.growth, "growth-B"},
		{float64(refused), "refused"},
		{float64(together), "requests-at-a-time"},
	}, x.used.values(n)), "")
	allowed := maxFailures + int(x.back.Sub(x.died)/minProbeGap)
	x.neverIf(refused > allowed, "%s: %d requests while it is down, allowed are %d", x.where, refused, allowed)
	x.neverIf(together > maxPerReceiver, "%s: %d requests at a time", x.where, together)
	x.check(x.where, down, x.changes, arrivals)
}
