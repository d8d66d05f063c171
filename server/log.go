package main

import (
	"context"
	"errors"
	"io"
	"log/slog"
	"time"

	"github.com/labstack/echo/v4"

	"github.com/agentevents/agentevents/store"
)

// newLog returns the program's log: lines of text, or of JSON. What is below the level is left out.
func newLog(w io.Writer, level slog.Level, asJSON bool) *slog.Logger {
	options := &slog.HandlerOptions{Level: level, ReplaceAttr: written}
	if asJSON {
		return slog.New(once{slog.NewJSONHandler(w, options)})
	}
	return slog.New(once{slog.NewTextHandler(w, options)})
}

// once logs at level debug what fails for a reason that the store has logged: as long as that lasts, all requests and
// all work of the program fail of it.
type once struct{ slog.Handler }

// Handle implements slog.Handler.
func (o once) Handle(ctx context.Context, r slog.Record) error {
	if r.Level > slog.LevelInfo && storeHasLogged(r) {
		if !o.Enabled(ctx, slog.LevelDebug) {
			return nil
		}
		r.Level = slog.LevelDebug
	}
	return o.Handler.Handle(ctx, r)
}

// WithAttrs implements slog.Handler.
func (o once) WithAttrs(attrs []slog.Attr) slog.Handler { return once{o.Handler.WithAttrs(attrs)} }

// WithGroup implements slog.Handler.
func (o once) WithGroup(name string) slog.Handler { return once{o.Handler.WithGroup(name)} }

func storeHasLogged(r slog.Record) (has bool) {
	r.Attrs(func(a slog.Attr) bool {
		var known *store.Error
		err, is := a.Value.Any().(error)
		has = is && errors.As(err, &known) && known.Logged()
		return !has
	})
	return has
}

// written writes times as everywhere else: RFC 3339, UTC, milliseconds. Of an error it writes the cause too, which nobody else
// is told.
func written(_ []string, a slog.Attr) slog.Attr {
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

// logRequests writes one line for every request, and has errors answered before, to know how. Never in it: bodies,
// headers and queries, which may hold secrets.
func logRequests(log *slog.Logger) echo.MiddlewareFunc {
	return func(next echo.HandlerFunc) echo.HandlerFunc {
		return func(c echo.Context) error {
			start := time.Now()
			if err := next(c); err != nil {
				c.Error(err)
			}
			r, w := c.Request(), c.Response()
			log.LogAttrs(r.Context(), slog.LevelInfo, "request", slog.String("method", r.Method),
				slog.String("path", r.URL.Path), slog.String("operation", operation(c)), slog.Int("status", w.Status),
				slog.Int64("bytes", w.Size), slog.Float64("ms", milliseconds(time.Since(start))),
				slog.String("application", askedOf(r.Context()).applicationID()), slog.String("client", callerOf(r.Context()).Client), slog.String("address", c.RealIP()),
				slog.String("request_id", requestID(c)))
			return nil
		}
	}
}

func milliseconds(d time.Duration) float64 { return float64(d.Microseconds()) / 1000 }
