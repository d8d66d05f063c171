package api

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net/http"
	"runtime/debug"

	"github.com/labstack/echo/v4"

	"github.com/agentevents/agentevents/gen"
	"github.com/agentevents/agentevents/server/internal/auth"
	"github.com/agentevents/agentevents/server/internal/request"
	"github.com/agentevents/agentevents/store"
)

// statusClientClosedRequest is the status of requests that were given up by who made them. It is only ever seen in the log.
const statusClientClosedRequest = 499

// answerTo says what to tell the client about an error. What is not known is nobody's business.
func answerTo(err error) (status int, body any) {
	var refused *request.Refusal
	var noToken *auth.TokenRefusal
	var known *store.Error
	var routed *echo.HTTPError
	switch {
	case errors.As(err, &refused):
		return refused.Status, refused.Body
	case errors.As(err, &noToken):
		return noToken.Status, noToken.Body()
	case errors.As(err, &known) && storeStatus(known.Kind) != 0:
		return storeStatus(known.Kind), known.Body()
	case errors.As(err, &routed):
		return routed.Code, gen.ErrorResponse{Message: routingMessage(routed.Code)}
	case errors.Is(err, context.Canceled):
		return statusClientClosedRequest, gen.ErrorResponse{Message: "the request was given up"}
	}
	return http.StatusInternalServerError, gen.ErrorResponse{Message: "internal error"}
}

// storeStatus is 0 for kinds that are not known.
func storeStatus(kind store.Kind) int {
	switch kind {
	case store.NotFound:
		return http.StatusNotFound
	case store.Conflict:
		return http.StatusConflict
	case store.Invalid:
		return http.StatusBadRequest
	case store.Truncated, store.Restarted:
		return http.StatusGone
	case store.Unavailable:
		return http.StatusServiceUnavailable
	case store.KeyReused:
		return http.StatusUnprocessableEntity
	}
	return 0
}

// routingMessage is for the errors that Echo and the generated binding make, whose own text may be Go's.
func routingMessage(status int) string {
	switch status {
	case http.StatusNotFound:
		return "there is nothing at this path"
	case http.StatusMethodNotAllowed:
		return "this path does not have this method; the header Allow lists those it has"
	case http.StatusBadRequest:
		return "the request is not valid"
	case http.StatusInternalServerError:
		return "internal error"
	}
	return http.StatusText(status)
}

// errorHandler is the one place where an error becomes an answer.
func errorHandler(log *slog.Logger) echo.HTTPErrorHandler {
	return func(err error, c echo.Context) {
		if c.Response().Committed { // it is too late, mostly because the client has gone
			log.Debug("the answer was cut off", "request_id", request.ID(c), "error", err)
			return
		}
		status, body := answerTo(err)
		logError(log, c, status, err)
		header, soon := c.Response().Header(), status == http.StatusServiceUnavailable || status == http.StatusTooManyRequests
		if soon && header.Get(echo.HeaderRetryAfter) == "" {
			header.Set(echo.HeaderRetryAfter, "1")
		}
		if err := c.JSON(status, body); err != nil {
			log.Debug("the answer was cut off", "request_id", request.ID(c), "error", err)
		}
	}
}

// logError logs what is not the client's doing.
func logError(log *slog.Logger, c echo.Context, status int, err error) {
	if status < http.StatusInternalServerError {
		return
	}
	log.ErrorContext(c.Request().Context(), "request failed", "request_id", request.ID(c), "operation", request.Operation(c), "status", status, "error", err)
}

// recoverPanics makes an error of a panic.
func recoverPanics(next echo.HandlerFunc) echo.HandlerFunc {
	return func(c echo.Context) (err error) {
		defer func() {
			if r := recover(); r != nil {
				err = fmt.Errorf("panic: %v\n%s", r, debug.Stack())
			}
		}()
		return next(c)
	}
}
