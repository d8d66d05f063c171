package main

import (
	"crypto/rand"
	"regexp"

	"github.com/labstack/echo/v4"
)

// identify gives every request an id: its own, if that is a decent one, or a new one. It is in the answer's header
// and in every line that is logged of the request, and nowhere else.
func identify(next echo.HandlerFunc) echo.HandlerFunc {
	return func(c echo.Context) error {
		id := c.Request().Header.Get(echo.HeaderXRequestID)
		if !validRequestID.MatchString(id) {
			id = rand.Text()
		}
		c.Response().Header().Set(echo.HeaderXRequestID, id)
		return next(c)
	}
}

var validRequestID = regexp.MustCompile(`^[A-Za-z0-9._-]{1,64}$`)

func requestID(c echo.Context) string { return c.Response().Header().Get(echo.HeaderXRequestID) }
