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
	"github.com/agentevents/agentevents/store/internal/sqlite"
)

// calmFor is how long nothing may have failed for a reason before that is over: on a full disk some writes succeed,
// too.
const calmFor = 10 * time.Second

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

// slow says whether an error is that one statement or transaction took too long, which says nothing of the next one.
func slow(err error) bool {
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

// note takes the result of a transaction that writes. What a caller has given up says nothing.
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
		if known.Message != awayMessage {
			return nil
		}
		err = known.cause
	} else if err == nil || !unavailable(err) {
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
	if write && !contended(cause) && !slow(cause) {
		d.last.at, d.last.err = now, cause
	}
	x := d.all[reason(cause)]
	if x == nil {
		x = &downtime{cause: cause, first: now}
		d.all[reason(cause)] = x
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
		if now.Sub(x.last) >= calmFor {
			delete(d.all, name)
			d.log.Info("store available again", "error", x.cause, "failed", x.failed, "seconds", int(x.last.Sub(x.first).Seconds()))
		}
	}
	d.open.Store(int32(len(d.all))) //nolint:gosec // a handful
}

// read takes the result of a transaction that reads. The statements that fail are noted one by one, but not where it
// began.
func (d *downtimes) read(ctx context.Context, err error) {
	cause := causeOf(err)
	if cause == nil || ctx.Err() != nil {
		return
	}
	d.mu.Lock()
	_, lasts := d.all[reason(cause)]
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

// reason is what errors with the same reason have in common: their texts may name a statement or a port.
func reason(err error) string {
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

// of is a log of statements that has reads that fail noted, too.
func (d *downtimes) of(l logger.Interface) logger.Interface { return &readLog{l, d} }

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
