package store

import (
	"errors"

	"gorm.io/gorm"

	"github.com/agentevents/agentevents/webhook"
)

// retry is what a delivery waits for after an attempt that is to be repeated.
type retry struct {
	Delay    int64 // milliseconds
	Failures int
	Outage   int64
}

// retry says whose failure an attempt was. The second in one outage of the receiver is the receiver's: it must not make the
// delivery wait for long once the receiver is back. Any other is the delivery's own, which waits for the longer the more of
// these it has had: others may be taken while it is not. What a receiver has set a time for itself counts as neither.
func (r receiverRow) retry(o webhook.Outcome, failures int, outage int64) retry {
	next := retry{o.Delay.Milliseconds(), failures + 1, outage}
	switch {
	case o.Health() == webhook.Down && outage == r.Outages:
		next.Delay, next.Failures = o.Recovery.Milliseconds(), failures
	case o.Health() == webhook.Down:
		next.Outage = r.Outages
	case o.RetryAfter > 0:
		next.Failures = failures
	}
	return next
}

// sendNow makes pending deliveries due at once, and what goes before them in their lanes, which are held: over a time that
// they wait for by themselves, but not over a pause that their receiver has asked for. At an open breaker the next probe is
// now. What is in flight stays so.
func (s *Store) sendNow(tx *gorm.DB, ids ...int64) error {
	last, err := query[deliveryRow](tx, "SELECT DISTINCT d.lane_id, d.change_id, d.id FROM deliveries d WHERE d.id IN ? "+
		"AND d.state || '' = 'pending' ORDER BY d.lane_id, d.change_id, d.id", padded(ids))
	for i := 0; err == nil && i < len(last); i++ {
		if i+1 == len(last) || last[i+1].LaneID != last[i].LaneID {
			err = s.laneNow(tx, last[i])
		}
	}
	return err
}

// laneNow makes a lane's deliveries up to one due.
func (s *Store) laneNow(tx *gorm.DB, last deliveryRow) error {
	now := s.now()
	return errors.Join(
		tx.Exec("UPDATE deliveries SET due_at = ? WHERE lane_id = ? AND state = 'pending' AND (change_id, id) <= (?, ?) AND due_at > ?",
			now, last.LaneID, last.ChangeID, last.ID, now).Error,
		shift(tx, last.LaneID, 0, now),
		tx.Exec("UPDATE receivers SET waits = CASE WHEN paused_until > ? THEN paused_until ELSE ? END "+
			"WHERE id = (SELECT receiver_id FROM lanes WHERE id = ?) AND failures >= ? AND waits > ? AND probe IS NULL",
			now, now, last.LaneID, webhook.Failures, now).Error,
	)
}
