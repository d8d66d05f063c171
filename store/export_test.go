package store

import (
	"context"
	"time"

	"gorm.io/gorm"

	"github.com/agentevents/agentevents/store/internal/sqldb"
	"github.com/agentevents/agentevents/store/internal/sqlite"
)

// BeforeStatements calls fn before each statement of the store. Its error becomes the statement's.
func (s *Store) BeforeStatements(fn func() error) {
	s.before(func(bool, string) error { return fn() })
}

// WatchStatements calls fn with each statement, and whether the writer sends it.
func (s *Store) WatchStatements(fn func(writes bool, statement string)) {
	s.before(func(writes bool, statement string) error {
		fn(writes, statement)
		return nil
	})
}

func (s *Store) before(fn func(writes bool, statement string) error) {
	s.tap(func(writes bool, statement string, _ []any) error { return fn(writes, statement) }, nil)
}

// statementFunc gets a statement, with its text and values as they are sent, and whether the writer sends it.
type statementFunc func(writes bool, statement string, values []any) error

// tap calls functions before each statement, which an error prevents, and after it. Either may be nil.
func (s *Store) tap(before, after statementFunc) {
	for _, db := range []*gorm.DB{s.writes.ORM(), s.reader} {
		sqldb.AddTap(db, before.of(db == s.writes.ORM()), after.of(db == s.writes.ORM()))
	}
}

func (fn statementFunc) of(writes bool) sqldb.Tap {
	if fn == nil {
		return nil
	}
	return func(text string, values []any) error { return fn(writes, text, values) }
}

// Write runs a transaction that writes.
func (s *Store) Write(ctx context.Context, fn func(tx *sqldb.Tx) error) error {
	return s.write(ctx, fn)
}

// ReplayAll, PruneAll and PruneKeys run background jobs once.
func (s *Store) ReplayAll(ctx context.Context) error { return s.replay(ctx) }
func (s *Store) PruneAll(ctx context.Context) error  { return s.prune(ctx) }
func (s *Store) PruneKeys(ctx context.Context) error { return s.pruneKeys(ctx) }

// SweepAll runs the job that makes deliveries follow their events once.
func (s *Store) SweepAll(ctx context.Context) error { return s.runSweeps(ctx) }

// SweepNext executes the next slice of an event's sweep.
func (s *Store) SweepNext(ctx context.Context, event int64) error {
	return s.write(ctx, func(tx *sqldb.Tx) error { return s.continueSweep(tx, event) })
}

// SetSweptRows sets the number of deliveries of a slice, and returns a function that restores it.
func SetSweptRows(n int) (restore func()) {
	before := sweptRows
	sweptRows = n
	return func() { sweptRows = before }
}

// WriteRepeats runs the job that stores repeated statuses.
func (s *Store) WriteRepeats(ctx context.Context) error { return s.writeRepeats(ctx) }

// CountPending runs the job that counts pending deliveries.
func (s *Store) CountPending(ctx context.Context) error { return s.countPending(ctx) }

// ShareRequests runs the job that stores counted requests.
func (s *Store) ShareRequests(ctx context.Context) error { return s.shareRequests(ctx) }

// WatchClock runs the job that notices steps of the clock.
func (s *Store) WatchClock(ctx context.Context) error { return s.watchClock(ctx) }

// PollChanges runs the job that polls for changes of other processes on PostgreSQL.
func (s *Store) PollChanges(ctx context.Context) error { return s.pollChanges(ctx) }

// StatusUpdatesWaiting returns the number of status updates in the queue.
func (s *Store) StatusUpdatesWaiting() int { return s.statusUpdates.Waiting() }

// GoneWaiting returns the number of results of answers of 410 in the queue.
func (s *Store) GoneWaiting() int { return s.gone.Waiting() }

// RecoveredAfter is the time without a failure after which a downtime is over.
const RecoveredAfter = recoveredAfter

// SetMonotonic replaces the clock that is never set.
func (s *Store) SetMonotonic(now func() time.Time) { s.monotonic = now }

// Logged returns when all lines of the asynchronous log are written.
func (s *Store) Logged() { s.asyncLog.queue.wait(time.Minute) }

// Maintain runs the maintenance job of SQLite.
func (s *Store) Maintain(ctx context.Context) error { return s.maintain(ctx) }

// Checkpoint writes SQLite's whole log to the file.
func (s *Store) Checkpoint() error {
	_, err := s.engine.(*sqliteEngine).file.Checkpoint()
	return err
}

// RefuseStatements calls fn before each statement. Its error prevents the statement.
func (s *Store) RefuseStatements(fn func(statement string) error) {
	s.before(func(_ bool, statement string) error { return fn(statement) })
}

// Allocate runs the write of the readiness check.
func (s *Store) Allocate(tx *sqldb.Tx) error {
	if err := s.engine.allocate(tx, s.now()); err != nil {
		return err
	}
	_, err := sqldb.Value[int](tx, "SELECT 1") // sends the queued statements
	return err
}

// Waiting returns the number of units in the queue of SQLite's writer.
func (s *Store) Waiting() int { return s.writes.(*sqlite.Writer).Waiting() }
