package store

import (
	"slices"

	"github.com/agentevents/agentevents/store/internal/sqldb"
)

// On PostgreSQL transactions run side by side, and what they lock, they keep until their end. So that none waits for
// another that waits for it, all lock what they need in one order, each before it reads what depends on it:
//
//  0. an Idempotency-Key, by its record
//  1. agents by id; a transaction that changes an agent's events locks the agent
//  2. the client, whose row counts its agents and events
//  3. lanes by id; a transaction that moves deliveries or changes their state locks their lanes
//  4. receivers by id
//
// SQLite has one writer, which has everything.

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
		sqldb.Padded(slices.Clone(deliveries)))
	if err != nil {
		return err
	}
	_, err = tx.LockRows("agents", agents, true)
	return err
}
