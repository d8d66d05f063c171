package main

import (
	"errors"
	"flag"
	"fmt"
	"io"
	"slices"
	"strconv"
	"time"
)

// shape is how much of everything a workload has. Each flag of the same name overrides it.
type shape struct {
	count     int // rounds
	agents    int // of isolation for each receiver
	changes   int // in all; of backlog for each agent
	receivers int // of burst, steady, shift and fanout for each agent, else in all
	rows      int // deliveries and changes that the program keeps
	rates     []float64
	lasts     time.Duration
}

// workload is one thing to measure.
type workload struct {
	name     string
	variants int                // of each round, if there are others than one for each rate
	makePlan func(*trial) error // for each trial
	shape
}

// workloads are those that there are. All of throughput have as many rounds as benchstat needs for an interval.
func workloads() []workload {
	return []workload{
		{"burst", 0, throughput, shape{count: 6, agents: 2000, changes: 20_000, receivers: 1}},
		{"steady", 0, throughput, shape{
			count: 6, agents: 2000, receivers: 1, rates: []float64{50, 200}, lasts: 10 * time.Second,
		}},
		{"shift", 0, throughput, shape{count: 6, agents: 101_000, changes: 100_000, receivers: 1}}, // and a warm-up
		{"fanout", 0, throughput, shape{count: 6, agents: 500, changes: 2000, receivers: 10}},
		{"isolation", 2, isolation, shape{
			count: 2, agents: 5, receivers: 1000, rates: []float64{150}, lasts: 50 * time.Second,
		}},
		{"backlog", 0, backlog, shape{
			count: 1, agents: 5000, changes: 10, receivers: 2, rates: []float64{25}, lasts: 42 * time.Second,
		}},
		{"soak", 0, soak, shape{
			count: 1, agents: 500, receivers: 50, rows: 20_000, rates: []float64{300}, lasts: 4 * time.Minute,
		}},
	}
}

// rate is how many changes a variant has per second, 0 for as many as are taken.
func (s shape) rate(variant int) float64 {
	if len(s.rates) == 0 {
		return 0
	}
	return s.rates[min(variant, len(s.rates)-1)]
}

// parse reads the arguments: the options of all workloads, and the workloads that are named, or all if there are none.
// The flags of a shape override that of each.
func parse(args []string, stderr io.Writer) (o options, chosen []workload, err error) {
	flags := flagSet(&o, &shape{}, stderr)
	if err := flags.Parse(args); err != nil {
		return o, nil, err
	}
	if err := o.check(); err != nil {
		return o, nil, err
	}
	all := workloads()
	for _, name := range flags.Args() {
		if !slices.ContainsFunc(all, func(w workload) bool { return w.name == name }) {
			return o, nil, fmt.Errorf("there is no workload %q", name)
		}
	}
	for _, w := range all {
		if flags.NArg() == 0 || slices.Contains(flags.Args(), w.name) {
			_ = flagSet(&options{}, &w.shape, io.Discard).Parse(args) // as it did above
			chosen = append(chosen, w)
		}
	}
	return o, chosen, nil
}

var errNotPositive = errors.New("must be above 0")

// flagSet has a flag for each option, and for each field of a shape.
func flagSet(o *options, s *shape, stderr io.Writer) *flag.FlagSet {
	f := flag.NewFlagSet("bench", flag.ContinueOnError)
	f.SetOutput(stderr)
	f.StringVar(&o.binaries, "binary", "bin/agentevents", "the `program` to measure, or several, in turn: old,new")
	f.StringVar(&o.onEngines, "engines", "sqlite,postgres", "the `databases` to measure it on")
	f.StringVar(&o.floors, "floors", "raw,relay,ledger", "the `floors` to hold it against, or none")
	for _, n := range []struct {
		name, usage string
		to          *int
	}{
		{"count", "`rounds` of each workload", &s.count},
		{"agents", "`agents`; of isolation those of each receiver", &s.agents},
		{"changes", "status `changes` in all; of backlog those of each agent", &s.changes},
		{"receivers", "`receivers`; of burst, steady, shift and fanout those that get each change", &s.receivers},
		{"rows", "`deliveries` and changes that the program keeps in soak", &s.rows},
	} {
		f.Func(n.name, n.usage, func(text string) (err error) {
			if *n.to, err = strconv.Atoi(text); err == nil && *n.to < 1 {
				err = errNotPositive
			}
			return err
		})
	}
	f.Func("rate", "`changes` per second", func(text string) error {
		rate, err := strconv.ParseFloat(text, 64)
		if s.rates = []float64{rate}; err == nil && rate <= 0 {
			err = errNotPositive
		}
		return err
	})
	f.DurationVar(&s.lasts, "lasts", s.lasts, "`time` of changes at a rate, or of an outage of backlog")
	return f
}
