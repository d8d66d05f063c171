package main

import (
	"bytes"
	"context"
	"fmt"
	"time"

	"golang.org/x/sync/errgroup"

	"github.com/agentevents/agentevents/gen"
)

// contest has the same changes of statuses made to floors and to the program, in turn, and measures when the receivers
// know of them. The agents log in and out in turn, each in the order of its changes.
type contest struct {
	*house
	out      *report
	workload string // and client
	part     string // of the workload, where it has several
	agents   int
	changes  int
	each     int // deliveries of a change, each to a receiver of its own
	together int // changes that are under way at a time
	rate     float64
	urls     []string // of the receivers
	subjects []subject
}

// prepare opens the receivers and gathers the subjects: the relay, the program, and where a change is one delivery, the
// receiver itself and relays with ledgers.
func (x *contest) prepare(ctx context.Context, single bool) (err error) {
	if x.urls, err = x.receivers.open(x.each); err != nil {
		return err
	}
	if single {
		x.subjects = append(x.subjects, raw{x.urls[0]})
	}
	x.out.Floor = relayName
	programs, err := x.programs(ctx)
	x.subjects = append(x.subjects, relayed{urls: x.urls})
	for _, e := range x.started {
		if single {
			x.subjects = append(x.subjects, relayed{x.urls, e})
		}
	}
	x.subjects = append(x.subjects, programs...)
	return err
}

// rounds has all subjects make the changes once in each round.
func (x *contest) rounds(ctx context.Context) error {
	for round := 1; round <= x.repeats; round++ {
		for _, s := range x.subjects {
			if err := x.round(ctx, s, round); err != nil {
				return fmt.Errorf("%s: %w", s.name(), err)
			}
		}
	}
	return nil
}

func (x *contest) run(ctx context.Context, single bool) error {
	if err := x.prepare(ctx, single); err != nil {
		return err
	}
	return x.rounds(ctx)
}

func (x *contest) round(ctx context.Context, s subject, round int) error {
	m := &measure{Round: round, Part: x.part, Subject: s.name()}
	var made Made
	err := s.serve(ctx, func(at *site) (err error) {
		made, err = x.measured(ctx, at, m)
		return err
	})
	if err != nil {
		return err
	}
	got, err := x.receivers.take() // now that nothing can come any more
	if err != nil {
		return err
	}
	changes := x.made(made)
	m.arrivals(changes, got, x.workload)
	faultsOf(changes, got, x.workload, x.each).report(x.out, round, m.whose())
	x.out.Measures = append(x.out.Measures, m)
	x.progress(true, "%s %d/%d: %s: %.0f delivered/s, p50 %s ms, p99 %s ms", x.title(), round, x.repeats, m.Subject,
		m.PerSecond, short(m.P50), short(m.P99))
	return nil
}

func (x *contest) title() string {
	if x.part == "" {
		return x.workload
	}
	return x.workload + ", " + x.part
}

// before is how many changes come before so many that count, for every subject: none is to be measured as one that was
// started a moment ago.
func before(changes int) int { return min(changes/20, 1000) }

// measured has the changes made at a site, and reads what that took.
func (x *contest) measured(ctx context.Context, at *site, m *measure) (made Made, err error) {
	calls, err := x.calls(at)
	if err != nil {
		return made, err
	}
	first := before(x.changes)
	if _, err := x.send(ctx, at, calls[:first], m); err != nil {
		return made, err
	}
	if _, err := x.receivers.take(); err != nil {
		return made, err
	}
	err = m.measured(ctx, at, float64(x.changes*x.each), func() error {
		return x.profiled(ctx, at, x.workload, m, func(ctx context.Context) (err error) {
			made, err = x.send(ctx, at, calls[first:], m)
			return err
		})
	})
	return made, err
}

// send has the generator send calls, and waits until all that they tell has arrived.
func (x *contest) send(ctx context.Context, at *site, calls []Call, m *measure) (made Made, err error) {
	group, ctx := errgroup.WithContext(ctx)
	group.Go(func() error {
		load := Load{Addr: at.addr, Connections: x.together, Rate: x.rate, Calls: calls}
		return x.generator.rpc.Call("Generator.Send", load, &made)
	})
	group.Go(func() error {
		all := len(calls) * x.each
		return x.receivers.confirmed(ctx, x.workload, all, func(n int) {
			x.progress(false, "%s %d/%d: %s: %d of %d", x.title(), m.Round, x.repeats, m.Subject, n, all)
		})
	})
	err = group.Wait()
	return made, err
}

// calls are the requests that make the changes at a site, or where that is a receiver, tell it of them.
func (x *contest) calls(at *site) (all []Call, err error) {
	for i := range before(x.changes) + x.changes {
		t := told{client: x.workload, agent: int64(i%x.agents + 1), status: gen.AgentStatusValueAvailable}
		if i/x.agents%2 == 1 {
			t.status = gen.AgentStatusValueLoggedOut
		}
		c := Call{Connection: i % x.agents % x.together}
		if at.receiver == "" {
			c.Request = at.put(t)
		} else {
			c.Sequence, t.sequence = int64(i+1), int64(i+1)
			if c.Request, err = written(t, at.receiver); err != nil {
				return nil, err
			}
		}
		all = append(all, c)
	}
	return all, nil
}

// written is what goes over the wire to tell a receiver.
func written(t told, receiver string) ([]byte, error) {
	req, err := t.post(receiver)
	if err != nil {
		return nil, err
	}
	var b bytes.Buffer
	err = req.Write(&b)
	return b.Bytes(), err
}

// made is the changes of a load that was sent.
func (x *contest) made(m Made) []change {
	all := make([]change, len(m.Sent))
	for i, sent := range m.Sent {
		all[i] = change{client: x.workload, sequence: m.Sequences[i], sent: time.Unix(0, sent)}
	}
	return all
}
