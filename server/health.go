package main

import (
	"context"
	"errors"
	"net/http"
	"time"

	"github.com/labstack/echo/v4"

	"github.com/agentevents/agentevents/store"
)

const (
	probeTimeout = 3 * time.Second // how long the store may take to take a write
	longestTurn  = 5 * time.Second // how long the dispatcher's loop may take to turn
)

// health is the answer of both probes: what is wrong, if anything is.
type health struct {
	Status string   `json:"status"`
	Wrong  []string `json:"wrong,omitempty"`
}

// addHealth serves /healthz, which says that the process is alive, and /readyz, which says that it can do its work.
// Neither looks at receivers: they are no reason to keep the PBX away.
func addHealth(e *echo.Echo, s *store.Store, turned func() time.Time) {
	both := []string{http.MethodGet, http.MethodHead}
	e.Match(both, "/healthz", func(c echo.Context) error { return c.JSON(http.StatusOK, health{Status: "ok"}) })
	e.Match(both, "/readyz", func(c echo.Context) error {
		wrong := whatIsWrong(c.Request().Context(), s, turned)
		if len(wrong) > 0 {
			return c.JSON(http.StatusServiceUnavailable, health{"unavailable", wrong})
		}
		return c.JSON(http.StatusOK, health{Status: "ok"})
	})
}

func whatIsWrong(ctx context.Context, s *store.Store, turned func() time.Time) (wrong []string) {
	ctx, cancel := context.WithTimeout(ctx, probeTimeout)
	defer cancel()
	if err := s.Ready(ctx); errors.Is(err, store.ErrLocked) {
		wrong = append(wrong, "the signing secrets are encrypted, and this process has not the key")
	} else if err != nil {
		wrong = append(wrong, "the store takes no write")
	}
	if time.Since(turned()) > longestTurn {
		wrong = append(wrong, "the dispatcher's loop stands still")
	}
	return wrong
}
