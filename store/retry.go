package store

import (
	"errors"
	"slices"

	"github.com/agentevents/agentevents/store/internal/sqldb"
	"github.com/agentevents/agentevents/webhook"
)

// backoff is how long a delivery waits after an attempt that is to be repeated, and what that counts as.
type backoff struct {
	Delay    int64 // milliseconds
	Failures int
	Outage   int64
}

// backoff says whose failure an attempt was. The second in one outage of the receiver is the receiver's: it must not
// make the delivery wait for long once the receiver is back. Any other is the delivery's own, which waits for the
// longer the more of these it has had: others may be taken while it is not. What the receiver has set a time for, or
// was not sent, is neither.
func (r receiverRow) backoff(o webhook.Outcome, failures int, outage int64) (next backoff) {
	next = backoff{Delay: o.Delay.Milliseconds(), Failures: failures + 1, Outage: outage}
	down := o.Health() == webhook.Down
	switch {
	case o.RetryAfter > 0, o.Status == 0 && !down:
		next.Failures = failures
	case down && outage == r.Outages:
		next.Delay, next.Failures = o.Recovery.Milliseconds(), failures
	}
	if down {
		next.Outage = r.Outages
	}
	return next
}

// sendNow makes pending deliveries due at once, and what goes before them in their lanes, which are held: over a time
// that they wait for by themselves, but not over a pause that their receiver has asked for. At an open breaker the
// next probe is now. What is in flight stays so.
func (s *Store) sendNow(tx *sqldb.Tx, ids ...int64) error {
	last, err := sqldb.Select[deliveryRow](tx, "SELECT DISTINCT d.lane_id, d.change_id, d.id FROM deliveries d WHERE d.id IN ? "+
		"AND d.state || '' = 'pending' ORDER BY d.lane_id, d.change_id, d.id", sqldb.Padded(ids))
	if err != nil || len(last) == 0 {
		return err
	}
	for i := 0; err == nil && i < len(last); i++ {
		if i+1 == len(last) || last[i+1].LaneID != last[i].LaneID {
			err = s.laneNow(tx, last[i])
		}
	}
	if err != nil {
		return err
	}
	return s.probeNow(tx, slices.Compact(each(last, laneOf)))
}

// laneNow makes a lane's deliveries up to one due.
func (s *Store) laneNow(tx *sqldb.Tx, last deliveryRow) error {
	now := s.now()
	return errors.Join(
		tx.Exec("UPDATE deliveries SET due_at = ? "+
			"WHERE lane_id = ? AND state = 'pending' AND (change_id, id) <= (?, ?) AND due_at > ?",
			now, last.LaneID, last.ChangeID, last.ID, now),
		shift(tx, last.LaneID, 0, now),
	)
}

// probeNow ends the waits of open breakers of some lanes' receivers, unless a probe is under way.
func (s *Store) probeNow(tx *sqldb.Tx, lanes []int64) error {
	now := s.now()
	open, err := sqldb.Select[int64](tx, "SELECT id FROM receivers WHERE id IN (SELECT receiver_id FROM lanes WHERE id IN ?) "+
		"AND failures >= ? AND waits > ? AND probe IS NULL ORDER BY id"+tx.ForUpdate(true),
		sqldb.Padded(lanes), webhook.Failures, now)
	if err != nil || len(open) == 0 {
		return err
	}
	return tx.Exec("UPDATE receivers SET waits = CASE WHEN paused_until > ? THEN paused_until ELSE ? END WHERE id IN ?",
		now, now, sqldb.Padded(open))
}
