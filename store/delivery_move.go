package store

import (
	"errors"
	"fmt"
	"slices"

	"github.com/agentevents/agentevents/store/internal/sqldb"
	"github.com/agentevents/agentevents/webhook"
)

// Conditions on deliveries of a lane: one delivery, or the unfinished ones of an event. Each has an index of its own.
// In a statement with one of them, a further condition on state appends an empty string, so that the planner cannot
// choose the index of that state. Likewise, `event_id + 0` keeps it from the index of an event's deliveries.
const (
	byID    = "id = ?"
	byEvent = "event_id = ? AND state IN ('pending', 'parked')"
)

// removeFromLane sets the state of the pending deliveries of a lane that match a condition, and updates the lane.
func (s *Store) removeFromLane(tx *sqldb.Tx, lane int64, state, where string, args ...any) error {
	now := s.now()
	finished := &now
	if state == stateParked {
		finished = nil
	}
	count, err := tx.ExecCount("UPDATE deliveries SET state = ?, finished_at = ?, moved_to = NULL "+
		"WHERE lane_id = ? AND state || '' = 'pending' AND "+where, append([]any{state, finished, lane}, args...)...)
	if err != nil || count == 0 {
		return err
	}
	s.countEnded(tx, state, count)
	return adjustLane(tx, lane, -int(count), now)
}

// cancelDeliveries cancels all pending and parked deliveries of an event.
func (s *Store) cancelDeliveries(tx *sqldb.Tx, event int64) error {
	if err := lockLanesOfEvent(tx, event); err != nil {
		return err
	}
	count, err := tx.ExecCount("UPDATE deliveries SET state = 'cancelled', finished_at = ? WHERE "+byEvent+
		" AND state || '' = 'parked'",
		s.now(), event)
	if err != nil {
		return err
	}
	s.countEnded(tx, stateCancelled, count)
	lanes, err := pendingLanes(tx, event)
	for i := 0; err == nil && i < len(lanes); i++ {
		err = s.removeFromLane(tx, lanes[i], stateCancelled, byEvent, event)
	}
	return err
}

// pendingLanes lists the lanes with pending deliveries of an event: its own lane and, for deliveries in flight, earlier
// ones.
func pendingLanes(tx *sqldb.Tx, event int64) (lanes []int64, err error) {
	return sqldb.Select[int64](tx,
		"SELECT DISTINCT lane_id FROM deliveries WHERE "+byEvent+" AND state || '' = 'pending' ORDER BY lane_id", event)
}

// lockLanesOfEvent locks the lanes that unfinished deliveries of an event are in or move to, the event's lane, and the
// lanes of also.
func lockLanesOfEvent(tx *sqldb.Tx, event int64, also ...int64) error {
	if tx.Dialect() == sqldb.SQLite {
		return nil
	}
	lanes, err := sqldb.Select[int64](tx,
		"SELECT lane_id FROM deliveries WHERE event_id = ? AND state IN ('pending', 'parked') UNION "+
			"SELECT moved_to FROM deliveries WHERE event_id = ? AND moved_to IS NOT NULL "+
			"AND state IN ('pending', 'parked') UNION "+
			"SELECT lane_id FROM agent_events WHERE id = ?", event, event, event)
	if err != nil {
		return err
	}
	return lockLanes(tx, append(lanes, also...)...)
}

// redirect gives the unfinished deliveries of an event its new URL, method and lane, and makes them due. Parked
// deliveries get the lane when the event is enabled.
func (s *Store) redirect(tx *sqldb.Tx, e eventRow) error {
	now := s.now()
	if err := lockLanesOfEvent(tx, e.ID, e.LaneID); err != nil {
		return err
	}
	if err := rememberURL(tx, "event_id = ? AND state IN ('pending', 'parked')", e.ID); err != nil {
		return err
	}
	err := tx.Exec("UPDATE deliveries SET url = ?, method = ?, due_at = ?, failures = 0, outage = 0 "+
		"WHERE event_id = ? AND state IN ('pending', 'parked')", e.URL, e.Method, now, e.ID)
	if err != nil {
		return err
	}
	lanes, err := pendingLanes(tx, e.ID)
	for i := 0; err == nil && i < len(lanes); i++ {
		err = s.moveDeliveries(tx, e, lanes[i], now)
	}
	return err
}

// rememberURL copies URL and method to the attempts of deliveries that match a condition, before the deliveries get
// others.
func rememberURL(tx *sqldb.Tx, where string, args ...any) error {
	const of = "(SELECT d.%s FROM deliveries d WHERE d.id = attempts.delivery_id)"
	return tx.Exec("UPDATE attempts SET url = "+fmt.Sprintf(of, "url")+", method = "+fmt.Sprintf(of, "method")+
		" WHERE url = '' AND delivery_id IN (SELECT id FROM deliveries WHERE "+where+")", args...)
}

// moveDeliveries moves the pending deliveries of an event from a lane to the event's own. A delivery in flight stays
// until its result, and no claim takes the event's lane until then. If that delivery is still pending, it moves, too.
func (s *Store) moveDeliveries(tx *sqldb.Tx, e eventRow, from, now int64) error {
	lane, err := findLane(tx, from)
	if err != nil {
		return err
	}
	if from == e.LaneID {
		err := tx.Exec(
			"UPDATE deliveries SET moved_to = NULL WHERE lane_id = ? AND state || '' = 'pending' AND "+byEvent, from,
			e.ID,
		)
		if err != nil {
			return err
		}
		return adjustLane(tx, from, 0, now)
	}
	inFlight := lane.inFlight(now)
	err = tx.Exec("UPDATE deliveries SET moved_to = ? WHERE id = ? AND event_id + 0 = ? AND lane_id = ? "+
		"AND state || '' = 'pending'",
		e.LaneID, inFlight, e.ID, from)
	if err != nil {
		return err
	}
	return changeLane(tx, from, e.LaneID, now, byEvent+" AND id <> ?", e.ID, inFlight)
}

// changeLane moves the pending deliveries of a lane that match a condition to another lane.
func changeLane(tx *sqldb.Tx, from, to, now int64, where string, args ...any) error {
	count, err := tx.ExecCount("UPDATE deliveries SET lane_id = ?, moved_to = NULL WHERE lane_id = ? "+
		"AND state || '' = 'pending' AND "+where,
		append([]any{to, from}, args...)...)
	if err != nil || count == 0 {
		return err
	}
	if err := adjustLane(tx, from, -int(count), now); err != nil {
		return err
	}
	return adjustLane(tx, to, int(count), now)
}

// parkedLanes lists the lanes of the parked deliveries of an event.
func parkedLanes(tx *sqldb.Tx, event int64) (lanes []int64, err error) {
	return sqldb.Select[int64](tx,
		"SELECT DISTINCT lane_id FROM deliveries WHERE "+byEvent+" AND state || '' = 'parked' ORDER BY lane_id", event)
}

// unpark makes the parked deliveries of a lane that match a condition pending again, in another lane or in the same. A
// delivery that is still in flight in the old lane stays there until its result.
func unpark(tx *sqldb.Tx, to, from, now int64, where string, args ...any) error {
	lane, err := findLane(tx, from)
	if err != nil {
		return err
	}
	if inFlight := lane.inFlight(now); inFlight != 0 && from != to {
		count, err := tx.ExecCount("UPDATE deliveries SET state = 'pending', due_at = ?, moved_to = ? "+
			"WHERE id = ? AND state || '' = 'parked' AND "+where, append([]any{now, to, inFlight}, args...)...)
		if err != nil {
			return err
		}
		if err := adjustLane(tx, from, int(count), now); err != nil {
			return err
		}
	}
	count, err := tx.ExecCount("UPDATE deliveries SET state = 'pending', due_at = ?, lane_id = ? "+
		"WHERE lane_id = ? AND state || '' = 'parked' AND "+where, append([]any{now, to, from}, args...)...)
	if err != nil {
		return err
	}
	return adjustLane(tx, to, int(count), now)
}

// makeDue makes pending deliveries due at once, together with the earlier ones of their lanes, which must be locked. It
// ends the wait for the next attempt, but not a pause that the receiver asked for. If a breaker is open, the next probe
// is due now. Deliveries in flight stay in flight.
func (s *Store) makeDue(tx *sqldb.Tx, ids ...int64) error {
	pending, err := sqldb.Select[deliveryRow](tx,
		"SELECT DISTINCT d.lane_id, d.change_id, d.id FROM deliveries d WHERE d.id IN ? "+
			"AND d.state || '' = 'pending' ORDER BY d.lane_id, d.change_id, d.id", sqldb.Padded(ids))
	if err != nil || len(pending) == 0 {
		return err
	}
	for i := 0; err == nil && i < len(pending); i++ {
		if i+1 == len(pending) || pending[i+1].LaneID != pending[i].LaneID {
			err = s.makeLaneDue(tx, pending[i])
		}
	}
	if err != nil {
		return err
	}
	return s.makeProbeDue(tx, slices.Compact(each(pending, laneOf)))
}

// makeLaneDue makes the deliveries of a lane due, up to the last one given.
func (s *Store) makeLaneDue(tx *sqldb.Tx, last deliveryRow) error {
	now := s.now()
	return errors.Join(
		tx.Exec("UPDATE deliveries SET due_at = ? "+
			"WHERE lane_id = ? AND state = 'pending' AND (change_id, id) <= (?, ?) AND due_at > ?",
			now, last.LaneID, last.ChangeID, last.ID, now),
		adjustLane(tx, last.LaneID, 0, now),
	)
}

// makeProbeDue ends the waits of open breakers at the receivers of lanes, unless a probe is in flight.
func (s *Store) makeProbeDue(tx *sqldb.Tx, lanes []int64) error {
	now := s.now()
	open, err := sqldb.Select[int64](tx,
		"SELECT id FROM receivers WHERE id IN (SELECT receiver_id FROM lanes WHERE id IN ?) "+
			"AND failures >= ? AND waits > ? AND probe IS NULL ORDER BY id"+tx.ForUpdate(true),
		sqldb.Padded(lanes), webhook.BreakerThreshold, now)
	if err != nil || len(open) == 0 {
		return err
	}
	return tx.Exec("UPDATE receivers SET waits = CASE WHEN paused_until > ? THEN paused_until ELSE ? END WHERE id IN ?",
		now, now, sqldb.Padded(open))
}
