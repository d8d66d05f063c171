package main

import (
	"context"
	"fmt"
	"net/http"
	"strconv"
	"strings"
	"time"

	"github.com/labstack/echo/v4"

	"github.com/agentevents/agentevents/gen"
	"github.com/agentevents/agentevents/gen/api"
	"github.com/agentevents/agentevents/store"
)

func (h handlers) GetLimits(ctx context.Context, r api.GetLimitsRequestObject) (api.GetLimitsResponseObject, error) {
	limits, err := h.store.Limits(ctx, r.ClientID)
	if err != nil {
		return nil, err
	}
	return api.GetLimits200JSONResponse{ClientLimitsJSONResponse: api.ClientLimitsJSONResponse(limits)}, nil
}

func (h handlers) PutLimits(ctx context.Context, r api.PutLimitsRequestObject) (api.PutLimitsResponseObject, error) {
	limits, err := h.store.SetLimits(ctx, r.ClientID, *r.Body)
	if err != nil {
		return nil, err
	}
	return api.PutLimits200JSONResponse{ClientLimitsJSONResponse: api.ClientLimitsJSONResponse(limits)}, nil
}

// tellLimits tells every answer of the API of a limit: where limitRequests has not, that of the caller's client or, of who is
// not known, the one that those have who are not limited.
func tellLimits(st *store.Store) echo.MiddlewareFunc {
	return func(next echo.HandlerFunc) echo.HandlerFunc {
		return func(c echo.Context) error {
			if path := c.Request().URL.Path; path == basePath || strings.HasPrefix(path, basePath+"/") {
				c.Response().Before(func() {
					if c.Response().Header().Get(limitHeader) == "" {
						tellLimit(c, st.Requests(callerOf(c.Request().Context())))
					}
				})
			}
			return next(c)
		}
	}
}

// limitRequests counts a request that is allowed, and refuses it if its client has made as many as it may.
func limitRequests(st *store.Store) echo.MiddlewareFunc {
	return func(next echo.HandlerFunc) echo.HandlerFunc {
		return func(c echo.Context) error {
			made, ok := st.CountRequest(callerOf(c.Request().Context()))
			tellLimit(c, made)
			if ok {
				return next(c)
			}
			c.Response().Header().Set(echo.HeaderRetryAfter, seconds(made.Left))
			return &refusal{http.StatusTooManyRequests, gen.ErrorResponse{
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

func tellLimit(c echo.Context, made store.Requests) {
	h := c.Response().Header()
	h.Set(limitHeader, strconv.FormatInt(made.Limit, 10))
	h.Set(remainingHeader, strconv.FormatInt(max(0, made.Limit-made.Made), 10))
	h.Set(resetHeader, seconds(made.Left))
}

// seconds rounds up, so that whoever waits for so long has waited for long enough.
func seconds(d time.Duration) string {
	return strconv.FormatInt(int64((d+time.Second-1)/time.Second), 10)
}
