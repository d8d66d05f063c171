package telemetry

import (
	"log/slog"
	"time"

	"github.com/labstack/echo/v4"

	"github.com/agentevents/agentevents/server/internal/request"
)

// LogRequests logs one line for every request that reaches the router. It calls Echo's error handler first, since the
// line has the status of the answer. The line never has a body, a header or a query: they may contain secrets.
func LogRequests(log *slog.Logger) echo.MiddlewareFunc {
	return func(next echo.HandlerFunc) echo.HandlerFunc {
		return func(c echo.Context) error {
			start := time.Now()
			if err := next(c); err != nil {
				c.Error(err)
			}
			r, w := c.Request(), c.Response()
			log.LogAttrs(r.Context(), slog.LevelInfo, "request",
				slog.String("method", r.Method), slog.String("path", r.URL.Path),
				slog.String("operation", request.Operation(c)),
				slog.Int("status", w.Status), slog.Int64("bytes", w.Size),
				slog.Float64("ms", milliseconds(time.Since(start))),
				slog.String("application", request.ApplicationID(r.Context())),
				slog.String("client", request.Caller(r.Context()).Client),
				slog.String("address", c.RealIP()), slog.String("request_id", request.ID(c)))
			return nil
		}
	}
}

func milliseconds(d time.Duration) float64 { return float64(d.Microseconds()) / 1000 }
