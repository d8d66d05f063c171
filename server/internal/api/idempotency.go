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

// withIdempotencyKey makes the store process requests with the same Idempotency-Key only once, if openapi.yaml has that
// header for the operation. It must run after contract.Validate and auth.ResolveMe.
func withIdempotencyKey(route *routers.Route) echo.MiddlewareFunc {
	accepted := route.Operation.Parameters.GetByInAndName(openapi3.ParameterInHeader, headerIdempotencyKey) != nil
	return func(next echo.HandlerFunc) echo.HandlerFunc {
		if !accepted {
			return next
		}
		return func(c echo.Context) error {
			r := c.Request()
			values := r.Header.Values(headerIdempotencyKey)
			if len(values) == 0 {
				return next(c)
			}
			key, err := idempotencyKey(values)
			if err != nil {
				return request.Invalid(gen.FieldError{Field: headerIdempotencyKey, Message: err.Error()})
			}
			r.Header.Del(headerIdempotencyKey) // otherwise the generated binding would parse it as well
			c.SetRequest(r.WithContext(store.WithIdempotency(r.Context(), store.Idempotency{
				Application: request.Caller(r.Context()).Number, Client: c.Param("client_id"),
				Key: key, Fingerprint: fingerprint(c),
			})))
			return next(c)
		}
	}
}

// idempotencyKey parses the header's values. A key is a quoted string of RFC 9651, as the draft requires, or a bare
// text, as most clients send it.
func idempotencyKey(values []string) (string, error) {
	if len(values) > 1 {
		return "", errors.New("must be given only once")
	}
	key, quoted := strings.CutPrefix(values[0], `"`)
	if strings.ContainsFunc(key, func(r rune) bool { return r < ' ' || r > '~' }) {
		return "", errors.New("must be printable ASCII")
	}
	if quoted {
		var closed bool
		if key, closed = unquote(key); !closed {
			return "", errors.New(
				`must be a bare key or a quoted key, in which \" and \\ stand for " and \`)
		}
	}
	if key == "" {
		return "", errors.New("must not be empty")
	}
	return key, nil
}

// unquote returns the text before the closing quotation mark, and reports whether that mark ends the text.
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

// fingerprint returns a hash of a request. It ignores the order of fields and the spaces in the body, and the form of
// the path.
func fingerprint(c echo.Context) []byte {
	parts := []any{request.Operation(c), c.ParamValues(), contract.BodyValue(c.Request())}
	text, _ := json.Marshal(parts) // cannot fail: these are texts and a JSON value
	hash := sha256.Sum256(text)
	return hash[:]
}
