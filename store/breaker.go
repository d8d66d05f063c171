package store

import (
	"net/http"
	"slices"
	"time"

	"gorm.io/gorm"

	"github.com/agentevents/agentevents/webhook"
)

// A receiver's breaker is its row, so that opening and closing touch one row, survive a restart and are shared. Its
// lanes stay due; while it waits, none is claimed. Then one is, as a probe: if that fails the breaker waits again, and
// the first success of any of its lanes closes it.
type receiverRow struct {
	ID       int64 `gorm:"primaryKey"`
	Failures int
	Probes   int
	Waits    *int64
	Probe    *int64
}

func (receiverRow) TableName() string { return "receivers" }

func (r receiverRow) open() bool { return r.Failures >= webhook.Failures }

// free says whether a lane may go on without a claim.
func (r receiverRow) free(now int64) bool { return !r.open() && (r.Waits == nil || *r.Waits <= now) }

// admitProbes leaves out lanes of receivers whose breaker is open and that another process probes by now.
func (s *Store) admitProbes(tx *gorm.DB, due []dueLane) ([]dueLane, error) {
	var open []int64
	for _, l := range due {
		if l.open() {
			open = append(open, l.ReceiverID)
		}
	}
	if len(open) == 0 || !onPostgres(tx) {
		return due, nil
	}
	var free []int64
	err := tx.Raw("SELECT id FROM receivers WHERE id IN ? AND (waits IS NULL OR waits <= ?) ORDER BY id FOR "+forUpdate+" SKIP LOCKED",
		padded(open), s.now()).Scan(&free).Error
	return slices.DeleteFunc(due, func(l dueLane) bool { return l.open() && !slices.Contains(free, l.ReceiverID) }), err
}

// beginProbes makes probes of the heads that were taken from receivers whose breaker is open: all other lanes of these
// wait for the result, no longer than the probe's lease.
func beginProbes(tx *gorm.DB, due []dueLane, heads []headRow) error {
	for _, l := range due {
		if !l.open() || !slices.ContainsFunc(heads, func(h headRow) bool { return h.LaneID == l.ID }) {
			continue
		}
		err := tx.Exec("UPDATE receivers SET probe = ?, waits = (SELECT lease_until FROM lanes WHERE id = ?) WHERE id = ?",
			l.ID, l.ID, l.ReceiverID).Error
		if err != nil {
			return err
		}
	}
	return nil
}

// giveUpProbe lets another lane be the probe at once, if this one was and it was for this that the receiver waited.
func (s *Store) giveUpProbe(tx *gorm.DB, lane laneRow) error {
	return tx.Exec("UPDATE receivers SET probe = NULL, waits = ? WHERE id = ? AND probe = ? AND waits = ?",
		s.now(), lane.ReceiverID, lane.ID, lane.LeaseUntil).Error
}

// judge draws from an attempt what it says about the receiver, and says whether its lanes may go on, and whether that
// is news.
func (s *Store) judge(tx *gorm.DB, lane laneRow, o webhook.Outcome) (free, news bool, err error) {
	r, err := gorm.G[receiverRow](tx).Where("id = ?", lane.ReceiverID).Take(tx.Statement.Context)
	if err != nil {
		return false, false, err
	}
	after := s.after(r, lane, o)
	if after.same(r) {
		return after.free(s.now()), false, nil // next to always
	}
	r, err = gorm.G[receiverRow](tx, holding(tx)...).Where("id = ?", lane.ReceiverID).Take(tx.Statement.Context)
	if err != nil {
		return false, false, err
	}
	after = s.after(r, lane, o)
	return after.free(s.now()), true, after.save(tx)
}

// after is a receiver after an attempt.
func (s *Store) after(r receiverRow, lane laneRow, o webhook.Outcome) receiverRow {
	probing := r.Probe != nil && *r.Probe == lane.ID
	after := r
	switch health := o.Health(); {
	case health == webhook.Alive && r.open():
		after = receiverRow{ID: r.ID}
	case health == webhook.Alive:
		after.Failures = 0 // a 429's wait goes on
	case health == webhook.Down && !r.open():
		if after.Failures++; after.open() {
			after.Waits = s.later(r.Waits, webhook.ProbeDelay(0))
		}
	case r.open() && probing:
		after.Probes++
		if after.Probe = nil; same(after.Waits, lane.LeaseUntil) { // for the probe, and not since a 429
			after.Waits = nil
		}
		after.Waits = s.later(after.Waits, webhook.ProbeDelay(after.Probes))
	}
	if o.Status == http.StatusTooManyRequests {
		after.Waits = s.later(after.Waits, o.Delay)
	}
	return after
}

// later is a time from now, or the one that was set before if that is later.
func (s *Store) later(before *int64, d time.Duration) *int64 {
	at := s.now() + d.Milliseconds()
	if before != nil && *before > at {
		return before
	}
	return &at
}

func (r receiverRow) same(before receiverRow) bool {
	return r.Failures == before.Failures && r.Probes == before.Probes && same(r.Waits, before.Waits) &&
		same(r.Probe, before.Probe)
}

func (r receiverRow) save(tx *gorm.DB) error {
	return tx.Exec("UPDATE receivers SET failures = ?, probes = ?, waits = ?, probe = ? WHERE id = ?",
		r.Failures, r.Probes, r.Waits, r.Probe, r.ID).Error
}

func same(a, b *int64) bool { return a == b || (a != nil && b != nil && *a == *b) }
