package main

import (
	"context"
	"flag"
	"fmt"
)

// burst has very many changes come at once.
type burst struct{ agents, changes, together int }

func (*burst) name() string { return "burst" }

func (w *burst) flags(f *flag.FlagSet) {
	f.IntVar(&w.agents, "burst-agents", 2000, "`agents`, each with a registration of its login and one of its logout")
	f.IntVar(&w.changes, "burst-changes", 20_000, "`changes` in all")
	f.IntVar(&w.together, "burst-together", 32, "how many `changes` are under way together")
}

func (w *burst) run(ctx context.Context, h *house) (*report, error) {
	out := &report{Workload: w.name(), What: fmt.Sprintf(
		"%d changes of %d agents as fast as they are taken, %d together, one delivery each.", w.changes, w.agents, w.together)}
	x := contest{house: h, out: out, workload: w.name(), agents: w.agents, changes: w.changes, each: 1, together: w.together}
	if err := x.run(ctx, true); err != nil {
		return nil, err
	}
	rate := "rate, to the relay's, "
	out.atLeast(0.8, rate+sqliteName, out.ratios("", sqliteName, relayName, perSecond))
	out.atLeast(0.4, rate+postgresName, out.ratios("", postgresName, relayName, perSecond))
	out.notAbove(1.6, "processor time, to the relay's, "+sqliteName, out.ratios("", sqliteName, relayName, processorTime))
	out.notAbove(64, "peak memory, MiB, "+sqliteName, out.values("", sqliteName, peakMemory))
	return out, nil
}
