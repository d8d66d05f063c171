package sqldb_test

import (
	"context"
	"errors"
	"runtime"
	"slices"
	"testing"

	"gorm.io/gorm"

	"github.com/agentevents/agentevents/store/internal/sqldb"
	"github.com/agentevents/agentevents/store/pgtest"
)

// withThings opens a database with three things, whose ids are 1, 2 and 3.
func withThings(t *testing.T) *testDB {
	t.Helper()
	db := open(t)
	db.write("INSERT INTO things (amount, name) VALUES (1, 'a'), (2, 'b'), (3, 'c')")
	return db
}

// hold runs a function in a transaction, which stays open until release is called.
func (db *testDB) hold(fn func(tx *sqldb.Tx) error) (release func()) {
	db.t.Helper()
	held, end, done := make(chan error, 1), make(chan struct{}), make(chan error, 1)
	go func() {
		done <- db.Do(context.Background(), func(tx *sqldb.Tx) error {
			err := fn(tx)
			held <- err
			<-end
			return err
		})
	}()
	check(db.t, <-held)
	return func() {
		db.t.Helper()
		close(end)
		check(db.t, <-done)
	}
}

// lock locks a thing until release is called.
func (db *testDB) lock(id int64) (release func()) {
	db.t.Helper()
	return db.hold(func(tx *sqldb.Tx) error {
		_, err := tx.LockRows("things", []int64{id}, true)
		return err
	})
}

// awaitBlocked returns when a transaction waits for a lock.
func (db *testDB) awaitBlocked() {
	for {
		n, err := sqldb.Value[int64](db.read(), "SELECT count(*) FROM pg_stat_activity WHERE wait_event_type = 'Lock' "+
			"AND datname = current_database()")
		check(db.t, err)
		if n > 0 {
			return
		}
		runtime.Gosched()
	}
}

// SQLite has one writer, so that no statement is sent and nothing is added to a query.
func TestNothingIsLockedOnSQLite(t *testing.T) {
	pgtest.SQLiteOnly(t, "PostgreSQL locks rows")
	db := open(t)
	db.do(func(tx *sqldb.Tx) error {
		for _, wait := range []bool{true, false} {
			got := tx.ForUpdate(wait) + tx.ForUpdateOf("t", wait) + tx.ForKeyShare() + tx.SkipLocked("id")
			if got != "" {
				t.Errorf("it adds %q", got)
			}
			ids, err := tx.LockRows("nowhere", []int64{3, 1}, wait)
			if !slices.Equal(ids, []int64{3, 1}) || err != nil {
				t.Errorf("of rows are locked %v, %v", ids, err)
			}
		}
		if len(sqldb.Locking(tx)) > 0 {
			t.Error("GORM locks rows")
		}
		return tx.LockTable("nowhere")
	})
}

func TestLockedRowsAreSkippedWithoutWaiting(t *testing.T) {
	pgtest.PostgresOnly(t, "SQLite has one writer")
	db := withThings(t)
	release := db.lock(2)
	db.do(func(tx *sqldb.Tx) error {
		want := func(got []int64, err error) {
			t.Helper()
			check(t, err)
			if !slices.Equal(got, []int64{1, 3}) {
				t.Errorf("found %v", got)
			}
		}
		want(tx.LockRows("things", []int64{3, 2, 1}, false))
		want(sqldb.Select[int64](tx, "SELECT id FROM things ORDER BY id"+tx.ForUpdate(false)))
		want(sqldb.Select[int64](tx,
			"SELECT x.id FROM things x JOIN things y ON y.id = x.id ORDER BY x.id"+tx.ForUpdateOf("x", false)))
		want(sqldb.Select[int64](tx, "SELECT id FROM (SELECT id FROM things"+tx.SkipLocked("id")+") x ORDER BY id"))
		return nil
	})
	release()
	db.do(func(tx *sqldb.Tx) error {
		ids, err := tx.LockRows("things", []int64{3, 2, 1}, false)
		if !slices.Equal(ids, []int64{1, 2, 3}) {
			t.Errorf("when all are free, locked are %v", ids)
		}
		none, empty := tx.LockRows("things", nil, false)
		if len(none) > 0 {
			t.Errorf("of no rows, locked are %v", none)
		}
		return errors.Join(err, empty)
	})
}

// The waiting transaction gets all rows, in their state after the other transaction.
func TestLockedRowsAreWaitedFor(t *testing.T) {
	pgtest.PostgresOnly(t, "SQLite has one writer")
	for name, find := range map[string]func(tx *sqldb.Tx) ([]int64, error){
		"rows by ids": func(tx *sqldb.Tx) ([]int64, error) { return tx.LockRows("things", []int64{3, 2, 1}, true) },
		"a query": func(tx *sqldb.Tx) ([]int64, error) {
			return sqldb.Select[int64](tx, "SELECT id FROM things ORDER BY id"+tx.ForUpdate(true))
		},
		"GORM": func(tx *sqldb.Tx) (ids []int64, err error) {
			query := gorm.G[struct{ ID int64 }](tx.GORM(), sqldb.Locking(tx)...)
			rows, err := query.Table("things").Order("id").Find(tx.Context())
			for _, r := range rows {
				ids = append(ids, r.ID)
			}
			return ids, err
		},
	} {
		t.Run(name, func(t *testing.T) {
			db := withThings(t)
			release := db.hold(func(tx *sqldb.Tx) error {
				return tx.Exec("UPDATE things SET amount = 20 WHERE id = 2")
			})
			done := make(chan error, 1)
			go func() {
				done <- db.Do(context.Background(), func(tx *sqldb.Tx) error {
					ids, err := find(tx)
					if !slices.Equal(ids, []int64{1, 2, 3}) {
						t.Errorf("locked are %v", ids)
					}
					return errors.Join(err, tx.Exec("UPDATE things SET amount = amount + 1"))
				})
			}()
			db.awaitBlocked()
			release()
			check(t, <-done)
			if n, err := sqldb.Value[int64](db.read(), "SELECT amount FROM things WHERE id = 2"); n != 21 {
				t.Errorf("the amount is %d, %v", n, err)
			}
		})
	}
}

// A key-share lock prevents a deletion and permits a change. A row lock permits new references to the row.
func TestKeyShareAndRowLocksPermitTheOther(t *testing.T) {
	pgtest.PostgresOnly(t, "SQLite has one writer")
	db := withThings(t)
	release := db.hold(func(tx *sqldb.Tx) error {
		_, err := sqldb.Select[int64](tx, "SELECT id FROM things"+tx.ForKeyShare())
		return err
	})
	db.write("UPDATE things SET amount = 7 WHERE id = 1")
	db.do(func(tx *sqldb.Tx) error {
		n, err := tx.ExecCount("DELETE FROM things WHERE id IN (SELECT id FROM things" + tx.SkipLocked("id") + ")")
		if n != 0 {
			t.Errorf("%d rows were deleted", n)
		}
		return err
	})
	release()
	release = db.lock(1)
	db.write("CREATE TABLE parts (thing bigint REFERENCES things (id))")
	db.write("INSERT INTO parts VALUES (1)")
	release()
}

func TestLockedTableIsReadableAndNotWritable(t *testing.T) {
	pgtest.PostgresOnly(t, "SQLite has one writer")
	db := withThings(t)
	release := db.hold(func(tx *sqldb.Tx) error { return tx.LockTable("things") })
	done := make(chan error, 1)
	go func() {
		done <- db.Do(context.Background(), func(tx *sqldb.Tx) error { return tx.Exec("DELETE FROM things") })
	}()
	db.awaitBlocked()
	if n, err := sqldb.Value[int64](db.read(), "SELECT count(*) FROM things"); n != 3 {
		t.Errorf("there are %d rows, %v", n, err)
	}
	release()
	check(t, <-done)
}

func TestReadersLockNothing(t *testing.T) {
	db := open(t)
	if got := db.read().ForUpdate(true) + db.read().ForUpdate(false); got != "" || len(sqldb.Locking(db.read())) > 0 {
		t.Errorf("it adds %q", got)
	}
}
