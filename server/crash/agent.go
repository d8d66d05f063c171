package main

import (
	"fmt"
	"strings"

	"github.com/agentevents/agentevents/gen"
	"github.com/agentevents/agentevents/server/lab"
)

const (
	pbx       = "http://server" + lab.APIPath + "/client/12" // the router knows where the servers are
	firstBusy = 1001                                         // the ids of busy agents begin here
	common    = 2                                            // receivers that all agents have registrations at
)

// agent is how an agent stands, as far as servers have said so. One writer alone changes it.
type agent struct {
	id            int64
	wants         []wanted
	known         bool // it was created
	status        gen.AgentStatusValue
	sequence      int64 // of its last change
	registrations []*registration
	unsure        bool // a request about it was cut off: how it stands must be looked up
	doubted       bool // one was before, and a server that was held up may still carry it out
	made          int  // how many registrations it has had
}

// wanted is a registration that an agent must have.
type wanted struct {
	event    gen.EventType
	receiver int
}

// groups are the agents of each writer: plain agents, and a quarter as many busy ones, which have a writer each.
// Registrations are at one receiver and the other in turn, so that with more than two some share a lane. The first
// agent has some at the receiver with one lane too.
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
	first.wants = append(first.wants, wanted{gen.EventTypeAgentLogin, alone}, wanted{gen.EventTypeAgentLogout, alone})
	for id := range c.agents / 4 {
		groups = append(groups, []*agent{newAgent(int64(firstBusy+id), common)})
	}
	return groups
}

func newAgent(id int64, registrations int) *agent {
	a := &agent{id: id}
	a.forget()
	for i := range registrations {
		at := i % common
		a.wants = append(a.wants, wanted{gen.EventTypeAgentLogin, at}, wanted{gen.EventTypeAgentLogout, at})
	}
	return a
}

func (a *agent) busy() bool { return a.id >= firstBusy }

// url is that of something of the agent's in the API.
func (a *agent) url(path string) string { return fmt.Sprintf("%s/agent/local/%d%s", pbx, a.id, path) }

// lineOf is the order in which an arrival has its place: its lane or, if its agent is busy, its registration, which has
// one delivery in flight wherever it moves.
func lineOf(a *lab.Arrival) string { return lineAt(a.Path, a.Receiver) }

// lineAt is that of a registration, whose path begins with the agent's id, at a receiver.
func lineAt(path string, number int) string {
	id, _, _ := strings.Cut(path, "-")
	if len(id) == len("/1001") {
		return path
	}
	return fmt.Sprintf("%s@%d", id, number)
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

// learn takes over what a server says of an agent's status.
func (c *crash) learn(a *agent, s gen.AgentStatus) {
	changed := s.AgentStatus != a.status
	if changed != (s.Sequence > a.sequence) {
		c.record.Wrong(lab.Mismatched, "agent %d was %s by change %d and is %s by change %d",
			a.id, a.status, a.sequence, s.AgentStatus, s.Sequence)
	}
	if changed {
		c.expect(a, s)
	}
	a.status, a.sequence = s.AgentStatus, s.Sequence
}

// said compares the answer to a status with what it must be, and takes it over.
func (c *crash) said(a *agent, to gen.AgentStatusValue, s gen.AgentStatus) {
	changed, deliveries := to != a.status, 0
	if changed {
		deliveries = len(a.fired(to))
		defer c.tally.add(statusSet, 1)
	}
	if s.AgentStatus != to || s.Changed != changed || s.Stale || s.Deliveries != deliveries {
		c.record.Wrong(lab.Mismatched, "agent %d was %s, must be %s with %d deliveries, and the answer is %+v",
			a.id, a.status, to, deliveries, s)
	}
	a.unsure = false
	c.learn(a, s)
}

// looked compares how an agent stands with what was answered before, and takes over what was cut off.
func (c *crash) looked(a *agent, s gen.AgentStatus) {
	switch {
	case s.Sequence < a.sequence:
		c.record.Wrong(lab.Lost, "change %d of agent %d was answered 200, its last is %d", a.sequence, a.id, s.Sequence)
	case !a.unsure && !a.known:
		c.record.Wrong(lab.Lost, "the deletion of agent %d is undone", a.id)
	case !a.unsure && s.Sequence > a.sequence:
		c.record.Wrong(lab.Mismatched, "agent %d has a change %d that no request has made", a.id, s.Sequence)
	case s.Sequence > a.sequence:
		c.tally.add(foundStored, 1)
	}
	c.learn(a, s)
	a.known, a.unsure, a.doubted = true, false, a.doubted || a.unsure
}
