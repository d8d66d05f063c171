package store

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"slices"
	"strconv"
	"strings"
	"time"

	"gorm.io/gorm"

	"github.com/agentevents/agentevents/gen"
)

// ahead is how far the PBX's clock may be before ours. A time further off would make all that follows stale.
const ahead = 5 * time.Minute

// setting is a status that somebody sets, and what comes of it.
type setting struct {
	ctx    context.Context
	agent  AgentKey
	update gen.AgentStatusUpdate
	status gen.AgentStatus
	err    error
}

func (t *setting) asked() context.Context { return t.ctx }

func (t *setting) end(err error) {
	if err != nil {
		t.status, t.err = gen.AgentStatus{}, err
	}
}

// eventType is the type of the events that a change to a status fires.
func eventType(to gen.AgentStatusValue) gen.EventType {
	if to == gen.AgentStatusValueAvailable {
		return gen.EventTypeAgentLogin
	}
	return gen.EventTypeAgentLogout
}

func (r agentRow) status() gen.AgentStatus {
	return gen.AgentStatus{
		AgentStatus: r.Status, EventSource: r.EventSource, Sequence: r.Sequence, ChangedAt: gen.Time{Time: millis(r.ChangedAt)},
	}
}

// Status returns an agent's status.
func (s *Store) Status(ctx context.Context, k AgentKey) (gen.AgentStatus, error) {
	r, err := findAgent(s.read(ctx), k)
	return r.status(), err
}

// SetStatus sets an agent's status. If that changes it, the change and a delivery for each of the agent's events of
// that type are durable when it returns.
func (s *Store) SetStatus(ctx context.Context, k AgentKey, u gen.AgentStatusUpdate) (gen.AgentStatus, error) {
	t := &setting{ctx: ctx, agent: k, update: u}
	s.settings.do(t)
	s.told(t)
	return t.status, t.err
}

// told tells who waits for what was set, and notes what was set already.
func (s *Store) told(t *setting) {
	switch {
	case t.err != nil || t.status.Stale:
		return
	case !t.status.Changed:
		s.repeats.note(t.status.Sequence, s.now())
		return
	}
	s.announce(t.agent.Client)
	if t.status.Deliveries > 0 {
		s.wakeFor(t.status.Sequence)
	}
}

// together is how many statuses of a request share a transaction: few, so that nobody waits long for the writer.
const together = 25

// SetStatuses sets the statuses of a client's agents in turn. An entry that is refused takes nothing with it; after an
// error those before it may be set.
func (s *Store) SetStatuses(
	ctx context.Context, client string, items []gen.AgentStatusUpdateItem,
) (results []gen.AgentStatusResult, err error) {
	err = s.write(ctx, func(tx *gorm.DB) error {
		_, err := findClient(tx, client)
		return err
	})
	results = make([]gen.AgentStatusResult, 0, len(items))
	for part := range slices.Chunk(items, together) {
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
			update: gen.AgentStatusUpdate{AgentStatus: i.AgentStatus, EventSource: i.EventSource, ChangedAt: i.ChangedAt},
		}
	})
	err := s.write(ctx, func(tx *gorm.DB) error { return s.setTogether(tx, tasks) })
	if err != nil {
		return nil, err
	}
	for _, t := range tasks {
		s.told(t)
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

// setTogether sets statuses: those of one agent in turn, and else all together.
func (s *Store) setTogether(tx *gorm.DB, tasks []*setting) error {
	for _, round := range rounds(tasks, func(t *setting) AgentKey { return t.agent }) {
		if err := s.setRound(tx, round); err != nil {
			return err
		}
	}
	return nil
}

// setRound sets statuses of different agents. What is refused is refused before anything is written.
func (s *Store) setRound(tx *gorm.DB, tasks []*setting) error {
	found, err := findAgents(tx, each(tasks, func(t *setting) AgentKey { return t.agent }))
	if err != nil {
		return err
	}
	var changes []*change
	var reported []agentRow
	for _, t := range tasks {
		t.status, t.err = gen.AgentStatus{}, nil
		r, ok := found[t.agent]
		if !ok {
			if t.err = missing(tx, t.agent); !isNotFound(t.err) {
				return t.err
			}
			continue
		}
		c, err := s.decide(t, r)
		switch {
		case err != nil:
			t.err = err
		case c.status != r.Status:
			changes = append(changes, c)
		case c.reported:
			reported = append(reported, *c.agent)
		}
	}
	if err := writeReported(tx, reported); err != nil {
		return err
	}
	return s.change(tx, changes)
}

// decide says what a status that somebody sets changes: nothing, if it is stale or the agent has it. A time that the PBX
// gave is kept even then, as the latest known.
func (s *Store) decide(t *setting, r agentRow) (*change, error) {
	c := &change{ctx: t.ctx, agent: &r, status: t.update.AgentStatus, source: t.update.EventSource, at: s.now()}
	if c.source == "" {
		c.source = gen.EventSourceAPI
	}
	if at := t.update.ChangedAt; at != nil {
		if err := s.checkAhead(*at); err != nil {
			return nil, err
		}
		c.at, c.reported = at.UnixMilli(), true
	}
	t.status, c.result = r.status(), &t.status
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

func writeReported(tx *gorm.DB, rows []agentRow) error {
	if len(rows) == 0 {
		return nil
	}
	return tx.Exec("UPDATE agents SET reported_at = x.reported_at FROM ? AS x WHERE agents.id = x.id", tableOf(tx, rows)).Error
}

func (s *Store) checkAhead(at time.Time) error {
	if at.Sub(s.Now()) <= ahead {
		return nil
	}
	return &Error{
		Kind: Invalid, Message: "the time of the change is in the future",
		Fields: []gen.FieldError{{
			Field: "changed_at", Message: fmt.Sprintf("must be at most %v ahead of the server's clock", ahead),
		}},
	}
}

// change is what happens to an agent's status.
type change struct {
	ctx      context.Context // of whose trace it is
	agent    *agentRow       // in the end as it is then
	status   gen.AgentStatusValue
	source   gen.EventSource
	at       int64
	reported bool // at is what the PBX has said

	result *gen.AgentStatus // may be nil
	owed   []eventRow
	row    changeRow
}

// change makes status changes of different agents with their deliveries.
func (s *Store) change(tx *gorm.DB, changes []*change) error {
	if len(changes) == 0 {
		return nil
	}
	if err := findOwed(tx, changes); err != nil {
		return err
	}
	for _, c := range changes {
		s.trace(tx, c)
	}
	if err := insertChanges(tx, changes); err != nil {
		return err
	}
	for _, c := range changes {
		counts(tx).changed(c.status)
		s.passed.changes.note(c.agent.Sequence)
		c.made()
	}
	rows := each(changes, func(c *change) agentRow { return *c.agent })
	err := tx.Exec("UPDATE agents SET status = x.status, event_source = x.event_source, sequence = x.sequence, "+
		"changed_at = x.changed_at, reported_at = x.reported_at FROM ? AS x WHERE agents.id = x.id", tableOf(tx, rows)).Error
	if err != nil {
		return err
	}
	return s.owe(tx, changes)
}

// findOwed finds the events of the changes' agents, and notes which of them are for which type.
func findOwed(tx *gorm.DB, changes []*change) error {
	agents := each(changes, func(c *change) int64 { return c.agent.ID })
	events, err := gorm.G[eventRow](tx).Where("agent IN ?", padded(agents)).Order("lane_id, id").Find(tx.Statement.Context)
	of := map[int64][]eventRow{}
	for _, e := range events {
		of[e.Agent] = append(of[e.Agent], e)
	}
	for _, c := range changes {
		owed, skipped := split(of[c.agent.ID], func(e eventRow) bool { return e.EventType == eventType(c.status) })
		disabled, fired := split(owed, eventRow.disabled)
		c.owed = owed
		c.row = changeRow{Fired: idsOf(fired), Parked: idsOf(disabled), Skipped: idsOf(skipped)}
	}
	return err
}

// trace makes the row of a change, with what it is known by in a trace.
func (s *Store) trace(tx *gorm.DB, c *change) {
	traceparent, ended := s.Trace(c.ctx)
	afterwards(tx, func(err error) { ended(c.row.ID, err) })
	r := c.agent
	c.row.ClientID, c.row.Kind, c.row.AgentID, c.row.Name, c.row.OldStatus = r.ClientID, r.Kind, r.AgentID, r.Name, r.Status
	c.row.NewStatus, c.row.EventSource, c.row.ChangedAt, c.row.CreatedAt = c.status, c.source, c.at, s.now()
	c.row.Traceparent = traceparent
}

func insertChanges(tx *gorm.DB, changes []*change) error {
	if err := announceNumbers(tx); err != nil {
		return err
	}
	ids, err := insertAll(tx, "status_changes", each(changes, func(c *change) changeRow { return c.row }))
	for i, id := range ids {
		changes[i].row.ID = id
	}
	return err
}

// made has the agent, and who wants to know, say what was changed.
func (c *change) made() {
	r := c.agent
	r.Status, r.EventSource, r.Sequence, r.ChangedAt = c.status, c.source, c.row.ID, c.at
	r.ReportedAt = max(r.ReportedAt, c.at)
	if c.result != nil {
		*c.result = r.status()
		c.result.Changed, c.result.Deliveries = true, len(c.owed)
	}
}

// split parts events into those that something is so of and the others, in their order.
func split(events []eventRow, is func(eventRow) bool) (those, others []eventRow) {
	for _, e := range events {
		if is(e) {
			those = append(those, e)
		} else {
			others = append(others, e)
		}
	}
	return those, others
}

// idsOf are the ids of events, separated by commas.
func idsOf(events []eventRow) string {
	return strings.Join(each(events, func(e eventRow) string { return strconv.FormatInt(e.ID, 10) }), ",")
}

// owe makes one delivery for each event that changes fire, and tells their lanes.
func (s *Store) owe(tx *gorm.DB, changes []*change) error {
	var rows []deliveryRow
	for _, c := range changes {
		for _, e := range c.owed {
			rows = append(rows, deliveryRow{
				WebhookID: "msg_" + rand.Text(), ChangeID: c.row.ID, EventID: e.ID, LaneID: e.LaneID, URL: e.URL,
				Method: e.Method, State: e.deliveryState(), DueAt: c.row.CreatedAt,
				ExpiresAt: c.row.CreatedAt + s.Window.Milliseconds(), CreatedAt: c.row.CreatedAt, ClientID: c.row.ClientID,
				Kind: c.row.Kind, AgentID: c.row.AgentID, NewStatus: c.row.NewStatus, ChangedAt: c.row.ChangedAt,
			})
		}
	}
	if len(rows) == 0 {
		return nil
	}
	if _, err := insertAll(tx, "deliveries", rows); err != nil {
		return err
	}
	return addToLanes(tx, rows)
}
