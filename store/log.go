package store

import (
	"fmt"
	"log/slog"
	"net"
	"strconv"
	"time"

	"github.com/agentevents/agentevents/gen"
	"github.com/agentevents/agentevents/store/internal/sqldb"
	"github.com/agentevents/agentevents/webhook"
)

// logCommitted has a line be logged when, and only if, a transaction is committed, by the caller whom that was for: a log
// that is not read must not keep the writer from its work.
func (s *Store) logCommitted(tx *sqldb.Tx, level slog.Level, message string, attrs ...slog.Attr) {
	ctx := tx.Context()
	tx.AfterCommit(func() { s.Log.LogAttrs(ctx, level, message, attrs...) })
}

// subject is a delivery as lines are about it.
type subject struct {
	ID, EventID, ChangeID, AgentID        int64
	Attempts                              int // since it was last sent again
	ClientID, WebhookID, URL, Traceparent string
	Kind                                  gen.AgentType
}

const subjectSQL = "SELECT d.id, d.event_id, d.change_id, d.agent_id, d.client_id, d.attempts, d.webhook_id, d.url, d.kind, c.traceparent " +
	"FROM deliveries d JOIN status_changes c ON c.id = d.change_id WHERE d.id IN ? ORDER BY d.id"

// subjects finds deliveries, of which there is one at least.
func subjects(tx *sqldb.Tx, deliveries ...int64) ([]subject, error) {
	return sqldb.Select[subject](tx, subjectSQL, sqldb.Padded(deliveries))
}

// attrs say which delivery it is. Of its URL they have no more than the receiver.
func (s subject) attrs(more ...slog.Attr) []slog.Attr {
	attrs := []slog.Attr{
		slog.String("client", s.ClientID), slog.String("agent_type", string(s.Kind)), slog.Int64("agent_id", s.AgentID),
		slog.Int64("event", s.EventID), slog.Int64("delivery", s.ID), slog.Int64("sequence", s.ChangeID),
		slog.String("webhook_id", s.WebhookID),
	}
	if r, err := receiverOf(s.URL); err == nil {
		attrs = append(attrs, slog.String("receiver", r.String()))
	}
	if id := webhook.TraceID(s.Traceparent); id != "" {
		attrs = append(attrs, slog.String("trace_id", id))
	}
	return append(attrs, more...)
}

// String is a receiver as the log names it.
func (r receiver) String() string {
	return fmt.Sprintf("%s://%s", r.scheme, net.JoinHostPort(r.host, strconv.Itoa(r.port)))
}

// cameTo is what an attempt came to: the status, if there was an answer, and what went wrong, if there was none or
// not all of it.
func cameTo(a webhook.Attempt) (attrs []slog.Attr) {
	if a.Status != 0 {
		attrs = append(attrs, slog.Int("status", a.Status))
	}
	if a.Error != "" {
		attrs = append(attrs, slog.String("error", a.Error))
	}
	return attrs
}

// logFailures has a line be logged for each result with which a delivery has failed.
func (s *Store) logFailures(tx *sqldb.Tx, results ...*result) error {
	failures, _ := split(results, func(r *result) bool { return r.ends() && ended(r.outcome.Verdict) == failed })
	if len(failures) == 0 {
		return nil
	}
	found, err := subjects(tx, each(failures, func(r *result) int64 { return r.ID })...)
	of := index(found, func(s subject) int64 { return s.ID })
	for _, r := range failures {
		attrs := append(of[r.ID].attrs(slog.Int("attempt", r.Attempt)), cameTo(r.outcome.Attempt)...)
		s.logCommitted(tx, slog.LevelWarn, "delivery failed", attrs...)
	}
	return err
}

// logDisabled has a line be logged about an event that was disabled because of the answer to a delivery.
func (s *Store) logDisabled(tx *sqldb.Tx, delivery int64, reason string) error {
	found, err := subjects(tx, delivery)
	for _, d := range found {
		s.logCommitted(tx, slog.LevelWarn, "event disabled", d.attrs(slog.String("reason", reason))...)
	}
	return err
}

// logBreaker has a line be logged when an attempt opens the breaker of a receiver or closes it, and counts
// openings.
func (s *Store) logBreaker(tx *sqldb.Tx, before, after receiverRow, a webhook.Attempt) error {
	if before.open() == after.open() {
		return nil
	}
	at, _, err := sqldb.Get[receiverAt](tx, "SELECT client_id, scheme, host, port FROM receivers WHERE id = ?", after.ID)
	if err != nil {
		return err
	}
	attrs := []slog.Attr{slog.String("client", at.ClientID), slog.String("receiver", at.String())}
	if after.open() {
		s.count(tx, func(c *Counts) { c.BreakerOpenings++ })
		attrs = append(attrs, slog.Int("failures", after.Failures))
		s.logCommitted(tx, slog.LevelWarn, "breaker open", append(attrs, cameTo(a)...)...)
		return nil
	}
	if before.FailingSince != nil {
		attrs = append(attrs, slog.Duration("down_for", time.Duration(s.now()-*before.FailingSince)*time.Millisecond))
	}
	s.logCommitted(tx, slog.LevelInfo, "breaker closed", attrs...)
	return nil
}

// receiverAt is where a client's receiver is.
type receiverAt struct {
	ClientID, Scheme, Host string
	Port                   int
}

func (r receiverAt) String() string { return receiver{r.Scheme, r.Host, r.Port}.String() }
