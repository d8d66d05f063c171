package store

import (
	"context"
	"errors"
	"log/slog"
	"sync"
	"sync/atomic"
	"time"

	"gorm.io/gorm/logger"

	"github.com/agentevents/agentevents/store/internal/postgres"
	"github.com/agentevents/agentevents/store/internal/sqldb"
	"github.com/agentevents/agentevents/store/internal/sqlite"
)

// recoveredAfter is the time without a failure after which a downtime is over. Some writes succeed even on a full disk.
const recoveredAfter = 10 * time.Second

// downtimes logs one line for each reason why the database is unavailable, and one line when that downtime is over. All
// requests of a downtime fail for its reason, and log nothing themselves.
type downtimes struct {
	log *slog.Logger
	now func() time.Time

	open atomic.Int32 // the number of open downtimes; while it is 0, a success takes no lock
	mu   sync.Mutex
	all  map[string]*downtime
	last struct { // the last failed write, except for contention and timeouts
		at  time.Time
		err error
	}
}

// isSlow reports whether a statement or transaction exceeded its time. That does not predict the next one.
func isSlow(err error) bool {
	return errors.Is(err, context.DeadlineExceeded) || postgres.IsStatementTimeout(err)
}

type downtime struct {
	cause       error
	first, last time.Time
	failed      int
}

func newDowntimes(log *slog.Logger, now func() time.Time) *downtimes {
	return &downtimes{log: log, now: now, all: map[string]*downtime{}}
}

// note records the result of a write. An error after the end of the caller's context says nothing about the database.
func (d *downtimes) note(ctx context.Context, err error) {
	switch cause := causeOf(err); {
	case err == nil:
		d.succeeded()
	case cause != nil && ctx.Err() == nil:
		d.failed(cause, true)
	}
}

// causeOf returns the cause of unavailability. It returns nil for any other error, for a closed store, and for a lost
// file, which package sqlite logs.
func causeOf(err error) error {
	var known *Error
	if errors.As(err, &known) {
		if known.Message != unavailableMessage {
			return nil
		}
		err = known.cause
	} else if err == nil || !isUnavailable(err) {
		return nil
	}
	if errors.Is(err, ErrFile) || isClosed(err) {
		return nil
	}
	return err
}

// failed adds a failure to the downtime with its cause, and opens one if there is none.
func (d *downtimes) failed(cause error, write bool) {
	d.mu.Lock()
	defer d.mu.Unlock()
	now := d.now()
	if write && !isContended(cause) && !isSlow(cause) {
		d.last.at, d.last.err = now, cause
	}
	x := d.all[commonCause(cause)]
	if x == nil {
		x = &downtime{cause: cause, first: now}
		d.all[commonCause(cause)] = x
		d.open.Store(int32(len(d.all))) //nolint:gosec // a handful
		d.log.Error("store unavailable", "error", cause)
	}
	x.last = now
	x.failed++
}

// succeeded closes the downtimes without a recent failure.
func (d *downtimes) succeeded() {
	if d.open.Load() == 0 {
		return
	}
	d.mu.Lock()
	defer d.mu.Unlock()
	now := d.now()
	for name, x := range d.all {
		if now.Sub(x.last) >= recoveredAfter {
			delete(d.all, name)
			d.log.Info("store available again", "error", x.cause, "failed", x.failed, "down_for",
				x.last.Sub(x.first).Round(time.Millisecond))
		}
	}
	d.open.Store(int32(len(d.all))) //nolint:gosec // a handful
}

// noteRead records the result of a transaction that reads. The statement log records failed statements; noteRead adds a
// failed BEGIN.
func (d *downtimes) noteRead(ctx context.Context, err error) {
	cause := causeOf(err)
	if cause == nil || ctx.Err() != nil {
		return
	}
	d.mu.Lock()
	_, open := d.all[commonCause(cause)]
	d.mu.Unlock()
	if !open {
		d.failed(cause, false)
	}
}

// recent returns the last failure of a write within a time, or nil.
func (d *downtimes) recent(within time.Duration) error {
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.last.err == nil || d.now().Sub(d.last.at) >= within {
		return nil
	}
	return d.last.err
}

// commonCause is a key for errors with the same reason. Their texts may differ in a statement or a port.
func commonCause(err error) string {
	for _, reasonOf := range []func(error) (string, bool){sqlite.Reason, postgres.Reason} {
		if known, is := reasonOf(err); is {
			return known
		}
	}
	switch {
	case errors.Is(err, context.DeadlineExceeded):
		return "time"
	case postgres.IsUnavailable(err):
		return "connection"
	}
	return err.Error()
}

// observe wraps a statement log, so that failed reads count as failures, too.
func (d *downtimes) observe(l logger.Interface) logger.Interface { return &readLog{l, d} }

type readLog struct {
	logger.Interface
	downtimes *downtimes
}

// LogMode implements logger.Interface.
func (l *readLog) LogMode(level logger.LogLevel) logger.Interface {
	return &readLog{l.Interface.LogMode(level), l.downtimes}
}

// Trace implements logger.Interface.
func (l *readLog) Trace(ctx context.Context, begin time.Time, fc func() (string, int64), err error) {
	if cause := causeOf(err); cause != nil && ctx.Err() == nil {
		l.downtimes.failed(cause, false)
	}
	l.Interface.Trace(ctx, begin, fc, err)
}

const (
	readinessEvery   = time.Second     // the minimum time between two checks, however many callers ask
	readinessTimeout = 3 * time.Second // the timeout of one check
	recentFailure    = 2 * time.Second // the time for which a failed write makes the store not ready
)

// Ready returns nil if a status change would be stored now.
//
// It returns an error if a change would fail, if the answer is not known before ctx ends, or if the secrets cannot be
// decrypted. It writes at most once a second.
func (s *Store) Ready(ctx context.Context) error {
	switch {
	case s.closed.Load():
		return publicError(sqlite.ErrClosed)
	case s.keyMissing.Load():
		return ErrKeyMissing
	}
	if err := s.engine.checkWritable(); err != nil {
		return unavailableError(err)
	}
	if err := s.downtimes.recent(recentFailure); err != nil {
		return unavailableError(err)
	}
	return s.readiness.result(ctx, s.monotonic, s.checkWrite)
}

// checkWrite writes like a status change, into newly allocated space. It also reads the end of the tables that a change
// adds to.
func (s *Store) checkWrite(ctx context.Context) error {
	if err := s.engine.checkFiles(ctx); err != nil {
		s.downtimes.note(ctx, err)
		return unavailableError(err)
	}
	err := s.writes.Try(ctx, func(tx *sqldb.Tx) error {
		if err := s.engine.allocate(tx, s.now()); err != nil {
			return err
		}
		_, _, err := sqldb.Get[int64](tx, "SELECT coalesce((SELECT max(id) FROM status_changes), 0) + "+
			"coalesce((SELECT max(id) FROM deliveries), 0) + coalesce((SELECT max(id) FROM lanes), 0)")
		return err
	})
	s.downtimes.note(ctx, err)
	return publicError(err)
}

// readinessCheck is a test write of the store. All calls within a second share its result.
type readinessCheck struct {
	mu     sync.Mutex
	begun  time.Time
	last   error
	flight chan struct{} // closed when the check in progress ends; nil if there is none
}

// result returns the result of the last check if that is recent. Otherwise it waits for a check, which it may begin.
func (c *readinessCheck) result(
	ctx context.Context, now func() time.Time, check func(context.Context) error,
) error {
	flight := c.join(now(), check)
	if flight != nil {
		select {
		case <-flight:
		case <-ctx.Done():
			return ctx.Err()
		}
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.last
}

// join returns the channel of the check in progress, and begins a check if the last one is old. It returns nil if the
// last result is recent.
func (c *readinessCheck) join(now time.Time, check func(context.Context) error) chan struct{} {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.flight == nil && (c.begun.IsZero() || now.Sub(c.begun) >= readinessEvery) {
		c.begun, c.flight = now, make(chan struct{})
		go c.run(check)
	}
	return c.flight
}

func (c *readinessCheck) run(check func(context.Context) error) {
	ctx, cancel := context.WithTimeout(context.Background(), readinessTimeout)
	defer cancel()
	err := check(ctx)
	c.mu.Lock()
	defer c.mu.Unlock()
	close(c.flight)
	c.last, c.flight = err, nil
}

// wait returns when no check is in progress.
func (c *readinessCheck) wait() {
	c.mu.Lock()
	flight := c.flight
	c.mu.Unlock()
	if flight != nil {
		<-flight
	}
}
