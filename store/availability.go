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

// recoveredAfter is how long nothing may have failed for a reason before that is over: on a full disk some writes
// succeed, too.
const recoveredAfter = 10 * time.Second

// downtimes logs one line for each reason why the database is not available, and one when that is over: as long as it
// lasts, all requests fail for that reason.
type downtimes struct {
	log *slog.Logger
	now func() time.Time

	open atomic.Int32 // how many last, so that a success costs nothing without any
	mu   sync.Mutex
	all  map[string]*downtime
	last struct { // write that has failed, but not since another one was in its way or since it took too long
		at  time.Time
		err error
	}
}

// isSlow says whether an error is that one statement or transaction took too long, which does not predict the next one.
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

// note takes the result of a transaction that writes. An error after the caller gave up says nothing of the database.
func (d *downtimes) note(ctx context.Context, err error) {
	switch cause := causeOf(err); {
	case err == nil:
		d.succeeded()
	case cause != nil && ctx.Err() == nil:
		d.failed(cause, true)
	}
}

// causeOf is why the database was not available; nil if it was, if the store is closed, or if its keeper has logged it.
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

// succeeded ends what was not seen for a while.
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
			d.log.Info("store available again", "error", x.cause, "failed", x.failed, "seconds",
				int(x.last.Sub(x.first).Seconds()))
		}
	}
	d.open.Store(int32(len(d.all))) //nolint:gosec // a handful
}

// noteRead takes the result of a transaction that reads. Failed statements are noted one by one by the statement log, a
// failed BEGIN is noted here.
func (d *downtimes) noteRead(ctx context.Context, err error) {
	cause := causeOf(err)
	if cause == nil || ctx.Err() != nil {
		return
	}
	d.mu.Lock()
	_, lasts := d.all[commonCause(cause)]
	d.mu.Unlock()
	if !lasts {
		d.failed(cause, false)
	}
}

// recent returns why a write has failed lately, nil if none has.
func (d *downtimes) recent(within time.Duration) error {
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.last.err == nil || d.now().Sub(d.last.at) >= within {
		return nil
	}
	return d.last.err
}

// commonCause is what errors with the same reason have in common: their texts may name a statement or a port.
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

// observe wraps a log of statements so that failed reads are noted, too.
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
	readinessEvery   = time.Second     // at most, however many ask
	readinessTimeout = 3 * time.Second // for one probe
	recentFailure    = 2 * time.Second // in which a write has failed, so that the next one may fail, too
)

// Ready returns nil when a change would be stored, and an error when it would not, when that is not known before ctx
// ends, or when secrets cannot be read. It writes once a second at most.
func (s *Store) Ready(ctx context.Context) error {
	switch {
	case s.closed.Load():
		return publicError(sqlite.ErrClosed)
	case s.locked.Load():
		return ErrLocked
	}
	if err := s.engine.checkWritable(); err != nil {
		return unavailableError(err)
	}
	if err := s.downtimes.recent(recentFailure); err != nil {
		return unavailableError(err)
	}
	return s.readiness.ask(ctx, s.monotonic, s.tryWrite)
}

// tryWrite writes what a change writes, in newly allocated space, and reads the end of the tables that a change adds
// to.
func (s *Store) tryWrite(ctx context.Context) error {
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

// readinessProbe is a test write of the store. Its result is shared by all calls within a second.
type readinessProbe struct {
	mu     sync.Mutex
	begun  time.Time
	result error
	flight chan struct{} // closed when the one that is under way has ended; nil without any
}

// ask returns what the last probe has found, or the one that it begins, or joins.
func (p *readinessProbe) ask(ctx context.Context, now func() time.Time, look func(context.Context) error) error {
	flight := p.join(now(), look)
	if flight != nil {
		select {
		case <-flight:
		case <-ctx.Done():
			return ctx.Err()
		}
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.result
}

// join returns when the probe that is under way ends, nil when the last is new enough.
func (p *readinessProbe) join(now time.Time, look func(context.Context) error) chan struct{} {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.flight == nil && (p.begun.IsZero() || now.Sub(p.begun) >= readinessEvery) {
		p.begun, p.flight = now, make(chan struct{})
		go p.run(look)
	}
	return p.flight
}

func (p *readinessProbe) run(look func(context.Context) error) {
	ctx, cancel := context.WithTimeout(context.Background(), readinessTimeout)
	defer cancel()
	err := look(ctx)
	p.mu.Lock()
	defer p.mu.Unlock()
	close(p.flight)
	p.result, p.flight = err, nil
}

// wait returns when no probe is under way.
func (p *readinessProbe) wait() {
	p.mu.Lock()
	flight := p.flight
	p.mu.Unlock()
	if flight != nil {
		<-flight
	}
}
