package store

import (
	"context"
	"errors"
	"maps"
	"slices"

	"github.com/agentevents/agentevents/store/internal/sqldb"
)

// eventSweep makes the unfinished deliveries of an event follow a change of that event. The transaction of the change
// makes the first of them follow. If there are more, the row is stored, and a job makes the others follow in slices, so
// that no request waits long for the writer.
//
// The change holds at once nevertheless: a delivery beyond the position is not sent, and no claim takes the lane that
// the deliveries move to.
type eventSweep struct {
	EventID   int64
	State     string // what the deliveries become: pending, parked or cancelled
	LaneID    *int64 // where pending deliveries go; nil for the other states
	VersionID int64  // the URL and the method that they get; 0 for cancelled ones
	Position  int64  // the last delivery that has followed
}

// sweepOf returns the sweep that makes deliveries follow an event as it is now.
func sweepOf(e eventRow) eventSweep {
	w := eventSweep{EventID: e.ID, State: e.deliveryState(), VersionID: e.VersionID}
	if w.State == statePending {
		w.LaneID = &e.LaneID
	}
	return w
}

// sweptRows is the number of deliveries of a slice.
var sweptRows = 200

// unsweptSQL is true of a delivery d that has not followed its event yet.
const unsweptSQL = "EXISTS (SELECT 1 FROM event_sweeps w WHERE w.event_id = d.event_id AND w.position < d.id)"

// orphanSweepSQL is true of a delivery d that the sweep of a deleted event would change if it were unfinished. It would
// be cancelled, or parked for ever, or sent to another URL than its own.
const orphanSweepSQL = "EXISTS (SELECT 1 FROM event_sweeps w WHERE w.event_id = d.event_id AND w.position < d.id " +
	"AND NOT EXISTS (SELECT 1 FROM agent_events e WHERE e.id = w.event_id))"

// sweep begins a sweep. It replaces an earlier one of the event.
func (s *Store) sweep(tx *sqldb.Tx, w eventSweep) error {
	if err := lockLanesOfEvent(tx, w.EventID, slices.Collect(maps.Keys(w.lanes(nil)))...); err != nil {
		return err
	}
	more, err := s.sweepSlice(tx, &w)
	if err == nil {
		err = tx.Exec("DELETE FROM event_sweeps WHERE event_id = ?", w.EventID)
	}
	if err != nil || !more {
		return err
	}
	tx.CallerOnCommit(func() { signal(s.sweeps) })
	return tx.Exec("INSERT INTO event_sweeps (event_id, state, lane_id, version_id, position) VALUES (?, ?, ?, ?, ?)",
		w.EventID, w.State, w.LaneID, w.VersionID, w.Position)
}

// foresee reports whether a delivery must follow its event first. If it does, foresee sets the version that it will
// have then.
func (r *deliveryRow) foresee(tx *sqldb.Tx) (unswept bool, err error) {
	w, is, err := sqldb.Get[eventSweep](tx, sweepSQL, r.EventID)
	unswept = is && w.Position < r.ID
	if unswept && w.State != stateCancelled {
		r.VersionID = w.VersionID
	}
	return unswept, err
}

// runSweeps continues all sweeps, a slice of each in turn, until none is left. A failed sweep does not block another.
func (s *Store) runSweeps(ctx context.Context) error {
	for ctx.Err() == nil {
		events, err := sqldb.Select[int64](s.read(ctx), "SELECT event_id FROM event_sweeps ORDER BY event_id")
		if err != nil || len(events) == 0 {
			return publicError(err)
		}
		for _, event := range events {
			err = errors.Join(err, s.write(context.WithoutCancel(ctx), func(tx *sqldb.Tx) error {
				return s.continueSweep(tx, event)
			}))
		}
		s.wake()
		if err != nil {
			return err
		}
	}
	return nil
}

const sweepSQL = "SELECT event_id, state, lane_id, version_id, position FROM event_sweeps WHERE event_id = ?"

// continueSweep executes the next slice of a sweep. The sweep may have ended, or have been replaced, meanwhile.
func (s *Store) continueSweep(tx *sqldb.Tx, event int64) error {
	before, _, err := sqldb.Get[eventSweep](tx, sweepSQL, event)
	if err != nil {
		return err
	}
	rows, err := before.next(tx)
	if err == nil {
		err = lockAgentsOf(tx, each(rows, deliveryID))
	}
	if err != nil {
		return err
	}
	w, is, err := sqldb.Get[eventSweep](tx, sweepSQL+tx.ForUpdate(true), event)
	if err != nil || !is {
		return err
	}
	more, err := s.sweepSlice(tx, &w)
	switch {
	case err != nil:
		return err
	case !more:
		return tx.Exec("DELETE FROM event_sweeps WHERE event_id = ?", event)
	}
	return tx.Exec("UPDATE event_sweeps SET position = ? WHERE event_id = ?", w.Position, event)
}

// next lists the next unfinished deliveries of the event.
func (w eventSweep) next(q sqldb.Querier) ([]deliveryRow, error) {
	return sqldb.Select[deliveryRow](q, "SELECT d.id, d.lane_id, d.moved_to FROM deliveries d WHERE d.event_id = ? "+
		"AND d.state IN ('pending', 'parked') AND d.id > ? ORDER BY d.id LIMIT ?", w.EventID, w.Position, sweptRows)
}

func deliveryID(r deliveryRow) int64 { return r.ID }

// sweepSlice makes the next deliveries follow their event, and reports whether there may be more. It locks their lanes.
// A delivery that changed its lane before the lock stays for the next slice.
func (s *Store) sweepSlice(tx *sqldb.Tx, w *eventSweep) (more bool, err error) {
	listed, err := w.next(tx)
	if err != nil || len(listed) == 0 {
		return false, err
	}
	locked := w.lanes(listed)
	if err := lockLanes(tx, slices.Sorted(maps.Keys(locked))...); err != nil {
		return false, err
	}
	rows, err := w.next(tx)
	if err != nil {
		return false, err
	}
	if n := slices.IndexFunc(rows, func(r deliveryRow) bool { return !locked[r.LaneID] }); n >= 0 {
		return true, s.sweepRows(tx, w, rows[:n])
	}
	return len(rows) == sweptRows, s.sweepRows(tx, w, rows)
}

// lanes are the lanes that change if some deliveries follow the event.
func (w eventSweep) lanes(rows []deliveryRow) map[int64]bool {
	lanes := map[int64]bool{}
	if w.LaneID != nil {
		lanes[*w.LaneID] = true
	}
	for _, r := range rows {
		lanes[r.LaneID] = true
		if r.MovedTo != nil {
			lanes[*r.MovedTo] = true
		}
	}
	return lanes
}

// sweepRows makes deliveries follow their event, whose lanes must be locked.
func (s *Store) sweepRows(tx *sqldb.Tx, w *eventSweep, rows []deliveryRow) (err error) {
	if len(rows) == 0 {
		return nil
	}
	w.Position = rows[len(rows)-1].ID
	ids := sqldb.Padded(each(rows, deliveryID))
	if w.State != stateCancelled {
		err = s.redirect(tx, *w, ids)
	}
	if err == nil && w.State == statePending {
		err = s.expireParked(tx, ids)
	}
	if err == nil && w.State == stateCancelled {
		err = s.cancelParked(tx, ids)
	}
	lanes := slices.Compact(slices.Sorted(slices.Values(each(rows, laneOf))))
	for i := 0; err == nil && i < len(lanes); i++ {
		err = s.sweepLane(tx, *w, lanes[i], ids)
	}
	return err
}

// sweepLane makes those of the deliveries follow that are in a lane.
func (s *Store) sweepLane(tx *sqldb.Tx, w eventSweep, lane int64, ids []int64) error {
	if w.State != statePending {
		return s.removeFromLane(tx, lane, w.State, byIDs, ids)
	}
	now := s.now()
	if err := moveDeliveries(tx, lane, *w.LaneID, now, ids); err != nil {
		return err
	}
	return unpark(tx, lane, *w.LaneID, now, byIDs, ids)
}

// redirect gives unfinished deliveries the URL and the method of their event. They are due at once, as after a first
// enqueue.
func (s *Store) redirect(tx *sqldb.Tx, w eventSweep, ids []int64) error {
	now := s.now()
	return tx.Exec("UPDATE deliveries SET version_id = ?, due_at = ?, failures = 0, outage = 0 WHERE "+byIDs+
		" AND (version_id <> ? OR due_at > ? OR failures <> 0 OR outage <> 0)", w.VersionID, now, ids, w.VersionID, now)
}

// cancelParked cancels the parked ones of some deliveries.
func (s *Store) cancelParked(tx *sqldb.Tx, ids []int64) error {
	count, err := tx.ExecCount("UPDATE deliveries SET state = 'cancelled', finished_at = ? WHERE "+byIDs+
		" AND state || '' = 'parked'", s.now(), ids)
	s.countEnded(tx, stateCancelled, count)
	return err
}

// expireParked fails the expired ones of some parked deliveries.
func (s *Store) expireParked(tx *sqldb.Tx, ids []int64) error {
	now := s.now()
	expired, err := sqldb.Select[int64](tx, "UPDATE deliveries SET state = 'failed', finished_at = ? WHERE "+byIDs+
		" AND state || '' = 'parked' AND expires_at <= ? RETURNING id", now, ids, now)
	if err != nil {
		return err
	}
	s.countEnded(tx, stateFailed, int64(len(expired)))
	return s.noteExpired(tx, expired...)
}

// moveDeliveries moves the pending ones of some deliveries from a lane to the event's own. A delivery in flight stays
// until its result, and no claim takes the event's lane until then. If that delivery is still pending, it moves, too.
func moveDeliveries(tx *sqldb.Tx, from, to, now int64, ids []int64) error {
	const pending = "lane_id = ? AND state || '' = 'pending' AND " + byIDs
	lane, err := findLane(tx, from)
	if err != nil {
		return err
	}
	if from == to {
		err := tx.Exec("UPDATE deliveries SET moved_to = NULL WHERE moved_to IS NOT NULL AND "+pending, from, ids)
		if err != nil {
			return err
		}
		return adjustLane(tx, from, 0, now)
	}
	inFlight := lane.inFlight(now)
	err = tx.Exec("UPDATE deliveries SET moved_to = ? WHERE id = ? AND "+pending, to, inFlight, from, ids)
	if err != nil {
		return err
	}
	return changeLane(tx, from, to, now, byIDs+" AND id <> ?", ids, inFlight)
}
