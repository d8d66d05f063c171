package api

import (
	"crypto/sha256"
	"encoding/json"
	"errors"
	"strings"

	"github.com/getkin/kin-openapi/openapi3"
	"github.com/getkin/kin-openapi/routers"
	"github.com/labstack/echo/v4"

	"github.com/agentevents/agentevents/gen"
	"github.com/agentevents/agentevents/server/internal/contract"
	"github.com/agentevents/agentevents/server/internal/request"
	"github.com/agentevents/agentevents/store"
)

const headerIdempotencyKey = "Idempotency-Key"

// withIdempotencyKey has the store carry a request with an Idempotency-Key out once, if openapi.yaml says that its operation takes one.
// The body was validated before, and @me stands for a client by now.
func withIdempotencyKey(route *routers.Route) echo.MiddlewareFunc {
	taken := route.Operation.Parameters.GetByInAndName(openapi3.ParameterInHeader, headerIdempotencyKey) != nil
	return func(next echo.HandlerFunc) echo.HandlerFunc {
		if !taken {
			return next
		}
		return func(c echo.Context) error {
			r := c.Request()
			given := r.Header.Values(headerIdempotencyKey)
			if len(given) == 0 {
				return next(c)
			}
			key, err := idempotencyKey(given)
			if err != nil {
				return request.Invalid(gen.FieldError{Field: headerIdempotencyKey, Message: err.Error()})
			}
			r.Header.Del(headerIdempotencyKey) // else the generated binding reads it in a form of its own
			c.SetRequest(r.WithContext(store.WithIdempotency(r.Context(), store.Idempotency{
				Application: request.Caller(r.Context()).Number, Client: c.Param("client_id"), Key: key, Fingerprint: fingerprint(c),
			})))
			return next(c)
		}
	}
}

// idempotencyKey reads a key: a string of RFC 9651, as the draft has it, or the bare key, as most clients send it.
func idempotencyKey(given []string) (string, error) {
	if len(given) > 1 {
		return "", errors.New("must be given only once")
	}
	key, quoted := strings.CutPrefix(given[0], `"`)
	if strings.ContainsFunc(key, func(r rune) bool { return r < ' ' || r > '~' }) {
		return "", errors.New("must be in ASCII, without control characters")
	}
	if quoted {
		var closed bool
		if key, closed = unquote(key); !closed {
			return "", errors.New(`must be a key, or a key between quotation marks, in which \" and \\ stand for " and \`)
		}
	}
	if key == "" {
		return "", errors.New("must not be empty")
	}
	return key, nil
}

// unquote returns the string that begins behind a quotation mark, and whether the text ends with it.
func unquote(text string) (plain string, closed bool) {
	var b strings.Builder
	for i := 0; i < len(text); i++ {
		switch text[i] {
		case '"':
			return b.String(), i == len(text)-1
		case '\\':
			if i++; i == len(text) || text[i] != '"' && text[i] != '\\' {
				return "", false
			}
		}
		b.WriteByte(text[i])
	}
	return "", false
}

// fingerprint is the same for two requests of an operation that ask for the same. The order of fields in the body and the
// spaces around them make no difference, nor does the form of the path.
func fingerprint(c echo.Context) []byte {
	text, _ := json.Marshal([]any{request.Operation(c), c.ParamValues(), contract.BodyValue(c.Request())}) // which are texts and JSON
	hash := sha256.Sum256(text)
	return hash[:]
}
