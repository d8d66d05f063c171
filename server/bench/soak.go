package main

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"os"
	"slices"
	"time"

	"github.com/agentevents/agentevents/server/lab"
	"github.com/agentevents/agentevents/store/benchfill"
)

const (
	soaked = "soaked" // the client of soak
	// sampleEvery is the time from one sample to the next.
	sampleEvery = 5 * time.Second
	// deleteWithin is how long a row may be there that is too many.
	deleteWithin = time.Minute
)

// bath is a round of soak, which measures whether file, memory and latency stay the same: changes come at a steady rate
// to a program that keeps few of them. In the first quarter of the time it has room for them; after that it deletes rows
// all the time.
type bath struct {
	trial
	busy    []*agent
	samples []sample
}

// sample is what the program and its store take at a moment.
type sample struct {
	at     time.Time
	rows   int // of deliveries or changes, whichever are more
	values []value
}

func newSoak(t trial) (story, error) {
	x := &bath{trial: t, busy: agents(soaked, t.agents, 0, 1, t.urls)}
	if x.before() < t.agents {
		return nil, errors.New("needs more rows than agents and than come in a quarter of the time")
	}
	return x, nil
}

// headroom is how long changes come before the program has to delete rows.
func (x *bath) headroom() time.Duration { return x.lasts / 4 }

// before is how many changes there are when the soak begins.
func (x *bath) before() int { return x.rows - int(x.rate(0)*x.headroom().Seconds()) }

func (x *bath) setup() setup {
	return setup{
		clients: [][]*agent{x.busy}, env: []string{withStats, fmt.Sprintf("AGENTEVENTS_KEEP_ROWS=%d", x.rows)},
	}
}

// run has changes come, and takes samples meanwhile.
func (x *bath) run(ctx context.Context, c *caller) error {
	if err := x.warm(ctx, c, x.before()/len(x.busy)+1, x.busy); err != nil {
		return err
	}
	x.say("%s: %v", x.where, x.lasts)
	x.began = time.Now()
	streams := []stream{steadily(shuffled(x.busy), x.rate(0), x.lasts)}
	err := x.play(ctx, ctx, c, streams, func(ctx context.Context) ([]change, error) {
		for time.Since(x.began) < x.lasts {
			if err := x.take(ctx, c); err != nil {
				return nil, err
			}
			sleep(ctx, sampleEvery)
		}
		return nil, nil
	})
	x.delivered(ctx, soaked)
	return err
}

// take takes a sample, after a garbage collection of the program.
func (x *bath) take(ctx context.Context, c *caller) error {
	if _, err := fetch(ctx, c.stats+"/debug/pprof/heap?gc=1&debug=1"); err != nil {
		return err
	}
	metrics, err := fetchMetrics(ctx, c.stats)
	if err != nil {
		return err
	}
	deliveries, changes, err := benchfill.CountRows(ctx, c.store)
	if err != nil {
		return err
	}
	s := sample{at: time.Now(), rows: max(deliveries, changes), values: []value{
		{metrics["process_resident_memory_bytes"], "resident-B"},
		{metrics["go_memstats_heap_alloc_bytes"], "heap-B"},
		{metrics["go_goroutines"], "goroutines"},
		{metrics["process_open_fds"], "open-files"},
		{float64(deliveries), "deliveries"},
		{float64(changes), "changes"},
	}}
	for _, f := range []struct{ suffix, unit string }{{"", "file-B"}, {"-wal", "wal-B"}} {
		if info, err := os.Stat(sqliteFile(c.store) + f.suffix); err == nil { // on SQLite
			s.values = append(s.values, value{float64(info.Size()), f.unit})
		}
	}
	x.samples = append(x.samples, s)
	x.show("%s: %v", x.where, s.values)
	return nil
}

// third is the nth third, from 0, of the time after the headroom.
func (x *bath) third(n int) span {
	long := (x.lasts - x.headroom()) / 3
	from := x.began.Add(x.headroom() + time.Duration(n)*long)
	return span{from, from.Add(long)}
}

// medians are those of all values of the samples in a span.
func (x *bath) medians(within span) (all []value) {
	numbers := map[string][]float64{}
	for _, s := range x.samples {
		for _, v := range s.values {
			if within.has(s.at) {
				numbers[v.unit] = append(numbers[v.unit], v.number)
			}
		}
	}
	for _, unit := range slices.Sorted(maps.Keys(numbers)) {
		all = append(all, value{median(numbers[unit]), unit})
	}
	return all
}

// report reports the time before rows are deleted, and the first and the last third of the time after.
func (x *bath) report(arrivals []*lab.Arrival) {
	first, last := x.third(0), x.third(2)
	for _, part := range []struct {
		when string
		span
	}{{"headroom", span{x.began, first.from}}, {"first", first}, {"last", last}} {
		times := latencyOf(x.changes, arrivals, soaked, part.span)
		values := append(latencies(times), x.medians(part.span)...)
		x.result(x.workload, len(times), values, "when="+part.when, x.label)
	}
	allowed := x.rows + int(x.rate(0)*deleteWithin.Seconds())
	for _, s := range x.samples {
		x.neverIf(s.rows > allowed, "%s: %d rows, allowed are %d", x.where, s.rows, allowed)
	}
	x.check(x.where, soaked, x.changes, arrivals)
}
