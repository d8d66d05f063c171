package main

import (
	"fmt"
	"strings"

	"github.com/agentevents/agentevents/gen"
	"github.com/agentevents/agentevents/server/lab"
)

const (
	clientURL = "http://server" + lab.APIPath + "/client/12" // crash.Do replaces the host
	agents    = 16                                           // number of plain agents; a quarter as many are busy
	firstBusy = 1001                                         // the lowest id of a busy agent
)

// agent is the state of an agent according to the answers of the servers. Only one loader uses it. The events of a busy
// agent are moved, disabled and deleted during the run.
type agent struct {
	id       int64
	exists   bool
	status   gen.AgentStatusValue
	sequence int64 // of its last change
	events   []*event
	inDoubt  bool // a request got no answer: the state must be read before the next request
	delayed  bool // a suspended server may still execute an earlier request without an answer
}

// event is an AgentEvent that an agent must have. After a deletion, the loader creates it again.
type event struct {
	on      gen.EventType
	at      int // the receiver at which it is created
	created int // number of creations; each has another path in the URL
	eventState
	inDoubt bool // a request got no answer
}

// eventState is the state of an event in the API. If the path is empty, the event does not exist.
type eventState struct {
	path     string // of its URL
	id       int64
	receiver int
	disabled bool
}

// groups returns the agents of each loader. Each busy agent has a loader of its own. Each plain agent has a login and a
// logout event twice at reliable and once at flaky. Agent 1 also has both at oneLane.
func (c *crash) groups() [][]*agent {
	loaders := 4 * len(c.servers) // some of them wait for a suspended server
	groups := make([][]*agent, loaders)
	groups[0] = []*agent{newAgent(1, reliable, flaky, reliable, oneLane)}
	for id := 2; id <= agents; id++ {
		groups[id%loaders] = append(groups[id%loaders], newAgent(id, reliable, flaky, reliable))
	}
	for i := range agents / 4 {
		groups = append(groups, []*agent{newAgent(firstBusy+i, reliable, flaky)})
	}
	return groups
}

// newAgent returns an agent that must have a login and a logout event for each element of at.
func newAgent(id int, at ...int) *agent {
	a := &agent{id: int64(id), status: gen.AgentStatusValueLoggedOut}
	for _, receiver := range at {
		a.events = append(a.events,
			&event{on: gen.EventTypeAgentLogin, at: receiver}, &event{on: gen.EventTypeAgentLogout, at: receiver})
	}
	return a
}

func (a *agent) busy() bool { return a.id >= firstBusy }

// url returns the URL of a resource of the agent.
func (a *agent) url(path string) string {
	return fmt.Sprintf("%s/agent/local/%d%s", clientURL, a.id, path)
}

// eventURL returns the URL of a resource of an event.
func (a *agent) eventURL(id int64, path string) string {
	return a.url(fmt.Sprintf("/event/%d%s", id, path))
}

// other returns the status that the agent does not have.
func (a *agent) other() gen.AgentStatusValue {
	if a.status == gen.AgentStatusValueAvailable {
		return gen.AgentStatusValueLoggedOut
	}
	return gen.AgentStatusValueAvailable
}

// fired lists the events that a change to a status fires.
func (a *agent) fired(to gen.AgentStatusValue) (all []*event) {
	for _, e := range a.events {
		if e.path != "" && (e.on == gen.EventTypeAgentLogin) == (to == gen.AgentStatusValueAvailable) {
			all = append(all, e)
		}
	}
	return all
}

// clear sets the state after a deletion. Expected deliveries stay expected.
func (a *agent) clear() {
	a.exists, a.inDoubt, a.status, a.sequence = false, false, gen.AgentStatusValueLoggedOut, 0
	for _, e := range a.events {
		e.eventState, e.inDoubt = eventState{}, false
	}
}

// orderKeyOf returns the key of the sequence in which an arrival must be in order.
func orderKeyOf(a *lab.Arrival) string { return orderKey(a.Path, a.Receiver) }

// orderKey returns the key for an event: its lane or, if its agent is busy, its path. An event has one delivery in
// flight, even while it moves to another lane. The path begins with the agent's id.
func orderKey(path string, receiver int) string {
	id, _, _ := strings.Cut(path, "-")
	if len(id) == len("/1001") { // only ids of busy agents have four digits
		return path
	}
	return fmt.Sprintf("%s@%d", id, receiver)
}

// adopt checks an answer against the known state, stores it, and expects the deliveries of its change. wanted is the
// requested status, or empty after a read. After a read, one change in doubt may have happened.
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
			Receiver: at, OrderKey: orderKey(e.path, e.receiver),
		})
	}
}
