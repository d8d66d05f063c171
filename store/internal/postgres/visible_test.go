package postgres

import (
	"database/sql"
	"testing"

	"github.com/agentevents/agentevents/store/internal/sqldb"
	"gorm.io/gorm/logger"
)

// Later committed numbers do not raise the high-water mark while the transaction is open.
func TestHighWaterMarkStaysBelowOpenTransactions(t *testing.T) {
	db := openTest(t)
	reader, err := ORM(db.Readers(), logger.Discard)
	check(t, err)
	_, err = db.Writers().ExecContext(t.Context(), "CREATE SEQUENCE numbers")
	check(t, err)
	want := func(n int64, when string) {
		t.Helper()
		got, err := Sequence("numbers").VisibleUpTo(sqldb.Read(t.Context(), reader))
		check(t, err)
		if got != n {
			t.Errorf("%s: all is visible up to %d, want %d", when, got, n)
		}
	}
	want(0, "before the first number")
	first, second, third := begin(t, db), begin(t, db), begin(t, db)
	draw(t, first)
	check(t, first.Commit())
	want(1, "when the first has committed")
	draw(t, second)
	draw(t, third)
	check(t, third.Commit())
	want(1, "while the second is open")
	check(t, second.Rollback())
	want(3, "when all have ended")
}

func begin(t *testing.T, db *DB) *sql.Tx {
	t.Helper()
	tx, err := db.Writers().BeginTx(t.Context(), nil)
	check(t, err)
	t.Cleanup(func() { _ = tx.Rollback() })
	return tx
}

// draw draws a number in a transaction.
func draw(t *testing.T, tx *sql.Tx) {
	t.Helper()
	_, err := tx.ExecContext(t.Context(), Sequence("numbers").AnnounceSQL())
	check(t, err)
	_, err = tx.ExecContext(t.Context(), "SELECT nextval('numbers')")
	check(t, err)
}
