package sqlite

import (
	"context"
	"errors"

	"github.com/agentevents/agentevents/store/internal/sqldb"
)

// commit does a unit of work, and those that are asked for before it is done, in one transaction. One that fails takes
// nothing with it; if the transaction fails, all do.
func (w *Writer) commit(first *unit) {
	units, results, err := w.transaction(first)
	for i, u := range units {
		if err != nil {
			results[i] = w.fails(err)
		}
		if u.tx != nil {
			u.tx.End(results[i])
		}
		u.done <- results[i]
	}
}

// transaction does units of work and commits. If it does not begin, nor would it for those that wait; if the first unit
// fails, nothing has come of it yet that is to be kept.
func (w *Writer) transaction(first *unit) (units []*unit, results []error, err error) {
	units, results = []*unit{first}, []error{first.ctx.Err()}
	if results[0] != nil {
		return units, results, nil
	}
	if err = w.beginTransaction(); err != nil {
		units = append(units, w.allWaiting()...)
		results = make([]error, len(units))
	} else if results[0] = w.do(first); results[0] == nil {
		if units, results, err = w.doWaiting(units, results); err == nil {
			return units, results, w.file.CheckCommit()
		}
	}
	if !w.file.TransactionEnded() {
		_ = w.exec("ROLLBACK") // an error here means that the one before was in vain
	}
	return units, results, err
}

// beginTransaction refuses to write to a file that is known to be lost.
func (w *Writer) beginTransaction() error {
	if err := w.file.LostFile(); err != nil {
		return err
	}
	return w.exec("BEGIN IMMEDIATE")
}

// exec runs a statement of the transaction itself.
func (w *Writer) exec(statement string) error {
	return sqldb.NewTx(context.Background(), w.DB()).Exec(statement)
}

// allWaiting takes all units that wait.
func (w *Writer) allWaiting() (units []*unit) {
	for u := w.next(); u != nil; u = w.next() {
		units = append(units, u)
	}
	return units
}

// doWaiting does the units that wait, also those that come while it does so, and commits.
func (w *Writer) doWaiting(units []*unit, results []error) ([]*unit, []error, error) {
	if w.file.TransactionEnded() {
		return units, results, errEnded
	}
	for len(units) < maxUnits {
		u := w.next()
		if u == nil {
			break
		}
		result, err := w.doApart(u)
		units, results = append(units, u), append(results, result)
		if err != nil {
			return units, results, err
		}
	}
	return units, results, w.exec("COMMIT")
}

// do does a unit, unless its caller does not want it any more. Its context has the values of the caller's, but does not
// end with it: others share the transaction.
func (w *Writer) do(u *unit) error {
	if err := u.ctx.Err(); err != nil {
		return err
	}
	u.tx = sqldb.NewTx(context.WithoutCancel(u.ctx), w.DB())
	return u.tx.Run(u.work)
}

// doApart does a unit between savepoints. The first error is the unit's own; the second ends the transaction.
func (w *Writer) doApart(u *unit) (own, fatal error) {
	if err := w.exec("SAVEPOINT unit"); err != nil {
		return nil, err
	}
	own = w.do(u)
	if own != nil {
		if w.file.TransactionEnded() { // there is no savepoint any more
			return nil, errors.Join(own, errEnded)
		}
		if err := w.exec("ROLLBACK TO unit"); err != nil {
			return nil, errors.Join(own, err)
		}
	}
	return own, w.exec("RELEASE unit")
}
