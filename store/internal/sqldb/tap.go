package sqldb

import (
	"context"
	"database/sql"
	"errors"

	"gorm.io/gorm"
)

// Tap is a function that observes a statement, with its text and values as they are sent.
type Tap func(text string, values []any) error

// AddTap installs taps before and after each statement on a database, for tests. An error of before prevents the
// statement. Either tap may be nil.
func AddTap(db *gorm.DB, before, after Tap) {
	t := tappedPool{ConnPool: db.ConnPool, before: before, after: after}
	db.ConnPool, db.Statement.ConnPool = t, t
}

// tappedPool calls the taps around each statement.
type tappedPool struct {
	gorm.ConnPool
	before, after Tap
}

// ExecContext implements gorm.ConnPool.
func (t tappedPool) ExecContext(ctx context.Context, text string, values ...any) (r sql.Result, err error) {
	err = t.around(text, values, func() error {
		r, err = t.ConnPool.ExecContext(ctx, text, values...)
		return err
	})
	return r, err
}

// QueryContext implements gorm.ConnPool.
func (t tappedPool) QueryContext(ctx context.Context, text string, values ...any) (r *sql.Rows, err error) {
	err = t.around(text, values, func() error {
		r, err = t.ConnPool.QueryContext(ctx, text, values...) //nolint:sqlclosecheck,rowserrcheck // the caller does
		return err
	})
	return r, err
}

func (t tappedPool) around(text string, values []any, send func() error) error {
	if t.before != nil {
		if err := t.before(text, values); err != nil {
			return err
		}
	}
	err := send()
	if err == nil && t.after != nil {
		err = t.after(text, values)
	}
	return err
}

// BeginTx implements gorm.ConnPoolBeginner.
func (t tappedPool) BeginTx(ctx context.Context, o *sql.TxOptions) (gorm.ConnPool, error) {
	tx, err := beginOn(ctx, t.ConnPool, o)
	if err != nil {
		return nil, err
	}
	inner := t
	inner.ConnPool = tx
	outer := tappedTx{inner, tx.(gorm.TxCommitter)}
	if q, is := tx.(Queuer); is {
		return &tappedQueue{tappedTx: outer, queuer: q}, nil
	}
	return &outer, nil
}

func beginOn(ctx context.Context, pool gorm.ConnPool, o *sql.TxOptions) (gorm.ConnPool, error) {
	if b, is := pool.(gorm.TxBeginner); is {
		return b.BeginTx(ctx, o)
	}
	return pool.(gorm.ConnPoolBeginner).BeginTx(ctx, o)
}

type tappedTx struct {
	tappedPool
	gorm.TxCommitter
}

// tappedQueue is a tapped transaction that queues statements. An error of a queued statement is returned by the next
// statement. The tap after a queued statement is called when it is queued.
type tappedQueue struct {
	tappedTx
	queuer Queuer
	failed error // the first error
}

// Queue implements Queuer.
func (t *tappedQueue) Queue(text string, values []any) {
	_ = t.unlessFailed(func() error {
		return t.around(text, values, func() error {
			t.queuer.Queue(text, values)
			return nil
		})
	})
}

// Fetch implements Queuer.
func (t *tappedQueue) Fetch(ctx context.Context, text string, values []any, read func(Rows) error) error {
	return t.unlessFailed(func() error {
		return t.around(text, values, func() error { return t.queuer.Fetch(ctx, text, values, read) })
	})
}

// unlessFailed calls fn unless an earlier statement has failed.
func (t *tappedQueue) unlessFailed(fn func() error) error {
	if t.failed == nil {
		t.failed = fn()
	}
	return t.failed
}

// ExecContext implements gorm.ConnPool.
func (t *tappedQueue) ExecContext(ctx context.Context, text string, values ...any) (sql.Result, error) {
	if t.failed != nil {
		return nil, t.failed
	}
	return t.tappedTx.ExecContext(ctx, text, values...)
}

// QueryContext implements gorm.ConnPool.
func (t *tappedQueue) QueryContext(ctx context.Context, text string, values ...any) (*sql.Rows, error) {
	if t.failed != nil {
		return nil, t.failed
	}
	return t.tappedTx.QueryContext(ctx, text, values...)
}

// Commit implements gorm.TxCommitter.
func (t *tappedQueue) Commit() error {
	if t.failed != nil {
		return errors.Join(t.failed, t.Rollback())
	}
	return t.TxCommitter.Commit()
}
