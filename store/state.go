package store

import (
	"context"

	"github.com/agentevents/agentevents/gen"
	"github.com/agentevents/agentevents/store/internal/sqldb"
)

// What an event is disabled for.
const (
	reasonRequest = "disabled by a request"
	reasonGone    = "the receiver answered 410 Gone"
)

func (r eventRow) state() gen.AgentEventState {
	return gen.AgentEventState{State: r.State, Reason: r.Reason, Since: gen.Time{Time: millis(r.Since)}}
}

func (r eventRow) disabled() bool { return r.State == gen.AgentEventStateValueDisabled }

// deliveryState is the state that a new delivery of an event has.
func (r eventRow) deliveryState() string {
	if r.disabled() {
		return parked
	}
	return pending
}

// EventState returns whether an event is enabled.
func (s *Store) EventState(ctx context.Context, k AgentKey, id int64) (gen.AgentEventState, error) {
	e, err := findEvent(s.read(ctx), k, id)
	return e.state(), err
}

// SetEventState enables or disables an event. The deliveries of a disabled one are parked: they leave their lane and
// hold up nobody. When it is enabled they take their place by sequence among what is still pending.
func (s *Store) SetEventState(
	ctx context.Context, k AgentKey, id int64, state gen.AgentEventStateValue,
) (m gen.AgentEventState, err error) {
	defer s.wake()
	err = s.write(ctx, func(tx *sqldb.Tx) error {
		e, err := findEvent(tx, k, id)
		if err != nil {
			return err
		}
		switch {
		case e.State == state:
		case state == gen.AgentEventStateValueDisabled:
			err = s.disable(tx, &e, reasonRequest)
		default:
			err = s.enable(tx, &e)
		}
		m = e.state()
		return err
	})
	return m, err
}

func (s *Store) disable(tx *sqldb.Tx, e *eventRow, reason string) error {
	if err := s.setState(tx, e, gen.AgentEventStateValueDisabled, reason); err != nil {
		return err
	}
	if err := lockLanesOf(tx, e.ID); err != nil {
		return err
	}
	lanes, err := lanesOf(tx, e.ID)
	for i := 0; err == nil && i < len(lanes); i++ {
		err = s.takeOut(tx, lanes[i], parked, byEvent, e.ID)
	}
	return err
}

func (s *Store) enable(tx *sqldb.Tx, e *eventRow) error {
	if err := s.setState(tx, e, gen.AgentEventStateValueEnabled, ""); err != nil {
		return err
	}
	if err := lockLanesOf(tx, e.ID); err != nil {
		return err
	}
	if err := s.expireParked(tx, e.ID); err != nil {
		return err
	}
	now := s.now()
	lanes, err := parkedLanes(tx, e.ID)
	for i := 0; err == nil && i < len(lanes); i++ {
		err = unpark(tx, e.LaneID, lanes[i], now, byEvent, e.ID)
	}
	return err
}

func (s *Store) setState(tx *sqldb.Tx, e *eventRow, state gen.AgentEventStateValue, reason string) error {
	e.State, e.Reason, e.Since = state, reason, s.now()
	return tx.Exec("UPDATE agent_events SET state = ?, reason = ?, since = ? WHERE id = ?",
		e.State, e.Reason, e.Since, e.ID)
}

// parkedLanes lists the lanes that an event's parked deliveries were in.
func parkedLanes(tx *sqldb.Tx, event int64) (lanes []int64, err error) {
	return sqldb.Select[int64](tx, "SELECT DISTINCT lane_id FROM deliveries WHERE "+byEvent+" AND state || '' = 'parked' ORDER BY lane_id", event)
}

// unpark puts parked deliveries that were in a lane, those that a condition names, into another one or the same. One
// that is still in flight in the other lane goes on there, as one that is in flight when its registration moves.
func unpark(tx *sqldb.Tx, to, from, now int64, where string, args ...any) error {
	lane, err := findLane(tx, from)
	if err != nil {
		return err
	}
	if flying := lane.inFlight(now); flying != 0 && from != to {
		back, err := tx.ExecCount("UPDATE deliveries SET state = 'pending', due_at = ?, moved_to = ? "+
			"WHERE id = ? AND state || '' = 'parked' AND "+where, append([]any{now, to, flying}, args...)...)
		if err != nil {
			return err
		}
		if err := shift(tx, from, int(back), now); err != nil {
			return err
		}
	}
	back, err := tx.ExecCount("UPDATE deliveries SET state = 'pending', due_at = ?, lane_id = ? "+
		"WHERE lane_id = ? AND state || '' = 'parked' AND "+where, append([]any{now, to, from}, args...)...)
	if err != nil {
		return err
	}
	return shift(tx, to, int(back), now)
}
