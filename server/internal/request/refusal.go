package request

import (
	"net/http"

	"github.com/agentevents/agentevents/gen"
)

// Refusal is an error of the client, and the answer to it. The client gets all of it.
type Refusal struct {
	Status int // HTTP status
	Body   gen.ErrorResponse
}

// Error returns the message for the client.
func (r *Refusal) Error() string { return r.Body.Message }

// The codes that more than one package uses. Clients distinguish errors by them.
const (
	CodeClientNotFound    = "client_not_found"
	CodeRateLimitExceeded = "rate_limit_exceeded"
)

// Refuse refuses a request as a whole.
func Refuse(status int, message string) *Refusal { return RefuseAs(status, "", message) }

// RefuseAs is Refuse with a code, the field status of the body.
func RefuseAs(status int, code, message string) *Refusal {
	return &Refusal{status, gen.ErrorResponse{Status: code, Message: message}}
}

// Invalid refuses a request with 400 because of its fields.
func Invalid(fields ...gen.FieldError) *Refusal {
	return &Refusal{http.StatusBadRequest, gen.ErrorResponse{Message: "the request is not valid", Errors: fields}}
}
