package store

import (
	"context"
	"time"

	"gorm.io/gorm"

	"github.com/agentevents/agentevents/store/internal/sqldb"
	"github.com/agentevents/agentevents/store/internal/sqlite"
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

// tap has functions called before each statement, which an error keeps from being sent, and after it; either may be
// nil.
func (s *Store) tap(before, after statementFunc) {
	for _, db := range []*gorm.DB{s.writes.DB(), s.reader} {
		sqldb.AddTap(db, before.of(db == s.writes.DB()), after.of(db == s.writes.DB()))
	}
}

func (fn statementFunc) of(writes bool) sqldb.Tap {
	if fn == nil {
		return nil
	}
	return func(text string, values []any) error { return fn(writes, text, values) }
}

// Write is what all that is written goes through.
func (s *Store) Write(ctx context.Context, fn func(tx *sqldb.Tx) error) error {
	return s.write(ctx, fn)
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
func (s *Store) SettingsWaiting() int { return s.settings.Waiting() }

// CalmFor is how long nothing may have failed before the log says that the store is available again.
const CalmFor = recoveredAfter

// SetMonotonic has the store take the time for what must not depend on a clock from a function.
func (s *Store) SetMonotonic(now func() time.Time) { s.monotonic = now }

// Logged returns when what the store's file and its downtimes have logged is written.
func (s *Store) Logged() { s.asyncLog.queue.wait(time.Minute) }

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
func (s *Store) Allocate(tx *sqldb.Tx) error {
	if err := s.engine.allocate(tx, s.now()); err != nil {
		return err
	}
	_, err := sqldb.Value[int](tx, "SELECT 1") // has it sent
	return err
}

// Waiting is how many writes wait for SQLite's writer.
func (s *Store) Waiting() int { return s.writes.(*sqlite.Writer).Waiting() }
