package store

import (
	"context"
	"strings"

	"gorm.io/gorm"

	"github.com/agentevents/agentevents/store/internal/sqldb"
)

// laneRow is a lane: one agent and one receiver. At most one of its deliveries is in flight, and they are sent in the
// order of their changes. A parked delivery keeps the id of its lane, but does not count in `pending`, and no claim
// takes it. Each change of a lane locks its row:
//
//   - A status change adds to `pending`, and makes an empty lane due.
//   - A claim leases the lane, raises `claim` and stores the delivery in flight. While the lane is leased, `due_at` is
//     the end of the lease, so that a claim finds the lane of a dead worker, too.
//   - A removal of deliveries lowers `pending` by the rows that it changed. It makes a lane due that is neither leased
//     nor empty. Otherwise a deletion during a flight would block the next delivery for ever.
type laneRow struct {
	ID         int64 `gorm:"primaryKey"`
	ReceiverID int64
	LeaseUntil *int64
	Claim      int64
	DeliveryID *int64
}

func (laneRow) TableName() string { return "lanes" }

// leased reports whether a worker holds the lane at a time.
func (r laneRow) leased(now int64) bool { return r.LeaseUntil != nil && *r.LeaseUntil > now }

// inFlight returns the id of the delivery that a worker holds at a time, or 0.
func (r laneRow) inFlight(now int64) int64 {
	if !r.leased(now) || r.DeliveryID == nil {
		return 0
	}
	return *r.DeliveryID
}

// ensureLane returns the id of the lane of an agent and a URL's receiver, which it creates if there is none.
func ensureLane(tx *sqldb.Tx, k AgentKey, rawURL string) (id int64, err error) {
	receiver, err := ensureReceiver(tx, k.Client, rawURL)
	if err != nil {
		return 0, err
	}
	return ensure(tx, "lanes", "receiver_id, kind, agent_id", receiver, k.Type, k.ID)
}

// ensure returns the id of the row with three or four unique values, which it creates if there is none. It does not
// lock an existing row.
func ensure(tx *sqldb.Tx, table, columns string, values ...any) (id int64, err error) {
	marks := strings.TrimPrefix(strings.Repeat(", ?", len(values)), ", ")
	find := "SELECT coalesce((SELECT id FROM " + table + " WHERE (" + columns + ") = (" + marks + ")), 0)"
	if id, err := sqldb.Value[int64](tx, find, values...); err != nil || id > 0 {
		return id, err
	}
	err = tx.Exec("INSERT INTO "+table+" ("+columns+") VALUES ("+marks+") ON CONFLICT DO NOTHING", values...)
	if err != nil {
		return 0, err
	}
	return sqldb.Value[int64](tx, find, values...)
}

// findLane returns the row of a lane, and locks it until the commit on PostgreSQL.
func findLane(tx *sqldb.Tx, id int64) (laneRow, error) {
	return gorm.G[laneRow](tx.GORM(), sqldb.Locking(tx)...).Where("id = ?", id).Take(tx.Context())
}

// laneAddition is a number of deliveries that a lane gets, with their due time. If the lane is leased at once, it also
// has the first delivery and the end of the lease.
type laneAddition struct {
	LaneID int64  `json:"lane_id"`
	Count  int64  `json:"count"`
	Due    int64  `json:"due"`
	First  *int64 `json:"first"`
	Until  *int64 `json:"until"`
}

// addToLanes adds new deliveries to lanes, which must be locked. A lane that is not empty keeps its head and its due
// time.
func addToLanes(tx *sqldb.Tx, additions []laneAddition) error {
	if len(additions) == 0 {
		return nil
	}
	return tx.Queue("UPDATE lanes SET pending = pending + x.count, due_at = coalesce(x.until, due_at, x.due), "+
		"lease_until = coalesce(x.until, lease_until), delivery_id = coalesce(x.first, delivery_id), "+
		"claim = claim + CASE WHEN x.first IS NULL THEN 0 ELSE 1 END FROM ? AS x WHERE lanes.id = x.lane_id",
		sqldb.Table(tx, additions))
}

// adjustLane changes the number of pending deliveries of a lane, and makes the lane due now if it is neither leased nor
// empty. A lane that is due keeps its due time, and so its place among the lanes. The next claim finds the due time of
// the current head.
func adjustLane(tx *sqldb.Tx, lane int64, by int, now int64) error {
	return tx.Exec("UPDATE lanes SET pending = pending + ?, due_at = CASE "+
		"WHEN lease_until > ? THEN due_at WHEN pending + ? <= 0 THEN NULL "+
		"WHEN due_at < ? THEN due_at ELSE ? END WHERE id = ?",
		by, now, by, now, now, lane)
}

// Conditions on deliveries of a lane, by their ids. In a statement with one of them, a further condition on state
// appends an empty string, so that the planner cannot choose the index of that state.
const (
	byID  = "id = ?"
	byIDs = "id IN ?"
)

// removeFromLane sets the state of the pending deliveries of a lane that match a condition, and updates the lane.
func (s *Store) removeFromLane(tx *sqldb.Tx, lane int64, state, where string, args ...any) error {
	now := s.now()
	finished := &now
	if state == stateParked {
		finished = nil
	}
	count, err := tx.ExecCount("UPDATE deliveries SET state = ?, finished_at = ?, moved_to = NULL "+
		"WHERE lane_id = ? AND state || '' = 'pending' AND "+where, append([]any{state, finished, lane}, args...)...)
	if err != nil || count == 0 {
		return err
	}
	s.countEnded(tx, state, count)
	return adjustLane(tx, lane, -int(count), now)
}

// changeLane moves the pending deliveries of a lane that match a condition to another lane.
func changeLane(tx *sqldb.Tx, from, to, now int64, where string, args ...any) error {
	count, err := tx.ExecCount("UPDATE deliveries SET lane_id = ?, moved_to = NULL WHERE lane_id = ? "+
		"AND state || '' = 'pending' AND "+where,
		append([]any{to, from}, args...)...)
	if err != nil || count == 0 {
		return err
	}
	if err := adjustLane(tx, from, -int(count), now); err != nil {
		return err
	}
	return adjustLane(tx, to, int(count), now)
}

// unpark makes the parked deliveries of a lane that match a condition pending again, in another lane or in the same. A
// delivery that is still in flight in the old lane stays there until its result.
func unpark(tx *sqldb.Tx, from, to, now int64, where string, args ...any) error {
	lane, err := findLane(tx, from)
	if err != nil {
		return err
	}
	if inFlight := lane.inFlight(now); inFlight != 0 && from != to {
		count, err := tx.ExecCount("UPDATE deliveries SET state = 'pending', due_at = ?, moved_to = ? "+
			"WHERE id = ? AND state || '' = 'parked' AND "+where, append([]any{now, to, inFlight}, args...)...)
		if err != nil {
			return err
		}
		if err := adjustLane(tx, from, int(count), now); err != nil {
			return err
		}
	}
	count, err := tx.ExecCount("UPDATE deliveries SET state = 'pending', due_at = ?, lane_id = ? "+
		"WHERE lane_id = ? AND state || '' = 'parked' AND "+where, append([]any{now, to, from}, args...)...)
	if err != nil {
		return err
	}
	return adjustLane(tx, to, int(count), now)
}

const (
	// headOfLaneSQL is the end of a subselect on deliveries d: the head of a lane.
	headOfLaneSQL = "FROM deliveries d " +
		"WHERE d.lane_id = lanes.id AND d.state = 'pending' ORDER BY d.change_id, d.id LIMIT 1"
	// setReleasedSQL releases a lane, which is then due when its head is.
	setReleasedSQL = "lease_until = NULL, delivery_id = NULL, due_at = (SELECT d.due_at " + headOfLaneSQL + ")"
	// setLeasedSQL leases a lane. Both parameters are the end of the lease.
	setLeasedSQL = "lease_until = ?, due_at = ?, delivery_id = (SELECT d.id " + headOfLaneSQL + ")"
)

// freeOfMovesSQL is true if no delivery in another lane must move to a lane: neither one in flight nor one that a sweep
// has yet to move. Until then, no claim takes the lane.
func freeOfMovesSQL(lane string) string {
	return "NOT EXISTS (SELECT 1 FROM deliveries d WHERE d.moved_to = " + lane + ") " +
		"AND NOT EXISTS (SELECT 1 FROM event_sweeps w WHERE w.lane_id = " + lane + ")"
}

// releaseLane releases a lane and returns its due time, nil if it is empty.
func releaseLane(tx *sqldb.Tx, lane int64) (due *int64, err error) {
	return sqldb.Value[*int64](tx, "UPDATE lanes SET "+setReleasedSQL+" WHERE id = ? RETURNING due_at", lane)
}

// dropLeases releases all lanes when the one process that owns an SQLite file starts, since the previous process has
// ended. A probe of that process is repeated. On PostgreSQL, another process may hold the leases.
func (s *Store) dropLeases(ctx context.Context) error {
	if !s.engine.servesAlone() {
		return nil
	}
	return s.write(ctx, func(tx *sqldb.Tx) error {
		if err := tx.Exec("DELETE FROM copies"); err != nil { // a running store makes an interrupted copy out of date
			return err
		}
		return s.releaseAll(tx)
	})
}

func (s *Store) releaseAll(tx *sqldb.Tx) error {
	err := tx.Exec("UPDATE receivers SET waits = ?, probe = NULL "+
		"WHERE "+waitsForProbe, s.now())
	if err != nil {
		return err
	}
	return tx.Exec("UPDATE lanes SET " + setReleasedSQL + " WHERE lease_until IS NOT NULL")
}

// PostgreSQL runs transactions concurrently, and each holds its locks until its end. To avoid deadlocks, all
// transactions lock rows in one order, and before they read dependent rows:
//
//  0. an Idempotency-Key, by its record
//  1. agents by id; a transaction that changes an agent's events locks the agent
//  2. the client, whose row counts its agents and events
//  3. lanes by id; a transaction that moves deliveries or changes their state locks their lanes
//  4. receivers by id
//
// A few transactions use another order: a deletion locks the client before its agents, and a bulk request that names an
// agent twice locks its lanes once more. If two such transactions wait for each other, PostgreSQL ends one, which is
// retried. SQLite has one writer, which needs no locks.

func lockLanes(tx *sqldb.Tx, lanes ...int64) error {
	_, err := tx.LockRows("lanes", lanes, true)
	return err
}

// lockAgentsOf locks the agents of deliveries that still exist.
func lockAgentsOf(tx *sqldb.Tx, deliveries []int64) error {
	_, err := tryLockAgentsOf(tx, deliveries, true)
	return err
}

// tryLockAgentsOf is lockAgentsOf. With wait false, it reports whether no other transaction has locked one of them.
func tryLockAgentsOf(tx *sqldb.Tx, deliveries []int64, wait bool) (all bool, err error) {
	if tx.Dialect() == sqldb.SQLite {
		return true, nil
	}
	agents, err := sqldb.Select[int64](tx, "SELECT DISTINCT a.id FROM deliveries d JOIN agents a "+
		"ON (a.client_id, a.kind, a.agent_id) = (d.client_id, d.kind, d.agent_id) WHERE d.id IN ?",
		sqldb.Padded(deliveries))
	if err != nil {
		return false, err
	}
	locked, err := tx.LockRows("agents", agents, wait)
	return len(locked) == len(agents), err
}

// lockLanesOfEvent locks the lanes that unfinished deliveries of an event are in or move to, the event's lane, and the
// lanes of also.
func lockLanesOfEvent(tx *sqldb.Tx, event int64, also ...int64) error {
	if tx.Dialect() == sqldb.SQLite {
		return nil
	}
	lanes, err := sqldb.Select[int64](tx,
		"SELECT lane_id FROM deliveries WHERE event_id = ? AND state IN ('pending', 'parked') UNION "+
			"SELECT moved_to FROM deliveries WHERE event_id = ? AND moved_to IS NOT NULL "+
			"AND state IN ('pending', 'parked') UNION "+
			"SELECT lane_id FROM agent_events WHERE id = ?", event, event, event)
	if err != nil {
		return err
	}
	return lockLanes(tx, append(lanes, also...)...)
}
