package store

import (
	"context"
	"database/sql"
	"errors"
	"time"

	"gorm.io/gorm"
)

// BeforeStatements has a function called before each statement of the store, which it makes fail by its error.
func (s *Store) BeforeStatements(fn func() error) {
	s.before(func(bool, string) error { return fn() })
}

// WatchStatements has a function called with each statement, and whether it is the writer's.
func (s *Store) WatchStatements(fn func(writes bool, statement string)) {
	s.before(func(writes bool, statement string) error {
		fn(writes, statement)
		return nil
	})
}

func (s *Store) before(fn func(writes bool, statement string) error) {
	s.tap(func(writes bool, statement string, _ []any) error { return fn(writes, statement) }, nil)
}

// statementFunc gets a statement, with its text and values as they are sent, and whether it is the writer's.
type statementFunc func(writes bool, statement string, values []any) error

// tap has functions called before each statement, which an error keeps from being sent, and after it; either may be nil.
func (s *Store) tap(before, after statementFunc) {
	for _, db := range []*gorm.DB{s.writes.handle(), s.reader} {
		t := tapped{ConnPool: db.ConnPool, writes: db == s.writes.handle(), before: before, after: after}
		db.ConnPool, db.Statement.ConnPool = t, t
	}
}

// tapped is what statements go through.
type tapped struct {
	gorm.ConnPool
	writes        bool
	before, after statementFunc
}

func (t tapped) ExecContext(ctx context.Context, statement string, values ...any) (r sql.Result, err error) {
	err = t.around(statement, values, func() error {
		r, err = t.ConnPool.ExecContext(ctx, statement, values...)
		return err
	})
	return r, err
}

func (t tapped) QueryContext(ctx context.Context, statement string, values ...any) (r *sql.Rows, err error) {
	err = t.around(statement, values, func() error {
		r, err = t.ConnPool.QueryContext(ctx, statement, values...) //nolint:sqlclosecheck,rowserrcheck // who asked does so
		return err
	})
	return r, err
}

func (t tapped) around(statement string, values []any, fn func() error) error {
	if t.before != nil {
		if err := t.before(t.writes, statement, values); err != nil {
			return err
		}
	}
	err := fn()
	if err == nil && t.after != nil {
		err = t.after(t.writes, statement, values)
	}
	return err
}

// BeginTx implements gorm.ConnPoolBeginner.
func (t tapped) BeginTx(ctx context.Context, o *sql.TxOptions) (gorm.ConnPool, error) {
	tx, err := beginOn(ctx, t.ConnPool, o)
	if err != nil {
		return nil, err
	}
	inner := t
	inner.ConnPool = tx
	outer := tappedTx{inner, tx.(gorm.TxCommitter)}
	if p, is := tx.(pipelined); is {
		return &tappedPipeline{tappedTx: outer, pipeline: p}, nil
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
	tapped
	gorm.TxCommitter
}

// tappedPipeline is one that keeps statements, whose errors are those of the next. What comes after such a statement is
// called when it is kept.
type tappedPipeline struct {
	tappedTx
	pipeline pipelined
	failed   error // the first
}

func (t *tappedPipeline) later(statement string, values []any) {
	_ = t.try(func() error {
		return t.around(statement, values, func() error {
			t.pipeline.later(statement, values)
			return nil
		})
	})
}

// try does something unless something before it has failed.
func (t *tappedPipeline) try(fn func() error) error {
	if t.failed == nil {
		t.failed = fn()
	}
	return t.failed
}

func (t *tappedPipeline) fetch(ctx context.Context, statement string, values []any, read func(cursor) error) error {
	return t.try(func() error {
		return t.around(statement, values, func() error { return t.pipeline.fetch(ctx, statement, values, read) })
	})
}

func (t *tappedPipeline) ExecContext(ctx context.Context, statement string, values ...any) (sql.Result, error) {
	if t.failed != nil {
		return nil, t.failed
	}
	return t.tapped.ExecContext(ctx, statement, values...)
}

func (t *tappedPipeline) QueryContext(ctx context.Context, statement string, values ...any) (*sql.Rows, error) {
	if t.failed != nil {
		return nil, t.failed
	}
	return t.tapped.QueryContext(ctx, statement, values...)
}

func (t *tappedPipeline) Commit() error {
	if t.failed != nil {
		return errors.Join(t.failed, t.Rollback())
	}
	return t.TxCommitter.Commit()
}

// Write is what all that is written goes through.
func (s *Store) Write(ctx context.Context, fn func(tx *gorm.DB) error) error { return s.write(ctx, fn) }

// Execute runs a statement as what happens often does.
func Execute(tx *gorm.DB, statement string, args ...any) error {
	return execute(tx, statement, args...)
}

// Number is a number that a query finds, likewise.
func Number(tx *gorm.DB, statement string, args ...any) (int64, error) {
	n, _, err := first[int64](tx, statement, args...)
	return n, err
}

// ReplayAll, PruneAll and PruneKeys are the parts of Work, once.
func (s *Store) ReplayAll(ctx context.Context) error { return s.replay(ctx) }
func (s *Store) PruneAll(ctx context.Context) error  { return s.prune(ctx) }
func (s *Store) PruneKeys(ctx context.Context) error { return s.pruneKeys(ctx) }

// WriteRepeats is another.
func (s *Store) WriteRepeats(ctx context.Context) error { return s.writeRepeats(ctx) }

// ShareRequests is a part of Work too.
func (s *Store) ShareRequests(ctx context.Context) error { return s.shareRequests(ctx) }

// WatchClock is one that Work does every second.
func (s *Store) WatchClock(ctx context.Context) error { return s.watchClock(ctx) }

// LookForChanges is one as well, with PostgreSQL.
func (s *Store) LookForChanges(ctx context.Context) error { return s.lookForChanges(ctx) }

// SettingsWaiting is how many statuses wait for those that are being set.
func (s *Store) SettingsWaiting() int {
	s.settings.mu.Lock()
	defer s.settings.mu.Unlock()
	return len(s.settings.waiting)
}

// CalmFor is how long nothing may have failed before the log says that the store is available again.
const CalmFor = calmFor

// SetMonotonic has the store take the time for what must not depend on a clock from a function.
func (s *Store) SetMonotonic(now func() time.Time) { s.monotonic = now }

// Logged returns when what the store's file and its downtimes have logged is written.
func (s *Store) Logged() { s.aside.queue.wait(time.Minute) }

// Maintain is a part of Work, too, with SQLite.
func (s *Store) Maintain(ctx context.Context) error { return s.maintain(ctx) }

// Checkpoint writes all of SQLite's log to its file.
func (s *Store) Checkpoint() error {
	_, err := s.engine.(*sqliteEngine).file.Checkpoint()
	return err
}

// RefuseStatements has a function called before each statement, whose error keeps that from being sent.
func (s *Store) RefuseStatements(fn func(statement string) error) {
	s.before(func(_ bool, statement string) error { return fn(statement) })
}

// Allocate is what a look at the store writes.
func (s *Store) Allocate(tx *gorm.DB) error {
	if err := s.engine.allocate(tx, s.now()); err != nil {
		return err
	}
	_, err := Number(tx, "SELECT 1") // has it sent
	return err
}

// Waiting is how many writes wait for SQLite's writer.
func (s *Store) Waiting() int { return len(s.writes.(*writer).queue) }
