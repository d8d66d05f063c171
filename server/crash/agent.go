package main

import (
	"fmt"
	"strings"

	"github.com/agentevents/agentevents/gen"
	"github.com/agentevents/agentevents/server/lab"
)

const (
	pbx       = "http://server" + lab.APIPath + "/client/12" // the router knows where the servers are
	agents    = 16                                           // plain ones; a quarter as many are busy
	firstBusy = 1001                                         // the ids of busy agents begin here
)

// agent is an agent as servers have described it in their answers. One writer alone changes it.
type agent struct {
	id       int64
	exists   bool
	status   gen.AgentStatusValue
	sequence int64 // of its last change
	events   []*event
	inDoubt  bool // a request about it got no answer: how it stands must be looked up
	delayed  bool // one got none before, and a server that was suspended may still carry it out
}

// event is one of the AgentEvents that an agent must have. When it was deleted it is created again.
type event struct {
	on      gen.EventType
	at      int // the receiver at which it is created
	created int // how often; each time its URL has another path
	eventState
	inDoubt bool // a request about it got no answer
}

// eventState is how an event stands; without a path it does not exist.
type eventState struct {
	path     string // of its URL
	id       int64
	receiver int
	disabled bool
}

// groups are the agents of each writer: plain agents, and busy ones, which have a writer each. A plain agent has two
// pairs of events in one lane and one pair in another; the first has a pair at the receiver with one lane too.
func (c *crash) groups() [][]*agent {
	writers := 4 * len(c.servers) // some of which wait for a server that is suspended
	groups := make([][]*agent, writers)
	groups[0] = []*agent{newAgent(1, reliable, flaky, reliable, oneLane)}
	for id := 2; id <= agents; id++ {
		groups[id%writers] = append(groups[id%writers], newAgent(id, reliable, flaky, reliable))
	}
	for i := range agents / 4 {
		groups = append(groups, []*agent{newAgent(firstBusy+i, reliable, flaky)})
	}
	return groups
}

// newAgent returns an agent that must have an event for login and one for logout at each of some receivers.
func newAgent(id int, at ...int) *agent {
	a := &agent{id: int64(id), status: gen.AgentStatusValueLoggedOut}
	for _, receiver := range at {
		a.events = append(a.events,
			&event{on: gen.EventTypeAgentLogin, at: receiver}, &event{on: gen.EventTypeAgentLogout, at: receiver})
	}
	return a
}

func (a *agent) busy() bool { return a.id >= firstBusy }

// url is that of something of the agent's in the API.
func (a *agent) url(path string) string { return fmt.Sprintf("%s/agent/local/%d%s", pbx, a.id, path) }

// eventURL is that of something of one of its events.
func (a *agent) eventURL(id int64, path string) string {
	return a.url(fmt.Sprintf("/event/%d%s", id, path))
}

// other is the status that the agent does not have.
func (a *agent) other() gen.AgentStatusValue {
	if a.status == gen.AgentStatusValueAvailable {
		return gen.AgentStatusValueLoggedOut
	}
	return gen.AgentStatusValueAvailable
}

// fired lists the events that get a delivery of a change to a status.
func (a *agent) fired(to gen.AgentStatusValue) (all []*event) {
	for _, e := range a.events {
		if e.path != "" && (e.on == gen.EventTypeAgentLogin) == (to == gen.AgentStatusValueAvailable) {
			all = append(all, e)
		}
	}
	return all
}

// clear is what a deletion leaves of an agent. What is pending stays pending.
func (a *agent) clear() {
	a.exists, a.inDoubt, a.status, a.sequence = false, false, gen.AgentStatusValueLoggedOut, 0
	for _, e := range a.events {
		e.eventState, e.inDoubt = eventState{}, false
	}
}

// lineOf is the order in which an arrival has its place: its lane or, if its agent is busy, its event, which has one
// delivery in flight wherever it moves.
func lineOf(a *lab.Arrival) string { return lineAt(a.Path, a.Receiver) }

// lineAt is that of an event, whose path begins with the agent's id, at a receiver.
func lineAt(path string, receiver int) string {
	id, _, _ := strings.Cut(path, "-")
	if len(id) == len("/1001") {
		return path
	}
	return fmt.Sprintf("%s@%d", id, receiver)
}

// adopt takes over an agent's status from an answer, and expects the deliveries of its change. It compares the answer
// with what was answered before: after a request for a status it must be that one, and after a look (where wanted is
// empty) there may be one change in doubt.
func (c *crash) adopt(a *agent, wanted gen.AgentStatusValue, s gen.AgentStatus) {
	var fired []*event
	if s.AgentStatus != a.status {
		fired = a.fired(s.AgentStatus)
	}
	changed, newer := s.AgentStatus != a.status, s.Sequence > a.sequence
	asWanted := s.AgentStatus == wanted && s.Changed == changed && s.Deliveries == len(fired) && !s.Stale
	asBefore := wanted == "" && (a.inDoubt || a.exists && !newer)
	lost := s.Sequence < a.sequence || !a.exists && !a.inDoubt
	if lost || changed != newer || !asWanted && !asBefore {
		kind := map[bool]lab.Kind{true: lab.Lost, false: lab.Mismatched}[lost]
		c.record.Wrong(kind, "agent %d was %s by change %d, and the answer after a request for %q is %+v",
			a.id, a.status, a.sequence, wanted, s)
	}
	a.status, a.sequence = s.AgentStatus, s.Sequence
	if changed {
		c.tally.add(statusSet, 1)
	}
	for _, e := range fired {
		at := e.receiver
		if a.busy() {
			at = lab.Anywhere
		}
		c.record.Expect(lab.Expected{
			Key: lab.Key{Path: e.path, Sequence: s.Sequence}, Agent: a.id, Status: string(s.AgentStatus),
			Receiver: at, Line: lineAt(e.path, e.receiver),
		})
	}
}
