package auth

import (
	"fmt"
	"net/http"
	"strconv"
	"strings"
	"time"

	"github.com/labstack/echo/v4"

	"github.com/agentevents/agentevents/server/internal/contract"
	"github.com/agentevents/agentevents/server/internal/request"
	"github.com/agentevents/agentevents/store"
)

// SetLimitHeaders adds X-RateLimit-* to each answer of the API. The values are those of the caller's client when the
// answer begins, so they include what the request has been charged. If the caller is unknown, they mean no limit.
func SetLimitHeaders(st *store.Store) echo.MiddlewareFunc {
	return func(next echo.HandlerFunc) echo.HandlerFunc {
		return func(c echo.Context) error {
			path := c.Request().URL.Path
			if path == contract.BasePath || strings.HasPrefix(path, contract.BasePath+"/") {
				c.Response().Before(func() {
					setLimitHeaders(c, st.Requests(request.Caller(c.Request().Context())))
				})
			}
			return next(c)
		}
	}
}

// LimitRequests counts an authorized request. It refuses the request if its client has exhausted the hour's limit.
func LimitRequests(st *store.Store) echo.MiddlewareFunc {
	return func(next echo.HandlerFunc) echo.HandlerFunc {
		return func(c echo.Context) error {
			used, ok := st.CountRequest(request.Caller(c.Request().Context()))
			if ok {
				return next(c)
			}
			c.Response().Header().Set(echo.HeaderRetryAfter, wholeSeconds(used.Left))
			return request.RefuseAs(http.StatusTooManyRequests, request.CodeRateLimitExceeded,
				fmt.Sprintf("the client may make at most %d requests an hour", used.Limit))
		}
	}
}

// addsDeliveries are the operations that add pending deliveries, or an event that will.
var addsDeliveries = map[string]bool{
	"createLocalAgentEvent": true, "createRemoteAgentEvent": true,
	"putLocalAgentStatus": true, "putRemoteAgentStatus": true, "putStatuses": true,
}

// LimitPending refuses an authorized request for an operation that adds deliveries if its client has too many pending
// ones. It does not count the request.
func LimitPending(st *store.Store, operation string) echo.MiddlewareFunc {
	return func(next echo.HandlerFunc) echo.HandlerFunc {
		if !addsDeliveries[operation] {
			return next
		}
		return func(c echo.Context) error {
			if err := st.AdmitDeliveries(request.Caller(c.Request().Context())); err != nil {
				return err
			}
			return next(c)
		}
	}
}

// The names of the headers in the canonical form of net/http, which would otherwise convert them each time.
const (
	limitHeader     = "X-Ratelimit-Limit"
	remainingHeader = "X-Ratelimit-Remaining"
	resetHeader     = "X-Ratelimit-Reset"
)

func setLimitHeaders(c echo.Context, used store.Requests) {
	h := c.Response().Header()
	h.Set(limitHeader, strconv.FormatInt(used.Limit, 10))
	h.Set(remainingHeader, strconv.FormatInt(max(0, used.Limit-used.Made), 10))
	h.Set(resetHeader, wholeSeconds(used.Left))
}

// wholeSeconds rounds up: a client that waits this long has waited long enough.
func wholeSeconds(d time.Duration) string {
	return strconv.FormatInt(int64((d+time.Second-1)/time.Second), 10)
}
