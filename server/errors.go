package main

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net/http"
	"runtime/debug"

	"github.com/labstack/echo/v4"

	"github.com/agentevents/agentevents/gen"
	"github.com/agentevents/agentevents/store"
)

// refusal is an error of the request, with the answer to it.
type refusal struct {
	status int
	body   gen.ErrorResponse
}

func (r *refusal) Error() string { return r.body.Message }

// refuse refuses a request as a whole.
func refuse(status int, message string) *refusal {
	return &refusal{status, gen.ErrorResponse{Message: message}}
}

// invalid refuses a request for its fields.
func invalid(fields ...gen.FieldError) *refusal {
	return &refusal{http.StatusBadRequest, gen.ErrorResponse{Message: "the request is not valid", Errors: fields}}
}

// statusGone is the status of requests that were given up by who made them. It is only ever seen in the log.
const statusGone = 499

// answer says what to tell the client about an error. What is not known is nobody's business.
func answer(err error) (status int, body any) {
	var refused *refusal
	var noToken *tokenRefusal
	var known *store.Error
	var routed *echo.HTTPError
	switch {
	case errors.As(err, &refused):
		return refused.status, refused.body
	case errors.As(err, &noToken):
		return noToken.status, noToken.body()
	case errors.As(err, &known) && storeStatus(known.Kind) != 0:
		return storeStatus(known.Kind), known.Body()
	case errors.As(err, &routed):
		return routed.Code, gen.ErrorResponse{Message: routingMessage(routed.Code)}
	case errors.Is(err, context.Canceled):
		return statusGone, gen.ErrorResponse{Message: "the request was given up"}
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

// answerErrors is the one place where an error becomes an answer.
func answerErrors(log *slog.Logger) echo.HTTPErrorHandler {
	return func(err error, c echo.Context) {
		if c.Response().Committed { // it is too late, mostly because the client has gone
			log.Debug("the answer was cut off", "request_id", requestID(c), "error", err)
			return
		}
		status, body := answer(err)
		logError(log, c, status, err)
		header, soon := c.Response().Header(), status == http.StatusServiceUnavailable || status == http.StatusTooManyRequests
		if soon && header.Get(echo.HeaderRetryAfter) == "" {
			header.Set(echo.HeaderRetryAfter, "1")
		}
		if err := c.JSON(status, body); err != nil {
			log.Debug("the answer was cut off", "request_id", requestID(c), "error", err)
		}
	}
}

// logError logs what is not the client's doing.
func logError(log *slog.Logger, c echo.Context, status int, err error) {
	if status < http.StatusInternalServerError {
		return
	}
	log.ErrorContext(c.Request().Context(), "request failed", "request_id", requestID(c), "operation", operation(c), "status", status, "error", err)
}

// catchPanics makes an error of a panic.
func catchPanics(next echo.HandlerFunc) echo.HandlerFunc {
	return func(c echo.Context) (err error) {
		defer func() {
			if r := recover(); r != nil {
				err = fmt.Errorf("panic: %v\n%s", r, debug.Stack())
			}
		}()
		return next(c)
	}
}
