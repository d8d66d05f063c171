package telemetry

import (
	"log/slog"
	"net/http"
	"time"

	"github.com/labstack/echo/v4"

	"github.com/agentevents/agentevents/server/internal/request"
)

// The most bytes of a method and of a path in the log.
const (
	maxMethod = 32
	maxPath   = 256
)

// LogRequests logs one line for every request that reaches the router. It calls Echo's error handler first, since the
// line has the status of the answer. The line never has a body, a header or a query: they may contain secrets. Lines of
// requests without a valid token, and of refusals, are limited.
func LogRequests(log *slog.Logger) echo.MiddlewareFunc {
	anonymous, refused := NewLineLimiter(log, "without a token"), NewLineLimiter(log, "refused")
	return func(next echo.HandlerFunc) echo.HandlerFunc {
		return func(c echo.Context) error {
			start := time.Now()
			if err := next(c); err != nil {
				c.Error(err)
			}
			r, w := c.Request(), c.Response()
			if isAnonymous(c) && !anonymous.Allow() || isRefused(c) && !refused.Allow() {
				return nil
			}
			log.LogAttrs(r.Context(), slog.LevelInfo, "request",
				slog.String("method", cut(r.Method, maxMethod)),
				slog.String("path", cut(r.URL.EscapedPath(), maxPath)),
				slog.String("operation", request.Operation(c)),
				slog.Int("status", w.Status), slog.Int64("bytes", w.Size),
				slog.Float64("duration_ms", milliseconds(time.Since(start))),
				slog.String("application", request.ApplicationID(r.Context())),
				slog.String("client", request.Caller(r.Context()).Client),
				slog.String("address", c.RealIP()), slog.String("request_id", request.ID(c)))
			return nil
		}
	}
}

// isAnonymous reports whether a request is for no operation, or was refused before its caller was known.
func isAnonymous(c echo.Context) bool {
	return request.Caller(c.Request().Context()).Application == "" &&
		(request.Operation(c) == "" || c.Response().Status >= http.StatusBadRequest)
}

// isRefused reports whether the answer to a known caller has a status of refusals. The limit of its client does not
// count most of them.
func isRefused(c echo.Context) bool {
	switch c.Response().Status {
	case http.StatusForbidden, http.StatusTooManyRequests, http.StatusServiceUnavailable:
		return request.Caller(c.Request().Context()).Application != ""
	}
	return false
}

// cut shortens a text.
func cut(text string, length int) string {
	if len(text) <= length {
		return text
	}
	return text[:length] + "..."
}

func milliseconds(d time.Duration) float64 { return float64(d.Microseconds()) / 1000 }
