package sqlite

import (
	"context"
	"errors"
	"time"

	"github.com/agentevents/agentevents/store/internal/sqldb"
)

// commit runs a unit of work, and the units that arrive before it ends, in one transaction. A unit that fails affects
// no other. If the transaction fails, all its units fail.
func (w *Writer) commit(first *unit) {
	units, results, err := w.transaction(first)
	for i, u := range units {
		if err != nil {
			results[i] = w.mapError(err)
		}
		if u.tx != nil {
			u.tx.RunWriterHooks(results[i])
		}
		u.done <- results[i]
	}
}

// transaction runs units and commits. If BEGIN fails, all waiting units fail with it. If the first unit fails, the
// transaction has no other unit yet, and is rolled back.
func (w *Writer) transaction(first *unit) (units []*unit, results []error, err error) {
	units, results = []*unit{first}, []error{first.ctx.Err()}
	if results[0] != nil {
		return units, results, nil
	}
	begun := w.now()
	if err = w.beginTransaction(first.unsynced); err != nil {
		units = append(units, w.takeWaiting()...)
		results = make([]error, len(units))
	} else if results[0] = w.runUnit(first); results[0] == nil {
		if units, results, err = w.runWaiting(begun, units, results); err == nil {
			return units, results, w.file.CheckCommit()
		}
	}
	if !w.file.TransactionEnded() {
		_ = w.exec("ROLLBACK") // an error means that the transaction has ended already
	}
	return units, results, err
}

// beginTransaction begins a transaction, unless the file is known to be lost.
func (w *Writer) beginTransaction(unsynced bool) error {
	if err := w.file.LostFile(); err != nil {
		return err
	}
	if err := w.setUnsynced(unsynced); err != nil {
		return err
	}
	return w.exec("BEGIN IMMEDIATE")
}

// setUnsynced sets whether the next commit may be lost. A checkpoint is synced in both modes.
func (w *Writer) setUnsynced(unsynced bool) error {
	if w.unsynced == unsynced {
		return nil
	}
	mode := "FULL"
	if unsynced {
		mode = "NORMAL"
	}
	w.unsynced = true // after an error, the mode is not known, and the next synced transaction sets it again
	err := w.exec("PRAGMA synchronous = " + mode)
	if err == nil {
		w.unsynced = unsynced
	}
	return err
}

// exec runs a statement of the transaction itself, such as BEGIN.
func (w *Writer) exec(statement string) error {
	return sqldb.NewTx(context.Background(), w.ORM()).Exec(statement)
}

// takeWaiting removes all units from the queue.
func (w *Writer) takeWaiting() (units []*unit) {
	for u := w.next(); u != nil; u = w.next() {
		units = append(units, u)
	}
	return units
}

// runWaiting runs the units that wait, including those that arrive meanwhile, and commits. The units that wait after
// maxWork are for the next transaction.
func (w *Writer) runWaiting(begun time.Time, units []*unit, results []error) ([]*unit, []error, error) {
	if w.file.TransactionEnded() {
		return units, results, errEnded
	}
	for len(units) < maxUnits && w.now().Sub(begun) < maxWork {
		u := w.nextFor(units[0])
		if u == nil {
			break
		}
		result, err := w.runInSavepoint(u)
		units, results = append(units, u), append(results, result)
		if err != nil {
			return units, results, err
		}
	}
	return units, results, w.exec("COMMIT")
}

// runUnit runs a unit, unless its context has ended. The unit's context has the caller's values, but does not end with
// it, because others share the transaction.
func (w *Writer) runUnit(u *unit) error {
	if err := u.ctx.Err(); err != nil {
		return err
	}
	u.tx = sqldb.NewTx(context.WithoutCancel(u.ctx), w.ORM())
	return u.tx.Run(u.work)
}

// runInSavepoint runs a unit in a savepoint. The first result is the unit's own error. The second one ends the
// transaction.
func (w *Writer) runInSavepoint(u *unit) (own, fatal error) {
	if err := w.exec("SAVEPOINT unit"); err != nil {
		return nil, err
	}
	own = w.runUnit(u)
	if own != nil {
		if w.file.TransactionEnded() { // the savepoint ended with the transaction
			return nil, errors.Join(own, errEnded)
		}
		if err := w.exec("ROLLBACK TO unit"); err != nil {
			return nil, errors.Join(own, err)
		}
	}
	return own, w.exec("RELEASE unit")
}
