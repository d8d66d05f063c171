package store

import (
	"fmt"
	"net/http"
	"net/url"
	"slices"
	"strconv"
	"strings"
	"time"

	"gorm.io/gorm"

	"github.com/agentevents/agentevents/store/internal/sqldb"
	"github.com/agentevents/agentevents/webhook"
)

// origin is the scheme, host and port of a URL, which identify a receiver of a client.
type origin struct {
	scheme string
	host   string // as DNS gets it; an IPv6 address without its brackets
	port   int
}

// originOf returns the origin of an event's URL.
func originOf(raw string) (origin, error) {
	scheme, host, port, err := webhook.ReceiverOf(raw)
	if err != nil {
		return unmappedOriginOf(raw)
	}
	return origin{scheme, host, port}, nil
}

// unmappedOriginOf returns the origin of a URL whose host is only put in lower case. Events that were created before
// hosts were mapped keep such a receiver until they get another URL.
func unmappedOriginOf(raw string) (origin, error) {
	u, err := url.Parse(raw)
	if err != nil {
		return origin{}, fmt.Errorf("parse the URL of an event: %w", err)
	}
	r := origin{scheme: strings.ToLower(u.Scheme), host: strings.ToLower(u.Hostname()), port: 80}
	if r.scheme == "https" {
		r.port = 443
	}
	if p := u.Port(); p != "" {
		r.port, err = strconv.Atoi(p)
	}
	return r, err
}

// isOf reports whether a URL belongs to the receiver.
func (r origin) isOf(rawURL string) bool {
	mapped, err := originOf(rawURL)
	if err == nil && mapped == r {
		return true
	}
	unmapped, err := unmappedOriginOf(rawURL)
	return err == nil && unmapped == r
}

// ensureReceiver returns the id of a client's receiver, which it creates if there is none.
func ensureReceiver(tx *sqldb.Tx, client, rawURL string) (id int64, err error) {
	r, err := originOf(rawURL)
	if err != nil {
		return 0, err
	}
	return ensure(tx, "receivers", "client_id, scheme, host, port", client, r.scheme, r.host, r.port)
}

// receiverRow is a receiver with its breaker. The breaker is columns of the receiver's row: opening and closing change
// one row, survive a restart, and apply to all processes.
//
// The lanes of a receiver with an open breaker stay due, but no claim takes them before the time in Waits. Then a claim
// takes one lane as a probe. If the probe fails, the breaker waits again. The first success in any lane closes it.
type receiverRow struct {
	ID       int64 `gorm:"primaryKey"`
	Failures int
	Probes   int
	Waits    *int64
	Probe    *int64

	// An outage begins with a failure and ends with the next sign of life.
	Outages      int64  // so far, including the current one
	FailingSince *int64 // nil if there is no current outage
	PausedUntil  *int64 // set by an answer of 429; Waits is no earlier
	RecoveredAt  int64  // when the breaker last closed
}

func (receiverRow) TableName() string { return "receivers" }

func (r receiverRow) open() bool { return r.Failures >= webhook.BreakerThreshold }

// accepts reports whether a worker may keep a lane of the receiver without a claim.
func (r receiverRow) accepts(now int64) bool { return !r.open() && (r.Waits == nil || *r.Waits <= now) }

// admitProbes removes lanes of receivers whose breaker was open, if the breaker is closed by now or another process
// probes the receiver.
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

// waitsForProbe is true of a receiver that waits for the result of its probe.
const waitsForProbe = "waits = (SELECT l.lease_until FROM lanes l WHERE l.id = probe)"

// beginProbes makes probes of the heads at receivers with an open breaker. All other lanes of such a receiver wait for
// the result, at most until the end of the probe's lease.
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

// probeSQL finds the due lanes x of a receiver that may be claimed; an ORDER BY clause follows.
const probeSQL = "SELECT x.id, x.due_at FROM lanes x WHERE x.receiver_id = ? AND x.due_at <= ? " +
	"AND NOT EXISTS (SELECT 1 FROM deliveries d WHERE d.moved_to = x.id) "

// maxProbeCandidates is the number of lanes among which newProbeSQL chooses.
const maxProbeCandidates = 100

// newProbeSQL chooses a lane that was not probed since a time. Among the lanes that are due the longest, it prefers the
// head with the fewest failures of its own. So a delivery that the receiver rejects does not block its recovery.
const newProbeSQL = "SELECT lanes.id FROM (" + probeSQL +
	"AND coalesce(x.probed_at, 0) < ? ORDER BY x.due_at, x.id" + sqldb.Limit + ") lanes " +
	"ORDER BY (SELECT d.failures " + headOfLaneSQL + "), lanes.due_at, lanes.id LIMIT 1"

// oldProbeSQL chooses the lane that was probed longest ago.
const oldProbeSQL = probeSQL + "ORDER BY coalesce(x.probed_at, 0), x.due_at, x.id LIMIT 1"

// chooseProbe replaces a lane of a receiver with an open breaker by the lane to probe. Lanes without a probe in this
// outage precede the others; among those, the lane that was probed longest ago is next.
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

// abandonProbe makes another probe possible at once, if this lane was the probe and the receiver waited for it.
func (s *Store) abandonProbe(tx *sqldb.Tx, lane laneRow) error {
	return tx.Exec("UPDATE receivers SET probe = NULL, waits = ? WHERE id = ? AND probe = ? AND waits = ?",
		s.now(), lane.ReceiverID, lane.ID, lane.LeaseUntil)
}

// updateReceiver updates the receiver of a lane after an attempt, returns it, and reports whether it changed.
func (s *Store) updateReceiver(
	tx *sqldb.Tx, lane laneRow, o webhook.Outcome,
) (after receiverRow, changed bool, err error) {
	r, err := gorm.G[receiverRow](tx.GORM()).Where("id = ?", lane.ReceiverID).Take(tx.Context())
	if err != nil {
		return r, false, err
	}
	if after = s.afterAttempt(r, lane, o); after.equal(r) {
		return after, false, nil // the usual case
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

// afterAttempt returns a receiver's state after an attempt.
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

// afterProbe returns a receiver's state after a probe that was no sign of life.
func (s *Store) afterProbe(r receiverRow, lane laneRow) receiverRow {
	r.Probes++
	if r.Probe = nil; equalInt64(r.Waits, lane.LeaseUntil) { // it waited for the probe, and not because of a later 429
		r.Waits = nil
	}
	r.Waits = s.notBefore(r.Waits, webhook.RecoveryDelay(r.Probes))
	return r
}

// afterSuccess returns a receiver's state after a sign of life. A pause that the receiver asked for stays, unless its
// breaker was open.
func (r receiverRow) afterSuccess(now int64) receiverRow {
	if r.open() {
		return receiverRow{ID: r.ID, Outages: r.Outages, RecoveredAt: now}
	}
	r.Failures, r.FailingSince = 0, nil
	return r
}

// notBefore returns the later of a time from now and the time that was set before.
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

// backoff is the delay of a delivery after a failed attempt, and its failures from then on.
type backoff struct {
	Delay    int64 // milliseconds
	Failures int
	Outage   int64
}

// backoff returns the delay after a failed attempt.
//
// From the second failure in one outage on, the receiver is at fault. The delay then stays short, so that the delivery
// does not wait long once the receiver is back. Any other failure is the delivery's own, since other deliveries may
// succeed meanwhile; its delays grow with these failures. An attempt that was not sent, or whose answer sets a time,
// counts as neither.
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
