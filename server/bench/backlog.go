package main

import (
	"context"
	"errors"
	"net/http"
	"time"

	"github.com/agentevents/agentevents/server/lab"
	"github.com/agentevents/agentevents/webhook"
)

const (
	// maxOutage is how long a measurement may last with changes of the other clients.
	maxOutage = 10 * time.Minute
	// maxPerReceiver is how many requests of one client a receiver may have at a time.
	maxPerReceiver = 32
	// maxFailures is how many requests a receiver may refuse before its breaker is open: the threshold, and as many as
	// were under way together.
	maxFailures = webhook.BreakerThreshold + maxPerReceiver
	// minProbeGap is the shortest time between two probes of a receiver that is down, less some tolerance.
	minProbeGap = 4 * time.Second
)

// outage is a measurement of backlog.
type outage struct {
	*measurement
	affected   *client // whose receiver goes down
	died, back time.Time
	resident   float64 // bytes of memory that the program has when the receiver goes down
	results    values
}

// backlog has the receiver of a client go down while changes pile up for it, and come back. Agents of two more clients
// change at a rate meanwhile: one has the same host and port, where its requests are answered, one another receiver.
func backlog(m *measurement) ([]scenario, error) {
	if len(m.urls) < 2 {
		return nil, errors.New("needs at least 2 receivers")
	}
	n := max(1, m.agents/25)
	near := m.client("neighbour").addAgents(n, 0, 1, m.urls[:1])
	far := m.client("elsewhere").addAgents(n, 1, 1, m.urls[1:2])
	o := &outage{measurement: m, affected: m.client("down").addAgents(m.agents, 0, 1, m.urls[:1]), results: values{}}
	most := int(m.rate * maxOutage.Seconds())
	s := scenario{
		clients: []*client{near, far, o.affected}, measured: []*client{near, far}, finish: o.finish,
		streams: []stream{{near.agents, most, m.rate}, {far.agents, most, m.rate}},
		phases: []phase{
			{part: "when=before", do: func(ctx context.Context) error { return lab.Pause(ctx, m.lasts/3) }},
			{part: "when=pile-up", do: o.pileUp},
			{part: "when=down", do: o.stayDown},
			{part: "when=drain", do: o.drain},
		},
	}
	for _, c := range s.clients {
		s.warm = append(s.warm, stream{c.agents, 2 * len(c.agents), 0})
	}
	return []scenario{s}, nil
}

func (o *outage) pileUp(ctx context.Context) (err error) {
	o.resident = o.usage().resident
	o.died = time.Now()
	o.affected.reply.Store(&lab.Reply{Status: http.StatusInternalServerError, Delay: answerTime})
	o.affected.sent, err = o.send(ctx, stream{o.affected.agents, o.changes * len(o.affected.agents), 0})
	return err
}

// stayDown lasts until the receiver is found to be back.
func (o *outage) stayDown(ctx context.Context) error {
	if err := lab.Pause(ctx, time.Until(o.died.Add(o.lasts))); err != nil {
		return err
	}
	o.results["growth-B"] = o.usage().resident - o.resident
	o.back = time.Now()
	o.affected.reply.Store(nil)
	err := o.affected.await(ctx, 1)
	o.results["until-found-ns"] = float64(time.Since(o.back))
	return err
}

func (o *outage) drain(ctx context.Context) error {
	n, began := deliveries(o.affected.sent), time.Now()
	err := o.affected.await(ctx, n)
	o.results["deliveries/s"] = float64(n) / time.Since(began).Seconds()
	return err
}

func (o *outage) finish() {
	refused, most := 0, o.affected.maxConcurrent()
	for _, a := range o.affected.arrived {
		if !a.Confirmed() {
			refused++
		}
	}
	o.results["refused"], o.results["requests-at-a-time"] = float64(refused), float64(most)
	o.print("", deliveries(o.affected.sent), o.results)
	allowed := maxFailures + int(o.back.Sub(o.died)/minProbeGap)
	o.neverIf(refused > allowed, "%s: %d requests while it is down, allowed are %d", o.where, refused, allowed)
	o.neverIf(most > maxPerReceiver, "%s: %d requests at a time", o.where, most)
	o.check(o.affected)
}
