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

// logCommitted logs a line if a transaction is committed. The caller's goroutine writes the line, since a blocked log
// must not block the writer.
func (s *Store) logCommitted(tx *sqldb.Tx, level slog.Level, message string, attrs ...slog.Attr) {
	ctx := tx.Context()
	tx.CallerOnCommit(func() { s.Log.LogAttrs(ctx, level, message, attrs...) })
}

// logSubject is a delivery as the log identifies it.
type logSubject struct {
	ID, EventID, ChangeID, AgentID        int64
	Attempts                              int // since the last redelivery
	ClientID, WebhookID, URL, Traceparent string
	Method                                gen.RequestMethod
	Kind                                  gen.AgentType
}

const logSubjectSQL = "SELECT d.id, d.event_id, d.change_id, d.agent_id, d.client_id, d.attempts, d.webhook_id, " +
	versionSQL + ", d.kind, c.traceparent " +
	"FROM deliveries d JOIN status_changes c ON c.id = d.change_id WHERE d.id IN ? ORDER BY d.id"

// logSubjects reads deliveries for log lines. It needs one id at least.
func logSubjects(tx *sqldb.Tx, deliveries ...int64) ([]logSubject, error) {
	return sqldb.Select[logSubject](tx, logSubjectSQL, sqldb.Padded(deliveries))
}

// attrs identify the delivery. They contain only the receiver of its URL, since a URL may hold secrets.
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

// String is a receiver as the log shows it.
func (r origin) String() string {
	return fmt.Sprintf("%s://%s", r.scheme, net.JoinHostPort(r.host, strconv.Itoa(r.port)))
}

// attemptAttrs are the status of an attempt, if there was an answer, and its error, if there was one.
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

// logFailures logs a line for each delivery that failed with its result.
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

// logDisabled logs an event that was disabled by the answer to a delivery.
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

// clientOrigin is a receiver with its client.
type clientOrigin struct {
	ClientID, Scheme, Host string
	Port                   int
}

func (r clientOrigin) String() string { return origin{r.Scheme, r.Host, r.Port}.String() }

// closeWait is the time for which Close waits for a blocked log.
const closeWait = time.Second

// asyncHandler is a log handler that never blocks its caller, which may hold a lock or be the writer. If the log is
// blocked, lines wait in memory. Since they all stay there, the handler is for few lines.
type asyncHandler struct {
	slog.Handler
	queue *asyncQueue
}

type asyncQueue struct {
	mu    sync.Mutex
	lines []func()
	idle  chan struct{} // closed when all lines are written; nil while no goroutine writes
}

func newAsyncHandler(log *slog.Logger) asyncHandler {
	return asyncHandler{log.Handler(), &asyncQueue{}}
}

// Handle implements slog.Handler.
func (a asyncHandler) Handle(ctx context.Context, r slog.Record) error {
	r, ctx = r.Clone(), context.WithoutCancel(ctx)
	a.queue.add(func() { _ = a.Handler.Handle(ctx, r) }) // no other log could report the error
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

// write writes the lines in order, until none is left.
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

// wait returns when all lines are written, or after a time limit.
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

// statementLog logs failed statements, with three exceptions:
//
//   - a statement of a cancelled request, which needs no answer
//   - a statement that failed because the database is unavailable: downtimes logs that
//   - a duplicate key, which is the client's mistake; a caller that does not expect it logs it
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

// Trace implements logger.Interface. It filters first, because the logger below formats every statement that it gets.
func (l *statementLog) Trace(ctx context.Context, begin time.Time, fc func() (string, int64), err error) {
	if err != nil && !errors.Is(ctx.Err(), context.Canceled) && !isExpected(err) {
		l.Interface.Trace(ctx, begin, fc, err)
	}
}
