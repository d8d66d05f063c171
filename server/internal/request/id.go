package request

import (
	"crypto/rand"
	"regexp"

	"github.com/labstack/echo/v4"
)

// Identify gives every request an id: the client's X-Request-Id if it is valid, else a new one. The answer's header
// keeps the id, for the client and for ID. The lines that the server logs of the request have it, and so has the span
// of its trace. Lines that the store logs have the trace's id at most.
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

// NewID returns an id for a request that has none.
func NewID() string { return rand.Text() }

var validID = regexp.MustCompile(`^[A-Za-z0-9._-]{1,64}$`)

// ID is the id that Identify gave a request.
func ID(c echo.Context) string { return c.Response().Header().Get(echo.HeaderXRequestID) }
