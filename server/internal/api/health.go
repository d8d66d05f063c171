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
	probeTimeout = 3 * time.Second // within which the store must take a write
	maxLoopTurn  = 5 * time.Second // since the dispatcher's loop last turned
)

// healthAnswer is the answer of both probes.
type healthAnswer struct {
	Status string   `json:"status"`
	Wrong  []string `json:"wrong,omitempty"`
}

// addHealth serves /healthz, which says that the process runs, and /readyz, which says that it can take requests.
// Neither depends on receivers: the PBX shall reach the server even if no receiver can be reached.
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
	if o.Drain.poll(address) {
		wrong = append(wrong, "the server is stopping")
	}
	if err := o.Store.Ready(ctx); err != nil {
		wrong = append(wrong, storeProblem(err))
	}
	if time.Since(o.LoopTurned()) > maxLoopTurn {
		wrong = append(wrong, "the dispatcher's loop stands still")
	}
	return wrong
}

// storeProblem says why the store is not ready.
func storeProblem(err error) string {
	switch {
	case errors.Is(err, store.ErrLocked):
		return "the signing secrets are encrypted, and this process has not the key"
	case errors.Is(err, store.ErrFile):
		return "the database's file is not as it was opened"
	case errors.Is(err, store.ErrCheckpoint):
		return "the write-ahead log cannot be carried over to the database's file"
	}
	return "the store takes no write"
}
