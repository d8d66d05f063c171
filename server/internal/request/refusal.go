package request

import (
	"net/http"

	"github.com/agentevents/agentevents/gen"
)

// Refusal is an error of the client, with the answer to it. Everything in it is shown to the client.
type Refusal struct {
	Status int // of HTTP
	Body   gen.ErrorResponse
}

// Error is the message that the client sees.
func (r *Refusal) Error() string { return r.Body.Message }

// The codes that more than one part of the program gives its refusals. Clients tell errors apart by them.
const (
	CodeClientNotFound    = "client_not_found"
	CodeRateLimitExceeded = "rate_limit_exceeded"
)

// Refuse refuses a request as a whole.
func Refuse(status int, message string) *Refusal { return RefuseAs(status, "", message) }

// RefuseAs is Refuse with a code, which is the body's field status.
func RefuseAs(status int, code, message string) *Refusal {
	return &Refusal{status, gen.ErrorResponse{Status: code, Message: message}}
}

// Invalid refuses a request for its fields, with 400.
func Invalid(fields ...gen.FieldError) *Refusal {
	return &Refusal{http.StatusBadRequest, gen.ErrorResponse{Message: "the request is not valid", Errors: fields}}
}
