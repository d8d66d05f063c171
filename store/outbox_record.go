package store

import (
	"context"
	"errors"
	"time"

	"gorm.io/gorm"

	"github.com/agentevents/agentevents/gen"
	"github.com/agentevents/agentevents/store/internal/sqldb"
	"github.com/agentevents/agentevents/webhook"
)

var _ webhook.Outbox = (*Store)(nil)

// SetHandoff implements webhook.Outbox.
func (s *Store) SetHandoff(h *webhook.HandoffFuncs) { s.handoff.Store(h) }

// Due implements webhook.Outbox.
func (s *Store) Due() <-chan struct{} { return s.dueSoon }

// wake notifies the dispatcher that any lane may be due.
func (s *Store) wake() { s.wakeFor(0) }

// wakeFor notifies the dispatcher that the lanes of a change may be due.
func (s *Store) wakeFor(change int64) {
	s.freshChanges.add(change)
	signal(s.dueSoon)
}

// Record implements webhook.Outbox.
func (s *Store) Record(
	ctx context.Context, d webhook.Delivery, o webhook.Outcome, keepLane bool,
) (next *webhook.Delivery, err error) {
	r := &result{ctx: ctx, Delivery: d, outcome: o, keepLane: keepLane, lease: time.Now().Add(s.Lease)}
	if o.Verdict == webhook.Gone {
		s.gone.Do(r)
	} else {
		s.results.Do(r)
	}
	if r.err != nil {
		return nil, r.err
	}
	if r.otherLanesDue || r.next == nil && r.laneDue {
		s.wake()
	}
	return r.next, nil
}

// result is an attempt to record, and what recording it caused. It is a task of a Batcher.
type result struct {
	webhook.Delivery
	ctx      context.Context
	outcome  webhook.Outcome
	keepLane bool
	lease    time.Time // for the next delivery of its lane

	next          *webhook.Delivery
	laneDue       bool // this lane may be claimed now
	otherLanesDue bool // other lanes may be claimed now
	err           error
}

func (r *result) Context() context.Context { return r.ctx }
func (r *result) End(err error)            { r.err = err }
func (r *result) Key() any                 { return r.Lane }
func (r *result) Owner() any               { return r.Client }
func (r *result) lane() int64              { return r.Lane }

// recordFirstGone records the first of some results of answers of 410, and defers the others. Such a result changes
// more than its lane: up to sweptRows deliveries follow their event. So each has a transaction of its own, and other
// writes need not wait for more than one of them. With wait false, it skips a result whose agent is locked.
func (s *Store) recordFirstGone(
	tx *sqldb.Tx, results []*result, wait bool,
) (skipped sqldb.Skipped[*result], err error) {
	skipped.Deferred = results[1:]
	free, err := tryLockAgentsOf(tx, []int64{results[0].ID}, wait)
	switch {
	case err != nil:
		return skipped, err
	case !free && !wait:
		skipped.Locked = results[:1]
		return skipped, nil
	}
	return skipped, s.recordGone(tx, results[0])
}

// recordGone records the result of an answer of 410. The agent must be locked.
func (s *Store) recordGone(tx *sqldb.Tx, r *result) error {
	if err := lockLanesForGone(tx, r.Delivery); err != nil {
		return err
	}
	lane, err := findLane(tx, r.Lane)
	if err != nil {
		return err
	}
	return s.record(tx, r, lane)
}

// record records one result by itself.
func (s *Store) record(tx *sqldb.Tx, r *result, lane laneRow) error {
	r.next, r.laneDue, r.otherLanesDue = nil, true, false
	done, err := recorded(tx, r.Delivery)
	if err == nil && done && lane.Claim == r.Claim {
		_, err = releaseLane(tx, r.Lane)
		return err
	}
	if err == nil {
		err = recordAttempt(tx, r.Delivery, r.outcome)
	}
	if err != nil || lane.Claim != r.Claim {
		return err // a later claim has leased the lane: the result is too late to count
	}
	receiver, changed, err := s.updateReceiver(tx, lane, r.outcome)
	if err != nil {
		return err
	}
	retry, moved, err := s.updateDelivery(tx, r.Delivery, r.outcome, receiver)
	if err != nil {
		return err
	}
	empty, err := s.keepLane(tx, r, r.keepLane && receiver.accepts(s.now()) && !retry)
	r.laneDue, r.otherLanesDue = retry || !empty, moved || changed
	return err
}

// updateDelivery updates the delivery after an attempt, and reports whether another attempt follows and whether the
// delivery moved.
//
// A delivery that was cancelled meanwhile keeps its state; only its attempts, failures and due time change. A delivery
// that moved to another lane stays unchanged. A failure at a URL that the event no longer has does not count, and
// neither does a result from before a redelivery.
func (s *Store) updateDelivery(
	tx *sqldb.Tx, d webhook.Delivery, o webhook.Outcome, receiver receiverRow,
) (retry, moved bool, err error) {
	row, err := gorm.G[deliveryRow](tx.GORM()).Where("id = ?", d.ID).Take(tx.Context())
	if err != nil || row.LaneID != d.Lane {
		return true, true, err // the lease ended, and the delivery moved to a lane that another worker may hold
	}
	if row.Replays != d.Redeliveries {
		return true, row.MovedTo != nil, nil
	}
	unswept, err := row.foresee(tx)
	if err != nil {
		return false, false, err
	}
	next := receiver.backoff(o, row.Failures, row.Outage)
	due := min(s.now()+next.Delay, row.ExpiresAt)
	if o.Verdict != webhook.Delivered && row.VersionID != d.Version {
		o.Verdict, unswept = webhook.Retry, true // the event got another URL or method
	}
	if o.Verdict == webhook.Retry && unswept {
		next, due = backoff{}, row.DueAt
	}
	err = tx.Exec("UPDATE deliveries SET attempts = ?, due_at = ?, failures = ?, outage = ? WHERE id = ?",
		d.Attempt, due, next.Failures, next.Outage, d.ID)
	switch {
	case err != nil:
		return false, false, err
	case o.Verdict == webhook.Retry:
		return true, row.MovedTo != nil, nil // if the event moved, the next claim moves the delivery
	case o.Verdict == webhook.Gone:
		err = s.disableGone(tx, row, d.URL)
	}
	if err != nil {
		return false, false, err
	}
	s.skipped.deliveries.noteIn(tx, d.ID) // retention may delete the row from now on
	if row.FinishedAt == nil {            // neither cancelled nor failed meanwhile
		if err := s.logFailures(tx, &result{Delivery: d, outcome: o}); err != nil {
			return false, false, err
		}
	}
	return false, row.MovedTo != nil, s.endDelivery(tx, d.ID, d.Lane, finalState(o.Verdict))
}

// finalState returns the state of a delivery after its last attempt.
func finalState(v webhook.Verdict) string {
	if v == webhook.Delivered {
		return stateDelivered
	}
	return stateFailed
}

// endDelivery ends a pending or parked delivery of a lane.
func (s *Store) endDelivery(tx *sqldb.Tx, delivery, lane int64, state string) error {
	count, err := tx.ExecCount("UPDATE deliveries SET state = ?, finished_at = ? WHERE id = ? "+
		"AND lane_id = ? AND state || '' = 'parked'",
		state, s.now(), delivery, lane)
	if err != nil {
		return err
	}
	s.countEnded(tx, state, count)
	return s.removeFromLane(tx, lane, state, byID, delivery)
}

// lockLanesForGone locks the lanes that an answer of 410 changes.
func lockLanesForGone(tx *sqldb.Tx, d webhook.Delivery) error {
	event, err := sqldb.Value[int64](tx, "SELECT event_id FROM deliveries WHERE id = ?", d.ID)
	if err != nil {
		return err
	}
	return lockLanesOfEvent(tx, event, d.Lane)
}

// disableGone fails a delivery that was answered with 410. It disables the event, unless that has another URL by now.
// The delivery must fail first, since disabling the event parks all pending ones. endDelivery then changes nothing.
func (s *Store) disableGone(tx *sqldb.Tx, row deliveryRow, sentTo string) error {
	if err := s.removeFromLane(tx, row.LaneID, stateFailed, byID, row.ID); err != nil {
		return err
	}
	e, err := gorm.G[eventRow](tx.GORM()).Where("id = ?", row.EventID).Take(tx.Context())
	switch {
	case errors.Is(err, gorm.ErrRecordNotFound):
		return nil
	case err != nil || e.State == gen.AgentEventStateValueDisabled || e.URL != sentTo:
		return err
	}
	if err := s.logDisabled(tx, row.ID, reasonGone); err != nil {
		return err
	}
	return s.setState(tx, &e, gen.AgentEventStateValueDisabled, reasonGone)
}

// keepLane keeps the lane under the same claim with its next delivery, or releases it. It reports whether the lane is
// empty.
func (s *Store) keepLane(tx *sqldb.Tx, r *result, wanted bool) (empty bool, err error) {
	due, err := releaseLane(tx, r.Lane)
	if err != nil || due == nil || !wanted {
		return due == nil, err
	}
	return false, s.renew(tx, []*result{r})
}

// renew leases the lanes of results again that have another due delivery, under the same claim, and sets that delivery.
func (s *Store) renew(tx *sqldb.Tx, results []*result) error {
	now := s.now()
	until := now + s.Lease.Milliseconds()
	lanes, err := sqldb.Select[int64](tx, "UPDATE lanes SET "+setLeasedSQL+" WHERE id IN ? AND due_at + 0 <= ? "+
		"AND "+freeOfMovesSQL("lanes.id")+" RETURNING id",
		until, until, sqldb.Padded(each(results, (*result).lane)), now)
	if err != nil || len(lanes) == 0 {
		return err
	}
	heads, err := sqldb.Select[headRow](tx, headSQL+"WHERE l.id IN ?", sqldb.Padded(lanes))
	if err != nil {
		return err
	}
	next := indexBy(heads, func(h headRow) int64 { return h.LaneID })
	for _, r := range results {
		h, ok := next[r.Lane]
		h, unreadable := h.decrypted(s)
		expired := h.expired(now, false) // a lane of a receiver with an open breaker is never kept
		switch {
		case !ok:
		case expired || unreadable != nil || h.Unswept:
			err = errors.Join(err, s.releaseUnsent(tx, h, expired))
		default:
			r.next = new(s.leasedDelivery(h, r.lease))
		}
	}
	return err
}

// Release implements webhook.Outbox.
func (s *Store) Release(ctx context.Context, d webhook.Delivery) error {
	defer s.wake()
	return s.write(ctx, func(tx *sqldb.Tx) error {
		lane, err := findLane(tx, d.Lane)
		if err != nil || lane.Claim != d.Claim {
			return err
		}
		if err := s.abandonProbe(tx, lane); err != nil {
			return err
		}
		_, err = releaseLane(tx, d.Lane)
		return err
	})
}

// maxKeptAttempts is the number of attempts at a delivery that are kept. A receiver that asks for short delays gets
// hundreds.
const maxKeptAttempts = 100

// attempt returns the row of a plain result (see laneStates.plain).
func (r *result) attempt() attemptRow {
	o := r.outcome
	return attemptRow{
		DeliveryID: r.ID, Number: r.Attempt, StartedAt: o.StartedAt.UnixMilli(), Duration: o.Duration.Microseconds(),
		Status: o.Status, Error: o.Error, Excerpt: o.Excerpt, Verdict: string(o.Verdict), VersionID: r.Version,
		Signature: o.Signature, Traceparent: r.Traceparent,
	}
}

// recordAttempt stores an attempt, and deletes the oldest of more than maxKeptAttempts.
func recordAttempt(tx *sqldb.Tx, d webhook.Delivery, o webhook.Outcome) error {
	id, err := sqldb.Value[int64](tx,
		"INSERT INTO attempts (delivery_id, number, started_at, duration, status, error, excerpt, verdict, "+
			"signature, traceparent, version_id) SELECT id, ?, ?, ?, ?, ?, ?, ?, ?, ?, ? FROM deliveries WHERE id = ? "+
			"RETURNING id", d.Attempt, o.StartedAt.UnixMilli(), o.Duration.Microseconds(), o.Status, o.Error, o.Excerpt,
		string(o.Verdict), o.Signature, d.Traceparent, d.Version, d.ID)
	if err == nil {
		// A late attempt may be recorded after an attempt of the lane's next holder.
		err = tx.Exec("UPDATE deliveries SET last_attempt = ? WHERE id = ? AND coalesce(last_attempt, 0) < ?", id,
			d.ID, id)
	}
	if err != nil || d.Attempt <= maxKeptAttempts && !d.Redelivery {
		return err
	}
	return tx.Exec("DELETE FROM attempts WHERE id IN (SELECT id FROM attempts WHERE delivery_id = ? ORDER BY id DESC "+
		"LIMIT ? OFFSET ?)", d.ID, maxKeptAttempts, maxKeptAttempts)
}

// recorded reports whether an attempt is recorded already, by a commit whose answer was lost.
func recorded(tx *sqldb.Tx, d webhook.Delivery) (bool, error) {
	n, err := sqldb.Value[int](tx, "SELECT count(*) FROM deliveries WHERE id = ? AND replays = ? AND attempts >= ?",
		d.ID, d.Redeliveries, d.Attempt)
	return n > 0, err
}
