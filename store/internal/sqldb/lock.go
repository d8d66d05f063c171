package sqldb

import (
	"gorm.io/gorm/clause"
)

// rowLock is the strength of row locks. It permits other transactions to insert rows that refer to the locked row.
const rowLock = "NO KEY UPDATE"

func skipLocked(wait bool) string {
	if wait {
		return ""
	}
	return " SKIP LOCKED"
}

// Locking returns the clauses by which a query of GORM locks the rows that it finds, as ForUpdate(true) does.
func Locking(q Querier) []clause.Expression {
	if q.ForUpdate(true) == "" {
		return nil
	}
	return []clause.Expression{clause.Locking{Strength: rowLock}}
}

// ForUpdateOf is ForUpdate for the rows of one table of a join.
func (t *Tx) ForUpdateOf(table string, wait bool) string {
	if t.dialect == SQLite {
		return ""
	}
	return " FOR " + rowLock + " OF " + table + skipLocked(wait)
}

// ForKeyShare is the end of a query whose rows must not be deleted before the transaction ends. They may be changed.
func (t *Tx) ForKeyShare() string {
	if t.dialect == SQLite {
		return ""
	}
	return " FOR KEY SHARE"
}

// LockRows locks rows of a table by their ids, in the order of the ids, and returns the locked ones. With wait false,
// it skips rows that another transaction has locked.
func (t *Tx) LockRows(table string, ids []int64, wait bool) (locked []int64, err error) {
	if t.dialect == SQLite || len(ids) == 0 {
		return ids, nil
	}
	text := "SELECT id FROM " + table + " WHERE id IN ? ORDER BY id" + t.ForUpdate(wait)
	return Select[int64](t, text, Padded(ids))
}

// SkipLocked is the end of a subselect that finds the rows for a DELETE by their key. It skips rows that another
// transaction has locked.
func (t *Tx) SkipLocked(key string) string {
	if t.dialect == SQLite {
		return ""
	}
	return " ORDER BY " + key + " FOR UPDATE SKIP LOCKED"
}

// LockTable blocks writes of other transactions to a table.
func (t *Tx) LockTable(table string) error {
	if t.dialect == SQLite {
		return nil
	}
	return t.Exec("LOCK TABLE " + table + " IN SHARE ROW EXCLUSIVE MODE")
}
