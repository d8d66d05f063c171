package store

import (
	"slices"

	"gorm.io/gorm"
	"gorm.io/gorm/clause"
)

// On PostgreSQL transactions run side by side, and what they hold, they hold until their end. So that none waits for
// another that waits for it, all take what they need in one order, each before it reads what depends on it:
//
//  0. an Idempotency-Key, by its record
//  1. agents by id; whatever changes an agent's events holds the agent
//  2. the client, whose row counts its agents and events
//  3. lanes by id; whatever moves deliveries or changes their state holds their lanes
//  4. receivers by id
//
// SQLite has one writer, who holds everything.

func onPostgres(tx *gorm.DB) bool { return tx.Name() == "postgres" }

// holds says whether a transaction writes, and others beside it.
func holds(tx *gorm.DB) bool { return ownWrite(tx) != nil && onPostgres(tx) }

// holding has a query of a transaction that writes hold the rows that it finds.
func holding(tx *gorm.DB) []clause.Expression {
	if !holds(tx) {
		return nil
	}
	return []clause.Expression{clause.Locking{Strength: forUpdate}}
}

// toHold is holding as the end of a query. It does not find what somebody else holds, unless it is to wait for that.
func toHold(tx *gorm.DB, wait bool) string {
	if !holds(tx) {
		return ""
	}
	return " FOR " + forUpdate + " " + skipLocked(wait)
}

func skipLocked(wait bool) string {
	if wait {
		return ""
	}
	return "SKIP LOCKED"
}

// forUpdate does not keep others from adding rows that refer to the one that is held.
const forUpdate = "NO KEY UPDATE"

// hold holds rows of a table, in the order of their ids, and returns which: without those that somebody else holds, unless
// it is to wait for them.
func hold(tx *gorm.DB, table string, ids []int64, wait bool) (held []int64, err error) {
	if !onPostgres(tx) || len(ids) == 0 {
		return ids, nil
	}
	return query[int64](tx, "SELECT id FROM "+table+" WHERE id IN ? ORDER BY id FOR "+forUpdate+" "+skipLocked(wait), padded(slices.Clone(ids)))
}

func holdLanes(tx *gorm.DB, lanes ...int64) error {
	_, err := hold(tx, "lanes", lanes, true)
	return err
}

// holdAgentsOf holds the agents that deliveries are about, as far as they are there.
func holdAgentsOf(tx *gorm.DB, deliveries []int64) error {
	if !onPostgres(tx) {
		return nil
	}
	var agents []int64
	err := tx.Raw("SELECT DISTINCT a.id FROM deliveries d JOIN agents a ON (a.client_id, a.kind, a.agent_id) = "+
		"(d.client_id, d.kind, d.agent_id) WHERE d.id IN ?", padded(slices.Clone(deliveries))).Scan(&agents).Error
	if err != nil {
		return err
	}
	_, err = hold(tx, "agents", agents, true)
	return err
}

// skipHeld is the end of a query that holds the rows that it finds, but for those that somebody else holds.
func skipHeld(tx *gorm.DB) string { return skipHeldBy(tx, "id") }

// skipHeldBy is skipHeld for rows of another key.
func skipHeldBy(tx *gorm.DB, key string) string {
	if !onPostgres(tx) {
		return ""
	}
	return " ORDER BY " + key + " FOR UPDATE SKIP LOCKED"
}

// holdTable keeps others from writing to a table.
func holdTable(tx *gorm.DB, table string) error {
	if !onPostgres(tx) {
		return nil
	}
	return tx.Exec("LOCK TABLE " + table + " IN SHARE ROW EXCLUSIVE MODE").Error
}
