package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"

	"github.com/agentevents/agentevents/server/lab"
	"github.com/agentevents/agentevents/store/benchfill"
)

// target is what changes are sent to: a program on an engine, or a floor.
type target struct {
	label   string // the part of a benchmark's name that says what it is
	binary  string // which lab starts; empty for the receiver itself
	*engine        // nil if it stores nothing
	store   string // the URL of a database of which each round uses a copy, empty if each begins with an empty one
	env     []string
}

// targets are the programs with what a workload needs, and the floors. The ledgers and the receiver itself take part
// where a change is one delivery.
func (b *bench) targets(ctx context.Context, workload string, p plan, urls []string) ([]target, error) {
	if err := b.startEngines(ctx); err != nil {
		return nil, err
	}
	all, err := b.floorTargets(p, urls)
	if err != nil {
		return nil, err
	}
	for _, e := range b.engines {
		for binary := range strings.SplitSeq(b.binaries, ",") {
			t := target{
				label: "on=" + e.name, binary: binary, engine: e, env: append(p.env, "AGENTEVENTS_LOG_LEVEL=warn"),
			}
			if strings.Contains(b.binaries, ",") {
				t.label += "/binary=" + filepath.Base(binary)
			}
			b.say("%s: prepares a store, %s", workload, t.label)
			if err := t.prepare(ctx, p); err != nil {
				return nil, fmt.Errorf("%s: %w", t.label, err)
			}
			all = append(all, t)
		}
	}
	return all, nil
}

func (b *bench) floorTargets(p plan, urls []string) (all []target, err error) {
	if !p.floors {
		return nil, nil
	}
	self, err := os.Executable()
	env := []string{relayVariable + "=" + strings.Join(urls, ",")}
	if b.has("relay") { // first, since benchstat compares with the first
		all = append(all, target{label: "on=relay", binary: self, env: env})
	}
	if b.has("raw") && len(urls) == 1 {
		all = append(all, target{label: "on=raw"})
	}
	for _, e := range b.engines {
		if b.has("ledger") && len(urls) == 1 {
			all = append(all, target{label: "on=ledger-" + e.name, binary: self, engine: e, env: env})
		}
	}
	return all, err
}

// prepare makes the store. The rounds use copies of it, so that each begins with the same data, and with a program that
// has nothing in memory of the round before.
func (t *target) prepare(ctx context.Context, p plan) (err error) {
	if t.store, err = t.Create(ctx); err != nil {
		return err
	}
	err = t.serve(ctx, t.store, func(c *caller) error { return c.register(ctx, p.clients...) })
	if err == nil && p.clones > 0 {
		err = benchfill.CloneAgent(ctx, t.store, p.clones) // calls for all agents would take minutes on any disk
	}
	return err
}

// round runs a function beside the target, which has seen no change before.
func (t *target) round(ctx context.Context, receiver string, fn func(*caller) error) (err error) {
	if t.binary == "" {
		return fn(&caller{addr: hostPort(receiver), isReceiver: true})
	}
	if t.engine == nil {
		return t.serve(ctx, "", fn)
	}
	url := ""
	if t.store == "" {
		url, err = t.Create(ctx)
	} else {
		url, err = t.Copy(ctx, t.store)
	}
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, t.Drop(context.WithoutCancel(ctx), url)) }()
	return t.serve(ctx, url, fn)
}

// serve runs a function beside the target's process on a database.
func (t *target) serve(ctx context.Context, url string, fn func(*caller) error) error {
	s, err := lab.Start(ctx, t.binary, url, t.env...)
	if err != nil {
		return err
	}
	if err = s.Ready(ctx); err == nil {
		var c *caller
		if c, err = newCaller(s, url); err == nil {
			if t.engine != nil {
				c.database = t.PID()
			}
			err = fn(c)
		}
	}
	return s.Explain(errors.Join(err, s.Stop()))
}
