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

// target is the URL to which its deliveries are sent.
func (c *crash) target(r *registration) string { return c.receivers[r.receiver].URL + r.path }

// at is where it is in the API.
func (r *registration) at(a *agent, path string) string {
	return a.url(fmt.Sprintf("/event/%d%s", r.id, path))
}

// furnish creates an agent, and what it lacks of its registrations, odd ones by GET and even ones by POST.
func (w *writer) furnish(ctx context.Context, a *agent) error {
	if !a.known {
		a.unsure = true
		update := gen.LocalAgentUpdate{ExtensionName: new(fmt.Sprintf("000*%d@example.org", a.id))}
		_, err := lab.Call[any](ctx, w.api, http.StatusCreated, http.MethodPut, a.url(""), update)
		if err != nil {
			return err
		}
		a.known, a.unsure = true, false
	}
	for i, want := range a.wants {
		if slices.ContainsFunc(a.registrations, func(r *registration) bool { return r.want == i }) {
			continue
		}
		a.made++
		r := &registration{want: i, path: fmt.Sprintf("/%d-%d-%d", a.id, i, a.made), receiver: want.receiver}
		a.registrations = append(a.registrations, r)
		method := []gen.RequestMethod{gen.RequestMethodPOST, gen.RequestMethodGET}[i%2]
		e := gen.AgentEventCreate{URL: w.target(r), Method: method, EventType: want.event}
		made, err := change[gen.AgentEvent](ctx, w, r, http.StatusCreated, http.MethodPost, a.url("/event/"), e)
		if err != nil {
			return err
		}
		r.id = made.ID
	}
	return nil
}

// change makes a request that changes a registration.
func change[T any](
	ctx context.Context, w *writer, r *registration, want int, method, url string, body any,
) (answer T, err error) {
	r.unsure = true
	if answer, err = lab.Call[T](ctx, w.api, want, method, url, body); err == nil {
		r.unsure = false
		w.tally.add(amended, 1)
	}
	return answer, err
}

// look compares an agent's registrations with what was answered before.
func (w *writer) look(ctx context.Context, a *agent) error {
	all, err := lab.Call[[]gen.AgentEvent](ctx, w.api, http.StatusOK, http.MethodGet, a.url("/event/"), nil)
	if err != nil {
		return err
	}
	var there []*registration
	for _, r := range a.registrations {
		i := slices.IndexFunc(all, func(e gen.AgentEvent) bool { return strings.HasSuffix(e.URL, r.path) })
		if i < 0 { // it was deleted, or the request to create it never came through
			if !r.unsure {
				w.record.Wrong(lab.Lost, "the registration %s is gone", r.path)
			}
			w.record.Cancel(r.path)
			continue
		}
		if err := w.compare(ctx, a, r, all[i]); err != nil {
			return err
		}
		there = append(there, r)
	}
	if len(all) > len(there) {
		w.record.Wrong(lab.Mismatched, "agent %d has %d registrations, expected are %d", a.id, len(all), len(there))
	}
	a.registrations = there
	return nil
}

// compare compares one registration.
func (w *writer) compare(ctx context.Context, a *agent, r *registration, e gen.AgentEvent) error {
	before := *r
	r.id = e.ID
	r.receiver = slices.IndexFunc(w.receivers, func(x *receiver) bool { return e.URL == x.URL+r.path })
	if a.busy() {
		s, err := lab.Call[gen.AgentEventState](ctx, w.api, http.StatusOK, http.MethodGet, r.at(a, "/state"), nil)
		if err != nil {
			return err
		}
		r.disabled = s.State == gen.AgentEventStateValueDisabled
	}
	if *r != before && !r.unsure {
		w.record.Wrong(lab.Lost, "what was changed of a registration is undone: %+v was %+v", *r, before)
	}
	r.unsure = false
	return nil
}

// alter changes the status of a busy agent, or its registrations, or deletes it.
func (w *writer) alter(ctx context.Context, a *agent) error {
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
	r.receiver = (r.receiver + 1) % common
	url := w.target(r)
	_, err := change[any](ctx, w, r, http.StatusOK, http.MethodPut, r.at(a, ""), gen.AgentEventUpdate{URL: &url})
	return err
}

// toggle disables a registration, or enables it.
func (w *writer) toggle(ctx context.Context, a *agent, r *registration) error {
	update := gen.AgentEventStateUpdate{State: gen.AgentEventStateValueDisabled}
	if r.disabled {
		update.State = gen.AgentEventStateValueEnabled
	}
	_, err := change[any](ctx, w, r, http.StatusOK, http.MethodPut, r.at(a, "/state"), update)
	if err == nil {
		r.disabled = !r.disabled
	}
	return err
}

// unregister deletes a registration, which cancels what is pending of it. The next one has another path.
func (w *writer) unregister(ctx context.Context, a *agent, r *registration) error {
	_, err := change[any](ctx, w, r, http.StatusNoContent, http.MethodDelete, r.at(a, ""), nil)
	if err == nil {
		w.record.Cancel(r.path)
		a.registrations = slices.DeleteFunc(a.registrations, func(x *registration) bool { return x == r })
	}
	return err
}

// remove deletes an agent, which cancels nothing. It is logged out before, since no answer says which sequence the
// logout has that its deletion makes, and nothing is parked, since nothing could enable it any more.
func (w *writer) remove(ctx context.Context, a *agent) error {
	if a.status == gen.AgentStatusValueAvailable {
		return w.set(ctx, a, a.other())
	}
	if err := w.enable(ctx, a); err != nil {
		return err
	}
	a.unsure = true
	_, err := lab.Call[any](ctx, w.api, http.StatusNoContent, http.MethodDelete, a.url(""), nil)
	if err == nil {
		a.forget()
		w.tally.add(amended, 1)
	}
	return err
}

// enable enables what is disabled of an agent's registrations.
func (w *writer) enable(ctx context.Context, a *agent) error {
	for _, r := range a.registrations {
		if r.disabled {
			if err := w.toggle(ctx, a, r); err != nil {
				return err
			}
		}
	}
	return nil
}
