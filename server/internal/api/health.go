package api

import (
	"context"
	"errors"
	"net/http"
	"time"

	"github.com/labstack/echo/v4"

	"github.com/agentevents/agentevents/store"
)

const (
	probeTimeout    = 3 * time.Second // for a write to the store
	maxHeartbeatAge = 5 * time.Second // after which the dispatcher counts as stalled
)

// healthAnswer is the answer of both probes.
type healthAnswer struct {
	Status string   `json:"status"`
	Wrong  []string `json:"wrong,omitempty"`
}

// addHealth serves /healthz, which reports that the process runs, and /readyz, which reports that it accepts requests.
// Neither depends on receivers: if all receivers fail, the PBX can still use the API.
func addHealth(e *echo.Echo, o Options) {
	both := []string{http.MethodGet, http.MethodHead}
	e.Match(both, "/healthz", func(c echo.Context) error { return c.JSON(http.StatusOK, healthAnswer{Status: "ok"}) })
	e.Match(both, "/readyz", func(c echo.Context) error {
		wrong := readinessProblems(c.Request().Context(), o, c.RealIP())
		if len(wrong) > 0 {
			return c.JSON(http.StatusServiceUnavailable, healthAnswer{"unavailable", wrong})
		}
		return c.JSON(http.StatusOK, healthAnswer{Status: "ok"})
	})
}

func readinessProblems(ctx context.Context, o Options, address string) (wrong []string) {
	ctx, cancel := context.WithTimeout(ctx, probeTimeout)
	defer cancel()
	if o.Drain.probe(address) {
		wrong = append(wrong, "the server is stopping")
	}
	if err := o.Store.Ready(ctx); err != nil {
		wrong = append(wrong, storeProblem(err))
	}
	if time.Since(o.Heartbeat()) > maxHeartbeatAge {
		wrong = append(wrong, "the dispatcher has stalled")
	}
	return wrong
}

// storeProblem describes why the store is not ready.
func storeProblem(err error) string {
	switch {
	case errors.Is(err, store.ErrKeyMissing):
		return "the encryption key is missing or wrong"
	case errors.Is(err, store.ErrFile):
		return "the database file was removed, replaced or truncated"
	case errors.Is(err, store.ErrCheckpoint):
		return "SQLite cannot copy its write-ahead log into the database file"
	}
	return "the store does not accept writes"
}
