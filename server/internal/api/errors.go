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

// statusClientClosedRequest is the status of a request whose client closed the connection. No client gets it: only log,
// metrics and traces show it.
const statusClientClosedRequest = 499

// answerTo returns the answer to an error. The text of an unknown error does not reach the client.
func answerTo(err error) (status int, body any) {
	if e, ok := errors.AsType[*request.Refusal](err); ok {
		return e.Status, e.Body
	}
	if e, ok := errors.AsType[*auth.TokenRefusal](err); ok {
		return e.Status, e.Body()
	}
	if e, ok := errors.AsType[*store.Error](err); ok && storeStatus(e.Kind) != 0 {
		return storeStatus(e.Kind), e.Body()
	}
	if e, ok := errors.AsType[*echo.HTTPError](err); ok {
		return e.Code, gen.ErrorResponse{Message: routingMessage(e.Code)}
	}
	if errors.Is(err, context.Canceled) {
		return statusClientClosedRequest, gen.ErrorResponse{Message: "the client closed the connection"}
	}
	return http.StatusInternalServerError, gen.ErrorResponse{Message: "internal error"}
}

// storeStatus returns the HTTP status of an error of the store, or 0 for an unknown kind.
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
	case store.OverQuota:
		return http.StatusTooManyRequests
	}
	return 0
}

// routingMessage returns the message of an error of Echo or of the generated binding. Their own messages may contain Go
// types and parser errors.
func routingMessage(status int) string {
	switch status {
	case http.StatusNotFound:
		return "this path does not exist"
	case http.StatusMethodNotAllowed:
		return "the method must be one that the header Allow lists"
	case http.StatusBadRequest:
		return "the request is not valid"
	case http.StatusInternalServerError:
		return "internal error"
	}
	return http.StatusText(status)
}

// errorHandler returns the handler that answers every error.
func errorHandler(log *slog.Logger) echo.HTTPErrorHandler {
	return func(err error, c echo.Context) {
		if c.Response().Committed { // usually the client closed the connection
			log.Debug("answer cut off", "request_id", request.ID(c), "error", err)
			return
		}
		status, body := answerTo(err)
		logError(log, c, status, err)
		header := c.Response().Header()
		temporary := status == http.StatusServiceUnavailable || status == http.StatusTooManyRequests
		if temporary && header.Get(echo.HeaderRetryAfter) == "" {
			header.Set(echo.HeaderRetryAfter, retryAfter(err))
		}
		if err := c.JSON(status, body); err != nil {
			log.Debug("answer cut off", "request_id", request.ID(c), "error", err)
		}
	}
}

// retryAfter returns the seconds after which a request may succeed. Pending deliveries need more than a moment to end.
func retryAfter(err error) string {
	if e, ok := errors.AsType[*store.Error](err); ok && e.Kind == store.OverQuota {
		return "60"
	}
	return "1"
}

// logError logs the errors of the server. A refusal is none.
func logError(log *slog.Logger, c echo.Context, status int, err error) {
	if _, refused := errors.AsType[*request.Refusal](err); refused || status < http.StatusInternalServerError {
		return
	}
	log.ErrorContext(c.Request().Context(), "request failed", "request_id", request.ID(c),
		"operation", request.Operation(c), "status", status, "error", err)
}

// recoverPanics converts a panic to an error.
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
