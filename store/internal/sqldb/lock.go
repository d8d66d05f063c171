package sqldb

import (
	"gorm.io/gorm/clause"
)

// rowLock does not keep others from adding rows that refer to the one that is locked.
const rowLock = "NO KEY UPDATE"

func skipLocked(wait bool) string {
	if wait {
		return ""
	}
	return " SKIP LOCKED"
}

// Locking has a query of GORM lock the rows that it finds, as ForUpdate does, and wait for them.
func Locking(q Querier) []clause.Expression {
	if q.ForUpdate(true) == "" {
		return nil
	}
	return []clause.Expression{clause.Locking{Strength: rowLock}}
}

// ForUpdateOf is ForUpdate for the rows of one of the tables of a query.
func (t *Tx) ForUpdateOf(table string, wait bool) string {
	if t.dialect == SQLite {
		return ""
	}
	return " FOR " + rowLock + " OF " + table + skipLocked(wait)
}

// ForKeyShare is the end of a query that keeps the rows that it finds from being deleted, and not from being changed.
func (t *Tx) ForKeyShare() string {
	if t.dialect == SQLite {
		return ""
	}
	return " FOR KEY SHARE"
}

// LockRows locks rows of a table by their ids, in that order, and returns which it has locked: all, or unless it waits
// those that no other transaction has.
func (t *Tx) LockRows(table string, ids []int64, wait bool) (locked []int64, err error) {
	if t.dialect == SQLite || len(ids) == 0 {
		return ids, nil
	}
	text := "SELECT id FROM " + table + " WHERE id IN ? ORDER BY id" + t.ForUpdate(wait)
	return Select[int64](t, text, Padded(ids))
}

// SkipLocked is the end of a subselect of the rows that a statement is about to delete, which have this key: those that
// another transaction has locked are left out.
func (t *Tx) SkipLocked(key string) string {
	if t.dialect == SQLite {
		return ""
	}
	return " ORDER BY " + key + " FOR UPDATE SKIP LOCKED"
}

// LockTable keeps others from writing to a table.
func (t *Tx) LockTable(table string) error {
	if t.dialect == SQLite {
		return nil
	}
	return t.Exec("LOCK TABLE " + table + " IN SHARE ROW EXCLUSIVE MODE")
}
