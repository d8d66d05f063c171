package api

import (
	"context"
	"errors"
	"net/http"
	"sync"

	"github.com/labstack/echo/v4"

	"github.com/agentevents/agentevents/server/internal/request"
	"github.com/agentevents/agentevents/store"
)

// How many requests with a valid token may be in progress, and how many polls of the feed may wait. Together they are
// fewer than the connections of a listener.
var (
	maxRequests = requestBounds{all: 1000, clients: 800, perClient: 100}
	maxPolls    = requestBounds{all: 2500, clients: 2200, perClient: 100}
)

// admit refuses an authorized request if too many are in progress, of its client or of all. Otherwise the request's
// connection is not idle until the answer has ended.
func admit(requests *clientLimiter) echo.MiddlewareFunc {
	return func(next echo.HandlerFunc) echo.HandlerFunc {
		return func(c echo.Context) error {
			ctx := c.Request().Context()
			client := limitedClient(ctx)
			switch err := requests.acquire(client); {
			case errors.Is(err, errClientBound):
				return request.RefuseAs(http.StatusTooManyRequests, "too_many_requests",
					"too many requests of the client are in progress; try again")
			case err != nil:
				return request.RefuseAs(http.StatusServiceUnavailable, "server_busy",
					"too many requests are in progress; try again")
			}
			release := sync.OnceFunc(func() { requests.release(client) })
			defer release()
			request.From(ctx).Release = release
			markBusy(ctx)
			return next(c)
		}
	}
}

// limitedClient is the client whose bounds hold for a request, empty for an operator's.
func limitedClient(ctx context.Context) string {
	caller := request.Caller(ctx)
	if caller.Access == store.Operator {
		return ""
	}
	return caller.Client
}

// startWait reports whether a poll may wait. If it may, it no longer counts as a request in progress, and endWait must
// follow.
func (h handlers) startWait(ctx context.Context) bool {
	if h.polls.acquire(limitedClient(ctx)) != nil {
		return false
	}
	request.From(ctx).Release()
	return true
}

// endWait ends what startWait began.
func (h handlers) endWait(ctx context.Context) { h.polls.release(limitedClient(ctx)) }
