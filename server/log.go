package main

import (
	"io"
	"log/slog"
	"time"

	"github.com/labstack/echo/v4"
)

func newLog(w io.Writer, c config) *slog.Logger {
	options := &slog.HandlerOptions{Level: c.logLevel, ReplaceAttr: utc}
	if c.logJSON {
		return slog.New(slog.NewJSONHandler(w, options))
	}
	return slog.New(slog.NewTextHandler(w, options))
}

// utc writes times as everywhere else: RFC 3339, UTC, milliseconds.
func utc(_ []string, a slog.Attr) slog.Attr {
	if a.Value.Kind() == slog.KindTime {
		a.Value = slog.StringValue(a.Value.Time().UTC().Format("2006-01-02T15:04:05.000Z"))
	}
	return a
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
				slog.String("application", application(c)), slog.String("client", callerOf(r.Context()).Client), slog.String("address", c.RealIP()),
				slog.String("request_id", requestID(c)))
			return nil
		}
	}
}

// application is the id of who makes a request, also of one who asks for a token.
func application(c echo.Context) string {
	if id := callerOf(c.Request().Context()).Application; id != "" {
		return id
	}
	id, _ := c.Get("application").(string)
	return id
}

func milliseconds(d time.Duration) float64 { return float64(d.Microseconds()) / 1000 }
