package store

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/agentevents/agentevents/gen"
	"github.com/agentevents/agentevents/store/internal/sqldb"
)

// maxAhead is the maximum time by which the PBX's clock may be ahead of the server's. A later time would make all
// following changes stale.
const maxAhead = 5 * time.Minute

// statusUpdate is a request that sets a status, with its result. It is a task of a Batcher.
type statusUpdate struct {
	ctx     context.Context
	agent   AgentKey
	request gen.AgentStatusUpdate
	status  gen.AgentStatus
	due     bool // it enqueued deliveries that a claim must find
	err     error
}

func (u *statusUpdate) Context() context.Context { return u.ctx }
func (u *statusUpdate) Key() any                 { return u.agent }

func (u *statusUpdate) End(err error) {
	if err != nil {
		u.status, u.err = gen.AgentStatus{}, err
	}
}

// eventType returns the type of the events that a change to a status fires.
func eventType(to gen.AgentStatusValue) gen.EventType {
	if to == gen.AgentStatusValueAvailable {
		return gen.EventTypeAgentLogin
	}
	return gen.EventTypeAgentLogout
}

func (r agentRow) status() gen.AgentStatus {
	return gen.AgentStatus{
		AgentStatus: r.Status, EventSource: r.EventSource, Sequence: r.Sequence,
		ChangedAt: gen.Time{Time: millis(r.ChangedAt)},
	}
}

// Status returns an agent's status.
func (s *Store) Status(ctx context.Context, k AgentKey) (gen.AgentStatus, error) {
	r, err := findAgent(s.read(ctx), k)
	return r.status(), err
}

// SetStatus sets an agent's status. If the status changes, the change and a delivery for each of the agent's events
// that the new status fires are durable when SetStatus returns. A delivery for a disabled event is parked.
func (s *Store) SetStatus(ctx context.Context, k AgentKey, request gen.AgentStatusUpdate) (gen.AgentStatus, error) {
	u := &statusUpdate{ctx: ctx, agent: k, request: request}
	s.statusUpdates.Do(u)
	s.notifySet(u)
	return u.status, u.err
}

// notifySet notifies the readers of the feed and the dispatcher of a change, and charges its deliveries to its caller.
// It counts a repeated status instead.
func (s *Store) notifySet(u *statusUpdate) {
	switch {
	case u.err != nil || u.status.Stale:
		return
	case !u.status.Changed:
		s.repeats.note(u.status.Sequence, s.now())
		return
	}
	s.ChargeRequests(callerOf(u.ctx), u.status.Deliveries)
	s.announce(u.agent.Client)
	if u.due {
		s.wakeFor(u.status.Sequence)
	}
}

// statusesPerCommit is the number of statuses of one request in one transaction. It is small, so that no request waits
// long for the writer.
const statusesPerCommit = 25

// SetStatuses sets the statuses of several agents of a client, in order, statusesPerCommit of them in each transaction.
// A refused entry affects no other. After an error, earlier statuses may be set.
func (s *Store) SetStatuses(
	ctx context.Context, client string, entries []gen.AgentStatusUpdateItem,
) (results []gen.AgentStatusResult, err error) {
	err = s.write(ctx, func(tx *sqldb.Tx) error {
		_, err := findClient(tx, client)
		return err
	})
	results = make([]gen.AgentStatusResult, 0, len(entries))
	for part := range slices.Chunk(entries, statusesPerCommit) {
		if err != nil {
			return nil, err
		}
		var done []gen.AgentStatusResult
		done, err = s.setEntries(ctx, client, part)
		results = append(results, done...)
	}
	return results, err
}

// setEntries sets statuses in one transaction.
func (s *Store) setEntries(
	ctx context.Context, client string, entries []gen.AgentStatusUpdateItem,
) ([]gen.AgentStatusResult, error) {
	updates := each(entries, func(i gen.AgentStatusUpdateItem) *statusUpdate {
		return &statusUpdate{
			ctx: ctx, agent: AgentKey{Client: client, Type: i.AgentType, ID: i.AgentID},
			request: gen.AgentStatusUpdate{
				AgentStatus: i.AgentStatus, EventSource: i.EventSource, ChangedAt: i.ChangedAt,
			},
		}
	})
	err := s.write(ctx, func(tx *sqldb.Tx) error {
		_, err := s.setBatch(tx, updates, true)
		return err
	})
	if err != nil {
		return nil, err
	}
	for _, u := range updates {
		s.notifySet(u)
	}
	return each(updates, (*statusUpdate).answer), nil
}

func (u *statusUpdate) answer() gen.AgentStatusResult {
	r := gen.AgentStatusResult{AgentType: u.agent.Type, AgentID: u.agent.ID}
	var refused *Error
	if errors.As(u.err, &refused) {
		body := refused.Body()
		r.Error = &body
	} else {
		r.Status = &u.status
	}
	return r
}

// setBatch sets statuses, in waves with one update of each agent. With wait false, it returns the updates whose agents
// or lanes another transaction has locked.
func (s *Store) setBatch(tx *sqldb.Tx, updates []*statusUpdate, wait bool) (locked []*statusUpdate, err error) {
	for _, wave := range sqldb.Waves(updates, func(u *statusUpdate) AgentKey { return u.agent }) {
		ofWave, err := s.setWave(tx, wave, wait)
		if err != nil {
			return nil, err
		}
		locked = append(locked, ofWave...)
	}
	return locked, nil
}

// setWave sets statuses of different agents. It refuses invalid updates before its first write.
func (s *Store) setWave(tx *sqldb.Tx, updates []*statusUpdate, wait bool) (locked []*statusUpdate, err error) {
	found, err := findAgents(tx, each(updates, agentOf), tx.ForUpdate(wait))
	if err != nil {
		return nil, err
	}
	absent, present := partition(updates, func(u *statusUpdate) bool { _, is := found[u.agent]; return !is })
	locked, err = refuseAbsent(tx, absent)
	if err == nil && wait && len(locked) > 0 { // the agents were created in between
		locked, err = s.setWave(tx, locked, wait)
	}
	if err != nil {
		return nil, err
	}
	changes, reported := s.decideAll(present, found)
	if err := writeReported(tx, reported); err != nil {
		return nil, err
	}
	atLanes, err := s.applyChanges(tx, changes, wait)
	return append(locked, each(atLanes, func(c *statusChange) *statusUpdate { return c.update })...), err
}

func agentOf(u *statusUpdate) AgentKey { return u.agent }

// refuseAbsent ends the updates of agents that do not exist with an error. It returns the updates of agents that
// another transaction has locked.
func refuseAbsent(tx *sqldb.Tx, updates []*statusUpdate) (locked []*statusUpdate, err error) {
	if len(updates) == 0 {
		return nil, nil
	}
	there, err := findAgents(tx, each(updates, agentOf), "")
	for i := 0; err == nil && i < len(updates); i++ {
		u := updates[i]
		if _, is := there[u.agent]; is {
			locked = append(locked, u)
		} else if u.err = missing(tx, u.agent); !isNotFound(u.err) {
			err = u.err
		}
	}
	return locked, err
}

// decideAll returns the changes. It also returns the agents for which only the time that the PBX reported changes.
func (s *Store) decideAll(
	updates []*statusUpdate, found map[AgentKey]agentRow,
) (changes []*statusChange, reported []agentRow) {
	for _, u := range updates {
		r := found[u.agent]
		c, err := s.decide(u, r)
		switch u.err = err; {
		case err != nil:
		case c.status != r.Status:
			changes = append(changes, c)
		case c.storeTime:
			reported = append(reported, *c.agent)
		}
	}
	return changes, reported
}

// decide fills the result of an update and returns its outcome. The outcome is a change only if its status differs from
// the agent's: a stale update gets the agent's status. If the status is the same, a later time that the PBX reported is
// stored.
func (s *Store) decide(u *statusUpdate, r agentRow) (*statusChange, error) {
	c := &statusChange{
		ctx: u.ctx, update: u, agent: &r, status: u.request.AgentStatus, source: u.request.EventSource, at: s.now(),
	}
	if c.source == "" {
		c.source = gen.EventSourceAPI
	}
	at := u.request.ChangedAt
	if at != nil {
		if err := s.checkAhead(*at); err != nil {
			return nil, err
		}
		c.at = at.UnixMilli()
	}
	u.status, u.due = r.status(), false
	switch {
	case at != nil && c.at < r.ReportedAt:
		u.status.Stale = true
		c.status = r.Status
	case c.status == r.Status:
		c.storeTime = at != nil && c.at > r.ReportedAt
		r.ReportedAt = c.at
	default:
		return c, s.AdmitDeliveries(callerOf(u.ctx))
	}
	return c, nil
}

func writeReported(tx *sqldb.Tx, rows []agentRow) error {
	if len(rows) == 0 {
		return nil
	}
	return tx.Queue("UPDATE agents SET reported_at = x.reported_at FROM ? AS x WHERE agents.id = x.id",
		sqldb.Table(tx, rows))
}

func (s *Store) checkAhead(at time.Time) error {
	if at.Sub(s.Now()) <= maxAhead {
		return nil
	}
	return &Error{
		Kind: Invalid, Message: "the time of the change is too far in the future",
		Fields: []gen.FieldError{{
			Field: "changed_at", Message: fmt.Sprintf("must be at most %v ahead of the server's clock", maxAhead),
		}},
	}
}

// partition divides a list by a condition, in order.
func partition[T any](list []T, is func(T) bool) (matching, rest []T) {
	for _, e := range list {
		if is(e) {
			matching = append(matching, e)
		} else {
			rest = append(rest, e)
		}
	}
	return matching, rest
}
