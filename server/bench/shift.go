package main

import (
	"context"
	"flag"
	"fmt"
)

// shift has very many agents log in within the shortest time, each with a request of its own.
type shift struct{ agents int }

func (*shift) name() string { return "shift" }

func (w *shift) flags(f *flag.FlagSet) {
	f.IntVar(&w.agents, "shift-agents", 100_000, "`agents` that log in")
}

func (w *shift) run(ctx context.Context, h *house) (*report, error) {
	out := &report{Workload: w.name(), What: fmt.Sprintf(
		"%d agents log in as fast as that is taken, 32 together, one delivery each.", w.agents)}
	all := w.agents + before(w.agents) // so that nobody logs out
	x := contest{house: h, out: out, workload: w.name(), agents: all, changes: w.agents, each: 1, together: 32}
	return out, x.run(ctx, true)
}
