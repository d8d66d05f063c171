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

// setting is a request that sets a status, with its result. It is a task of a Batcher.
type setting struct {
	ctx    context.Context
	agent  AgentKey
	update gen.AgentStatusUpdate
	status gen.AgentStatus
	due    bool // it enqueued deliveries that a claim must find
	err    error
}

func (t *setting) Context() context.Context { return t.ctx }
func (t *setting) Key() any                 { return t.agent }

func (t *setting) End(err error) {
	if err != nil {
		t.status, t.err = gen.AgentStatus{}, err
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

// SetStatus sets an agent's status. If the status changes, the change and a delivery for each of the agent's events of
// that type are durable when SetStatus returns.
func (s *Store) SetStatus(ctx context.Context, k AgentKey, u gen.AgentStatusUpdate) (gen.AgentStatus, error) {
	t := &setting{ctx: ctx, agent: k, update: u}
	s.settings.Do(t)
	s.notifySet(t)
	return t.status, t.err
}

// notifySet notifies the readers of the feed and the dispatcher of a change. It counts a repeated status instead.
func (s *Store) notifySet(t *setting) {
	switch {
	case t.err != nil || t.status.Stale:
		return
	case !t.status.Changed:
		s.repeats.note(t.status.Sequence, s.now())
		return
	}
	s.announce(t.agent.Client)
	if t.due {
		s.wakeFor(t.status.Sequence)
	}
}

// statusesPerCommit is the number of statuses of one request in one transaction. It is small, so that no request waits
// long for the writer.
const statusesPerCommit = 25

// SetStatuses sets the statuses of several agents of a client, in order. A refused entry affects no other. After an
// error, earlier statuses may be set.
func (s *Store) SetStatuses(
	ctx context.Context, client string, items []gen.AgentStatusUpdateItem,
) (results []gen.AgentStatusResult, err error) {
	err = s.write(ctx, func(tx *sqldb.Tx) error {
		_, err := findClient(tx, client)
		return err
	})
	results = make([]gen.AgentStatusResult, 0, len(items))
	for part := range slices.Chunk(items, statusesPerCommit) {
		if err != nil {
			return nil, err
		}
		var done []gen.AgentStatusResult
		done, err = s.setItems(ctx, client, part)
		results = append(results, done...)
	}
	return results, err
}

// setItems sets statuses in one transaction.
func (s *Store) setItems(
	ctx context.Context, client string, items []gen.AgentStatusUpdateItem,
) ([]gen.AgentStatusResult, error) {
	tasks := each(items, func(i gen.AgentStatusUpdateItem) *setting {
		return &setting{
			ctx: ctx, agent: AgentKey{Client: client, Type: i.AgentType, ID: i.AgentID},
			update: gen.AgentStatusUpdate{
				AgentStatus: i.AgentStatus, EventSource: i.EventSource, ChangedAt: i.ChangedAt,
			},
		}
	})
	err := s.write(ctx, func(tx *sqldb.Tx) error {
		_, err := s.setBatch(tx, tasks, true)
		return err
	})
	if err != nil {
		return nil, err
	}
	for _, t := range tasks {
		s.notifySet(t)
	}
	return each(tasks, (*setting).result), nil
}

func (t *setting) result() gen.AgentStatusResult {
	r := gen.AgentStatusResult{AgentType: t.agent.Type, AgentID: t.agent.ID}
	var refused *Error
	if errors.As(t.err, &refused) {
		body := refused.Body()
		r.Error = &body
	} else {
		r.Status = &t.status
	}
	return r
}

// setBatch sets statuses, in waves with one setting of each agent. With wait false, it returns the settings whose
// agents or lanes another transaction has locked.
func (s *Store) setBatch(tx *sqldb.Tx, tasks []*setting, wait bool) (contended []*setting, err error) {
	for _, wave := range sqldb.Waves(tasks, func(t *setting) AgentKey { return t.agent }) {
		more, err := s.setWave(tx, wave, wait)
		if err != nil {
			return nil, err
		}
		contended = append(contended, more...)
	}
	return contended, nil
}

// setWave sets statuses of different agents. It refuses invalid settings before its first write.
func (s *Store) setWave(tx *sqldb.Tx, tasks []*setting, wait bool) (contended []*setting, err error) {
	found, err := findAgents(tx, each(tasks, agentOf), tx.ForUpdate(wait))
	if err != nil {
		return nil, err
	}
	absent, present := partition(tasks, func(t *setting) bool { _, is := found[t.agent]; return !is })
	contended, err = refuseAbsent(tx, absent)
	if err == nil && wait && len(contended) > 0 { // the agents were created in between
		contended, err = s.setWave(tx, contended, wait)
	}
	if err != nil {
		return nil, err
	}
	changes, reported := s.decideAll(present, found)
	if err := writeReported(tx, reported); err != nil {
		return nil, err
	}
	more, err := s.applyChanges(tx, changes, wait)
	return append(contended, each(more, func(c *statusChange) *setting { return c.setting })...), err
}

func agentOf(t *setting) AgentKey { return t.agent }

// refuseAbsent ends the settings of agents that do not exist with an error. It returns the settings of agents that
// another transaction has locked.
func refuseAbsent(tx *sqldb.Tx, tasks []*setting) (contended []*setting, err error) {
	if len(tasks) == 0 {
		return nil, nil
	}
	there, err := findAgents(tx, each(tasks, agentOf), "")
	for i := 0; err == nil && i < len(tasks); i++ {
		t := tasks[i]
		if _, is := there[t.agent]; is {
			contended = append(contended, t)
		} else if t.err = missing(tx, t.agent); !isNotFound(t.err) {
			err = t.err
		}
	}
	return contended, err
}

// decideAll returns the changes. It also returns the agents whose reported time alone changes.
func (s *Store) decideAll(
	tasks []*setting, found map[AgentKey]agentRow,
) (changes []*statusChange, reported []agentRow) {
	for _, t := range tasks {
		r := found[t.agent]
		c, err := s.decide(t, r)
		switch t.err = err; {
		case err != nil:
		case c.status != r.Status:
			changes = append(changes, c)
		case c.reported:
			reported = append(reported, *c.agent)
		}
	}
	return changes, reported
}

// decide returns the change that a setting makes. Nothing changes if the agent has the status already, or if the
// setting is stale. If the status is the same, a later time that the PBX reported is kept.
func (s *Store) decide(t *setting, r agentRow) (*statusChange, error) {
	c := &statusChange{
		ctx: t.ctx, setting: t, agent: &r, status: t.update.AgentStatus, source: t.update.EventSource, at: s.now(),
	}
	if c.source == "" {
		c.source = gen.EventSourceAPI
	}
	if at := t.update.ChangedAt; at != nil {
		if err := s.checkAhead(*at); err != nil {
			return nil, err
		}
		c.at, c.reported = at.UnixMilli(), true
	}
	t.status, t.due = r.status(), false
	switch {
	case c.reported && c.at < r.ReportedAt:
		t.status.Stale = true
		c.status, c.reported = r.Status, false
	case c.status == r.Status:
		c.reported = c.reported && c.at > r.ReportedAt
		r.ReportedAt = c.at
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
