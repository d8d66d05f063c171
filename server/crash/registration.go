package main

import (
	"context"
	"fmt"
	"net/http"
	"slices"
	"strings"

	"github.com/agentevents/agentevents/gen"
	"github.com/agentevents/agentevents/server/lab"
)

// registration is one AgentEvent. The path of its URL is never used twice.
type registration struct {
	want     int // which of the agent's it fulfils
	path     string
	id       int64 // 0 until it is known
	receiver int
	disabled bool
	unsure   bool // a request about it was cut off
}

func (c *crash) url(r *registration) string { return c.receivers[r.receiver].URL + r.path }

// furnish creates an agent, and what it lacks of its registrations.
func (w *writer) furnish(ctx context.Context, a *agent) error {
	if !a.known {
		a.unsure = true
		name := fmt.Sprintf("000*%d@example.org", a.id)
		resp, err := w.api.PutLocalAgentWithResponse(ctx, pbxClient, a.id, gen.LocalAgentUpdate{ExtensionName: &name})
		if err := lab.Answered(http.StatusCreated, resp, err); err != nil {
			return err
		}
		a.known, a.unsure = true, false
	}
	for i := range a.wants {
		if slices.ContainsFunc(a.registrations, func(r *registration) bool { return r.want == i }) {
			continue
		}
		if err := w.register(ctx, a, i); err != nil {
			return err
		}
	}
	return nil
}

// register creates a registration, odd ones by GET and even ones by POST.
func (w *writer) register(ctx context.Context, a *agent, i int) error {
	a.made++
	r := &registration{
		want: i, path: fmt.Sprintf("/%d-%d-%d", a.id, i, a.made), receiver: a.wants[i].receiver, unsure: true,
	}
	a.registrations = append(a.registrations, r)
	method := []gen.RequestMethod{gen.RequestMethodPOST, gen.RequestMethodGET}[i%2]
	e := gen.AgentEventCreate{URL: w.crash.url(r), Method: method, EventType: a.wants[i].event}
	resp, err := w.api.CreateLocalAgentEventWithResponse(ctx, pbxClient, a.id, nil, e)
	if err := lab.Answered(http.StatusCreated, resp, err); err != nil {
		return err
	}
	r.id = resp.JSON201.ID
	w.amended(r)
	return nil
}

// amended notes that a change of a registration was answered.
func (w *writer) amended(r *registration) {
	r.unsure = false
	w.crash.tally.add(amended, 1)
}

// lookAtRegistrations compares an agent's registrations with what was answered before.
func (w *writer) lookAtRegistrations(ctx context.Context, a *agent) error {
	resp, err := w.api.ListLocalAgentEventsWithResponse(ctx, pbxClient, a.id, nil)
	if err := lab.Answered(http.StatusOK, resp, err); err != nil {
		return err
	}
	var there []*registration
	for _, r := range a.registrations {
		is := func(e gen.AgentEvent) bool { return strings.HasSuffix(e.URL, r.path) }
		i := slices.IndexFunc(*resp.JSON200, is)
		if i < 0 {
			w.gone(r)
			continue
		}
		if err := w.lookAt(ctx, a, r, (*resp.JSON200)[i]); err != nil {
			return err
		}
		there = append(there, r)
	}
	if n := len(*resp.JSON200); n > len(there) {
		w.crash.record.Wrong(lab.Mismatched, "agent %d has %d registrations, expected are %d", a.id, n, len(there))
	}
	a.registrations = there
	return nil
}

// gone notes that a registration is not there. It was deleted, or the request to create it never came through.
func (w *writer) gone(r *registration) {
	if !r.unsure {
		w.crash.record.Wrong(lab.Lost, "the registration %s is gone", r.path)
	}
	w.crash.record.Cancel(r.path)
}

// lookAt compares a registration.
func (w *writer) lookAt(ctx context.Context, a *agent, r *registration, e gen.AgentEvent) error {
	disabled := r.disabled
	if a.busy() {
		resp, err := w.api.GetLocalAgentEventStateWithResponse(ctx, pbxClient, a.id, e.ID)
		if err := lab.Answered(http.StatusOK, resp, err); err != nil {
			return err
		}
		disabled = resp.JSON200.State == gen.AgentEventStateValueDisabled
	}
	if !r.unsure && (e.ID != r.id || e.URL != w.crash.url(r) || disabled != r.disabled) {
		w.crash.record.Wrong(lab.Lost, "what was changed of the registration %s is undone: %v, disabled %t", r.path, e, disabled)
	}
	r.id, r.disabled, r.unsure = e.ID, disabled, false
	r.receiver = slices.IndexFunc(w.crash.receivers, func(x *receiver) bool { return e.URL == x.URL+r.path })
	return nil
}

// fuss changes the status of a busy agent, or its registrations, or deletes it.
func (w *writer) fuss(ctx context.Context, a *agent) error {
	if err := w.furnish(ctx, a); err != nil { // what the step before has deleted
		return err
	}
	r := a.registrations[w.random.IntN(len(a.registrations))]
	switch n := w.random.IntN(24); {
	case n < 12:
		return w.set(ctx, a, a.other())
	case n < 18:
		return w.move(ctx, a, r)
	case n < 21:
		return w.toggle(ctx, a, r)
	case n < 23:
		return w.unregister(ctx, a, r)
	}
	return w.remove(ctx, a)
}

// move sends what is pending of a registration, and what comes, to the next receiver.
func (w *writer) move(ctx context.Context, a *agent, r *registration) error {
	r.unsure, r.receiver = true, (r.receiver+1)%common
	url := w.crash.url(r)
	resp, err := w.api.UpdateLocalAgentEventWithResponse(ctx, pbxClient, a.id, r.id, gen.AgentEventUpdate{URL: &url})
	if err := lab.Answered(http.StatusOK, resp, err); err != nil {
		return err
	}
	w.amended(r)
	return nil
}

// toggle disables a registration, or enables it.
func (w *writer) toggle(ctx context.Context, a *agent, r *registration) error {
	r.unsure = true
	update := gen.AgentEventStateUpdate{State: gen.AgentEventStateValueDisabled}
	if r.disabled {
		update.State = gen.AgentEventStateValueEnabled
	}
	resp, err := w.api.PutLocalAgentEventStateWithResponse(ctx, pbxClient, a.id, r.id, update)
	if err := lab.Answered(http.StatusOK, resp, err); err != nil {
		return err
	}
	r.disabled = !r.disabled
	w.amended(r)
	return nil
}

// unregister deletes a registration, which cancels what is pending of it. The next one has another path.
func (w *writer) unregister(ctx context.Context, a *agent, r *registration) error {
	r.unsure = true
	resp, err := w.api.DeleteLocalAgentEventWithResponse(ctx, pbxClient, a.id, r.id)
	if err := lab.Answered(http.StatusNoContent, resp, err); err != nil {
		return err
	}
	w.amended(r)
	w.crash.record.Cancel(r.path)
	a.registrations = slices.DeleteFunc(a.registrations, func(x *registration) bool { return x == r })
	return nil
}

// remove deletes an agent, which cancels nothing. It is logged out before, since no answer says which sequence the logout
// has that its deletion makes, and nothing is parked, since nothing could enable it any more.
func (w *writer) remove(ctx context.Context, a *agent) error {
	if a.status == gen.AgentStatusValueAvailable {
		return w.set(ctx, a, a.other())
	}
	if err := w.enable(ctx, a); err != nil {
		return err
	}
	a.unsure = true
	resp, err := w.api.DeleteLocalAgentWithResponse(ctx, pbxClient, a.id)
	if err := lab.Answered(http.StatusNoContent, resp, err); err != nil {
		return err
	}
	a.forget()
	w.crash.tally.add(amended, 1)
	return nil
}

// enable enables what is disabled of an agent's registrations.
func (w *writer) enable(ctx context.Context, a *agent) error {
	for _, r := range a.registrations {
		if !r.disabled {
			continue
		}
		if err := w.toggle(ctx, a, r); err != nil {
			return err
		}
	}
	return nil
}
