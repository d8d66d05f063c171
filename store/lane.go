package store

import (
	"context"
	"strings"

	"gorm.io/gorm"

	"github.com/agentevents/agentevents/store/internal/sqldb"
)

// A lane is one agent and one receiver. At most one of its deliveries is in flight, and they go in the order of the
// changes. All that touches a lane locks its row:
//
//   - A status change adds to `pending` and makes an empty lane due.
//   - A claim leases it, raises `claim` and notes which delivery it gave out. While the lane is leased, `due_at` is the
//     end of the lease, so that the claim that looks at `due_at` notices a dead holder, too.
//   - A removal of deliveries lowers `pending` by the rows that it really changed, and makes the lane due if it is not
//     leased and not empty. Else a deletion while a delivery is in flight would leave the next one stuck for ever.
type laneRow struct {
	ID         int64 `gorm:"primaryKey"`
	ReceiverID int64
	LeaseUntil *int64
	Claim      int64
	DeliveryID *int64
}

func (laneRow) TableName() string { return "lanes" }

// leased says whether a worker holds the lane at a time.
func (r laneRow) leased(now int64) bool { return r.LeaseUntil != nil && *r.LeaseUntil > now }

// inFlight is the id of the delivery that a worker holds at a time, or 0.
func (r laneRow) inFlight(now int64) int64 {
	if !r.leased(now) || r.DeliveryID == nil {
		return 0
	}
	return *r.DeliveryID
}

// ensureLane returns the id of the lane of an agent and a URL's receiver, which it makes if there is none.
func ensureLane(tx *sqldb.Tx, k AgentKey, rawURL string) (id int64, err error) {
	receiver, err := ensureReceiver(tx, k.Client, rawURL)
	if err != nil {
		return 0, err
	}
	return ensure(tx, "lanes", "receiver_id, kind, agent_id", receiver, k.Type, k.ID)
}

// ensure returns the id of the row of a table that has three or four unique values, which it makes if there is none.
// An existing row is not locked.
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

// findLane returns the row of a lane and, on PostgreSQL, locks it until the commit.
func findLane(tx *sqldb.Tx, id int64) (laneRow, error) {
	return gorm.G[laneRow](tx.GORM(), sqldb.Locking(tx)...).Where("id = ?", id).Take(tx.Context())
}

// laneAddition is how many deliveries a lane gets, and when they are due. If the lane is leased at once, it has the
// first of them and the end of the lease.
type laneAddition struct {
	LaneID int64  `json:"lane_id"`
	More   int64  `json:"more"`
	Due    int64  `json:"due"`
	First  *int64 `json:"first"`
	Until  *int64 `json:"until"`
}

// addToLanes adds new deliveries to lanes, which are locked. A lane that is not empty keeps its head and its due time.
func addToLanes(tx *sqldb.Tx, additions []laneAddition) error {
	if len(additions) == 0 {
		return nil
	}
	return tx.Queue("UPDATE lanes SET pending = pending + x.more, due_at = coalesce(x.until, due_at, x.due), "+
		"lease_until = coalesce(x.until, lease_until), delivery_id = coalesce(x.first, delivery_id), "+
		"claim = claim + CASE WHEN x.first IS NULL THEN 0 ELSE 1 END FROM ? AS x WHERE lanes.id = x.lane_id",
		sqldb.Table(tx, additions))
}

// adjustLane adds to the number of pending deliveries of a lane, or subtracts from it, and makes the lane due now if it
// is not leased and not empty. A lane that is due already keeps its place among the others. A claim then finds when its
// head, which may be another one now, is really due.
func adjustLane(tx *sqldb.Tx, lane int64, by int, now int64) error {
	return tx.Exec("UPDATE lanes SET pending = pending + ?, due_at = CASE "+
		"WHEN lease_until > ? THEN due_at WHEN pending + ? <= 0 THEN NULL "+
		"WHEN due_at < ? THEN due_at ELSE ? END WHERE id = ?",
		by, now, by, now, now, lane)
}

const (
	// headOfLaneSQL is the rest of a subselect on deliveries d: the first that is pending in a lane.
	headOfLaneSQL = "FROM deliveries d " +
		"WHERE d.lane_id = lanes.id AND d.state = 'pending' ORDER BY d.change_id, d.id LIMIT 1"
	// setReleasedSQL ends the lease of a lane: it is due when its head is.
	setReleasedSQL = "lease_until = NULL, delivery_id = NULL, due_at = (SELECT d.due_at " + headOfLaneSQL + ")"
	// setLeasedSQL leases a lane; its two parameters are both the end of the lease.
	setLeasedSQL = "lease_until = ?, due_at = ?, delivery_id = (SELECT d.id " + headOfLaneSQL + ")"
)

// releaseLane ends a claim and returns when the lane is due, nil if it is empty.
func releaseLane(tx *sqldb.Tx, lane int64) (due *int64, err error) {
	return sqldb.Value[*int64](tx, "UPDATE lanes SET "+setReleasedSQL+" WHERE id = ? RETURNING due_at", lane)
}

// dropLeases releases all lanes, at the start of the one process that owns SQLite's file: the process that leased them
// has ended. A probe that it had begun is repeated. With PostgreSQL, another process may hold the leases.
func (s *Store) dropLeases(ctx context.Context) error {
	if !s.engine.servesAlone() {
		return nil
	}
	return s.write(ctx, func(tx *sqldb.Tx) error {
		if err := tx.Exec("DELETE FROM copies"); err != nil { // they are out of date from now on
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

// On PostgreSQL transactions run side by side, and what they lock, they keep until their end. To avoid deadlocks, all
// lock what they need in one order, each before it reads what depends on it:
//
//  0. an Idempotency-Key, by its record
//  1. agents by id; a transaction that changes an agent's events locks the agent
//  2. the client, whose row counts its agents and events
//  3. lanes by id; a transaction that moves deliveries or changes their state locks their lanes
//  4. receivers by id
//
// A few transactions keep another order: a deletion locks the client and then its agents, a bulk that names an agent
// twice locks its lanes once more. When two meet so that each waits for the other, PostgreSQL ends one, and that is
// tried again. SQLite has one writer, which has everything.

func lockLanes(tx *sqldb.Tx, lanes ...int64) error {
	_, err := tx.LockRows("lanes", lanes, true)
	return err
}

// lockAgentsOf locks the agents that deliveries are about, as far as they are there.
func lockAgentsOf(tx *sqldb.Tx, deliveries []int64) error {
	if tx.Dialect() == sqldb.SQLite {
		return nil
	}
	agents, err := sqldb.Select[int64](tx, "SELECT DISTINCT a.id FROM deliveries d JOIN agents a "+
		"ON (a.client_id, a.kind, a.agent_id) = (d.client_id, d.kind, d.agent_id) WHERE d.id IN ?",
		sqldb.Padded(deliveries))
	if err != nil {
		return err
	}
	_, err = tx.LockRows("agents", agents, true)
	return err
}
