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

// change is what happens to an agent's status.
type change struct {
	status gen.AgentStatusValue
	source gen.EventSource
	at     int64
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
func (s *Store) SetStatus(ctx context.Context, k AgentKey, u gen.AgentStatusUpdate) (st gen.AgentStatus, err error) {
	err = s.write(ctx, func(tx *gorm.DB) error {
		st, err = s.setStatus(tx, k, u)
		return err
	})
	if st.Changed {
		s.announce(k.Client)
	}
	if st.Deliveries > 0 {
		s.wakeFor(st.Sequence)
	}
	return st, err
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
) (results []gen.AgentStatusResult, err error) {
	err = s.write(ctx, func(tx *gorm.DB) error {
		results = make([]gen.AgentStatusResult, len(items))
		for i, item := range items {
			if results[i], err = s.setItem(tx, client, item); err != nil {
				return err
			}
		}
		return nil
	})
	s.announce(client)
	for _, r := range results {
		if err == nil && r.Status != nil && r.Status.Deliveries > 0 {
			s.wakeFor(r.Status.Sequence)
		}
	}
	return results, err
}

func (s *Store) setItem(tx *gorm.DB, client string, item gen.AgentStatusUpdateItem) (gen.AgentStatusResult, error) {
	result := gen.AgentStatusResult{AgentType: item.AgentType, AgentID: item.AgentID}
	st, err := s.setStatus(tx, AgentKey{Client: client, Type: item.AgentType, ID: item.AgentID}, gen.AgentStatusUpdate{
		AgentStatus: item.AgentStatus, EventSource: item.EventSource, ChangedAt: item.ChangedAt,
	})
	var refused *Error
	switch {
	case errors.As(err, &refused) && refused.Kind != Unavailable:
		body := refused.Body()
		result.Error = &body
	case err != nil:
		return result, err
	default:
		result.Status = &st
	}
	return result, nil
}

// setStatus refuses before it writes anything.
func (s *Store) setStatus(tx *gorm.DB, k AgentKey, u gen.AgentStatusUpdate) (gen.AgentStatus, error) {
	r, err := findAgent(tx, k)
	if err != nil {
		return gen.AgentStatus{}, err
	}
	c := change{status: u.AgentStatus, source: u.EventSource, at: s.now()}
	if c.source == "" {
		c.source = gen.EventSourceAPI
	}
	if u.ChangedAt != nil {
		if err := s.checkAhead(*u.ChangedAt); err != nil {
			return gen.AgentStatus{}, err
		}
		c.at = u.ChangedAt.UnixMilli()
	}
	return s.apply(tx, r, c, u.ChangedAt != nil)
}

// apply makes a change unless it is stale or none. A time that the PBX gave is kept even then, as the latest known.
func (s *Store) apply(tx *gorm.DB, r agentRow, c change, reported bool) (gen.AgentStatus, error) {
	st := r.status()
	switch {
	case reported && c.at < r.ReportedAt:
		st.Stale = true
		return st, nil
	case r.Status == c.status && reported && c.at > r.ReportedAt:
		s.repeats.note(r.Sequence, s.now())
		return st, tx.Exec("UPDATE agents SET reported_at = ? WHERE id = ?", c.at, r.ID).Error
	case r.Status == c.status:
		s.repeats.note(r.Sequence, s.now())
		return st, nil
	}
	deliveries, err := s.change(tx, &r, c)
	st = r.status()
	st.Changed, st.Deliveries = true, deliveries
	return st, err
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

// change makes a status change with its deliveries, and returns how many these are.
func (s *Store) change(tx *gorm.DB, r *agentRow, c change) (deliveries int, err error) {
	events, err := gorm.G[eventRow](tx).Where("agent = ?", r.ID).Order("lane_id, id").Find(tx.Statement.Context)
	if err != nil {
		return 0, err
	}
	owed, skipped := split(events, func(e eventRow) bool { return e.EventType == eventType(c.status) })
	disabled, fired := split(owed, eventRow.disabled)
	traceparent, ended := s.Trace(tx.Statement.Context)
	row := changeRow{
		ClientID: r.ClientID, Kind: r.Kind, AgentID: r.AgentID, Name: r.Name, OldStatus: r.Status, NewStatus: c.status,
		EventSource: c.source, ChangedAt: c.at, CreatedAt: s.now(),
		Fired: idsOf(fired), Parked: idsOf(disabled), Skipped: idsOf(skipped), Traceparent: traceparent,
	}
	afterwards(tx, func(err error) { ended(row.ID, err) })
	if err := announceNumbers(tx); err != nil {
		return 0, err
	}
	if err := gorm.G[changeRow](tx).Create(tx.Statement.Context, &row); err != nil {
		return 0, err
	}
	counts(tx).changed(c.status)
	s.passed.changes.note(r.Sequence)
	r.Status, r.EventSource, r.Sequence, r.ChangedAt = c.status, c.source, row.ID, c.at
	r.ReportedAt = max(r.ReportedAt, c.at)
	err = tx.Exec("UPDATE agents SET status = ?, event_source = ?, sequence = ?, changed_at = ?, reported_at = ? "+
		"WHERE id = ?", r.Status, r.EventSource, r.Sequence, r.ChangedAt, r.ReportedAt, r.ID).Error
	if err != nil || len(owed) == 0 {
		return 0, err
	}
	return len(owed), s.owe(tx, row, owed)
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

// owe makes one delivery for each event that a change fires, and tells their lanes.
func (s *Store) owe(tx *gorm.DB, c changeRow, events []eventRow) error {
	rows := make([]deliveryRow, len(events))
	for i, e := range events {
		rows[i] = deliveryRow{
			WebhookID: "msg_" + rand.Text(), ChangeID: c.ID, EventID: e.ID, LaneID: e.LaneID, URL: e.URL,
			Method: e.Method, State: e.deliveryState(), DueAt: c.CreatedAt, ExpiresAt: c.CreatedAt + s.Window.Milliseconds(),
			CreatedAt: c.CreatedAt, ClientID: c.ClientID,
		}
	}
	if err := gorm.G[deliveryRow](tx).CreateInBatches(tx.Statement.Context, &rows, 100); err != nil {
		return err
	}
	return addToLanes(tx, rows)
}
