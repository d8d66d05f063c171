package telemetry

import (
	"context"
	"errors"
	"io"
	"log/slog"

	"github.com/agentevents/agentevents/store"
)

// NewLog returns the program's log, as text or JSON, for records of a level and above.
func NewLog(w io.Writer, level slog.Level, asJSON bool) *slog.Logger {
	options := &slog.HandlerOptions{Level: level, ReplaceAttr: formatAttr}
	if asJSON {
		return slog.New(loggedOnce{slog.NewJSONHandler(w, options)})
	}
	return slog.New(loggedOnce{slog.NewTextHandler(w, options)})
}

// loggedOnce lowers a record to level debug if the store has logged its cause: while the cause lasts, every request and
// every background task fails by it.
type loggedOnce struct{ slog.Handler }

// Handle implements slog.Handler.
func (l loggedOnce) Handle(ctx context.Context, r slog.Record) error {
	if r.Level > slog.LevelInfo && isLoggedByStore(r) {
		if !l.Enabled(ctx, slog.LevelDebug) {
			return nil
		}
		r.Level = slog.LevelDebug
	}
	return l.Handler.Handle(ctx, r)
}

// WithAttrs implements slog.Handler.
func (l loggedOnce) WithAttrs(attrs []slog.Attr) slog.Handler {
	return loggedOnce{l.Handler.WithAttrs(attrs)}
}

// WithGroup implements slog.Handler.
func (l loggedOnce) WithGroup(name string) slog.Handler { return loggedOnce{l.Handler.WithGroup(name)} }

func isLoggedByStore(r slog.Record) (logged bool) {
	r.Attrs(func(a slog.Attr) bool {
		err, _ := a.Value.Any().(error)
		cause, ok := errors.AsType[*store.Error](err)
		logged = ok && cause.Logged()
		return !logged
	})
	return logged
}

// formatAttr formats times as the API does: RFC 3339, UTC, milliseconds. It adds to an error its cause, which clients
// do not get.
func formatAttr(_ []string, a slog.Attr) slog.Attr {
	switch a.Value.Kind() {
	case slog.KindTime:
		a.Value = slog.StringValue(a.Value.Time().UTC().Format("2006-01-02T15:04:05.000Z"))
	case slog.KindAny:
		if err, ok := a.Value.Any().(error); ok {
			a.Value = slog.AnyValue(withCause(err))
		}
	}
	return a
}

func withCause(err error) error {
	if known, ok := errors.AsType[*store.Error](err); ok {
		return errors.Join(err, known.Unwrap())
	}
	return err
}
