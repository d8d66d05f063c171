package auth

import (
	"fmt"
	"net/http"
	"strconv"
	"strings"
	"time"

	"github.com/labstack/echo/v4"

	"github.com/agentevents/agentevents/gen"
	"github.com/agentevents/agentevents/server/internal/contract"
	"github.com/agentevents/agentevents/server/internal/request"
	"github.com/agentevents/agentevents/store"
)

// SetLimitHeaders tells every answer of the API of a limit: where limitRequests has not, that of the caller's client or, of who is
// not known, the one that those have who are not limited.
func SetLimitHeaders(st *store.Store) echo.MiddlewareFunc {
	return func(next echo.HandlerFunc) echo.HandlerFunc {
		return func(c echo.Context) error {
			if path := c.Request().URL.Path; path == contract.BasePath || strings.HasPrefix(path, contract.BasePath+"/") {
				c.Response().Before(func() {
					if c.Response().Header().Get(limitHeader) == "" {
						setRequestLimits(c, st.Requests(request.Caller(c.Request().Context())))
					}
				})
			}
			return next(c)
		}
	}
}

// LimitRequests counts a request that is allowed, and refuses it if its client has made as many as it may.
func LimitRequests(st *store.Store) echo.MiddlewareFunc {
	return func(next echo.HandlerFunc) echo.HandlerFunc {
		return func(c echo.Context) error {
			made, ok := st.CountRequest(request.Caller(c.Request().Context()))
			setRequestLimits(c, made)
			if ok {
				return next(c)
			}
			c.Response().Header().Set(echo.HeaderRetryAfter, wholeSeconds(made.Left))
			return &request.Refusal{Status: http.StatusTooManyRequests, Body: gen.ErrorResponse{
				Message: fmt.Sprintf("the client may make %d requests an hour, and has made them", made.Limit),
				Status:  "rate_limit_exceeded",
			}}
		}
	}
}

// The headers' names as net/http writes them: of any others it makes these anew each time.
const (
	limitHeader     = "X-Ratelimit-Limit"
	remainingHeader = "X-Ratelimit-Remaining"
	resetHeader     = "X-Ratelimit-Reset"
)

func setRequestLimits(c echo.Context, made store.Requests) {
	h := c.Response().Header()
	h.Set(limitHeader, strconv.FormatInt(made.Limit, 10))
	h.Set(remainingHeader, strconv.FormatInt(max(0, made.Limit-made.Made), 10))
	h.Set(resetHeader, wholeSeconds(made.Left))
}

// wholeSeconds rounds up, so that whoever waits for so long has waited for long enough.
func wholeSeconds(d time.Duration) string {
	return strconv.FormatInt(int64((d+time.Second-1)/time.Second), 10)
}
