package main

import (
	"context"
	"flag"
	"fmt"
)

// burst has very many changes come at once.
type burst struct {
	agents, changes, together int
}

func (*burst) name() string { return "burst" }

func (w *burst) flags(f *flag.FlagSet) {
	f.IntVar(&w.agents, "burst-agents", 2000, "`agents`, each with a registration of its login and one of its logout")
	f.IntVar(&w.changes, "burst-changes", 20_000, "`changes` in all")
	f.IntVar(&w.together, "burst-together", 32, "how many `changes` are under way together")
}

func (w *burst) run(ctx context.Context, h *house) (*report, error) {
	out := &report{Workload: w.name(), What: fmt.Sprintf(
		"%d changes of %d agents as fast as they are taken, %d together, one delivery each.", w.changes, w.agents, w.together)}
	urls, err := h.receivers.open(1)
	if err != nil {
		return nil, err
	}
	x := &contest{
		house: h, out: out, workload: w.name(), agents: w.agents, changes: w.changes, each: 1, together: w.together, urls: urls,
	}
	programs, err := x.programs(ctx)
	if err != nil {
		return nil, err
	}
	return out, x.rounds(ctx, append([]subject{raw{urls[0]}, relayed{urls}}, programs...))
}
