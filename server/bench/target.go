package main

import (
	"bytes"
	"context"
	"fmt"

	"github.com/agentevents/agentevents/store/benchfill"
)

// target is what burst, steady, shift and fanout send their changes to: the program, or a floor.
type target interface {
	label() string // see program.label
	// serve starts it without any change of before, and runs a function beside it.
	serve(ctx context.Context, fn func(*site) error) error
}

// site is a target that runs.
type site struct {
	addr     string // HOST:PORT
	token    string
	pid      int    // of its process, 0 if it has none of its own
	database int    // of its database server's first process, likewise
	receiver string // its URL, where it is itself a receiver
}

// call is a change and the request that makes it: by the API, or at a receiver directly.
func (s *site) call(c change) (call, error) {
	if s.receiver == "" {
		return call{c, apiRequest(s.addr, s.token, c)}, nil
	}
	req, err := formRequest(c, s.receiver, 0)
	if err != nil {
		return call{}, err
	}
	var b bytes.Buffer
	err = req.Write(&b)
	return call{c, b.Bytes()}, err
}

// raw is the receiver itself, which gets the forms directly.
type raw struct{ url string }

func (raw) label() string { return "on=raw" }

func (r raw) serve(_ context.Context, fn func(*site) error) error {
	return fn(&site{addr: hostPort(r.url), receiver: r.url})
}

// relayed is a relay, with a ledger if it has an engine for that.
type relayed struct {
	urls   []string // of the receivers
	engine *engine
}

func (r relayed) label() string {
	if r.engine == nil {
		return "on=relay"
	}
	return "on=ledger-" + r.engine.name
}

func (r relayed) serve(ctx context.Context, fn func(*site) error) error {
	s, ledgerURL := site{}, ""
	if r.engine != nil {
		var err error
		if ledgerURL, err = r.engine.create(ctx); err != nil {
			return err
		}
		s.database = r.engine.pid()
	}
	return startRelay(ctx, r.urls, ledgerURL, func(addr string, pid int) error {
		s.addr, s.pid = addr, pid
		return fn(&s)
	})
}

// prepared is the program with a store that has the agents of a workload.
type prepared struct {
	program
	store string // its URL
}

func (p prepared) serve(ctx context.Context, fn func(*site) error) error {
	return p.round(ctx, p.store, func(c *caller) error {
		return fn(&site{addr: c.addr, token: c.token, pid: c.pid, database: p.pid()})
	})
}

// targets are the floors that are asked for, and the program with the agents of a workload. The ledgers and the
// receiver itself take part where a change is one delivery.
func (b *bench) targets(ctx context.Context, w workload, urls []string) (all []target, err error) {
	programs, err := b.programs(ctx)
	if err != nil {
		return nil, err
	}
	if b.has("relay") { // first, since benchstat compares with the first
		all = append(all, relayed{urls: urls})
	}
	if b.has("raw") && w.receivers == 1 {
		all = append(all, raw{urls[0]})
	}
	for _, e := range b.started {
		if b.has("ledger") && w.receivers == 1 {
			all = append(all, relayed{urls, e})
		}
	}
	for _, p := range programs {
		b.say("%s: prepares %d agents, %s", w.name, w.agents, p.label())
		store, err := p.prepare(ctx, func(c *caller) error {
			return c.register(ctx, []*agent{{client: w.name, id: 1, urls: urls}})
		})
		if err == nil {
			err = benchfill.CloneAgent(ctx, store, w.agents) // calls for all agents would take minutes on any disk
		}
		if err != nil {
			return nil, fmt.Errorf("%s: %w", p.label(), err)
		}
		all = append(all, prepared{p, store})
	}
	return all, nil
}
