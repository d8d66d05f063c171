package main

import (
	"context"
	"math/rand/v2"
	"net/http"

	"golang.org/x/sync/errgroup"

	"github.com/agentevents/agentevents/gen"
)

// writer changes its agents, one request after another, until the server is gone.
type writer struct {
	session
	random *rand.Rand
	agents []*agent
}

// prepare looks how the agents stand and makes what they lack.
func (w writer) prepare(ctx context.Context) error {
	for _, a := range w.agents {
		if err := w.look(ctx, a); err != nil {
			return err
		}
		if err := w.furnish(ctx, a); err != nil {
			return err
		}
	}
	return nil
}

// conclude lets everything that is owed go out.
func (w writer) conclude(ctx context.Context) error {
	if err := w.prepare(ctx); err != nil {
		return err
	}
	for _, a := range w.agents {
		if err := w.enable(ctx, a); err != nil {
			return err
		}
	}
	return nil
}

// work never ends without an error: in the end the server is killed.
func (w writer) work(ctx context.Context) error {
	if err := w.prepare(ctx); err != nil {
		return err
	}
	for {
		if err := w.step(ctx); err != nil {
			return err
		}
	}
}

func (w writer) step(ctx context.Context) error {
	a := w.agents[w.random.IntN(len(w.agents))]
	if a.busy() {
		return w.fuss(ctx, a)
	}
	switch n := w.random.IntN(20); {
	case n < 10:
		return w.flip(ctx, a)
	case n < 16:
		return w.flipMany(ctx)
	case n < 19:
		return w.flipAtOnce(ctx, a)
	}
	return w.repeat(ctx, a)
}

func other(s gen.AgentStatusValue) gen.AgentStatusValue {
	if s == gen.AgentStatusValueAvailable {
		return gen.AgentStatusValueLoggedOut
	}
	return gen.AgentStatusValueAvailable
}

// flip logs an agent in or out.
func (s session) flip(ctx context.Context, a *agent) error {
	to := other(a.status)
	a.unsure = true
	resp, err := s.api.PutLocalAgentStatusWithResponse(ctx, pbxClient, a.id, gen.AgentStatusUpdate{AgentStatus: to})
	if err := answered(http.StatusOK, resp, err); err != nil {
		s.book.doubt(1)
		return err
	}
	a.unsure = false
	s.said(a, to, *resp.JSON200)
	return nil
}

// said compares the answer to a status with what it should be, and takes it over.
func (s session) said(a *agent, to gen.AgentStatusValue, st gen.AgentStatus) {
	changed, deliveries := to != a.status, 0
	if changed {
		deliveries = len(a.firing(to))
		defer s.book.accept()
	}
	if st.AgentStatus != to || st.Changed != changed || st.Stale || st.Deliveries != deliveries {
		s.book.wrong(mismatched, "agent %d was %s, is to be %s with %d deliveries, and the answer is %+v",
			a.id, a.status, to, deliveries, st)
	}
	s.learn(a, st)
}

// repeat sets the status that an agent has.
func (s session) repeat(ctx context.Context, a *agent) error {
	resp, err := s.api.PutLocalAgentStatusWithResponse(ctx, pbxClient, a.id, gen.AgentStatusUpdate{AgentStatus: a.status})
	if err := answered(http.StatusOK, resp, err); err != nil {
		return err
	}
	s.said(a, a.status, *resp.JSON200)
	return nil
}

// flipMany logs some of the agents in or out in one request, in which others are named that stay as they are.
func (w writer) flipMany(ctx context.Context) error {
	var items []gen.AgentStatusUpdateItem
	changes := 0
	for _, a := range w.agents {
		to := a.status
		if w.random.IntN(3) > 0 {
			to = other(a.status)
			a.unsure = true
			changes++
		}
		items = append(items, gen.AgentStatusUpdateItem{AgentType: gen.AgentTypeLocal, AgentID: a.id, AgentStatus: to})
	}
	resp, err := w.api.PutStatusesWithResponse(ctx, pbxClient, items)
	if err := answered(http.StatusOK, resp, err); err != nil {
		w.book.doubt(changes)
		return err
	}
	for i, result := range *resp.JSON200 {
		w.agents[i].unsure = false
		w.said(w.agents[i], items[i].AgentStatus, *result.Status)
	}
	return nil
}

// flipAtOnce logs an agent in or out by several requests at once, which make one change together.
func (s session) flipAtOnce(ctx context.Context, a *agent) error {
	to := other(a.status)
	a.unsure = true
	answers := make([]gen.AgentStatus, 3)
	var requests errgroup.Group
	for i := range answers {
		requests.Go(func() error {
			resp, err := s.api.PutLocalAgentStatusWithResponse(ctx, pbxClient, a.id, gen.AgentStatusUpdate{AgentStatus: to})
			if err := answered(http.StatusOK, resp, err); err != nil {
				return err
			}
			answers[i] = *resp.JSON200
			return nil
		})
	}
	err := requests.Wait()
	if err == nil {
		a.unsure = false
	}
	s.saidAtOnce(a, to, answers, err != nil)
	return err
}

// saidAtOnce takes over the answers to simultaneous requests, of which some may be missing. Any of them is a promise.
func (s session) saidAtOnce(a *agent, to gen.AgentStatusValue, answers []gen.AgentStatus, cut bool) {
	changes, before := 0, a.sequence
	for _, st := range answers {
		if st.Changed {
			changes++
		}
		if st.Sequence > a.sequence {
			s.learn(a, st)
		}
	}
	byAnEarlierOne := a.doubted && a.sequence > before
	if changes > 1 || (changes == 0 && !cut && !byAnEarlierOne) {
		s.book.wrong(mismatched, "%d of %d simultaneous requests have changed agent %d", changes, len(answers), a.id)
	}
	if a.status == to {
		s.book.accept()
	} else {
		s.book.doubt(1)
	}
}
