// Bench measures the built binary from outside, and compares it with floors; README.md explains the workloads, the
// floors and the figures.
//
//	go run ./server/bench burst steady >bench.txt       # results in Go's benchmark format
//	benchstat -col /on bench.txt                        # golang.org/x/perf/cmd/benchstat
//	go run ./server/bench -engines sqlite -agents 100 -changes 2000 -count 1 burst
//	go run ./server/bench -binary bin/before,bin/agentevents -floors none -count 10 burst steady
//
// This process sends the status changes and receives the webhooks. The program, as server/lab starts it, and the floors
// are processes of their own on the same machine. In each round a workload (workload.go, backlog.go, soak.go) measures
// all of them (system.go) in turn, because a machine's speed drifts. A measurement (measurement.go) sends streams of
// changes, and report.go compares them with what has arrived at the receivers (load.go).
//
// The exit code is 1 when something happened that must never happen, such as a lost delivery, and never because
// something took long.
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"log"
	"os"
	"runtime"
	"slices"
	"strings"

	"github.com/agentevents/agentevents/server/lab"
	"github.com/agentevents/agentevents/store/pgtest"
)

func main() { lab.Main("bench", run) }

// bench is what all workloads share.
type bench struct {
	binaries, engines, floors []string
	attacks                   []string        // of neighbours
	dir                       string          // of temporary files
	cluster                   *pgtest.Cluster // nil if nothing is measured on PostgreSQL
	out                       io.Writer
	log                       *log.Logger
	wrong                     []string // what happened and must never happen
}

// run measures what the arguments ask for, and leaves nothing behind but the results on stdout.
func run(ctx context.Context, args []string, stdout, stderr io.Writer) (err error) {
	if urls := os.Getenv(relayVariable); urls != "" {
		return serveRelay(ctx, strings.Split(urls, ","))
	}
	b := &bench{out: stdout, log: log.New(stderr, "", log.Ltime)}
	chosen, err := b.parse(args, stderr)
	if err != nil {
		return err
	}
	if b.dir, err = os.MkdirTemp("", "agentevents-bench-"); err != nil {
		return err
	}
	defer func() { err = errors.Join(err, os.RemoveAll(b.dir)) }()
	if err := b.startPostgres(ctx); err != nil {
		return err
	}
	if b.cluster != nil {
		defer func() { err = errors.Join(err, b.cluster.Stop()) }()
	}
	// benchstat shows this above its tables.
	fmt.Fprintf(stdout, "goos: %s\ngoarch: %s\npkg: github.com/agentevents/agentevents/server/bench\ncpus: %d\n",
		runtime.GOOS, runtime.GOARCH, runtime.NumCPU())
	for _, w := range chosen {
		if err := b.measure(ctx, w); err != nil {
			return err
		}
	}
	if len(b.wrong) > 0 {
		return errors.New("this must never happen:\n" + strings.Join(b.wrong, "\n"))
	}
	return nil
}

// neverIf notes a fault if it happened.
func (b *bench) neverIf(happened bool, format string, args ...any) {
	if happened {
		b.wrong = append(b.wrong, fmt.Sprintf(format, args...))
	}
}

// parse reads the flags, and returns the workloads that are named, or all if there are none.
func (b *bench) parse(args []string, stderr io.Writer) (chosen []workload, err error) {
	var s settings
	f := flag.NewFlagSet("bench", flag.ContinueOnError)
	f.SetOutput(stderr)
	binaries := f.String("binary", "bin/agentevents", "the `program` to measure, or several, in turn: old,new")
	engines := f.String("engines", "sqlite,postgres", "the `databases` to measure it on")
	floors := f.String("floors", "relay,ledger", "the `floors` to compare it with, or none")
	attacked := f.String("attacks", "all", "the `attacks` of neighbours, separated by a comma")
	f.IntVar(&s.count, "count", 0, "`rounds` of each workload")
	f.IntVar(&s.agents, "agents", 0, "`agents`; of isolation those of each receiver")
	f.IntVar(&s.changes, "changes", 0, "status `changes` in all; of backlog those of each agent")
	f.IntVar(&s.receivers, "receivers", 0, "`receivers`; of burst, steady, shift and fanout those that get each change")
	f.IntVar(&s.rows, "rows", 0, "`deliveries` and changes that the program keeps in soak")
	f.Float64Var(&s.rate, "rate", 0, "`changes` per second")
	f.DurationVar(&s.lasts, "lasts", 0, "`duration` of a workload at a rate; of backlog that of the outage")
	if err := f.Parse(args); err != nil {
		return nil, err
	}
	f.Visit(func(given *flag.Flag) {
		if text := given.Value.String(); strings.HasPrefix(text, "-") || text == "0" || text == "0s" {
			err = fmt.Errorf("-%s: must be above 0", given.Name)
		}
	})
	b.binaries, b.engines = strings.Split(*binaries, ","), strings.Split(*engines, ",")
	b.floors, b.attacks = strings.Split(*floors, ","), strings.Split(*attacked, ",")
	var names []string
	for _, w := range workloads() {
		names = append(names, w.name)
		if f.NArg() == 0 || slices.Contains(f.Args(), w.name) {
			w.override(s)
			chosen = append(chosen, w)
		}
	}
	return chosen, errors.Join(err, known("workload", f.Args(), names...),
		known("engine", b.engines, "sqlite", "postgres"),
		known("floor", b.floors, "relay", "ledger", "none"),
		known("attack", b.attacks, append(attackTitles(), "all")...))
}

// known returns an error for a name that is not in a list.
func known(kind string, names []string, list ...string) error {
	for _, name := range names {
		if !slices.Contains(list, name) {
			return fmt.Errorf("there is no %s %q", kind, name)
		}
	}
	return nil
}
