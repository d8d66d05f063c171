package main

import (
	"context"
	"flag"
	"fmt"
	"net/http"
	"time"
)

// pending has very many deliveries wait for a receiver that is down, looks what they take of memory, and lets it come
// back.
type pending struct{ agents, changes, rounds int }

func (*pending) name() string { return "pending" }

func (w *pending) flags(f *flag.FlagSet) {
	f.IntVar(&w.agents, "pending-agents", 2000, "`agents`, whose statuses are set in requests of up to 1000")
	f.IntVar(&w.changes, "pending-changes", 100, "`changes` of each while its receiver is down")
	f.IntVar(&w.rounds, "pending-rounds", 1, "how many `rounds` of this, which is long")
}

func (w *pending) run(ctx context.Context, h *house) (*report, error) {
	out := &report{Workload: w.name(), What: fmt.Sprintf(
		"the receiver is down while %d agents change %d times each, and comes back. The rate is that from when it is found.",
		w.agents, w.changes)}
	x := &pile{
		contest: contest{house: h, out: out, workload: w.name(), agents: w.agents, changes: w.agents * w.changes, each: 1},
		rounds:  w.rounds, times: w.changes,
	}
	if err := x.prepare(ctx); err != nil {
		return nil, err
	}
	for round := 1; round <= x.rounds; round++ {
		for _, s := range x.subjects {
			if err := x.once(ctx, s, round); err != nil {
				return nil, fmt.Errorf("%s: %w", s.name(), err)
			}
		}
	}
	for _, engine := range []string{sqliteName, postgresName} {
		out.notAbove(32, "MiB more with all pending, "+engine, out.values("", engine, func(m *measure) float64 { return m.Growth }))
	}
	return out, nil
}

// pile is such a workload under way.
type pile struct {
	contest
	rounds int
	times  int // that each agent changes
	made   []change
}

// prepare gathers the programs. No floor is of use, since a relay forgets what fails.
func (x *pile) prepare(ctx context.Context) (err error) {
	if x.urls, err = x.receivers.open(x.each); err == nil {
		x.subjects, err = x.programs(ctx)
	}
	return err
}

func (x *pile) once(ctx context.Context, s subject, round int) error {
	m := &measure{Round: round, Subject: s.name()}
	err := s.serve(ctx, func(at *site) error { return x.tell(ctx, at, m) })
	if err != nil {
		return err
	}
	got, err := x.receivers.take()
	if err != nil {
		return err
	}
	faultsOf(x.made, got, x.workload, 1).report(x.out, round, m.whose())
	x.out.Measures = append(x.out.Measures, m)
	x.say("pending %d/%d: %s: %.0f delivered/s, %s MiB more with all pending", round, x.rounds, m.Subject, m.PerSecond,
		short(m.Growth))
	return nil
}

// tell is what happens in a round.
func (x *pile) tell(ctx context.Context, at *site, m *measure) error {
	all := agents(x.workload, x.agents, x.urls[0])
	if err := x.warm(ctx, at, all); err != nil {
		return err
	}
	before, _ := memory(at.pid)
	if err := x.receivers.behave(x.workload, http.StatusServiceUnavailable); err != nil {
		return err
	}
	if err := x.grow(ctx, at, all, m); err != nil {
		return err
	}
	now, _ := memory(at.pid)
	m.Growth = now - before
	return x.drain(ctx, at, m)
}

// warm has the agents log in and out once, all of which arrives, so that the program has what it needs for any work.
func (x *pile) warm(ctx context.Context, at *site, all []*agent) error {
	x.made = nil
	for range 2 {
		if _, err := at.caller.bulk(ctx, all, 1000); err != nil {
			return err
		}
	}
	if err := x.receivers.confirmed(ctx, x.workload, 2*len(all)); err != nil {
		return err
	}
	atRest(ctx, at.processors)
	_, err := x.receivers.take()
	return err
}

// grow makes the changes that pile up.
func (x *pile) grow(ctx context.Context, at *site, all []*agent, m *measure) error {
	for i := range x.times {
		made, err := at.caller.bulk(ctx, all, 1000)
		if err != nil {
			return err
		}
		x.made = append(x.made, made...)
		x.progress(false, "pending %d/%d: %s: %d are pending", m.Round, x.rounds, m.Subject, (i+1)*len(all))
	}
	atRest(ctx, at.processors)
	return nil
}

// drained waits until the receiver, which has been found, has everything.
func (x *pile) drained(ctx context.Context, m *measure) error {
	n, found := len(x.made), time.Now()
	err := x.receivers.confirmed(ctx, x.workload, n, func(done int) {
		x.progress(false, "pending %d/%d: %s: %d of %d", m.Round, x.rounds, m.Subject, done, n)
	})
	m.N, m.PerSecond = n, float64(n)/time.Since(found).Seconds()
	return err
}

// drain lets the receiver come back, to be found by the next probe.
func (x *pile) drain(ctx context.Context, at *site, m *measure) error {
	return m.measured(ctx, at, float64(len(x.made)), func() error {
		if err := x.receivers.behave(x.workload, http.StatusOK); err != nil {
			return err
		}
		if err := x.receivers.confirmed(ctx, x.workload, 1); err != nil {
			return err
		}
		return x.profiled(ctx, at, x.workload, m, func(ctx context.Context) error { return x.drained(ctx, m) })
	})
}
