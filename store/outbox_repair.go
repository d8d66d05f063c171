package store

import (
	"context"
	"errors"
	"log/slog"
	"slices"
	"time"

	"github.com/agentevents/agentevents/store/internal/sqldb"
	"github.com/agentevents/agentevents/webhook"
)

// expiredPerCommit is the number of expired deliveries that one commit fails.
const expiredPerCommit = 100

// RepairLanes implements webhook.Outbox. It finds and repairs inconsistent lanes. A lane is inconsistent if its row
// does not match its deliveries. The rules of lanes (doc.go) should prevent that. RepairLanes also fails expired
// deliveries that no claim has reached. It uses several transactions.
func (s *Store) RepairLanes(ctx context.Context) (int, error) {
	if err := errors.Join(s.expire(ctx), s.repairWaits(ctx)); err != nil {
		return 0, err
	}
	found, err := s.inconsistentLanes(s.read(ctx))
	if err != nil || len(found) == 0 {
		return 0, publicError(err)
	}
	repaired := 0
	err = s.write(ctx, func(tx *sqldb.Tx) error {
		repaired = 0
		if err := lockLanes(tx, found...); err != nil {
			return err
		}
		lanes, err := s.inconsistentAmong(tx, found) // a lane may have become consistent since it was read
		if err != nil || len(lanes) == 0 {
			return err
		}
		repaired = len(lanes)
		s.count(tx, func(c *Counts) { c.Repaired += int64(repaired) })
		return s.repair(tx, lanes)
	})
	if err != nil {
		return 0, err
	}
	if repaired > 0 {
		s.Log.Error("lanes repaired", "lanes", repaired)
		s.wake()
	}
	return repaired, nil
}

// inconsistentLanesSQL lists inconsistent lanes:
//
//   - a lane with a wrong number of pending deliveries
//   - a lane with pending deliveries that is never due, or due later than any delay allows (after a wrong clock)
//   - a lane with pending deliveries and a lease that ends later than any lease may (after a wrong clock)
//   - a lane that is not leased, and becomes due later than its head
//   - an empty lane with a due time, although it is not leased
//
// A lane that is due and empty after the end of its lease is consistent: its delivery was cancelled, and the next claim
// resets it.
const inconsistentLanesSQL = `SELECT * FROM (
	SELECT ` + laneCountColumns + `coalesce(p.n, 0) AS actual
	FROM lanes LEFT JOIN (SELECT lane_id, count(*) AS n FROM deliveries WHERE state = 'pending' GROUP BY lane_id) p
		ON p.lane_id = lanes.id
	WHERE lanes.pending <> 0 OR p.n > 0 OR lanes.due_at IS NOT NULL) counted` + inconsistentSQL

// someInconsistentLanesSQL is inconsistentLanesSQL for some lanes.
const someInconsistentLanesSQL = `SELECT * FROM (
	SELECT ` + laneCountColumns +
	`(SELECT count(*) FROM deliveries d WHERE d.lane_id = lanes.id AND d.state = 'pending') AS actual
	FROM lanes WHERE lanes.id IN @lanes) counted` + inconsistentSQL

const laneCountColumns = "lanes.id, lanes.pending, lanes.due_at, lanes.lease_until, (SELECT d.due_at " +
	headOfLaneSQL + ") AS first_due, "

const inconsistentSQL = `
WHERE pending <> actual OR (actual = 0 AND lease_until IS NULL AND due_at IS NOT NULL) OR (actual > 0 AND (
	due_at IS NULL OR due_at > @due_limit OR lease_until > @lease_limit OR
	((lease_until IS NULL OR lease_until <= @now) AND due_at > @now AND due_at > first_due)))`

func (s *Store) inconsistentLanes(q sqldb.Querier) (lanes []int64, err error) {
	return sqldb.Select[int64](q, "SELECT id FROM ("+inconsistentLanesSQL+") inconsistent", s.bounds())
}

func (s *Store) inconsistentAmong(tx *sqldb.Tx, some []int64) (lanes []int64, err error) {
	values := s.bounds()
	values["lanes"] = sqldb.Padded(some)
	return sqldb.Select[int64](tx, "SELECT id FROM ("+someInconsistentLanesSQL+") inconsistent", values)
}

// dueLimit is the exclusive bound of due times: the first time that is later than any delay allows.
func (s *Store) dueLimit() int64 {
	return s.now() + max(s.Longest, s.Lease).Milliseconds() + 1
}

// leaseBound is the exclusive bound of leases: longer than any lease that the configuration allows.
const leaseBound = 2 * time.Minute

// leaseLimit is the exclusive bound of the ends of leases: the first time that is later than any of them.
func (s *Store) leaseLimit() int64 { return s.now() + max(s.Lease, leaseBound).Milliseconds() + 1 }

// repair corrects inconsistent lanes, which must be locked.
func (s *Store) repair(tx *sqldb.Tx, lanes []int64) error {
	now := s.now()
	err := tx.Exec("UPDATE deliveries SET due_at = ? WHERE lane_id IN ? AND state = 'pending' AND due_at > ?",
		now, lanes, s.dueLimit())
	if err != nil {
		return err
	}
	until := now + s.Lease.Milliseconds()
	err = tx.Exec("UPDATE lanes SET lease_until = ?, due_at = ? WHERE id IN ? AND lease_until > ?",
		until, until, lanes, s.leaseLimit())
	if err != nil {
		return err
	}
	err = tx.Exec("UPDATE lanes SET due_at = coalesce(due_at, lease_until), "+
		"pending = (SELECT count(*) FROM deliveries d WHERE d.lane_id = lanes.id AND d.state = 'pending') "+
		"WHERE id IN ?", lanes)
	for i := 0; err == nil && i < len(lanes); i++ {
		err = adjustLane(tx, lanes[i], 0, now)
	}
	return err
}

// repairWaits ends the waits of receivers that are longer than any delay, which a wrong clock causes.
func (s *Store) repairWaits(ctx context.Context) error {
	n, err := sqldb.Value[int](s.read(ctx), "SELECT count(*) FROM receivers WHERE waits > ?", s.dueLimit())
	if err != nil || n == 0 {
		return publicError(err)
	}
	defer s.wake()
	return s.write(ctx, func(tx *sqldb.Tx) error {
		return tx.Exec("UPDATE receivers SET waits = ? WHERE waits > ?", s.now(), s.dueLimit())
	})
}

// expire fails expired deliveries that are parked, or wait behind a breaker or in a lane. It leaves deliveries in
// flight alone. Its commits are small, so that no request waits long for the writer.
func (s *Store) expire(ctx context.Context) error {
	for more := true; more; {
		expired, err := s.expiredDeliveries(s.read(ctx))
		if err != nil || len(expired) == 0 {
			return publicError(err)
		}
		err = s.write(ctx, func(tx *sqldb.Tx) error { return s.failExpired(tx, expired) })
		if err != nil {
			return err
		}
		s.wake()
		more = len(expired) == expiredPerCommit
	}
	return nil
}

// expiredDeliveries lists expired deliveries that are not in flight, at most expiredPerCommit. With ids, it lists only
// those of the ids.
func (s *Store) expiredDeliveries(q sqldb.Querier, some ...int64) (rows []deliveryRow, err error) {
	now, among := s.now(), ""
	args := []any{now, webhook.BreakerThreshold, now, now}
	if len(some) > 0 {
		among, args = " AND d.id IN ?", append(args, sqldb.Padded(some))
	}
	return sqldb.Select[deliveryRow](q,
		"SELECT d.id, d.lane_id, d.state FROM deliveries d WHERE d.state IN ('pending', 'parked') "+
			"AND "+expiredSQL+" AND NOT EXISTS (SELECT 1 FROM lanes l WHERE l.id = d.lane_id "+
			"AND l.delivery_id = d.id AND l.lease_until > ?)"+among+" LIMIT ?", append(args, expiredPerCommit)...)
}

func laneOf(r deliveryRow) int64 { return r.LaneID }

// failExpired fails listed deliveries that are still expired and in the same lanes.
func (s *Store) failExpired(tx *sqldb.Tx, listed []deliveryRow) error {
	lanes := each(listed, laneOf)
	if err := lockLanes(tx, lanes...); err != nil {
		return err
	}
	rows, err := s.expiredDeliveries(tx, each(listed, func(r deliveryRow) int64 { return r.ID })...)
	var expired []int64
	for i := 0; err == nil && i < len(rows); i++ {
		if slices.Contains(lanes, rows[i].LaneID) {
			expired = append(expired, rows[i].ID)
			err = s.endDelivery(tx, rows[i].ID, rows[i].LaneID, stateFailed)
		}
	}
	if err != nil {
		return err
	}
	return s.noteExpired(tx, expired...)
}

// A delivery fails when its window is over. But a delivery without an attempt has one first: the server was stopped, or
// the clock was wrong. This exception does not hold if its receiver is down or has asked for a pause, or if its event
// is disabled.

// expired reports whether a head fails because its window is over. open means that its receiver's breaker is open.
func (h headRow) expired(now int64, open bool) bool {
	return h.ExpiresAt <= now && (h.Attempts > 0 || open)
}

// expiredSQL is the condition for deliveries d that are not in flight. It also covers deliveries that no claim handles:
// parked ones, and those of receivers that asked for a pause. Its parameters are the time, webhook.BreakerThreshold and
// the time.
const expiredSQL = "d.expires_at <= ? AND (d.state = 'parked' OR d.attempts > 0 OR EXISTS (SELECT 1 FROM lanes l " +
	"JOIN receivers r ON r.id = l.receiver_id WHERE l.id = d.lane_id AND (r.failures >= ? OR r.paused_until > ?)))"

// noteExpired counts expired deliveries, and logs a line for each.
func (s *Store) noteExpired(tx *sqldb.Tx, deliveries ...int64) error {
	if len(deliveries) == 0 {
		return nil
	}
	s.count(tx, func(c *Counts) { c.Expired += int64(len(deliveries)) })
	found, err := logSubjects(tx, deliveries...)
	for _, d := range found {
		s.logCommitted(tx, slog.LevelWarn, "delivery expired", d.attrs(slog.Int("attempts", d.Attempts))...)
	}
	return err
}
