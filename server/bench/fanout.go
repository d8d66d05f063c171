package main

import (
	"context"
	"flag"
	"fmt"
)

// fanout has each change told to many receivers.
type fanout struct{ agents, changes, each int }

func (*fanout) name() string { return "fanout" }

func (w *fanout) flags(f *flag.FlagSet) {
	f.IntVar(&w.agents, "fanout-agents", 500, "`agents`")
	f.IntVar(&w.changes, "fanout-changes", 2000, "`changes` in all")
	f.IntVar(&w.each, "fanout-each", 10, "how many `receivers` are told of each")
}

func (w *fanout) run(ctx context.Context, h *house) (*report, error) {
	out := &report{Workload: w.name(), What: fmt.Sprintf(
		"%d changes of %d agents as fast as they are taken, 32 together, each told to %d receivers.", w.changes, w.agents, w.each)}
	x := contest{house: h, out: out, workload: w.name(), agents: w.agents, changes: w.changes, each: w.each, together: 32}
	return out, x.run(ctx, false)
}
