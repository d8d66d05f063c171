package postgres

import "github.com/agentevents/agentevents/store/internal/sqldb"

// Sequence is the name of a sequence that numbers rows, with its high-water mark.
//
// PostgreSQL draws numbers before the commit, so a row may appear after a row with a greater number. A reader that
// continued from the greatest number it saw would miss that row. So each transaction announces the last drawn number
// before it draws its own, which are greater.
//
// The announcement is an advisory lock. It conflicts with no other lock, all sessions can see it, and it ends with the
// transaction, however that ends.
type Sequence string

// last returns the query for the number that was drawn last. Before the first draw, last_value is the first number.
func (s Sequence) last() string {
	return "SELECT last_value - CASE WHEN is_called THEN 0 ELSE 1 END FROM " + string(s)
}

// AnnounceSQL is the statement that a transaction must execute before it draws its first number.
func (s Sequence) AnnounceSQL() string {
	return "SELECT pg_advisory_xact_lock_shared((24933::bigint << 48) | (" + s.last() + "))"
}

// announcedSQL finds the lowest announcement of the open transactions. The first 16 of its 64 bits distinguish it from
// other advisory locks.
const announcedSQL = "SELECT min(((classid::bigint & 65535) << 32) | objid::bigint) FROM pg_locks " +
	"WHERE locktype = 'advisory' AND objsubid = 1 AND classid::bigint >> 16 = 24933 " +
	"AND database = (SELECT oid FROM pg_database WHERE datname = current_database())"

// VisibleUpTo returns the high-water mark: no row with this number or a lower one will still appear. It reads the last
// drawn number before the announcements, so that a number drawn between the two reads is greater.
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
