package store

import (
	"net/http"
	"slices"
	"time"

	"gorm.io/gorm"

	"github.com/agentevents/agentevents/store/internal/sqldb"
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

	// An outage begins with a failure and ends with the next sign of life.
	Outages      int64  // so far, with the current one
	FailingSince *int64 // nil without a current one
	PausedUntil  *int64 // by an answer of 429; Waits is no earlier then
	RecoveredAt  int64  // when its breaker closed last
}

func (receiverRow) TableName() string { return "receivers" }

func (r receiverRow) open() bool { return r.Failures >= webhook.BreakerThreshold }

// accepts says whether a lane may be kept without a claim.
func (r receiverRow) accepts(now int64) bool { return !r.open() && (r.Waits == nil || *r.Waits <= now) }

// admitProbes leaves out lanes of receivers whose breaker was open, if it is closed by now or another process probes
// them.
func (s *Store) admitProbes(tx *sqldb.Tx, due []dueLane) ([]dueLane, error) {
	var open []int64
	for _, l := range due {
		if l.open() {
			open = append(open, l.ReceiverID)
		}
	}
	if len(open) == 0 || s.engine.servesAlone() {
		return due, nil
	}
	free, err := sqldb.Select[int64](tx, "SELECT id FROM receivers WHERE id IN ? AND failures >= ? "+
		"AND (waits IS NULL OR waits <= ?) ORDER BY id"+tx.ForUpdate(false), sqldb.Padded(open),
		webhook.BreakerThreshold, s.now())
	return slices.DeleteFunc(due, func(l dueLane) bool { return l.open() && !slices.Contains(free, l.ReceiverID) }), err
}

// waitsForProbe says that a receiver waits for the result of its probe.
const waitsForProbe = "waits = (SELECT l.lease_until FROM lanes l WHERE l.id = probe)"

// beginProbes makes probes of the heads that were taken from receivers whose breaker is open: all other lanes of these
// wait for the result, at most until the end of the probe's lease.
func (s *Store) beginProbes(tx *sqldb.Tx, due []dueLane, heads []headRow) error {
	for _, l := range due {
		if !l.open() || !slices.ContainsFunc(heads, func(h headRow) bool { return h.LaneID == l.ID }) {
			continue
		}
		err := tx.Exec("UPDATE receivers SET probe = ?, waits = "+
			"(SELECT lease_until FROM lanes WHERE id = ?) WHERE id = ?",
			l.ID, l.ID, l.ReceiverID)
		if err == nil {
			err = tx.Exec("UPDATE lanes SET probed_at = ? WHERE id = ?", s.now(), l.ID)
		}
		if err != nil {
			return err
		}
	}
	return nil
}

// probeSQL finds the due lanes x of a receiver that may be claimed; in which order follows.
const probeSQL = "SELECT x.id, x.due_at FROM lanes x WHERE x.receiver_id = ? AND x.due_at <= ? " +
	"AND NOT EXISTS (SELECT 1 FROM deliveries d WHERE d.moved_to = x.id) "

// maxProbeCandidates is among how many lanes the one is looked for whose first delivery has failed least.
const maxProbeCandidates = 100

// newProbeSQL finds a lane that was not probed since a time: of those that are due the longest the one whose first
// delivery has had the fewest failures of its own, so that what a receiver fails at does not keep it from being asked
// for something else.
const newProbeSQL = "SELECT lanes.id FROM (" + probeSQL +
	"AND coalesce(x.probed_at, 0) < ? ORDER BY x.due_at, x.id" + sqldb.Limit + ") lanes " +
	"ORDER BY (SELECT d.failures " + headOfLaneSQL + "), lanes.due_at, lanes.id LIMIT 1"

// oldProbeSQL finds the lane that was probed longest ago.
const oldProbeSQL = probeSQL + "ORDER BY coalesce(x.probed_at, 0), x.due_at, x.id LIMIT 1"

// chooseProbe replaces a lane of a receiver whose breaker is open by the one that was probed longest ago. Those that
// were not probed since it began to fail come first.
func (s *Store) chooseProbe(tx *sqldb.Tx, l *dueLane) error {
	id, is, err := sqldb.Get[int64](tx, newProbeSQL, l.ReceiverID, s.now(), l.FailingSince, maxProbeCandidates)
	if err == nil && !is {
		var oldest laneDue
		oldest, is, err = sqldb.Get[laneDue](tx, oldProbeSQL, l.ReceiverID, s.now())
		id = oldest.ID
	}
	if is {
		l.ID = id
	}
	return err
}

// giveUpProbe lets another lane be the probe at once, if this one was and it was for this that the receiver waited.
func (s *Store) giveUpProbe(tx *sqldb.Tx, lane laneRow) error {
	return tx.Exec("UPDATE receivers SET probe = NULL, waits = ? WHERE id = ? AND probe = ? AND waits = ?",
		s.now(), lane.ReceiverID, lane.ID, lane.LeaseUntil)
}

// updateReceiver updates the receiver of a lane after an attempt, returns it, and says whether it changed.
func (s *Store) updateReceiver(
	tx *sqldb.Tx, lane laneRow, o webhook.Outcome,
) (after receiverRow, changed bool, err error) {
	r, err := gorm.G[receiverRow](tx.GORM()).Where("id = ?", lane.ReceiverID).Take(tx.Context())
	if err != nil {
		return r, false, err
	}
	if after = s.afterAttempt(r, lane, o); after.equal(r) {
		return after, false, nil // nearly always
	}
	r, err = gorm.G[receiverRow](tx.GORM(), sqldb.Locking(tx)...).Where("id = ?", lane.ReceiverID).Take(tx.Context())
	if err != nil {
		return r, false, err
	}
	after = s.afterAttempt(r, lane, o)
	if err := s.logBreaker(tx, r, after, o.Attempt); err != nil {
		return after, true, err
	}
	return after, true, after.save(tx)
}

// afterAttempt is a receiver after an attempt.
func (s *Store) afterAttempt(r receiverRow, lane laneRow, o webhook.Outcome) receiverRow {
	after, health := r, o.Health()
	if health == webhook.Down && r.FailingSince == nil {
		after.Outages, after.FailingSince = r.Outages+1, new(s.now())
	}
	switch {
	case health == webhook.Alive:
		after = r.afterSuccess(s.now())
	case health == webhook.Down && !r.open():
		if after.Failures++; after.open() {
			after.Waits = s.notBefore(r.Waits, webhook.RecoveryDelay(0))
		}
	case r.open() && r.Probe != nil && *r.Probe == lane.ID:
		after = s.afterProbe(after, lane)
	}
	if o.Status == http.StatusTooManyRequests {
		after.Waits = s.notBefore(after.Waits, o.Delay)
		after.PausedUntil = s.notBefore(after.PausedUntil, o.Delay)
	}
	return after
}

// afterProbe is a receiver after a probe in a lane that was no sign of life.
func (s *Store) afterProbe(r receiverRow, lane laneRow) receiverRow {
	r.Probes++
	if r.Probe = nil; equalInt64(r.Waits, lane.LeaseUntil) { // for the probe, and not since a 429
		r.Waits = nil
	}
	r.Waits = s.notBefore(r.Waits, webhook.RecoveryDelay(r.Probes))
	return r
}

// afterSuccess is a receiver after a sign of life. A pause that it asked for stays, unless its breaker was open.
func (r receiverRow) afterSuccess(now int64) receiverRow {
	if r.open() {
		return receiverRow{ID: r.ID, Outages: r.Outages, RecoveredAt: now}
	}
	r.Failures, r.FailingSince = 0, nil
	return r
}

// notBefore is a time from now, or the one that was set before if that is later.
func (s *Store) notBefore(before *int64, d time.Duration) *int64 {
	at := s.now() + d.Milliseconds()
	if before != nil && *before > at {
		return before
	}
	return &at
}

func (r receiverRow) equal(before receiverRow) bool {
	return r.Failures == before.Failures && r.Probes == before.Probes && equalInt64(r.Waits, before.Waits) &&
		equalInt64(r.Probe, before.Probe) && r.Outages == before.Outages &&
		equalInt64(r.FailingSince, before.FailingSince) &&
		equalInt64(r.PausedUntil, before.PausedUntil)
}

func (r receiverRow) save(tx *sqldb.Tx) error {
	return tx.Exec("UPDATE receivers SET failures = ?, probes = ?, waits = ?, probe = ?, outages = ?, "+
		"failing_since = ?, paused_until = ?, recovered_at = ? WHERE id = ?",
		r.Failures, r.Probes, r.Waits, r.Probe, r.Outages, r.FailingSince, r.PausedUntil, r.RecoveredAt, r.ID)
}

func equalInt64(a, b *int64) bool { return a == b || (a != nil && b != nil && *a == *b) }

// backoff is how long a delivery waits after a failed attempt, and its failures from then on.
type backoff struct {
	Delay    int64 // milliseconds
	Failures int
	Outage   int64
}

// backoff says whose failure an attempt was. The second in one outage of the receiver is the receiver's: it must not
// make the delivery wait for long once the receiver is back. Any other is the delivery's own, whose waits grow with
// these failures: other deliveries may succeed while it fails. An attempt that was not sent, or whose answer sets a
// time, is neither.
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
