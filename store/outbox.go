package store

import (
	"context"
	"time"

	"gorm.io/gorm"

	"github.com/agentevents/agentevents/webhook"
)

var _ webhook.Outbox = (*Store)(nil)

// receiversSQL names r, the receivers with lanes that are due now or later. It skips from receiver to receiver over
// the index, so that one with very many lanes costs no more than any other.
const receiversSQL = `WITH RECURSIVE r (id) AS (
	SELECT min(receiver_id) FROM lanes WHERE due_at IS NOT NULL
	UNION ALL
	SELECT (SELECT min(receiver_id) FROM lanes WHERE due_at IS NOT NULL AND receiver_id > r.id) FROM r WHERE r.id IS NOT NULL
)`

// nextSQL finds when the next lane is due.
const nextSQL = receiversSQL + `
SELECT min((SELECT min(due_at) FROM lanes WHERE receiver_id = r.id AND due_at > ?)) FROM r`

// claimSQL finds due lanes, fairly: of each receiver the longest due first, and no receiver's second before every
// receiver's first. A lane that a delivery still in flight elsewhere will follow to is not
// claimed before that is back.
const claimSQL = receiversSQL + `
SELECT l.id, l.receiver_id, row_number() OVER (PARTITION BY l.receiver_id ORDER BY l.due_at, l.id) AS turn
FROM r JOIN lanes l ON l.id IN (
	SELECT x.id FROM lanes x
	WHERE x.receiver_id = r.id AND x.due_at <= ?
		AND NOT EXISTS (SELECT 1 FROM deliveries d WHERE d.moved_to = x.id)
	ORDER BY x.due_at, x.id LIMIT ?)
WHERE r.id IS NOT NULL AND r.id NOT IN ?
ORDER BY turn, l.due_at, l.id LIMIT ?`

// Due implements webhook.Outbox.
func (s *Store) Due() <-chan struct{} { return s.dueSoon }

// wake tells the dispatcher that something may have become due.
func (s *Store) wake() {
	select {
	case s.dueSoon <- struct{}{}:
	default:
	}
}

// Claim implements webhook.Outbox.
func (s *Store) Claim(ctx context.Context, room webhook.Room) (claimed []webhook.Delivery, next time.Duration, err error) {
	lease := time.Now().Add(s.Lease) // before the commit: the holder's view ends first
	err = s.write(ctx, func(tx *gorm.DB) error {
		lanes, more, err := s.dueLanes(tx, room)
		if err != nil {
			return err
		}
		heads, err := s.take(tx, lanes)
		if err != nil {
			return err
		}
		for _, h := range heads {
			claimed = append(claimed, h.delivery(lease))
		}
		next, err = s.untilNext(tx, more || len(heads) < len(lanes))
		return err
	})
	if err != nil {
		return nil, 0, err
	}
	return claimed, next, nil
}

// dueLanes picks the lanes that a claim takes, and says whether it found more than there was room for.
func (s *Store) dueLanes(tx *gorm.DB, room webhook.Room) (lanes []int64, more bool, err error) {
	var found []struct{ ID, ReceiverID int64 }
	full := append([]int64{0}, room.Full...)
	err = tx.Raw(claimSQL, s.now(), room.PerReceiver, full, room.Lanes).Scan(&found).Error
	if err != nil {
		return nil, false, err
	}
	for _, l := range found {
		if room.Take(l.ReceiverID) {
			lanes = append(lanes, l.ID)
		}
	}
	return lanes, len(found) == room.Lanes, nil
}

// take leases lanes and returns their heads. What is not to be sent after all is put where it belongs: a head that is
// not due yet waits, one whose window is over has failed, one whose registration has moved follows it.
func (s *Store) take(tx *gorm.DB, lanes []int64) (heads []headRow, err error) {
	if len(lanes) == 0 {
		return nil, nil
	}
	now := s.now()
	until := now + s.Lease.Milliseconds()
	err = tx.Exec("UPDATE lanes SET claim = claim + 1, "+leased+" WHERE id IN ?", until, until, lanes).Error
	if err != nil {
		return nil, err
	}
	var found []headRow
	if err := tx.Raw(headSQL+"WHERE l.id IN ? ORDER BY d.change_id, d.id", lanes).Scan(&found).Error; err != nil {
		return nil, err
	}
	if len(found) < len(lanes) { // what the holder of a lost lease had was cancelled
		err := tx.Exec("UPDATE lanes SET "+released+" WHERE id IN ? AND delivery_id IS NULL", lanes).Error
		if err != nil {
			return nil, err
		}
	}
	for _, h := range found {
		if h.DueAt <= now && h.ExpiresAt > now && h.MovedTo == nil {
			heads = append(heads, h)
		} else if err := s.putAside(tx, h, now); err != nil {
			return nil, err
		}
	}
	return heads, nil
}

func (s *Store) putAside(tx *gorm.DB, h headRow, now int64) error {
	var err error
	switch {
	case h.ExpiresAt <= now:
		err = s.end(tx, h.LaneID, failed, "id = ?", h.ID)
	case h.MovedTo != nil:
		err = carry(tx, h.LaneID, *h.MovedTo, now, "id = ?", h.ID)
	}
	if err != nil {
		return err
	}
	return letGo(tx, h.LaneID)
}

// untilNext is how long it is until the next lane is due.
func (s *Store) untilNext(tx *gorm.DB, more bool) (time.Duration, error) {
	if more {
		return 0, nil
	}
	var due *int64
	now := s.now()
	err := tx.Raw(nextSQL, now).Scan(&due).Error
	if err != nil || due == nil {
		return -1, err
	}
	return time.Duration(*due-now) * time.Millisecond, nil
}

// Record implements webhook.Outbox.
func (s *Store) Record(
	ctx context.Context, d webhook.Delivery, o webhook.Outcome, goOn bool,
) (next *webhook.Delivery, err error) {
	lease := time.Now().Add(s.Lease)
	err = s.write(ctx, func(tx *gorm.DB) error {
		if err := recordAttempt(tx, d, o); err != nil {
			return err
		}
		lane, err := findLane(tx, d.Lane)
		if err != nil || lane.Claim != d.Claim {
			return err // somebody else has the lane by now: what we did comes too late to count
		}
		if err := s.settle(tx, d, o); err != nil {
			return err
		}
		next, err = s.goOn(tx, d, goOn && o.Verdict != webhook.Retry, lease)
		return err
	})
	if err != nil {
		return nil, err
	}
	if next == nil {
		s.wake()
	}
	return next, nil
}

func recordAttempt(tx *gorm.DB, d webhook.Delivery, o webhook.Outcome) error {
	return tx.Exec("INSERT INTO attempts "+
		"(delivery_id, number, started_at, duration, status, error, excerpt, verdict) VALUES (?, ?, ?, ?, ?, ?, ?, ?)",
		d.ID, d.Attempt, o.StartedAt.UnixMilli(), o.Duration.Microseconds(), o.Status, o.Error, o.Excerpt, o.Verdict).Error
}

// settle gives the delivery its new state. That the statements name lane and state makes them do nothing to one that
// was cancelled or moved meanwhile.
func (s *Store) settle(tx *gorm.DB, d webhook.Delivery, o webhook.Outcome) error {
	due := s.now() + o.Delay.Milliseconds()
	err := tx.Exec("UPDATE deliveries SET attempts = ?, due_at = CASE WHEN moved_to IS NULL THEN ? ELSE due_at END "+
		"WHERE id = ? AND lane_id = ? AND state = 'pending'", d.Attempt, due, d.ID, d.Lane).Error
	switch {
	case err != nil:
		return err
	case o.Verdict == webhook.Delivered:
		return s.end(tx, d.Lane, delivered, "id = ?", d.ID)
	case o.Verdict != webhook.Retry:
		return s.end(tx, d.Lane, failed, "id = ?", d.ID)
	}
	if err := s.end(tx, d.Lane, failed, "id = ? AND due_at >= expires_at", d.ID); err != nil {
		return err
	}
	return s.follow(tx, d)
}

// follow takes a delivery that came back unsent to where its registration has gone meanwhile, if it has.
func (s *Store) follow(tx *gorm.DB, d webhook.Delivery) error {
	row, err := gorm.G[deliveryRow](tx).Where("id = ?", d.ID).Take(tx.Statement.Context)
	if err != nil || row.MovedTo == nil {
		return err
	}
	return carry(tx, d.Lane, *row.MovedTo, s.now(), "id = ?", d.ID)
}

// goOn keeps the lane under the same claim and returns its next delivery, or lets it go.
func (s *Store) goOn(tx *gorm.DB, d webhook.Delivery, wanted bool, lease time.Time) (*webhook.Delivery, error) {
	if err := letGo(tx, d.Lane); err != nil || !wanted {
		return nil, err
	}
	now := s.now()
	until := now + s.Lease.Milliseconds()
	renewed := tx.Exec("UPDATE lanes SET "+leased+" WHERE id = ? AND due_at <= ? "+
		"AND NOT EXISTS (SELECT 1 FROM deliveries d WHERE d.moved_to = lanes.id)", until, until, d.Lane, now)
	if renewed.Error != nil || renewed.RowsAffected == 0 {
		return nil, renewed.Error
	}
	var h headRow
	if err := tx.Raw(headSQL+"WHERE l.id = ?", d.Lane).Scan(&h).Error; err != nil {
		return nil, err
	}
	if h.ExpiresAt <= now || h.MovedTo != nil {
		return nil, s.putAside(tx, h, now)
	}
	next := h.delivery(lease)
	return &next, nil
}

// Release implements webhook.Outbox.
func (s *Store) Release(ctx context.Context, d webhook.Delivery) error {
	defer s.wake()
	return s.write(ctx, func(tx *gorm.DB) error {
		lane, err := findLane(tx, d.Lane)
		if err != nil || lane.Claim != d.Claim {
			return err
		}
		return letGo(tx, d.Lane)
	})
}
