package main

import (
	"context"
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
	changes   int // in all; of a backlog for each agent
	receivers int // of throughput for each agent, else in all
	hanging   int // receivers that hang
	others    int // agents of each of the clients whose receivers are not down
	rows      int // deliveries and changes that the program keeps
	rates     []float64
	lasts     time.Duration
	delay     time.Duration // of a receiver's answer
}

// workload is one thing to measure.
type workload struct {
	name string
	run  func(context.Context, *bench, workload) error
	shape
}

// workloads are those that there are. All of throughput have as many rounds as benchstat needs for an interval.
func workloads() []workload {
	return []workload{
		{"burst", throughput, shape{count: 6, agents: 2000, changes: 20_000, receivers: 1}},
		{"steady", throughput, shape{
			count: 6, agents: 2000, receivers: 1, rates: []float64{50, 200}, lasts: 10 * time.Second,
		}},
		{"shift", throughput, shape{count: 6, agents: 100_000, changes: 100_000, receivers: 1}},
		{"fanout", throughput, shape{count: 6, agents: 500, changes: 2000, receivers: 10}},
		{"pending", backlog, shape{count: 1, agents: 2000, changes: 100, rates: []float64{25}}},
		{"isolation", isolation, shape{
			count: 2, agents: 5, receivers: 1000, hanging: 300, rates: []float64{150}, lasts: 50 * time.Second,
			delay: 5 * time.Millisecond,
		}},
		{"backlog", backlog, shape{
			count: 1, agents: 5000, changes: 10, others: 200, rates: []float64{25}, lasts: 42 * time.Second,
			delay: 5 * time.Millisecond,
		}},
		{"soak", soak, shape{
			count: 1, agents: 500, receivers: 50, rows: 20_000, rates: []float64{300}, lasts: 4 * time.Minute,
			delay: 5 * time.Millisecond,
		}},
	}
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

// flagSet has a flag for each option, and for each field of a shape, whose value is the default.
func flagSet(o *options, s *shape, stderr io.Writer) *flag.FlagSet {
	f := flag.NewFlagSet("bench", flag.ContinueOnError)
	f.SetOutput(stderr)
	f.StringVar(&o.binaries, "binary", "bin/agentevents", "the `program` to measure, or several, in turn: old,new")
	f.StringVar(&o.engines, "engines", "sqlite,postgres", "the `databases` to measure it on")
	f.StringVar(&o.floors, "floors", "raw,relay,ledger", "the `floors` to hold it against, or none")
	f.IntVar(&s.count, "count", s.count, "`rounds` of each workload")
	f.IntVar(&s.agents, "agents", s.agents, "`agents`; of isolation those of each receiver")
	f.IntVar(&s.changes, "changes", s.changes, "status `changes` in all; of backlog and pending those of each agent")
	f.IntVar(&s.receivers, "receivers", s.receivers,
		"`receivers`; of burst, steady, shift and fanout those that get each change")
	f.IntVar(&s.hanging, "hanging", s.hanging, "`receivers` of isolation that hang")
	f.IntVar(&s.others, "others", s.others, "`agents` of each client of backlog whose requests are answered")
	f.IntVar(&s.rows, "rows", s.rows, "`deliveries` and changes that the program keeps in soak")
	f.DurationVar(&s.lasts, "lasts", s.lasts, "`time` of changes at a rate, or of an outage of backlog")
	f.DurationVar(&s.delay, "delay", s.delay, "`time` of a receiver to its answer in isolation, backlog and soak")
	f.Func("rate", "`changes` per second", func(text string) error {
		rate, err := strconv.ParseFloat(text, 64)
		if err == nil && rate <= 0 {
			err = errors.New("must be above 0")
		}
		s.rates = []float64{rate}
		return err
	})
	return f
}
