package api

import (
	"fmt"
	"net/http"
	"time"

	"github.com/labstack/echo/v4"

	"github.com/agentevents/agentevents/server/internal/request"
)

const (
	maxHead         = 32 << 10 // bytes of a request but for its body
	maxHeaderFields = 100      // fields
	maxURL          = 8 << 10  // bytes
	// headSlop is what net/http allows beyond what it is told to.
	headSlop = 4 << 10
)

// Limits are how long the head of a request and all of it may take to arrive, and how many connections there may be.
type Limits struct {
	Head, Request time.Duration
	Connections   int
}

func DefaultLimits() Limits {
	return Limits{Head: 5 * time.Second, Request: 10 * time.Second, Connections: 10_000}
}

// limitHead refuses what is too long to be looked at.
func limitHead(next echo.HandlerFunc) echo.HandlerFunc {
	return func(c echo.Context) error {
		r := c.Request()
		if len(r.RequestURI) > maxURL {
			return refuseLongURL()
		}
		fields := 0
		for _, values := range r.Header {
			fields += len(values)
		}
		if fields > maxHeaderFields {
			return request.Refuse(http.StatusRequestHeaderFieldsTooLarge, fmt.Sprintf("the header may have at most %d fields", maxHeaderFields))
		}
		return next(c)
	}
}

func refuseLongURL() *request.Refusal {
	return request.Refuse(http.StatusRequestURITooLong, fmt.Sprintf("the URL may have at most %d bytes", maxURL))
}
