package main

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"net/http"
	"strings"

	"golang.org/x/sync/errgroup"

	"github.com/agentevents/agentevents/gen"
	"github.com/agentevents/agentevents/gen/client"
	"github.com/agentevents/agentevents/server/lab"
)

const (
	firstBusy = 1001 // the ids of busy agents begin here
	common    = 2    // receivers that all agents have registrations at
)

// agent is how an agent stands, as far as servers have said so. One writer alone changes it.
type agent struct {
	id            int64
	wants         []want
	known         bool // it was created
	status        gen.AgentStatusValue
	sequence      int64 // of its last change
	registrations []*registration
	unsure        bool // a request about it was cut off: how it stands must be looked up
	doubted       bool // one was before, and a server that was held up may still carry it out
	made          int  // how many registrations it has had
}

// want is a registration that an agent must have.
type want struct {
	event    gen.EventType
	receiver int
}

// groups are the agents of each writer: plain agents, and a quarter as many busy ones, which have a writer each.
// Registrations are at one receiver and the other in turn, so that with more than two some share a lane. The first agent
// has some at the receiver with one lane too.
func (c *crash) groups() [][]*agent {
	plain := 4
	if !c.single() {
		plain = min(4*c.options.replicas, c.agents) // some of which wait for a server that is frozen
	}
	groups := make([][]*agent, plain)
	for id := range c.agents {
		groups[id%plain] = append(groups[id%plain], newAgent(int64(id+1), c.registrations))
	}
	first := groups[0][0]
	first.wants = append(first.wants, want{gen.EventTypeAgentLogin, alone}, want{gen.EventTypeAgentLogout, alone})
	for id := range c.agents / 4 {
		groups = append(groups, []*agent{newAgent(int64(firstBusy+id), common)})
	}
	return groups
}

func newAgent(id int64, registrations int) *agent {
	a := &agent{id: id}
	a.forget()
	for i := range registrations {
		a.wants = append(a.wants, want{gen.EventTypeAgentLogin, i % common}, want{gen.EventTypeAgentLogout, i % common})
	}
	return a
}

func (a *agent) busy() bool { return a.id >= firstBusy }

// lineOf is in which order an arrival has its place: that of its lane or, if its agent is busy, of its registration, which
// has one delivery in flight wherever it moves. A registration's path begins with the agent's id.
func lineOf(a *lab.Arrival) string { return lineAt(a.Path, a.Receiver) }

func lineAt(path string, receiver int) string {
	agent, _, _ := strings.Cut(path, "-")
	if len(agent) == len("/1001") {
		return path
	}
	return fmt.Sprintf("%s@%d", agent, receiver)
}

// fired lists the registrations that get a delivery of a change to a status.
func (a *agent) fired(to gen.AgentStatusValue) (all []*registration) {
	event := gen.EventTypeAgentLogout
	if to == gen.AgentStatusValueAvailable {
		event = gen.EventTypeAgentLogin
	}
	for _, r := range a.registrations {
		if a.wants[r.want].event == event {
			all = append(all, r)
		}
	}
	return all
}

// forget is what the end of an agent leaves of it. What is pending stays pending.
func (a *agent) forget() {
	a.known, a.unsure, a.status, a.sequence, a.registrations = false, false, gen.AgentStatusValueLoggedOut, 0, nil
}

func (a *agent) other() gen.AgentStatusValue {
	if a.status == gen.AgentStatusValueAvailable {
		return gen.AgentStatusValueLoggedOut
	}
	return gen.AgentStatusValueAvailable
}

// expect notes what must arrive because of a change.
func (c *crash) expect(a *agent, s gen.AgentStatus) {
	for _, r := range a.fired(s.AgentStatus) {
		at := r.receiver
		if a.busy() {
			at = lab.Anywhere
		}
		c.record.Expect(lab.Expected{
			Key: lab.Key{Path: r.path, Sequence: s.Sequence}, Agent: a.id, Status: string(s.AgentStatus),
			Receiver: at, Line: lineAt(r.path, r.receiver),
		})
	}
}

// writer changes its agents, one request after another.
type writer struct {
	crash  *crash
	api    *client.ClientWithResponses
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
	if err := w.prepare(ctx); err != nil {
		return err
	}
	for !w.crash.over.Load() {
		if err := w.step(ctx); err != nil {
			return err
		}
	}
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

// prepare looks how the agents stand and makes what they lack.
func (w *writer) prepare(ctx context.Context) error {
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

func (w *writer) step(ctx context.Context) error {
	a := w.agents[w.random.IntN(len(w.agents))]
	if a.busy() {
		return w.fuss(ctx, a)
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
	resp, err := w.api.PutLocalAgentStatusWithResponse(ctx, pbxClient, a.id, gen.AgentStatusUpdate{AgentStatus: to})
	if err := lab.Answered(http.StatusOK, resp, err); err != nil {
		return gen.AgentStatus{}, err
	}
	return *resp.JSON200, nil
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

// doubt counts a change whose request was cut off.
func (w *writer) doubt(agents ...*agent) {
	for _, a := range agents {
		if a.unsure {
			w.crash.tally.add(doubtful, 1)
		}
	}
}

// said compares the answer to a status with what it must be, and takes it over.
func (w *writer) said(a *agent, to gen.AgentStatusValue, s gen.AgentStatus) {
	changed, deliveries := to != a.status, 0
	if changed {
		deliveries = len(a.fired(to))
		defer w.crash.tally.add(answered, 1)
	}
	if s.AgentStatus != to || s.Changed != changed || s.Stale || s.Deliveries != deliveries {
		w.crash.record.Wrong(lab.Mismatched, "agent %d was %s, must be %s with %d deliveries, and the answer is %+v",
			a.id, a.status, to, deliveries, s)
	}
	a.unsure = false
	w.learn(a, s)
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
	resp, err := w.api.PutStatusesWithResponse(ctx, pbxClient, items)
	if err := lab.Answered(http.StatusOK, resp, err); err != nil {
		w.doubt(w.agents...)
		return err
	}
	for i, result := range *resp.JSON200 {
		w.said(w.agents[i], items[i].AgentStatus, *result.Status)
	}
	return nil
}

// setAtOnce logs an agent in or out by several requests at once, which make one change together. Any answer is a promise,
// also if others are missing.
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
		w.crash.record.Wrong(lab.Mismatched, "%d of %d simultaneous requests have changed agent %d", changes, len(answers), a.id)
	}
	if a.status == to {
		w.crash.tally.add(answered, 1)
	} else {
		w.doubt(a)
	}
	a.unsure = err != nil
	return err
}

// look compares how an agent stands with what was answered before, and takes over what was cut off.
func (w *writer) look(ctx context.Context, a *agent) error {
	resp, err := w.api.GetLocalAgentStatusWithResponse(ctx, pbxClient, a.id)
	if err == nil && resp.StatusCode() == http.StatusNotFound {
		if a.known && (!a.unsure || !a.busy()) {
			w.crash.record.Wrong(lab.Lost, "agent %d is gone", a.id)
		}
		a.forget()
		return nil
	}
	if err := lab.Answered(http.StatusOK, resp, err); err != nil {
		return err
	}
	s := *resp.JSON200
	switch {
	case s.Sequence < a.sequence:
		w.crash.record.Wrong(lab.Lost, "change %d of agent %d was answered 200, and now its last one is %d",
			a.sequence, a.id, s.Sequence)
	case !a.unsure && !a.known:
		w.crash.record.Wrong(lab.Lost, "the deletion of agent %d is undone", a.id)
	case !a.unsure && s.Sequence > a.sequence:
		w.crash.record.Wrong(lab.Mismatched, "agent %d has a change %d that no request has made", a.id, s.Sequence)
	case s.Sequence > a.sequence:
		w.crash.tally.add(stored, 1)
	}
	w.learn(a, s)
	a.known, a.unsure, a.doubted = true, false, a.doubted || a.unsure
	return w.lookAtRegistrations(ctx, a)
}

// learn takes over what a server says of an agent's status.
func (w *writer) learn(a *agent, s gen.AgentStatus) {
	changed := s.AgentStatus != a.status
	if changed != (s.Sequence > a.sequence) {
		w.crash.record.Wrong(lab.Mismatched, "agent %d was %s by change %d and is %s by change %d",
			a.id, a.status, a.sequence, s.AgentStatus, s.Sequence)
	}
	if changed {
		w.crash.expect(a, s)
	}
	a.status, a.sequence = s.AgentStatus, s.Sequence
}
