package store

import (
	"context"

	"gorm.io/gorm"
)

// PostgreSQL gives out sequence numbers before the commit, so that a change may appear after one with a greater number.
// Whoever reads the feed must not pass the place where it will be. So each transaction says, before it draws a number, up
// to where numbers are given out already: its own will be greater. It says so by a lock that keeps nobody from anything, is
// seen by all, and is gone with the transaction, however that ends.

// lastSQL is the number that was given out last; before the first, a sequence shows the first as well.
const lastSQL = "SELECT last_value - CASE WHEN is_called THEN 0 ELSE 1 END FROM status_changes_id_seq"

// announceNumbers comes before a transaction draws its first sequence number.
func announceNumbers(tx *gorm.DB) error {
	if !onPostgres(tx) {
		return nil
	}
	return execute(tx, "SELECT pg_advisory_xact_lock_shared((24933::bigint << 48) | ("+lastSQL+"))")
}

// openSQL finds the least of what open transactions have said. The mark in the first 16 of 64 bits tells it from locks of others.
const openSQL = "SELECT min(((classid::bigint & 65535) << 32) | objid::bigint) FROM pg_locks WHERE locktype = 'advisory' " +
	"AND objsubid = 1 AND classid::bigint >> 16 = 24933 AND database = (SELECT oid FROM pg_database WHERE datname = current_database())"

// visibleUpTo implements engine. What was given out is asked for before which transactions are open: a number that is drawn
// in between is greater.
func (e *postgresEngine) visibleUpTo(ctx context.Context) (upTo int64, err error) {
	tx := e.store.read(ctx)
	if err := tx.Raw(lastSQL).Scan(&upTo).Error; err != nil {
		return 0, err
	}
	var open *int64
	if err := tx.Raw(openSQL).Scan(&open).Error; err != nil {
		return 0, err
	}
	if open != nil {
		upTo = min(upTo, *open)
	}
	return upTo, nil
}
