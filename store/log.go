package store

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"strconv"
	"sync"
	"time"

	"gorm.io/gorm/logger"

	"github.com/agentevents/agentevents/gen"
	"github.com/agentevents/agentevents/store/internal/sqldb"
	"github.com/agentevents/agentevents/webhook"
)

// logCommitted logs a line when, and only if, a transaction is committed. The goroutine of its caller writes the line:
// a blocked log must not block the writer.
func (s *Store) logCommitted(tx *sqldb.Tx, level slog.Level, message string, attrs ...slog.Attr) {
	ctx := tx.Context()
	tx.AfterCommit(func() { s.Log.LogAttrs(ctx, level, message, attrs...) })
}

// logSubject is a delivery as the log names it.
type logSubject struct {
	ID, EventID, ChangeID, AgentID        int64
	Attempts                              int // since it was last sent again
	ClientID, WebhookID, URL, Traceparent string
	Kind                                  gen.AgentType
}

const logSubjectSQL = "SELECT d.id, d.event_id, d.change_id, d.agent_id, d.client_id, d.attempts, d.webhook_id, " +
	"d.url, d.kind, c.traceparent " +
	"FROM deliveries d JOIN status_changes c ON c.id = d.change_id WHERE d.id IN ? ORDER BY d.id"

// logSubjects finds deliveries, of which there is one at least.
func logSubjects(tx *sqldb.Tx, deliveries ...int64) ([]logSubject, error) {
	return sqldb.Select[logSubject](tx, logSubjectSQL, sqldb.Padded(deliveries))
}

// attrs say which delivery it is. Of its URL they have no more than the receiver.
func (s logSubject) attrs(more ...slog.Attr) []slog.Attr {
	attrs := []slog.Attr{
		slog.String("client", s.ClientID), slog.String("agent_type", string(s.Kind)), slog.Int64("agent_id", s.AgentID),
		slog.Int64("event", s.EventID), slog.Int64("delivery", s.ID), slog.Int64("sequence", s.ChangeID),
		slog.String("webhook_id", s.WebhookID),
	}
	if r, err := originOf(s.URL); err == nil {
		attrs = append(attrs, slog.String("receiver", r.String()))
	}
	if id := webhook.TraceID(s.Traceparent); id != "" {
		attrs = append(attrs, slog.String("trace_id", id))
	}
	return append(attrs, more...)
}

// String is a receiver as the log names it.
func (r origin) String() string {
	return fmt.Sprintf("%s://%s", r.scheme, net.JoinHostPort(r.host, strconv.Itoa(r.port)))
}

// attemptAttrs is the result of an attempt: the status, if there was an answer, and what went wrong, if there was none
// or not all of it.
func attemptAttrs(a webhook.Attempt) (attrs []slog.Attr) {
	if a.Status != 0 {
		attrs = append(attrs, slog.Int("status", a.Status))
	}
	if a.Error != "" {
		attrs = append(attrs, slog.String("error", a.Error))
	}
	if a.Detail != "" {
		attrs = append(attrs, slog.String("detail", a.Detail))
	}
	return attrs
}

// logFailures logs a line for each result that failed its delivery.
func (s *Store) logFailures(tx *sqldb.Tx, results ...*result) error {
	failures, _ := partition(results, func(r *result) bool {
		return r.ends() && finalState(r.outcome.Verdict) == stateFailed
	})
	if len(failures) == 0 {
		return nil
	}
	found, err := logSubjects(tx, each(failures, func(r *result) int64 { return r.ID })...)
	of := indexBy(found, func(s logSubject) int64 { return s.ID })
	for _, r := range failures {
		attrs := append(of[r.ID].attrs(slog.Int("attempt", r.Attempt)), attemptAttrs(r.outcome.Attempt)...)
		s.logCommitted(tx, slog.LevelWarn, "delivery failed", attrs...)
	}
	return err
}

// logDisabled logs an event that was disabled because of the answer to a delivery.
func (s *Store) logDisabled(tx *sqldb.Tx, delivery int64, reason string) error {
	found, err := logSubjects(tx, delivery)
	for _, d := range found {
		s.logCommitted(tx, slog.LevelWarn, "event disabled", d.attrs(slog.String("reason", reason))...)
	}
	return err
}

// logBreaker logs that an attempt opened or closed the breaker of a receiver, and counts openings.
func (s *Store) logBreaker(tx *sqldb.Tx, before, after receiverRow, a webhook.Attempt) error {
	if before.open() == after.open() {
		return nil
	}
	at, _, err := sqldb.Get[clientOrigin](tx, "SELECT client_id, scheme, host, port FROM receivers WHERE id = ?",
		after.ID)
	if err != nil {
		return err
	}
	attrs := []slog.Attr{slog.String("client", at.ClientID), slog.String("receiver", at.String())}
	if after.open() {
		s.count(tx, func(c *Counts) { c.BreakerOpenings++ })
		attrs = append(attrs, slog.Int("failures", after.Failures))
		s.logCommitted(tx, slog.LevelWarn, "breaker opened", append(attrs, attemptAttrs(a)...)...)
		return nil
	}
	if before.FailingSince != nil {
		attrs = append(attrs, slog.Duration("down_for", time.Duration(s.now()-*before.FailingSince)*time.Millisecond))
	}
	s.logCommitted(tx, slog.LevelInfo, "breaker closed", attrs...)
	return nil
}

// clientOrigin is where a client's receiver is.
type clientOrigin struct {
	ClientID, Scheme, Host string
	Port                   int
}

func (r clientOrigin) String() string { return origin{r.Scheme, r.Host, r.Port}.String() }

// closeWait is how long the end of a store waits for a log that is not read.
const closeWait = time.Second

// asyncHandler is the handler of a log that may be written with a lock held, and by the goroutine that writes to the
// database. If the log is blocked, its lines wait in memory, and the caller does not. It is for few lines, since it
// keeps them all.
type asyncHandler struct {
	slog.Handler
	queue *asyncQueue
}

type asyncQueue struct {
	mu    sync.Mutex
	lines []func()
	idle  chan struct{} // closed when all is written; nil if nothing is being written
}

func newAsyncHandler(log *slog.Logger) asyncHandler {
	return asyncHandler{log.Handler(), &asyncQueue{}}
}

// Handle implements slog.Handler.
func (a asyncHandler) Handle(ctx context.Context, r slog.Record) error {
	r, ctx = r.Clone(), context.WithoutCancel(ctx)
	a.queue.add(func() { _ = a.Handler.Handle(ctx, r) }) // there is no other log to say so
	return nil
}

// WithAttrs implements slog.Handler.
func (a asyncHandler) WithAttrs(attrs []slog.Attr) slog.Handler {
	return asyncHandler{a.Handler.WithAttrs(attrs), a.queue}
}

// WithGroup implements slog.Handler.
func (a asyncHandler) WithGroup(name string) slog.Handler {
	return asyncHandler{a.Handler.WithGroup(name), a.queue}
}

func (q *asyncQueue) add(line func()) {
	q.mu.Lock()
	defer q.mu.Unlock()
	q.lines = append(q.lines, line)
	if q.idle == nil {
		q.idle = make(chan struct{})
		go q.write()
	}
}

// write writes the lines in their order, until there are none.
func (q *asyncQueue) write() {
	for line := q.next(); line != nil; line = q.next() {
		line()
	}
}

func (q *asyncQueue) next() (line func()) {
	q.mu.Lock()
	defer q.mu.Unlock()
	if len(q.lines) == 0 {
		close(q.idle)
		q.idle, q.lines = nil, nil
		return nil
	}
	line, q.lines = q.lines[0], q.lines[1:]
	return line
}

// wait returns when all is written, or after a time.
func (q *asyncQueue) wait(limit time.Duration) {
	q.mu.Lock()
	idle := q.idle
	q.mu.Unlock()
	if idle == nil {
		return
	}
	select {
	case <-idle:
	case <-time.After(limit):
	}
}

// statementLog logs statements that failed, with three exceptions. A statement of a request that was cancelled needs no
// answer. When the database is not available, all statements fail, and their callers log it. A key that exists already
// is the client's mistake; if the caller has no answer to it, the caller logs it.
type statementLog struct{ logger.Interface }

func newStatementLog(log *slog.Logger) *statementLog {
	return &statementLog{
		logger.NewSlogLogger(log, logger.Config{LogLevel: logger.Error, IgnoreRecordNotFoundError: true}),
	}
}

// LogMode implements logger.Interface.
func (l *statementLog) LogMode(level logger.LogLevel) logger.Interface {
	return &statementLog{l.Interface.LogMode(level)}
}

// Trace implements logger.Interface. The logger beneath would format each statement, also those that it does not log.
func (l *statementLog) Trace(ctx context.Context, begin time.Time, fc func() (string, int64), err error) {
	if err != nil && !errors.Is(ctx.Err(), context.Canceled) && !isExpected(err) {
		l.Interface.Trace(ctx, begin, fc, err)
	}
}
