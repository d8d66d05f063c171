package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"net/http"
	"strings"
)

// api has calls made that change nothing, and holds how many are answered against a handler that knows the answers.
type api struct{ calls, agents, each int }

func (*api) name() string { return "api" }

func (w *api) flags(f *flag.FlagSet) {
	f.IntVar(&w.calls, "api-calls", 5000, "`calls` of each kind")
	f.IntVar(&w.agents, "api-agents", 64, "`agents`, which have changed four times")
	f.IntVar(&w.each, "api-receivers", 5, "`receivers` of each, each with two events")
}

// kind is a call of some kind.
type kind struct {
	of      string
	method  string
	path    string // below the client's
	pattern string // of it, in Echo
	body    string
	share   float64 // of the calls that are made of each kind
	bound   float64 // its target, 0 for none
}

var kinds = []kind{
	{"get an event", http.MethodGet, "/agent/local/%d/event/1", "/agent/local/:agent/event/:event", "", 1, 0.5},
	{"list events", http.MethodGet, "/agent/local/%d/event/", "/agent/local/:agent/event/", "", 1, 0.5},
	{"page of the log", http.MethodGet, "/delivery/?limit=100", "/delivery/", "", 0.2, 0},
	{"PUT without a change", http.MethodPut, "/agent/local/%d/status", "/agent/local/:agent/status", `{"agent_status":"logged_out"}`, 1, 0.5},
}

// request is that of an agent, or of the first one where only that has what is asked for.
func (k kind) request(at *site, client string, agent int) []byte {
	path := k.path
	if strings.Contains(path, "%d") {
		path = fmt.Sprintf(path, agent)
	}
	return at.request(k.method, base+client+path, k.body)
}

func (w *api) run(ctx context.Context, h *house) (*report, error) {
	out := &report{Workload: w.name(), Floor: bareName, What: fmt.Sprintf(
		"%d calls of each kind, 32 together; the floor answers the same bytes without knowing why. Times are from call to answer.", w.calls)}
	x := &calling{api: *w, contest: contest{
		house: h, out: out, workload: w.name(), agents: w.agents, changes: 4 * w.agents, each: w.each, together: 32,
	}}
	if err := x.prepare(ctx); err != nil {
		return nil, err
	}
	for round := 1; round <= h.repeats; round++ {
		for _, s := range x.subjects {
			if err := s.serve(ctx, func(at *site) error { return x.measureKinds(ctx, at, s.name(), round) }); err != nil {
				return nil, fmt.Errorf("%s: %w", s.name(), err)
			}
		}
	}
	for _, k := range kinds {
		for _, engine := range h.wanted {
			if k.bound > 0 {
				out.atLeast(k.bound, k.of+", calls/s to those of a bare handler, "+engine, out.ratios(k.of, engine, bareName, perSecond))
			}
		}
	}
	return out, nil
}

// calling is such a workload under way.
type calling struct {
	contest
	api
}

// prepare gathers the subjects; what a bare handler is to answer is what the first program does.
func (x *calling) prepare(ctx context.Context) (err error) {
	if x.urls, err = x.receivers.open(x.contest.each); err != nil {
		return err
	}
	programs, err := x.programs(ctx)
	if err != nil || len(programs) == 0 {
		return errors.Join(err, errors.New("there is no engine to measure on"))
	}
	b := bare{answers: map[string][]byte{}}
	err = programs[0].serve(ctx, func(at *site) error { return x.learn(ctx, at, b.answers) })
	x.subjects = append([]subject{b}, programs...)
	return err
}

// learn gathers the answer to each kind of call.
func (x *calling) learn(ctx context.Context, at *site, answers map[string][]byte) error {
	if err := x.warm(ctx, at); err != nil {
		return err
	}
	c, err := dial(at.addr)
	if err != nil {
		return err
	}
	defer c.Close()
	for _, k := range kinds {
		body, err := c.call(k.request(at, x.workload, 1))
		if err != nil {
			return err
		}
		answers[k.method+" "+base+":client"+k.pattern] = append([]byte{}, body...)
	}
	return nil
}

// warm makes the changes that are in the log then.
func (x *calling) warm(ctx context.Context, at *site) error {
	calls, err := x.contest.calls(at)
	if err != nil {
		return err
	}
	if _, err := x.send(ctx, at, calls, &measure{}); err != nil {
		return err
	}
	_, err = x.receivers.take()
	return err
}

func (x *calling) measureKinds(ctx context.Context, at *site, subject string, round int) error {
	if at.caller != nil {
		if err := x.warm(ctx, at); err != nil {
			return err
		}
	}
	for _, k := range kinds {
		m := &measure{Round: round, Part: k.of, Subject: subject}
		if err := x.measureKind(ctx, at, k, m); err != nil {
			return fmt.Errorf("%s: %w", k.of, err)
		}
		x.out.Measures = append(x.out.Measures, m)
		x.progress(true, "api %d/%d: %s: %s: %.0f/s, p99 %s ms", round, x.repeats, subject, k.of, m.PerSecond, short(m.P99))
	}
	return nil
}

// measureKind makes the calls of a kind, and before some that do not count.
func (x *calling) measureKind(ctx context.Context, at *site, k kind, m *measure) error {
	n := int(float64(x.api.calls) * k.share)
	var made Made
	if err := x.generator.rpc.Call("Generator.Send", x.load(at, k, max(n/10, 1)), &made); err != nil {
		return err
	}
	load := x.load(at, k, n)
	made = Made{}
	err := m.measured(ctx, at, float64(n), func() error {
		return x.profiled(ctx, at, x.workload, m, func(context.Context) error {
			return x.generator.rpc.Call("Generator.Send", load, &made)
		})
	})
	if err == nil {
		m.answers(made)
	}
	return err
}

// load is so many calls of a kind: of what one agent has, or to set the statuses of all.
func (x *calling) load(at *site, k kind, n int) Load {
	l := Load{Addr: at.addr, Connections: x.together}
	for i := range n {
		agent := 1
		if k.method == http.MethodPut {
			agent = 1 + i%x.contest.agents
		}
		l.Calls = append(l.Calls, Call{Connection: i % x.together, Request: k.request(at, x.workload, agent), Sequence: 1})
	}
	return l
}
