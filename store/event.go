package store

import (
	"context"
	"fmt"
	"slices"

	"gorm.io/gorm"

	"github.com/agentevents/agentevents/gen"
	"github.com/agentevents/agentevents/store/internal/sqldb"
)

type eventRow struct {
	ID        int64 `gorm:"primaryKey"`
	Agent     int64 // the id of the agent's row
	URL       string
	Method    gen.RequestMethod
	EventType gen.EventType
	VersionID int64 // the eventVersion with its URL and method
	LaneID    int64
	State     gen.AgentEventStateValue
	Reason    string
	Since     int64
}

func (eventRow) TableName() string { return "agent_events" }

func (r eventRow) model() gen.AgentEvent {
	return gen.AgentEvent{URL: r.URL, ID: r.ID, Method: r.Method, EventType: r.EventType}
}

// eventVersion is a URL and a method that an event has or has had. Deliveries and attempts refer to it. Hourly, those
// are deleted that nothing refers to any more.
type eventVersion struct {
	ID      int64 `gorm:"primaryKey"`
	EventID int64
	URL     string
	Method  gen.RequestMethod
}

func (eventVersion) TableName() string { return "event_versions" }

// versionSearched is the number of versions of an event in which setVersion looks for an earlier one.
const versionSearched = 100

// setVersion stores the event's URL and method as its version. If it has had both lately, the version is that one: then
// the result of an attempt in flight still counts.
func (r *eventRow) setVersion(tx *sqldb.Tx) error {
	earlier, is, err := sqldb.Get[int64](tx, "SELECT v.id FROM (SELECT * FROM event_versions WHERE event_id = ? "+
		"ORDER BY id DESC LIMIT ?) v WHERE v.url = ? AND v.method = ? ORDER BY v.id LIMIT 1", r.ID, versionSearched,
		r.URL, r.Method)
	if err == nil && is {
		is, err = lockVersion(tx, earlier)
	}
	if err != nil {
		return err
	}
	if !is {
		v := eventVersion{EventID: r.ID, URL: r.URL, Method: r.Method}
		if err := gorm.G[eventVersion](tx.GORM()).Create(tx.Context(), &v); err != nil {
			return err
		}
		earlier = v.ID
	}
	former := r.VersionID
	r.VersionID = earlier
	err = tx.Exec("UPDATE event_versions SET past = CASE id WHEN ? THEN 0 ELSE 1 END WHERE id IN (?, ?)", r.VersionID,
		former, r.VersionID)
	if err != nil {
		return err
	}
	return tx.Exec("UPDATE agent_events SET version_id = ? WHERE id = ?", r.VersionID, r.ID)
}

// lockVersion prevents the deletion of a version until the transaction ends, and reports whether it is still there.
func lockVersion(tx *sqldb.Tx, id int64) (is bool, err error) {
	_, is, err = sqldb.Get[int64](tx, "SELECT id FROM event_versions WHERE id = ?"+tx.ForKeyShare(), id)
	return is, err
}

// unusedVersionSQL is true of a version v of some events that nothing refers to. Both parameters are these events. They
// are named so that a statement reads their deliveries once, and not for each version.
const unusedVersionSQL = "v.past = 1 " +
	"AND NOT EXISTS (SELECT 1 FROM event_sweeps w WHERE w.event_id = v.event_id AND w.version_id = v.id) " +
	"AND v.id NOT IN (SELECT d.version_id FROM deliveries d WHERE d.event_id IN ?) " +
	"AND v.id NOT IN (SELECT a.version_id FROM deliveries d JOIN attempts a ON a.delivery_id = d.id " +
	"WHERE d.event_id IN ?)"

// pruneVersions deletes versions that nothing has referred to for an hour. Until then, the result of an attempt in
// flight may still come.
func (s *Store) pruneVersions(ctx context.Context) error {
	unused, err := s.unusedVersions(ctx)
	if err != nil {
		return err
	}
	var gone []int64
	seen := map[int64]bool{}
	for _, id := range unused {
		if seen[id] = true; s.pruner.versions[id] {
			gone = append(gone, id)
		}
	}
	s.pruner.versions = seen
	for part := range slices.Chunk(gone, pruneRows) {
		err := s.write(context.WithoutCancel(ctx), func(tx *sqldb.Tx) error {
			return deleteVersions(tx, part)
		})
		if err != nil {
			return err
		}
	}
	return nil
}

// deleteVersions deletes versions that are still unused. It locks them first, since setVersion may use one again.
func deleteVersions(tx *sqldb.Tx, ids []int64) error {
	locked, err := sqldb.Select[eventVersion](tx, "SELECT id, event_id FROM event_versions WHERE id IN ?"+
		tx.SkipLocked("id"), sqldb.Padded(ids))
	if err != nil || len(locked) == 0 {
		return err
	}
	events := sqldb.Padded(each(locked, func(v eventVersion) int64 { return v.EventID }))
	return tx.Exec("DELETE FROM event_versions AS v WHERE v.id IN ? AND "+unusedVersionSQL,
		sqldb.Padded(each(locked, func(v eventVersion) int64 { return v.ID })), events, events)
}

func (s *Store) unusedVersions(ctx context.Context) (unused []int64, err error) {
	events, err := sqldb.Select[int64](s.read(ctx), "SELECT DISTINCT event_id FROM event_versions WHERE past = 1")
	for i := 0; err == nil && i < len(events) && ctx.Err() == nil; i++ {
		var ids []int64
		event := events[i : i+1]
		ids, err = sqldb.Select[int64](s.read(ctx), "SELECT v.id FROM event_versions v WHERE v.event_id IN ? AND "+
			unusedVersionSQL, event, event, event)
		unused = append(unused, ids...)
	}
	return unused, err
}

// apply sets the fields that the update has.
func (r *eventRow) apply(u gen.AgentEventUpdate) {
	if u.URL != nil {
		r.URL = *u.URL
	}
	if u.Method != nil {
		r.Method = *u.Method
	}
	if u.EventType != nil {
		r.EventType = *u.EventType
	}
}

var eventsSQL = "SELECT " + sqldb.Columns[eventRow]() + " FROM agent_events WHERE "

// findEvent returns the row of an agent's event, or an error for the missing event, agent or client.
func findEvent(q sqldb.Querier, k AgentKey, id int64) (e eventRow, err error) {
	a, err := findAgent(q, k)
	if err != nil {
		return e, err
	}
	e, is, err := sqldb.Get[eventRow](q, eventsSQL+"id = ? AND agent = ?", id, a.ID)
	if err == nil && !is {
		err = &Error{
			Kind: NotFound, Message: fmt.Sprintf("there is no event %d of %v", id, k), Status: "event_not_found",
		}
	}
	return e, publicError(err)
}

// Events lists an agent's events in the order of their ids, starting after an id. The list has at most limit events; 0
// means all.
func (s *Store) Events(ctx context.Context, k AgentKey, after int64, limit int) ([]gen.AgentEvent, error) {
	tx := s.read(ctx)
	rows, err := sqldb.Select[eventRow](tx, eventsSQL+ofAgent+" AND id > ? ORDER BY id"+sqldb.Limit, k.Client,
		string(k.Type), k.ID, after, limitOrMax(limit))
	if err == nil && len(rows) == 0 {
		_, err = findAgent(tx, k) // no events, or no agent
	}
	return each(rows, eventRow.model), publicError(err)
}

// ofAgent is the condition that an event belongs to an agent.
const ofAgent = "agent = (SELECT a.id FROM agents a WHERE a.client_id = ? AND a.kind = ? AND a.agent_id = ?)"

// Event returns an agent's event.
func (s *Store) Event(ctx context.Context, k AgentKey, id int64) (gen.AgentEvent, error) {
	tx := s.read(ctx)
	e, is, err := sqldb.Get[eventRow](tx, eventsSQL+"id = ? AND "+ofAgent, id, k.Client, string(k.Type), k.ID)
	if err == nil && !is {
		e, err = findEvent(tx, k, id) // for the error about the missing row
	}
	return e.model(), publicError(err)
}

// CreateEvent creates an event of an agent. The caller must have validated its URL.
func (s *Store) CreateEvent(ctx context.Context, k AgentKey, c gen.AgentEventCreate) (gen.AgentEvent, error) {
	return createOnce(ctx, s, func(tx *sqldb.Tx) (m gen.AgentEvent, err error) {
		a, err := findAgent(tx, k)
		if err != nil {
			return m, err
		}
		if err := addEvent(tx, k, a.ID); err != nil {
			return m, err
		}
		e := eventRow{
			Agent: a.ID, URL: c.URL, Method: c.Method, EventType: c.EventType,
			State: gen.AgentEventStateValueEnabled, Since: s.now(),
		}
		if e.LaneID, err = ensureLane(tx, k, e.URL); err != nil {
			return m, err
		}
		if err := gorm.G[eventRow](tx.GORM()).Create(tx.Context(), &e); err != nil {
			return m, err
		}
		return e.model(), e.setVersion(tx)
	})
}

// laneAfter returns the lane of an event with a new URL. With an unchanged URL, the event keeps its lane, and so the
// order of its pending deliveries.
func laneAfter(tx *sqldb.Tx, k AgentKey, e eventRow, rawURL string) (int64, error) {
	if rawURL == e.URL {
		return e.LaneID, nil
	}
	return ensureLane(tx, k, rawURL)
}

// UpdateEvent updates an event. A nil field stays as it is. If the URL or the method changes, the unfinished deliveries
// get the new ones, and the pending ones are due at once.
func (s *Store) UpdateEvent(
	ctx context.Context, k AgentKey, id int64, u gen.AgentEventUpdate,
) (m gen.AgentEvent, err error) {
	defer s.wake()
	err = s.write(ctx, func(tx *sqldb.Tx) error {
		old, err := findEvent(tx, k, id)
		if err != nil {
			return err
		}
		e := old
		e.apply(u)
		if e.LaneID, err = laneAfter(tx, k, old, e.URL); err != nil {
			return err
		}
		m = e.model()
		err = tx.Exec("UPDATE agent_events SET url = ?, method = ?, event_type = ?, lane_id = ? WHERE id = ?",
			e.URL, e.Method, e.EventType, e.LaneID, e.ID)
		if err != nil || (e.URL == old.URL && e.Method == old.Method) {
			return err
		}
		if err := e.setVersion(tx); err != nil {
			return err
		}
		return s.sweep(tx, sweepOf(e))
	})
	return m, err
}

// DeleteEvent deletes an event and cancels its unfinished deliveries.
func (s *Store) DeleteEvent(ctx context.Context, k AgentKey, id int64) error {
	defer s.wake()
	return s.write(ctx, func(tx *sqldb.Tx) error {
		e, err := findEvent(tx, k, id)
		if err != nil {
			return err
		}
		if err := eventQuota.remove(tx, k.Client); err != nil {
			return err
		}
		if err := s.sweep(tx, eventSweep{EventID: e.ID, State: stateCancelled}); err != nil {
			return err
		}
		if err := tx.Exec("UPDATE event_versions SET past = 1 WHERE id = ?", e.VersionID); err != nil {
			return err
		}
		return tx.Exec("DELETE FROM agent_events WHERE id = ?", e.ID)
	})
}

// The reasons for which an event is disabled.
const (
	reasonRequest = "disabled by a request"
	reasonGone    = "the receiver answered 410 Gone"
)

func (r eventRow) state() gen.AgentEventState {
	return gen.AgentEventState{State: r.State, Reason: r.Reason, Since: gen.Time{Time: millis(r.Since)}}
}

func (r eventRow) disabled() bool { return r.State == gen.AgentEventStateValueDisabled }

// deliveryState returns the state of a new delivery of the event.
func (r eventRow) deliveryState() string {
	if r.disabled() {
		return stateParked
	}
	return statePending
}

// EventState returns the state of an event: enabled or disabled.
func (s *Store) EventState(ctx context.Context, k AgentKey, id int64) (gen.AgentEventState, error) {
	e, err := findEvent(s.read(ctx), k, id)
	return e.state(), err
}

// SetEventState enables or disables an event. The deliveries of a disabled event are parked: they leave their lane and
// block no other. When the event is enabled, they return to its lane in the order of their changes.
func (s *Store) SetEventState(
	ctx context.Context, k AgentKey, id int64, state gen.AgentEventStateValue,
) (m gen.AgentEventState, err error) {
	defer s.wake()
	err = s.write(ctx, func(tx *sqldb.Tx) error {
		e, err := findEvent(tx, k, id)
		if err != nil {
			return err
		}
		switch {
		case e.State == state:
		case state == gen.AgentEventStateValueDisabled:
			err = s.setState(tx, &e, state, reasonRequest)
		default:
			err = s.setState(tx, &e, state, "")
		}
		m = e.state()
		return err
	})
	return m, err
}

// setState sets the state of an event, which its deliveries follow.
func (s *Store) setState(tx *sqldb.Tx, e *eventRow, state gen.AgentEventStateValue, reason string) error {
	e.State, e.Reason, e.Since = state, reason, s.now()
	err := tx.Exec("UPDATE agent_events SET state = ?, reason = ?, since = ? WHERE id = ?",
		e.State, e.Reason, e.Since, e.ID)
	if err != nil {
		return err
	}
	return s.sweep(tx, sweepOf(*e))
}
