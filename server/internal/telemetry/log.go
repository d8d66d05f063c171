package telemetry

import (
	"context"
	"errors"
	"io"
	"log/slog"

	"github.com/agentevents/agentevents/store"
)

// NewLog returns the program's log: lines of text, or of JSON. What is below the level is left out.
func NewLog(w io.Writer, level slog.Level, asJSON bool) *slog.Logger {
	options := &slog.HandlerOptions{Level: level, ReplaceAttr: formatAttr}
	if asJSON {
		return slog.New(loggedOnce{slog.NewJSONHandler(w, options)})
	}
	return slog.New(loggedOnce{slog.NewTextHandler(w, options)})
}

// loggedOnce logs at level debug what fails for a reason that the store has logged: as long as that lasts, all requests and
// all work of the program fail of it.
type loggedOnce struct{ slog.Handler }

// Handle implements slog.Handler.
func (o loggedOnce) Handle(ctx context.Context, r slog.Record) error {
	if r.Level > slog.LevelInfo && isLoggedByStore(r) {
		if !o.Enabled(ctx, slog.LevelDebug) {
			return nil
		}
		r.Level = slog.LevelDebug
	}
	return o.Handler.Handle(ctx, r)
}

// WithAttrs implements slog.Handler.
func (o loggedOnce) WithAttrs(attrs []slog.Attr) slog.Handler {
	return loggedOnce{o.Handler.WithAttrs(attrs)}
}

// WithGroup implements slog.Handler.
func (o loggedOnce) WithGroup(name string) slog.Handler { return loggedOnce{o.Handler.WithGroup(name)} }

func isLoggedByStore(r slog.Record) (has bool) {
	r.Attrs(func(a slog.Attr) bool {
		var known *store.Error
		err, is := a.Value.Any().(error)
		has = is && errors.As(err, &known) && known.Logged()
		return !has
	})
	return has
}

// formatAttr writes times as everywhere else: RFC 3339, UTC, milliseconds. Of an error it writes the cause too, which nobody else
// is told.
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
	var known *store.Error
	if errors.As(err, &known) {
		return errors.Join(err, known.Unwrap())
	}
	return err
}
