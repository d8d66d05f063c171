package request

import (
	"crypto/rand"
	"regexp"

	"github.com/labstack/echo/v4"
)

// Identify gives every request an id: the client's X-Request-Id if it is valid, else a new one. The id is in the
// answer's header and in every line that is logged of the request, and nowhere else.
func Identify(next echo.HandlerFunc) echo.HandlerFunc {
	return func(c echo.Context) error {
		id := c.Request().Header.Get(echo.HeaderXRequestID)
		if !validID.MatchString(id) {
			id = rand.Text()
		}
		c.Response().Header().Set(echo.HeaderXRequestID, id)
		return next(c)
	}
}

var validID = regexp.MustCompile(`^[A-Za-z0-9._-]{1,64}$`)

// ID is the id that Identify gave a request.
func ID(c echo.Context) string { return c.Response().Header().Get(echo.HeaderXRequestID) }
