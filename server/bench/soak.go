package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"net/http"
	"time"

	"golang.org/x/sync/errgroup"
)

const (
	soaked = "soaked" // the client

	// room is how long changes come before there are more than are kept.
	room = time.Minute
	// fewest is the least that a server can be told to keep.
	fewest = 1000
)

// soak has changes come at a steady rate to a server that may keep few of them, and looks whether what it takes stays
// the same: file, memory, and time from change to arrival. At the beginning the store has room for those of a minute, in
// which the server has nothing to prune: the rest, in which it prunes all the time, is held against that, and parted in
// thirds. At the end the server is told to keep fewer.
type soak struct {
	agents, hosts, rows int
	rate                float64
	lasts, every        time.Duration
}

func (*soak) name() string { return "soak" }

func (w *soak) flags(f *flag.FlagSet) {
	f.IntVar(&w.agents, "soak-agents", 500, "`agents`, fewer than the 1000 rows that are left at the end")
	f.IntVar(&w.hosts, "soak-receivers", 50, "`receivers` of these")
	f.IntVar(&w.rows, "soak-rows", 20000, "how many `deliveries` and changes are kept")
	f.Float64Var(&w.rate, "soak-rate", 300, "`changes` per second")
	f.DurationVar(&w.lasts, "soak-lasts", 4*time.Minute, "how long they come; the first minute is before anything is pruned")
	f.DurationVar(&w.every, "soak-every", 5*time.Second, "how long it is from one look to the next")
}

// before is how many changes there are at the beginning.
func (w *soak) before() int { return w.rows - int(w.rate*room.Seconds()) }

func (w *soak) run(ctx context.Context, h *house) (*report, error) {
	if w.lasts <= room || w.rate <= 0 || w.agents >= fewest || w.before() < w.agents {
		return nil, errors.New("that is no soak: it is too short, or has too many agents, too few rows or nothing to do")
	}
	out := &report{Workload: w.name(), What: fmt.Sprintf(
		"%.0f changes per second to %d receivers for %v, of which %d are kept.", w.rate, w.hosts, w.lasts, w.rows)}
	urls, err := h.receivers.open(w.hosts)
	if err != nil {
		return nil, err
	}
	x := &bath{soak: *w, house: h, agents: agents(soaked, w.agents, urls...)}
	h.say("soak: makes %d changes", w.before())
	url, err := h.prepare(ctx, h.sqlite(), w.name(), func(c *caller) error { return x.fill(ctx, c) })
	if err != nil {
		return nil, err
	}
	file := sqliteFile(url)
	err = x.serve(ctx, file, w.rows, func(c *caller, g *gauge) error {
		defer c.reportHeldUp(out, 1)
		return x.run(ctx, c, g)
	})
	if err != nil {
		return nil, err
	}
	if err := x.report(out); err != nil {
		return nil, err
	}
	return out, x.serve(ctx, file, fewest, func(_ *caller, g *gauge) error { return x.shrink(ctx, g, out) })
}

// bath is a soak under way.
type bath struct {
	soak
	*house
	agents []*agent

	began   time.Time
	changes []change
	samples []sample
	got     Harvest
}

// serve runs a function beside a server that keeps so many rows.
func (x *bath) serve(ctx context.Context, file string, rows int, fn func(*caller, *gauge) error) error {
	return x.house.serve(ctx, "sqlite:"+file, func(c *caller) (err error) {
		g, err := newGauge(c, file)
		if err != nil {
			return err
		}
		defer func() { err = errors.Join(err, g.close()) }()
		return fn(c, g)
	}, "AGENTEVENTS_METRICS_ADDR=127.0.0.1:0", fmt.Sprintf("AGENTEVENTS_KEEP_ROWS=%d", rows))
}

// fill makes the changes that are there at the beginning.
func (x *bath) fill(ctx context.Context, c *caller) error {
	if err := errors.Join(c.register(ctx, x.agents), x.receivers.answer(soaked, http.StatusOK)); err != nil {
		return err
	}
	made := 0
	for ; made < x.before(); made += len(x.agents) {
		if _, err := c.bulk(ctx, x.agents, len(x.agents)); err != nil {
			return err
		}
	}
	if err := x.receivers.confirmed(ctx, soaked, made); err != nil {
		return err
	}
	_, err := x.receivers.take()
	return err
}

// run has changes come, and looks at the server.
func (x *bath) run(ctx context.Context, c *caller, g *gauge) (err error) {
	x.began = time.Now()
	until, stop := context.WithTimeout(ctx, x.lasts)
	defer stop()
	group, both := errgroup.WithContext(ctx)
	group.Go(func() (err error) {
		x.changes, err = c.steady(both, until, shuffled(x.agents), x.rate)
		return err
	})
	group.Go(func() error { return x.watch(until, g) })
	if err := group.Wait(); err != nil {
		return err
	}
	err = x.receivers.confirmed(ctx, soaked, len(x.changes))
	return errors.Join(err, x.look(ctx, g))
}

// watch looks at the server again and again until a context ends.
func (x *bath) watch(ctx context.Context, g *gauge) error {
	for n := 1; ctx.Err() == nil; n++ {
		if err := x.look(ctx, g); err != nil && ctx.Err() == nil {
			return err
		}
		sleep(ctx, time.Until(x.began.Add(time.Duration(n)*x.every)))
	}
	return nil
}

func (x *bath) look(ctx context.Context, g *gauge) error {
	s, err := g.look(ctx, x.began)
	if err != nil {
		return err
	}
	x.samples = append(x.samples, s)
	x.say("soak: %.0f deliveries and %.0f changes in %.1f MB and %.1f MB of log; %.1f MB resident, %.1f MB heap, %.0f goroutines, %.0f open files",
		s.Rows, s.Changes, s.File, s.WAL, s.Resident, s.Heap, s.Goroutines, s.Files)
	return nil
}

// third is the third of the time with room that is the nth, from 0.
func (x *bath) third(n int) span {
	long := (x.lasts - room) / 3
	from := x.began.Add(room + time.Duration(n)*long)
	return span{from, from.Add(long)}
}

// of are the samples of a span.
func (x *bath) of(s span) (all []sample) {
	for _, one := range x.samples {
		if s.has(x.began.Add(time.Duration(one.At * float64(time.Second)))) {
			all = append(all, one)
		}
	}
	return all
}

func (x *bath) report(out *report) (err error) {
	if x.got, err = x.receivers.take(); err != nil {
		return err
	}
	first, last := x.third(0), x.third(2)
	for _, part := range []struct {
		of, base string
		span
	}{
		{"before it prunes", "", span{x.began, first.from}},
		{"since it prunes", "before it prunes", span{from: first.from}},
		{"first third of that", "before it prunes", first},
		{"last third of that", "first third of that", last},
	} {
		out.latency(1, part.of, part.base, times(x.changes, x.got, soaked, part.span))
	}
	out.trends(x.of(first), x.of(last))
	x.reportSamples(out)
	var most, changes float64
	for _, s := range x.samples {
		most, changes = max(most, s.Rows), max(changes, s.Changes)
	}
	out.figure(1, "changes in all, of each row that is kept", float64(x.before()+len(x.changes))/float64(x.rows))
	allowed := x.rows + int(x.rate*room.Seconds())
	out.atMost(1, "most deliveries at a time", int(most), allowed)
	out.atMost(1, "most changes at a time", int(changes), allowed)
	faultsOf(x.changes, x.got, soaked, 1).report(out, 1, "client "+soaked)
	return nil
}

// reportSamples adds to each sample how long changes took from then on until the next.
func (x *bath) reportSamples(out *report) {
	for i, s := range x.samples {
		at := x.began.Add(time.Duration(s.At * float64(time.Second)))
		until := at.Add(x.every)
		if i+1 < len(x.samples) {
			until = x.began.Add(time.Duration(x.samples[i+1].At * float64(time.Second)))
		}
		took := times(x.changes, x.got, soaked, span{at, until})
		s.N, s.P50, s.P99 = len(took), ms(percentile(took, 50)), ms(percentile(took, 99))
		out.Samples = append(out.Samples, s)
	}
}

// shrink looks at a server without anything to do that is to keep very few rows, until nothing changes any more.
func (x *bath) shrink(ctx context.Context, g *gauge, out *report) error {
	before := x.samples[len(x.samples)-1]
	until := time.Now().Add(patience)
	x.say("soak: at most %d rows are kept from now on", fewest)
	for same := 0; same < 3 && time.Now().Before(until); {
		sleep(ctx, x.every)
		last := x.samples[len(x.samples)-1]
		if err := x.look(ctx, g); err != nil {
			return err
		}
		if now := x.samples[len(x.samples)-1]; now.Rows <= fewest && now.File == last.File {
			same++
		} else {
			same = 0
		}
	}
	after := x.samples[len(x.samples)-1]
	out.figure(1, "MB of the database at the end", before.File)
	out.figure(1, "MB of it when 1000 deliveries are left", after.File)
	out.atMost(1, "deliveries that are left", int(after.Rows), fewest)
	return nil
}
