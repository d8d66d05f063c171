package store

import (
	"context"
	"errors"
	"time"

	"gorm.io/gorm"

	"github.com/agentevents/agentevents/gen"
	"github.com/agentevents/agentevents/webhook"
)

var _ webhook.Outbox = (*Store)(nil)

// Due implements webhook.Outbox.
func (s *Store) Due() <-chan struct{} { return s.dueSoon }

// wake tells the dispatcher that any lane may have become due.
func (s *Store) wake() { s.wakeFor(0) }

// wakeFor tells the dispatcher that the lanes of a change may have become due.
func (s *Store) wakeFor(change int64) {
	s.fresh.add(change)
	signal(s.dueSoon)
}

// Record implements webhook.Outbox.
func (s *Store) Record(
	ctx context.Context, d webhook.Delivery, o webhook.Outcome, goOn bool,
) (next *webhook.Delivery, err error) {
	lease := time.Now().Add(s.Lease)
	more, elsewhere := true, false // that may be claimed now: in this lane, in others
	err = s.write(ctx, func(tx *gorm.DB) error {
		next, more, elsewhere = nil, true, false
		if err := holdForGone(tx, d, o); err != nil {
			return err
		}
		lane, err := findLane(tx, d.Lane)
		if err != nil {
			return err
		}
		if err := recordAttempt(tx, d, o); err != nil || lane.Claim != d.Claim {
			return err // somebody else has the lane by now: what we did comes too late to count
		}
		free, news, err := s.judge(tx, lane, o)
		if err != nil {
			return err
		}
		again, moved, err := s.settle(tx, d, o)
		if err != nil {
			return err
		}
		var empty bool
		next, empty, err = s.goOn(tx, d, goOn && free && !again, lease)
		more, elsewhere = again || !empty, moved || news
		return err
	})
	if err != nil {
		return nil, err
	}
	if elsewhere || next == nil && more {
		s.wake()
	}
	return next, nil
}

// settle gives the delivery its new state, and says whether it is to be sent again, and whether it had moved. That the
// statements name lane and state makes them do nothing to one that was cancelled or moved meanwhile. A refusal by where
// it was sent to before its registration was corrected counts for nothing, nor does any answer from before it was sent again.
func (s *Store) settle(tx *gorm.DB, d webhook.Delivery, o webhook.Outcome) (again, moved bool, err error) {
	row, err := gorm.G[deliveryRow](tx).Where("id = ?", d.ID).Take(tx.Statement.Context)
	if err != nil || row.LaneID != d.Lane {
		return true, true, err // the lease was over, and it went where somebody else may have it by now
	}
	if row.Replays != d.Replays {
		return true, row.MovedTo != nil, nil
	}
	due := min(s.now()+o.Delay.Milliseconds(), row.ExpiresAt)
	if o.Verdict != webhook.Delivered && (row.URL != d.URL || row.Method != d.Method) {
		o.Verdict, due = webhook.Retry, row.DueAt // it was corrected meanwhile, and is due at once
	}
	err = tx.Exec("UPDATE deliveries SET attempts = ?, due_at = ? WHERE id = ?", d.Attempt, due, d.ID).Error
	switch {
	case err != nil:
		return false, false, err
	case o.Verdict == webhook.Retry:
		return true, row.MovedTo != nil, nil // if it has moved, the next claim has it follow
	case o.Verdict == webhook.Gone:
		err = s.gone(tx, row, d.URL)
	}
	if err != nil {
		return false, false, err
	}
	s.passed.deliveries.note(d.ID)
	return false, row.MovedTo != nil, s.end(tx, d.ID, d.Lane, ended(o.Verdict))
}

// ended is the state that a delivery has after a last attempt.
func ended(v webhook.Verdict) string {
	if v == webhook.Delivered {
		return delivered
	}
	return failed
}

// end ends a delivery of a lane, also one that is parked: it must not go out again.
func (s *Store) end(tx *gorm.DB, delivery, lane int64, state string) error {
	away := tx.Exec("UPDATE deliveries SET state = ?, finished_at = ? WHERE id = ? AND lane_id = ? AND state = 'parked'",
		state, s.now(), delivery, lane)
	if away.Error != nil {
		return away.Error
	}
	counts(tx).ended(state, away.RowsAffected)
	return s.takeOut(tx, lane, state, "id = ?", delivery)
}

// holdForGone holds what an answer of 410 is going to change beside the delivery's own lane.
func holdForGone(tx *gorm.DB, d webhook.Delivery, o webhook.Outcome) error {
	if o.Verdict != webhook.Gone {
		return nil
	}
	if err := holdAgentsOf(tx, []int64{d.ID}); err != nil {
		return err
	}
	var event int64
	err := tx.Raw("SELECT event_id FROM deliveries WHERE id = ?", d.ID).Scan(&event).Error
	if err != nil {
		return err
	}
	return holdLanesOf(tx, event, d.Lane)
}

// gone disables the registration of a delivery that was answered by 410, but for the delivery itself, which has failed.
// A URL that it no longer has does not count.
func (s *Store) gone(tx *gorm.DB, row deliveryRow, sentTo string) error {
	if err := s.takeOut(tx, row.LaneID, failed, "id = ?", row.ID); err != nil {
		return err
	}
	e, err := gorm.G[eventRow](tx).Where("id = ?", row.EventID).Take(tx.Statement.Context)
	switch {
	case errors.Is(err, gorm.ErrRecordNotFound):
		return nil
	case err != nil || e.State == gen.AgentEventStateValueDisabled || e.URL != sentTo:
		return err
	}
	return s.disable(tx, &e, reasonGone)
}

// goOn keeps the lane under the same claim and returns its next delivery, or lets it go, and says whether it is empty.
func (s *Store) goOn(
	tx *gorm.DB, d webhook.Delivery, wanted bool, lease time.Time,
) (next *webhook.Delivery, empty bool, err error) {
	due, err := letGo(tx, d.Lane)
	if err != nil || due == nil || !wanted {
		return nil, due == nil, err
	}
	now := s.now()
	until := now + s.Lease.Milliseconds()
	renewed := tx.Exec("UPDATE lanes SET "+leased+" WHERE id = ? AND due_at <= ? "+
		"AND NOT EXISTS (SELECT 1 FROM deliveries d WHERE d.moved_to = lanes.id)", until, until, d.Lane, now)
	if renewed.Error != nil || renewed.RowsAffected == 0 {
		return nil, false, renewed.Error
	}
	var h headRow
	if err := tx.Raw(headSQL+"WHERE l.id = ?", d.Lane).Scan(&h).Error; err != nil {
		return nil, false, err
	}
	if h.ExpiresAt <= now {
		return nil, false, s.putAside(tx, h, now)
	}
	x := h.opened(s).delivery(lease, s.now())
	return &x, false, nil
}

// Release implements webhook.Outbox.
func (s *Store) Release(ctx context.Context, d webhook.Delivery) error {
	defer s.wake()
	return s.write(ctx, func(tx *gorm.DB) error {
		lane, err := findLane(tx, d.Lane)
		if err != nil || lane.Claim != d.Claim {
			return err
		}
		if err := s.giveUpProbe(tx, lane); err != nil {
			return err
		}
		_, err = letGo(tx, d.Lane)
		return err
	})
}
