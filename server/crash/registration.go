package main

import (
	"context"
	"fmt"
	"net/http"
	"path"
	"strings"

	"github.com/agentevents/agentevents/gen"
)

// registration is one URL that is told. Its name is the path of the URL, and never used twice.
type registration struct {
	want     int // which of the agent's it fulfils
	name     string
	id       int64 // 0 until it is known
	event    gen.EventType
	receiver int
	disabled bool
	unsure   bool // a request about it was cut off
}

// register creates a registration, odd ones by GET and even ones by POST.
func (s session) register(ctx context.Context, a *agent, i int) error {
	a.made++
	r := &registration{
		want: i, name: fmt.Sprintf("%d-%d-%d", a.id, i, a.made), event: a.wants[i].event, receiver: a.wants[i].receiver,
		unsure: true,
	}
	a.registrations = append(a.registrations, r)
	e := gen.AgentEventCreate{URL: s.url(r), Method: gen.RequestMethodPOST, EventType: r.event}
	if i%2 == 1 {
		e.Method = gen.RequestMethodGET
	}
	resp, err := s.api.CreateLocalAgentEventWithResponse(ctx, pbxClient, a.id, nil, e)
	if err := answered(http.StatusCreated, resp, err); err != nil {
		return err
	}
	r.id, r.unsure = resp.JSON201.ID, false
	s.book.amend()
	return nil
}

func (s session) url(r *registration) string { return s.receivers[r.receiver] + "/" + r.name }

func (s session) lookAtRegistrations(ctx context.Context, a *agent) error {
	resp, err := s.api.ListLocalAgentEventsWithResponse(ctx, pbxClient, a.id, nil)
	if err := answered(http.StatusOK, resp, err); err != nil {
		return err
	}
	found := map[string]gen.AgentEvent{}
	for _, e := range *resp.JSON200 {
		found[path.Base(e.URL)] = e
	}
	var there []*registration
	for _, r := range a.registrations {
		e, ok := found[r.name]
		if !ok {
			s.gone(r)
			continue
		}
		if err := s.lookAt(ctx, a, r, e); err != nil {
			return err
		}
		there = append(there, r)
	}
	if len(found) > len(there) {
		s.book.wrong(mismatched, "agent %d has %d registrations and should have %d", a.id, len(found), len(there))
	}
	a.registrations = there
	return nil
}

// gone takes note that a registration is not there. It was deleted, or the request to create it never came through.
func (s session) gone(r *registration) {
	if !r.unsure {
		s.book.wrong(lost, "the registration %s is gone", r.name)
	}
	if r.id != 0 {
		s.book.cancel(r.name)
	}
}

// lookAt compares a registration.
func (s session) lookAt(ctx context.Context, a *agent, r *registration, e gen.AgentEvent) error {
	disabled := r.disabled
	if a.busy() {
		resp, err := s.api.GetLocalAgentEventStateWithResponse(ctx, pbxClient, a.id, e.ID)
		if err := answered(http.StatusOK, resp, err); err != nil {
			return err
		}
		disabled = resp.JSON200.State == gen.AgentEventStateValueDisabled
	}
	if !r.unsure && (e.ID != r.id || e.URL != s.url(r) || disabled != r.disabled) {
		s.book.wrong(lost, "what was changed of the registration %s is undone: %v, disabled %t", r.name, e, disabled)
	}
	r.id, r.disabled, r.unsure = e.ID, disabled, false
	for i, url := range s.receivers {
		if strings.HasPrefix(e.URL, url+"/") {
			r.receiver = i
		}
	}
	return nil
}
