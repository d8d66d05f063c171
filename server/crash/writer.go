package main

import (
	"context"
	"errors"
	"math/rand/v2"
	"net/http"

	"golang.org/x/sync/errgroup"

	"github.com/agentevents/agentevents/gen"
	"github.com/agentevents/agentevents/server/lab"
)

// writer changes its agents, one request after another.
type writer struct {
	*crash
	api    *router
	random *rand.Rand
	agents []*agent
}

// work changes agents until that is enough, and then lets everything that is pending be sent. When a server or the
// database is away it looks how its agents stand and continues.
func (w *writer) work(ctx context.Context) error {
	for {
		if err := w.change(ctx); !errors.Is(err, errAway) {
			return err
		}
	}
}

func (w *writer) change(ctx context.Context) error {
	if err := w.each(ctx, w.prepare); err != nil {
		return err
	}
	for !w.over.Load() {
		if err := w.step(ctx); err != nil {
			return err
		}
	}
	if err := w.each(ctx, w.prepare); err != nil {
		return err
	}
	return w.each(ctx, w.enable)
}

func (w *writer) each(ctx context.Context, do func(context.Context, *agent) error) error {
	for _, a := range w.agents {
		if err := do(ctx, a); err != nil {
			return err
		}
	}
	return nil
}

// step is the next change.
func (w *writer) step(ctx context.Context) error {
	a := w.agents[w.random.IntN(len(w.agents))]
	if a.busy() {
		return w.alter(ctx, a)
	}
	switch n := w.random.IntN(20); {
	case n < 10:
		return w.set(ctx, a, a.other())
	case n < 16:
		return w.setMany(ctx)
	case n < 19:
		return w.setAtOnce(ctx, a)
	}
	return w.set(ctx, a, a.status)
}

func (w *writer) put(ctx context.Context, a *agent, to gen.AgentStatusValue) (gen.AgentStatus, error) {
	update := gen.AgentStatusUpdate{AgentStatus: to}
	return lab.Call[gen.AgentStatus](ctx, w.api, http.StatusOK, http.MethodPut, a.url("/status"), update)
}

// set logs an agent in or out, or sets the status that it has.
func (w *writer) set(ctx context.Context, a *agent, to gen.AgentStatusValue) error {
	a.unsure = to != a.status
	s, err := w.put(ctx, a, to)
	if err != nil {
		w.doubt(a)
		return err
	}
	w.said(a, to, s)
	return nil
}

// doubt counts changes whose requests were cut off.
func (w *writer) doubt(agents ...*agent) {
	for _, a := range agents {
		if a.unsure {
			w.tally.add(doubtful, 1)
		}
	}
}

// setMany logs some of the agents in or out in one request, in which others are named that stay as they are.
func (w *writer) setMany(ctx context.Context) error {
	var items []gen.AgentStatusUpdateItem
	for _, a := range w.agents {
		to := a.status
		if w.random.IntN(3) > 0 {
			to, a.unsure = a.other(), true
		}
		items = append(items, gen.AgentStatusUpdateItem{AgentType: gen.AgentTypeLocal, AgentID: a.id, AgentStatus: to})
	}
	results, err := lab.Call[[]gen.AgentStatusResult](ctx, w.api, http.StatusOK, http.MethodPut, pbx+"/status/", items)
	if err != nil {
		w.doubt(w.agents...)
		return err
	}
	for i, result := range results {
		w.said(w.agents[i], items[i].AgentStatus, *result.Status)
	}
	return nil
}

// setAtOnce logs an agent in or out by several requests at once, which make one change together. Any answer is a
// promise, also if others are missing.
func (w *writer) setAtOnce(ctx context.Context, a *agent) error {
	to, before := a.other(), a.sequence
	a.unsure = true
	answers := make([]gen.AgentStatus, 3)
	var requests errgroup.Group
	for i := range answers {
		requests.Go(func() (err error) {
			answers[i], err = w.put(ctx, a, to)
			return err
		})
	}
	err := requests.Wait()
	changes := 0
	for _, s := range answers {
		if s.Changed {
			changes++
		}
		if s.Sequence > a.sequence {
			w.learn(a, s)
		}
	}
	earlier := a.doubted && a.sequence > before // another request has made the change
	if changes > 1 || (changes == 0 && err == nil && !earlier) {
		w.record.Wrong(lab.Mismatched, "%d of 3 simultaneous requests have changed agent %d", changes, a.id)
	}
	if a.status == to {
		w.tally.add(statusSet, 1)
	} else {
		w.doubt(a)
	}
	a.unsure = err != nil
	return err
}

// prepare looks how an agent stands and makes what it lacks.
func (w *writer) prepare(ctx context.Context, a *agent) error {
	s, err := lab.Call[gen.AgentStatus](ctx, w.api, http.StatusOK, http.MethodGet, a.url("/status"), nil)
	if missing := new(lab.StatusError); errors.As(err, &missing) && missing.Status == http.StatusNotFound {
		if a.known && (!a.unsure || !a.busy()) {
			w.record.Wrong(lab.Lost, "agent %d is gone", a.id)
		}
		a.forget()
		return w.furnish(ctx, a)
	}
	if err != nil {
		return err
	}
	w.looked(a, s)
	if err := w.look(ctx, a); err != nil {
		return err
	}
	return w.furnish(ctx, a)
}
