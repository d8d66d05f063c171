package store

import (
	"context"
	"slices"
	"sync/atomic"
	"time"

	"github.com/agentevents/agentevents/store/internal/postgres"
	"github.com/agentevents/agentevents/store/internal/sqldb"
)

// All due times come from one clock. If that is put back, they are further away by as much, until the clock has made up
// for the whole step. So the process that runs, or the next start, notices the step and subtracts it from all times
// that lie ahead. A clock that is put forward only makes things due earlier.

const (
	// clockNotedEvery is how often the clock's time is written down for the next start.
	clockNotedEvery = 10 * time.Second
	// stepRowsPerCommit is how many deliveries or lanes one commit changes.
	stepRowsPerCommit = 500
)

// clockWatch is what a process remembers of the clock, in milliseconds. All but the latest time is of Work alone.
type clockWatch struct {
	latest  atomic.Int64 // that was used
	written int64
	back    int64 // that the clock was put back, and that is not subtracted yet
	first   bool  // of the processes that notice this, it is the one that subtracts it
}

// use notes a time that is used, and returns it.
func (w *clockWatch) use(now int64) int64 {
	for latest := w.latest.Load(); now > latest && !w.latest.CompareAndSwap(latest, now); latest = w.latest.Load() {
	}
	return now
}

// steppedBack returns how far the clock was put back since the last time. A small difference is none.
func (w *clockWatch) steppedBack(now int64) int64 {
	back := w.latest.Load() - now
	if back <= postgres.ClockJitter.Milliseconds() {
		return 0
	}
	w.latest.Store(now)
	return back
}

// watchClock looks whether the clock was put back since the last time, and writes down how late it is.
func (s *Store) watchClock(ctx context.Context) error {
	now, w := s.now(), &s.clock
	if w.back += w.steppedBack(now); w.back > 0 {
		err := s.takeOffStep(ctx)
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

// compareClock looks at the start whether the clock was put back since the last process ran.
func (s *Store) compareClock(ctx context.Context) error {
	var seen int64
	seen, err := sqldb.Value[int64](s.read(ctx), "SELECT seen_at FROM clock")
	if err != nil {
		return publicError(err)
	}
	now := s.now()
	if back := seen - now; back > postgres.ClockJitter.Milliseconds() {
		s.clock.back = back
		return s.takeOffStep(ctx)
	}
	return nil
}

// takeOffStep makes all that waits due earlier, by as much as the clock was put back. Of several processes that notice
// the step, the first subtracts it. If two do, deliveries are due too early, and leases are still right.
func (s *Store) takeOffStep(ctx context.Context) (err error) {
	w := &s.clock
	if !w.first {
		if w.first, err = s.claimStep(ctx); err != nil {
			return err
		}
		if !w.first {
			w.back = 0
			return nil
		}
		s.Log.Warn("clock stepped back", "by", time.Duration(w.back)*time.Millisecond)
	}
	defer s.wake()
	step := clockStepBack{Store: s, back: w.back}
	for _, part := range []func(context.Context) error{step.deliveries, step.lanes, step.leases, step.receivers} {
		if err := part(ctx); err != nil {
			return publicError(err) // and is tried again
		}
	}
	w.back, w.first = 0, false
	return nil
}

// claimStep says whether this process is the first to notice a step, as the only one always is. The others notice
// it a few seconds later, unless they are cut off.
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

// clockStepBack subtracts a step from times that lie ahead, few rows at a time, so that no request waits long for the
// writer.
type clockStepBack struct {
	*Store
	back int64
}

// inSlices has the rows that a query finds after a last one changed, a slice of them in each transaction.
func inSlices[R any](
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

// deliveries makes deliveries that are due later due earlier, with their lanes. It goes by the index of what is
// pending.
func (s clockStepBack) deliveries(ctx context.Context) error {
	find := func(q sqldb.Querier, after deliveryRow) ([]deliveryRow, error) {
		return sqldb.Select[deliveryRow](q,
			"SELECT d.id, d.lane_id, d.change_id FROM deliveries d WHERE d.state = 'pending' "+
				"AND (d.lane_id, d.change_id, d.id) > (?, ?, ?) AND d.due_at > ? ORDER BY d.lane_id, d.change_id, d.id"+
				sqldb.Limit,
			after.LaneID, after.ChangeID, after.ID, s.now(), stepRowsPerCommit)
	}
	return inSlices(ctx, s.Store, find, deliveryRow{}, func(tx *sqldb.Tx, rows []deliveryRow) error {
		lanes := slices.Compact(each(rows, laneOf))
		if err := lockLanes(tx, lanes...); err != nil {
			return err
		}
		err := tx.Exec("UPDATE deliveries SET due_at = due_at - ? "+
			"WHERE id IN ? AND state || '' = 'pending' AND due_at + 0 > ?",
			s.back, sqldb.Padded(each(rows, func(r deliveryRow) int64 { return r.ID })), s.now())
		if err != nil {
			return err
		}
		return s.bringForward(tx, lanes)
	})
}

// bringForward makes lanes that are not leased due when their first delivery is, if that is earlier.
func (s clockStepBack) bringForward(tx *sqldb.Tx, lanes []int64) error {
	return tx.Exec("UPDATE lanes SET due_at = (SELECT d.due_at "+headOfLaneSQL+
		") WHERE id IN ? AND lease_until IS NULL AND "+
		"due_at + 0 > (SELECT d.due_at "+headOfLaneSQL+")", sqldb.Padded(lanes))
}

// lanes brings lanes forward that are due later than their first delivery, and sets probe times in the future to now.
func (s clockStepBack) lanes(ctx context.Context) error {
	find := func(q sqldb.Querier, after int64) ([]int64, error) {
		return sqldb.Select[int64](q, "SELECT id FROM lanes WHERE id > ? "+
			"AND (probed_at > ? OR due_at + 0 > ? AND lease_until IS NULL) ORDER BY id"+sqldb.Limit, after, s.now(),
			s.now(), stepRowsPerCommit)
	}
	return inSlices(ctx, s.Store, find, 0, func(tx *sqldb.Tx, lanes []int64) error {
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

// leases shortens leases to the end of one that begins now: the holder of a lease uses its own clock, by which the
// lease ends earlier.
func (s clockStepBack) leases(ctx context.Context) error {
	find := func(q sqldb.Querier, after int64) ([]int64, error) {
		return sqldb.Select[int64](q, "SELECT id FROM lanes WHERE id > ? AND lease_until > ? ORDER BY id"+sqldb.Limit,
			after, s.now()+s.Lease.Milliseconds(), stepRowsPerCommit)
	}
	return inSlices(ctx, s.Store, find, 0, func(tx *sqldb.Tx, lanes []int64) error {
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

// receivers brings forward the probes of breakers and the ends of pauses that receivers asked for. Outage times in the
// future are set to now.
func (s clockStepBack) receivers(ctx context.Context) error {
	find := func(q sqldb.Querier, after int64) ([]int64, error) {
		now := s.now()
		return sqldb.Select[int64](q, "SELECT id FROM receivers WHERE id > ? AND (waits > ? OR paused_until > ? "+
			"OR failing_since > ? OR recovered_at > ?) ORDER BY id"+sqldb.Limit, after, now, now, now, now,
			stepRowsPerCommit)
	}
	return inSlices(ctx, s.Store, find, 0, func(tx *sqldb.Tx, ids []int64) error {
		if _, err := tx.LockRows("receivers", ids, true); err != nil {
			return err
		}
		values := map[string]any{"back": s.back, "now": s.now(), "ids": sqldb.Padded(ids)}
		return tx.Exec("UPDATE receivers SET "+
			"waits = CASE WHEN waits > @now AND ("+waitsForProbe+") IS NOT TRUE THEN waits - @back ELSE waits END, "+
			"paused_until = CASE WHEN paused_until > @now THEN paused_until - @back ELSE paused_until END, "+
			"failing_since = CASE WHEN failing_since > @now THEN @now ELSE failing_since END, "+
			"recovered_at = CASE WHEN recovered_at > @now THEN @now ELSE recovered_at END WHERE id IN @ids", values)
	})
}
