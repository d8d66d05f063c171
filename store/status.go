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
	failed  bool // err is that of the transaction, and not a refusal
}

func (u *statusUpdate) Context() context.Context { return u.ctx }
func (u *statusUpdate) Key() any                 { return u.agent }
func (u *statusUpdate) Owner() any               { return u.agent.Client }

func (u *statusUpdate) End(err error) {
	if err != nil {
		u.status, u.err, u.failed = gen.AgentStatus{}, err, true
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

// statusesAtOnce is the number of statuses of one request that wait for a transaction. It is small, so that other
// updates of the client do not wait for all of them.
const statusesAtOnce = 128

// SetStatuses sets the statuses of several agents of a client, those of one agent in order. A refused entry affects no
// other. After an error, some statuses may be set.
func (s *Store) SetStatuses(
	ctx context.Context, client string, entries []gen.AgentStatusUpdateItem,
) ([]gen.AgentStatusResult, error) {
	if _, err := findClient(s.read(ctx), client); err != nil {
		return nil, err
	}
	updates := each(entries, func(i gen.AgentStatusUpdateItem) *statusUpdate {
		return &statusUpdate{
			ctx: ctx, agent: AgentKey{Client: client, Type: i.AgentType, ID: i.AgentID},
			request: gen.AgentStatusUpdate{
				AgentStatus: i.AgentStatus, EventSource: i.EventSource, ChangedAt: i.ChangedAt,
			},
		}
	})
	for some := range slices.Chunk(updates, statusesAtOnce) {
		s.statusUpdates.Do(some...)
		for _, u := range some {
			s.notifySet(u)
		}
		for _, u := range some {
			if u.failed {
				return nil, u.err
			}
		}
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

// A transaction sets the statuses of agents with maxEventsPerCommit events in all. This bounds the deliveries that
// other updates wait for. A change with more than maxEventsToJoin events is the first of its transaction, so that
// smaller ones need not wait for it. Such a change may exceed the bound by itself.
const (
	maxEventsPerCommit = 128
	maxEventsToJoin    = 32
)

// statusBatch sets statuses in one transaction, as long as it has room for the events of their agents.
type statusBatch struct {
	store   *Store
	wait    bool // for rows that other transactions have locked
	events  int  // of the agents whose statuses change; an agent without events counts as one
	skipped sqldb.Skipped[*statusUpdate]
	full    map[string]bool   // the clients of deferred updates: their later updates are deferred, too
	locked  map[AgentKey]bool // the agents of locked updates
}

// setBatch sets statuses, in waves with one update of each agent. With wait false, it skips the updates whose agents or
// lanes another transaction has locked. It defers those that the transaction has no room for.
func (s *Store) setBatch(
	tx *sqldb.Tx, updates []*statusUpdate, wait bool,
) (skipped sqldb.Skipped[*statusUpdate], err error) {
	b := statusBatch{store: s, wait: wait, full: map[string]bool{}, locked: map[AgentKey]bool{}}
	for _, wave := range sqldb.Waves(updates, agentOf) {
		behind, wave := partition(wave, func(u *statusUpdate) bool { return b.full[u.agent.Client] })
		b.skipped.Deferred = append(b.skipped.Deferred, behind...)
		behind, wave = partition(wave, func(u *statusUpdate) bool { return b.locked[u.agent] })
		b.skip(behind)
		if err := b.setWave(tx, wave); err != nil {
			return skipped, err
		}
	}
	return b.skipped, nil
}

// skip skips updates that need a locked row.
func (b *statusBatch) skip(locked []*statusUpdate) {
	b.skipped.Locked = append(b.skipped.Locked, locked...)
	for _, u := range locked {
		b.locked[u.agent] = true
	}
}

// setWave sets statuses of different agents. It refuses invalid updates before its first write.
func (b *statusBatch) setWave(tx *sqldb.Tx, updates []*statusUpdate) error {
	if len(updates) == 0 {
		return nil
	}
	found, err := findAgents(tx, each(updates, agentOf), tx.ForUpdate(b.wait))
	if err != nil {
		return err
	}
	absent, present := partition(updates, func(u *statusUpdate) bool { _, is := found[u.agent]; return !is })
	locked, err := refuseAbsent(tx, absent)
	if err == nil && b.wait { // the agents were created in between
		err = b.setWave(tx, locked)
		locked = nil
	}
	if err != nil {
		return err
	}
	changes, reported := b.store.decideAll(b.fitting(present, found), found)
	if err := writeReported(tx, reported); err != nil {
		return err
	}
	atLanes, err := b.store.applyChanges(tx, changes, b.wait)
	b.skip(append(locked, each(atLanes, func(c *statusChange) *statusUpdate { return c.update })...))
	return err
}

// fitting returns the updates that the transaction has room for, and defers the others.
func (b *statusBatch) fitting(updates []*statusUpdate, found map[AgentKey]agentWithEvents) (fit []*statusUpdate) {
	for _, u := range updates {
		a, events := found[u.agent], 0
		if a.Status != u.request.AgentStatus {
			events = max(a.Events, 1)
		}
		large := events > maxEventsToJoin || b.events+events > maxEventsPerCommit
		if b.full[u.agent.Client] || b.events > 0 && large {
			b.full[u.agent.Client] = true
			b.skipped.Deferred = append(b.skipped.Deferred, u)
		} else {
			b.events += events
			fit = append(fit, u)
		}
	}
	return fit
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
	updates []*statusUpdate, found map[AgentKey]agentWithEvents,
) (changes []*statusChange, reported []agentRow) {
	for _, u := range updates {
		r := found[u.agent].agentRow
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
