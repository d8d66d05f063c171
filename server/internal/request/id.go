package request

import (
	"crypto/rand"
	"regexp"

	"github.com/labstack/echo/v4"
)

// Identify gives every request an id: the client's X-Request-Id if it is valid, otherwise a new one. The header of the
// answer has the id, and so have the server's log lines about the request and the span of its trace. Log lines of the
// store have only the id of the trace.
func Identify(next echo.HandlerFunc) echo.HandlerFunc {
	return func(c echo.Context) error {
		id := c.Request().Header.Get(echo.HeaderXRequestID)
		if !validID.MatchString(id) {
			id = NewID()
		}
		c.Response().Header().Set(echo.HeaderXRequestID, id)
		return next(c)
	}
}

// NewID returns a new request id.
func NewID() string { return rand.Text() }

var validID = regexp.MustCompile(`^[A-Za-z0-9._-]{1,64}$`)

// ID returns the id that Identify gave a request.
func ID(c echo.Context) string { return c.Response().Header().Get(echo.HeaderXRequestID) }
