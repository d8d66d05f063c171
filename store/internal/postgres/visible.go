package postgres

import "github.com/agentevents/agentevents/store/internal/sqldb"

// Sequence is the name of a sequence whose numbers are given to rows.
//
// PostgreSQL gives out numbers before the commit, so that a row may appear after one with a greater number. A reader
// that goes on from the greatest number that it has seen would miss that row. So each transaction announces, before it
// draws a number, up to where numbers are given out already: its own are greater. It does so by an advisory lock, which
// conflicts with no other, is seen by all, and ends with the transaction, however that ends.
type Sequence string

// last is a query for the number that was given out last; before the first, a sequence shows the first as well.
func (s Sequence) last() string {
	return "SELECT last_value - CASE WHEN is_called THEN 0 ELSE 1 END FROM " + string(s)
}

// AnnounceSQL is the statement that a transaction carries out before it draws its first number.
func (s Sequence) AnnounceSQL() string {
	return "SELECT pg_advisory_xact_lock_shared((24933::bigint << 48) | (" + s.last() + "))"
}

// announcedSQL finds the least of what open transactions have announced. The mark in the first 16 of 64 bits tells it
// from other advisory locks.
const announcedSQL = "SELECT min(((classid::bigint & 65535) << 32) | objid::bigint) FROM pg_locks " +
	"WHERE locktype = 'advisory' AND objsubid = 1 AND classid::bigint >> 16 = 24933 " +
	"AND database = (SELECT oid FROM pg_database WHERE datname = current_database())"

// VisibleUpTo returns a number up to which no row will appear any more. What was given out is asked for before which
// transactions are open: a number that is drawn in between is greater.
func (s Sequence) VisibleUpTo(q sqldb.Querier) (upTo int64, err error) {
	if upTo, err = sqldb.Value[int64](q, s.last()); err != nil {
		return 0, err
	}
	open, err := sqldb.Value[*int64](q, announcedSQL)
	if err != nil {
		return 0, err
	}
	if open != nil {
		upTo = min(upTo, *open)
	}
	return upTo, nil
}
