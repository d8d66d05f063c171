package main

import (
	"context"
	"net/http"
	"slices"

	"github.com/agentevents/agentevents/gen"
)

// fuss changes the status of a busy agent, or its registrations, or deletes it.
func (w writer) fuss(ctx context.Context, a *agent) error {
	if err := w.furnish(ctx, a); err != nil { // what the step before has deleted
		return err
	}
	r := a.registrations[w.random.IntN(len(a.registrations))]
	switch n := w.random.IntN(24); {
	case n < 12:
		return w.flip(ctx, a)
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
func (s session) move(ctx context.Context, a *agent, r *registration) error {
	r.unsure = true
	r.receiver = (r.receiver + 1) % common
	url := s.url(r)
	resp, err := s.api.UpdateLocalAgentEventWithResponse(ctx, pbxClient, a.id, r.id, gen.AgentEventUpdate{URL: &url})
	if err := answered(http.StatusOK, resp, err); err != nil {
		return err
	}
	r.unsure = false
	s.book.amend()
	return nil
}

// toggle disables a registration, or enables it.
func (s session) toggle(ctx context.Context, a *agent, r *registration) error {
	state := gen.AgentEventStateValueDisabled
	if r.disabled {
		state = gen.AgentEventStateValueEnabled
	}
	r.unsure = true
	resp, err := s.api.PutLocalAgentEventStateWithResponse(ctx, pbxClient, a.id, r.id, gen.AgentEventStateUpdate{State: state})
	if err := answered(http.StatusOK, resp, err); err != nil {
		return err
	}
	r.disabled, r.unsure = !r.disabled, false
	s.book.amend()
	return nil
}

// unregister deletes a registration, which cancels what is pending of it. The next one has another name.
func (s session) unregister(ctx context.Context, a *agent, r *registration) error {
	r.unsure = true
	resp, err := s.api.DeleteLocalAgentEventWithResponse(ctx, pbxClient, a.id, r.id)
	if err := answered(http.StatusNoContent, resp, err); err != nil {
		return err
	}
	s.book.cancel(r.name)
	a.registrations = slices.DeleteFunc(a.registrations, func(x *registration) bool { return x == r })
	s.book.amend()
	return nil
}

// remove deletes an agent, which cancels nothing. It is logged out before, since nobody would be told which sequence
// the logout has that comes of deleting it, and nothing is parked, since nobody could enable it any more.
func (s session) remove(ctx context.Context, a *agent) error {
	if a.status == gen.AgentStatusValueAvailable {
		return s.flip(ctx, a)
	}
	if err := s.enable(ctx, a); err != nil {
		return err
	}
	a.unsure = true
	resp, err := s.api.DeleteLocalAgentWithResponse(ctx, pbxClient, a.id)
	if err := answered(http.StatusNoContent, resp, err); err != nil {
		return err
	}
	a.forget()
	s.book.amend()
	return nil
}

// enable enables what is disabled of an agent's registrations.
func (s session) enable(ctx context.Context, a *agent) error {
	for _, r := range a.registrations {
		if !r.disabled {
			continue
		}
		if err := s.toggle(ctx, a, r); err != nil {
			return err
		}
	}
	return nil
}
