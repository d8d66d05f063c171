package main

import (
	"context"
	"fmt"
	"net/http"

	"github.com/agentevents/agentevents/gen"
	"github.com/agentevents/agentevents/gen/client"
)

const (
	pbxClient = "12"
	firstBusy = 1001 // the ids of busy agents begin here
	common    = 2    // receivers that all agents have registrations at
)

// agent is how an agent stands, as far as the server has said so. One writer alone changes it.
type agent struct {
	id            int64
	wants         []want
	known         bool // it was created
	status        gen.AgentStatusValue
	sequence      int64 // of its last change
	registrations []*registration
	unsure        bool // a request about it was cut off: how it stands is to be looked up
	doubted       bool // a request about it was cut off before, and a replica that was held up may still carry it out
	made          int  // how many registrations it has had
}

// want is a registration that an agent is to have.
type want struct {
	event    gen.EventType
	receiver int
}

// newAgents returns plain agents and a quarter as many busy ones. Registrations are at one receiver and the other in
// turn, so that with more than two some share a lane. One agent has some at the receiver with one lane too.
func newAgents(plain, registrations int) (agents []*agent) {
	for id := range plain {
		agents = append(agents, newAgent(int64(id+1), registrations))
	}
	agents[0].wants = append(agents[0].wants, want{gen.EventTypeAgentLogin, alone}, want{gen.EventTypeAgentLogout, alone})
	for id := range plain / 4 {
		agents = append(agents, newAgent(int64(firstBusy+id), common))
	}
	return agents
}

func newAgent(id int64, registrations int) *agent {
	a := &agent{id: id, status: gen.AgentStatusValueLoggedOut}
	for i := range registrations {
		a.wants = append(a.wants,
			want{gen.EventTypeAgentLogin, i % common}, want{gen.EventTypeAgentLogout, i % common})
	}
	return a
}

func (a *agent) busy() bool { return a.id >= firstBusy }

// firing lists the registrations that are told of a change to a status.
func (a *agent) firing(to gen.AgentStatusValue) (fired []*registration) {
	event := gen.EventTypeAgentLogout
	if to == gen.AgentStatusValueAvailable {
		event = gen.EventTypeAgentLogin
	}
	for _, r := range a.registrations {
		if r.event == event {
			fired = append(fired, r)
		}
	}
	return fired
}

// missing lists which of the registrations that it is to have it does not have.
func (a *agent) missing() (wants []int) {
	has := map[int]bool{}
	for _, r := range a.registrations {
		has[r.want] = true
	}
	for i := range a.wants {
		if !has[i] {
			wants = append(wants, i)
		}
	}
	return wants
}

// forget is what the end of an agent leaves of it. What it owed stays owed.
func (a *agent) forget() {
	a.known, a.unsure, a.status, a.sequence, a.registrations = false, false, gen.AgentStatusValueLoggedOut, 0, nil
}

// session is what agents are changed with while the server lives.
type session struct {
	api       *client.ClientWithResponses
	book      *ledger
	receivers []string // their URLs
}

// furnish creates an agent, and what it lacks of its registrations.
func (s session) furnish(ctx context.Context, a *agent) error {
	if !a.known {
		a.unsure = true
		name := fmt.Sprintf("000*%d@example.org", a.id)
		resp, err := s.api.PutLocalAgentWithResponse(ctx, pbxClient, a.id, gen.LocalAgentUpdate{ExtensionName: &name})
		if err := answered(http.StatusCreated, resp, err); err != nil {
			return err
		}
		a.known, a.unsure = true, false
	}
	for _, i := range a.missing() {
		if err := s.register(ctx, a, i); err != nil {
			return err
		}
	}
	return nil
}

// look compares how an agent stands after a start with what was answered before, and takes over what was cut off.
func (s session) look(ctx context.Context, a *agent) error {
	resp, err := s.api.GetLocalAgentStatusWithResponse(ctx, pbxClient, a.id)
	if err == nil && resp.StatusCode() == http.StatusNotFound {
		if a.known && (!a.unsure || !a.busy()) {
			s.book.wrong(lost, "agent %d is gone", a.id)
		}
		a.forget()
		return nil
	}
	if err := answered(http.StatusOK, resp, err); err != nil {
		return err
	}
	s.lookAtStatus(a, *resp.JSON200)
	return s.lookAtRegistrations(ctx, a)
}

func (s session) lookAtStatus(a *agent, st gen.AgentStatus) {
	switch {
	case st.Sequence < a.sequence:
		s.book.wrong(lost, "the change %d of agent %d was answered 200, and now its last one is %d", a.sequence, a.id, st.Sequence)
	case !a.unsure && !a.known:
		s.book.wrong(lost, "the deletion of agent %d is undone", a.id)
	case !a.unsure && st.Sequence > a.sequence:
		s.book.wrong(mismatched, "agent %d has a change %d that nobody asked for", a.id, st.Sequence)
	case st.Sequence > a.sequence:
		s.book.resolve()
	}
	s.learn(a, st)
	a.known, a.unsure, a.doubted = true, false, a.doubted || a.unsure
}

// learn takes over what the server says of an agent's status.
func (s session) learn(a *agent, st gen.AgentStatus) {
	changed := st.AgentStatus != a.status
	if changed != (st.Sequence > a.sequence) {
		s.book.wrong(mismatched, "agent %d was %s by change %d and is %s by change %d",
			a.id, a.status, a.sequence, st.AgentStatus, st.Sequence)
	}
	if changed {
		s.book.owe(a, st)
	}
	a.status, a.sequence = st.AgentStatus, st.Sequence
}

// answered says whether the server answered a request as it should.
func answered(want int, resp interface {
	StatusCode() int
	GetBody() []byte
}, err error,
) error {
	if err != nil {
		return err
	}
	if resp.StatusCode() != want {
		return fmt.Errorf("the answer is %d and not %d: %s", resp.StatusCode(), want, resp.GetBody())
	}
	return nil
}
