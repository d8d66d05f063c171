package request

import (
	"net/http"

	"github.com/agentevents/agentevents/gen"
)

// Refusal is an error of the request, with the answer to it.
type Refusal struct {
	Status int
	Body   gen.ErrorResponse
}

func (r *Refusal) Error() string { return r.Body.Message }

// Refuse refuses a request as a whole.
func Refuse(status int, message string) *Refusal {
	return &Refusal{status, gen.ErrorResponse{Message: message}}
}

// Invalid refuses a request for its fields.
func Invalid(fields ...gen.FieldError) *Refusal {
	return &Refusal{http.StatusBadRequest, gen.ErrorResponse{Message: "the request is not valid", Errors: fields}}
}
