package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"

	"golang.org/x/sync/errgroup"

	"github.com/agentevents/agentevents/gen"
	"github.com/agentevents/agentevents/store"
)

// fill makes the agents of a contest in a new store, and for each a registration of its login and one of its logout at
// each receiver. It does so through the store's package: by HTTP it would take several times as long.
func (x *contest) fill(ctx context.Context, url string) (err error) {
	s, err := store.Open(ctx, store.Options{URL: url, Log: slog.New(slog.NewTextHandler(io.Discard, nil))})
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, s.Close()) }()
	if _, _, err := s.PutClient(ctx, x.workload, gen.ClientUpdate{}); err != nil {
		return err
	}
	many := gen.ClientLimitUpdate{Limit: new(int64(10_000_000))}
	if _, err := s.SetLimits(ctx, x.workload, gen.ClientLimitsUpdate{Agent: many, AgentEvent: many}); err != nil {
		return err
	}
	group, ctx := errgroup.WithContext(ctx)
	group.SetLimit(together)
	for i := range x.agents {
		group.Go(func() error {
			x.progress(false, "%s: registers agent %d of %d", x.workload, i+1, x.agents)
			return x.register(ctx, s, int64(i+1))
		})
	}
	return group.Wait()
}

func (x *contest) register(ctx context.Context, s *store.Store, agent int64) error {
	k := store.AgentKey{Client: x.workload, Type: gen.AgentTypeLocal, ID: agent}
	name := extension(agent)
	if _, err := s.CreateAgent(ctx, k, store.AgentUpdate{Name: &name}); err != nil {
		return err
	}
	for _, url := range x.urls[:x.each] {
		for _, kind := range []gen.EventType{gen.EventTypeAgentLogin, gen.EventTypeAgentLogout} {
			_, err := s.CreateEvent(ctx, k, gen.AgentEventCreate{
				URL: fmt.Sprintf("%s/%s/%d", url, x.workload, agent), Method: gen.MethodPOST, EventType: kind,
			})
			if err != nil {
				return err
			}
		}
	}
	return nil
}

// programs are the program on each engine, with a store that has the contest's agents.
func (x *contest) programs(ctx context.Context) (all []subject, err error) {
	engines, err := x.engines(ctx)
	for _, e := range engines {
		url, err := e.create(ctx, x.workload)
		if err == nil {
			err = x.fill(ctx, url)
		}
		if err != nil {
			return nil, err
		}
		all = append(all, program{house: x.house, engine: e, prepared: url})
	}
	return all, err
}
