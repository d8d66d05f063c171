package store

import (
	"context"
	"slices"
	"sync/atomic"
	"time"

	"github.com/agentevents/agentevents/store/internal/postgres"
	"github.com/agentevents/agentevents/store/internal/sqldb"
)

// All due times are of one clock. If the clock is put back, each due time is further away by the same step. So the
// running process, or the next start, notices the step and subtracts it from all times in the future. A clock that is
// put forward only makes rows due earlier.

const (
	// clockNotedEvery is the interval at which the clock's time is stored for the next start.
	clockNotedEvery = 10 * time.Second
	// stepRowsPerCommit is the number of deliveries or lanes that one commit changes.
	stepRowsPerCommit = 500
)

// clockWatch is a process's state of the clock, in milliseconds. Only the job watchClock uses the fields other than
// latest.
type clockWatch struct {
	latest  atomic.Int64 // the latest time that was used
	written int64
	step    int64 // the step back that is not subtracted yet
	claimed bool  // this process is the one that subtracts the step
}

// use records a time that is used, and returns it.
func (w *clockWatch) use(now int64) int64 {
	for latest := w.latest.Load(); now > latest && !w.latest.CompareAndSwap(latest, now); latest = w.latest.Load() {
	}
	return now
}

// steppedBack returns by how much the clock was put back since the last call. It ignores a small difference.
func (w *clockWatch) steppedBack(now int64) int64 {
	back := w.latest.Load() - now
	if back <= postgres.ClockJitter.Milliseconds() {
		return 0
	}
	w.latest.Store(now)
	return back
}

// watchClock subtracts a step back of the clock, and otherwise stores the time for the next start.
func (s *Store) watchClock(ctx context.Context) error {
	now, w := s.now(), &s.clock
	if w.step += w.steppedBack(now); w.step > 0 {
		err := s.subtractStep(ctx)
		if err == nil {
			w.written = now
		}
		return err
	}
	if now-w.written < clockNotedEvery.Milliseconds() && now >= w.written {
		return nil
	}
	err := s.write(ctx, func(tx *sqldb.Tx) error {
		return tx.Exec("UPDATE clock SET seen_at = ? WHERE id = 1 AND seen_at < ?", now, now)
	})
	if err == nil {
		w.written = now
	}
	return err
}

// compareClock subtracts, at the start, a step back since the last process ran.
func (s *Store) compareClock(ctx context.Context) error {
	var seen int64
	seen, err := sqldb.Value[int64](s.read(ctx), "SELECT seen_at FROM clock")
	if err != nil {
		return publicError(err)
	}
	now := s.now()
	if back := seen - now; back > postgres.ClockJitter.Milliseconds() {
		s.clock.step = back
		return s.subtractStep(ctx)
	}
	return nil
}

// subtractStep makes all pending work due earlier by the step. Only the first process that notices the step subtracts
// it. If two processes did, deliveries would be due too early, and leases would still be right.
func (s *Store) subtractStep(ctx context.Context) (err error) {
	w := &s.clock
	if !w.claimed {
		if w.claimed, err = s.claimStep(ctx); err != nil {
			return err
		}
		if !w.claimed {
			w.step = 0
			return nil
		}
		s.Log.Warn("clock stepped back", "by", time.Duration(w.step)*time.Millisecond)
	}
	defer s.wake()
	step := clockStepBack{Store: s, step: w.step}
	for _, part := range []func(context.Context) error{step.deliveries, step.lanes, step.leases, step.receivers} {
		if err := part(ctx); err != nil {
			return publicError(err) // watchClock tries again
		}
	}
	w.step, w.claimed = 0, false
	return nil
}

// claimStep reports whether this process is the first to notice a step. The others notice it a few seconds later,
// unless they are cut off. On SQLite, the one process is the first.
func (s *Store) claimStep(ctx context.Context) (first bool, err error) {
	err = s.write(ctx, func(tx *sqldb.Tx) error {
		now, near := s.now(), clockNotedEvery.Milliseconds()
		done, err := tx.ExecCount("UPDATE clock SET seen_at = ?, stepped_at = ? "+
			"WHERE id = 1 AND (seen_at > ? OR stepped_at NOT BETWEEN ? AND ?)",
			now, now, now+postgres.ClockJitter.Milliseconds(), now-near, now+near)
		first = done > 0 || s.engine.servesAlone()
		return err
	})
	return first, err
}

// clockStepBack subtracts a step from times in the future. Its commits are small, so that no request waits long for the
// writer.
type clockStepBack struct {
	*Store
	step int64
}

// inBatches finds rows in batches, each after the last row of the batch before, and changes each batch in a
// transaction.
func inBatches[R any](
	ctx context.Context, s *Store, find func(q sqldb.Querier, after R) ([]R, error), after R,
	change func(tx *sqldb.Tx, rows []R) error,
) error {
	for {
		rows, err := find(s.read(ctx), after)
		if err != nil || len(rows) == 0 {
			return err
		}
		if err := s.write(ctx, func(tx *sqldb.Tx) error { return change(tx, rows) }); err != nil {
			return err
		}
		if after = rows[len(rows)-1]; len(rows) < stepRowsPerCommit {
			return nil
		}
	}
}

// deliveries subtracts the step from deliveries that are due in the future, and updates their lanes. It scans the index
// of pending deliveries.
func (s clockStepBack) deliveries(ctx context.Context) error {
	find := func(q sqldb.Querier, after deliveryRow) ([]deliveryRow, error) {
		return sqldb.Select[deliveryRow](q,
			"SELECT d.id, d.lane_id, d.change_id FROM deliveries d WHERE d.state = 'pending' "+
				"AND (d.lane_id, d.change_id, d.id) > (?, ?, ?) AND d.due_at > ? ORDER BY d.lane_id, d.change_id, d.id"+
				sqldb.Limit,
			after.LaneID, after.ChangeID, after.ID, s.now(), stepRowsPerCommit)
	}
	return inBatches(ctx, s.Store, find, deliveryRow{}, func(tx *sqldb.Tx, rows []deliveryRow) error {
		lanes := slices.Compact(each(rows, laneOf))
		if err := lockLanes(tx, lanes...); err != nil {
			return err
		}
		err := tx.Exec("UPDATE deliveries SET due_at = due_at - ? "+
			"WHERE id IN ? AND state || '' = 'pending' AND due_at + 0 > ?",
			s.step, sqldb.Padded(each(rows, func(r deliveryRow) int64 { return r.ID })), s.now())
		if err != nil {
			return err
		}
		return s.bringForward(tx, lanes)
	})
}

// bringForward makes lanes without a lease due when their heads are, if that is earlier.
func (s clockStepBack) bringForward(tx *sqldb.Tx, lanes []int64) error {
	return tx.Exec("UPDATE lanes SET due_at = (SELECT d.due_at "+headOfLaneSQL+
		") WHERE id IN ? AND lease_until IS NULL AND "+
		"due_at + 0 > (SELECT d.due_at "+headOfLaneSQL+")", sqldb.Padded(lanes))
}

// lanes corrects the lanes that are due later than their heads, and sets probe times in the future to now.
func (s clockStepBack) lanes(ctx context.Context) error {
	find := func(q sqldb.Querier, after int64) ([]int64, error) {
		return sqldb.Select[int64](q, "SELECT id FROM lanes WHERE id > ? "+
			"AND (probed_at > ? OR due_at + 0 > ? AND lease_until IS NULL) ORDER BY id"+sqldb.Limit, after, s.now(),
			s.now(), stepRowsPerCommit)
	}
	return inBatches(ctx, s.Store, find, 0, func(tx *sqldb.Tx, lanes []int64) error {
		if err := lockLanes(tx, lanes...); err != nil {
			return err
		}
		now := s.now()
		err := tx.Exec("UPDATE lanes SET probed_at = ? WHERE id IN ? AND probed_at > ?", now, sqldb.Padded(lanes), now)
		if err != nil {
			return err
		}
		return s.bringForward(tx, lanes)
	})
}

// leases shortens leases to the end of a lease that begins now. The holder of a lease uses a clock that is not set, by
// which its lease ends earlier.
func (s clockStepBack) leases(ctx context.Context) error {
	find := func(q sqldb.Querier, after int64) ([]int64, error) {
		return sqldb.Select[int64](q, "SELECT id FROM lanes WHERE id > ? AND lease_until > ? ORDER BY id"+sqldb.Limit,
			after, s.now()+s.Lease.Milliseconds(), stepRowsPerCommit)
	}
	return inBatches(ctx, s.Store, find, 0, func(tx *sqldb.Tx, lanes []int64) error {
		if err := lockLanes(tx, lanes...); err != nil {
			return err
		}
		until, lanes := s.now()+s.Lease.Milliseconds(), sqldb.Padded(lanes)
		err := tx.Exec("UPDATE receivers SET waits = ? WHERE probe IN ? AND waits > ? AND "+waitsForProbe,
			until, lanes, until)
		if err != nil {
			return err
		}
		return tx.Exec("UPDATE lanes SET lease_until = ?, due_at = ? WHERE id IN ? AND lease_until > ?",
			until, until, lanes, until)
	})
}

// receivers subtracts the step from the probe times of breakers and from the pauses that receivers asked for. It sets
// outage times in the future to now.
func (s clockStepBack) receivers(ctx context.Context) error {
	find := func(q sqldb.Querier, after int64) ([]int64, error) {
		now := s.now()
		return sqldb.Select[int64](q, "SELECT id FROM receivers WHERE id > ? AND (waits > ? OR paused_until > ? "+
			"OR failing_since > ? OR recovered_at > ?) ORDER BY id"+sqldb.Limit, after, now, now, now, now,
			stepRowsPerCommit)
	}
	return inBatches(ctx, s.Store, find, 0, func(tx *sqldb.Tx, ids []int64) error {
		if _, err := tx.LockRows("receivers", ids, true); err != nil {
			return err
		}
		values := map[string]any{"back": s.step, "now": s.now(), "ids": sqldb.Padded(ids)}
		return tx.Exec("UPDATE receivers SET "+
			"waits = CASE WHEN waits > @now AND ("+waitsForProbe+") IS NOT TRUE THEN waits - @back ELSE waits END, "+
			"paused_until = CASE WHEN paused_until > @now THEN paused_until - @back ELSE paused_until END, "+
			"failing_since = CASE WHEN failing_since > @now THEN @now ELSE failing_since END, "+
			"recovered_at = CASE WHEN recovered_at > @now THEN @now ELSE recovered_at END WHERE id IN @ids", values)
	})
}
