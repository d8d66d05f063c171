package main

import (
	"context"
	"flag"
	"fmt"
	"time"
)

// steady has changes come at a rate that leaves room, whatever becomes of those before.
type steady struct {
	agents int
	lasts  time.Duration
}

// steadyRates are the changes per second. The first has targets.
var steadyRates = []float64{50, 200}

func (*steady) name() string { return "steady" }

func (w *steady) flags(f *flag.FlagSet) {
	f.IntVar(&w.agents, "steady-agents", 2000, "`agents`")
	f.DurationVar(&w.lasts, "steady-lasts", 10*time.Second, "how long the changes of each rate come")
}

func (w *steady) run(ctx context.Context, h *house) (*report, error) {
	out := &report{Workload: w.name(), What: fmt.Sprintf(
		"changes of %d agents at rates of %v per second for %v each, one delivery each.", w.agents, steadyRates, w.lasts)}
	x := contest{house: h, out: out, workload: w.name(), agents: w.agents, each: 1, together: 32}
	err := x.prepare(ctx, true)
	for _, x.rate = range steadyRates {
		x.part = fmt.Sprintf("%.0f/s", x.rate)
		x.changes = max(1, int(x.rate*w.lasts.Seconds()))
		if err == nil {
			err = x.rounds(ctx)
		}
	}
	out.Floor = "" // whose rate is the same
	part := fmt.Sprintf("%.0f/s", steadyRates[0])
	for _, engine := range []string{sqliteName, postgresName} {
		out.notAbove(3, "p50 at "+part+", ms, "+engine, out.values(part, engine, func(m *measure) float64 { return m.P50 }))
		out.notAbove(15, "p99 at "+part+", ms, "+engine, out.values(part, engine, func(m *measure) float64 { return m.P99 }))
	}
	return out, err
}
