package main

import (
	"fmt"
	"net/http"
	"time"

	"github.com/labstack/echo/v4"
)

const (
	maxHead   = 32 << 10 // bytes of a request but for its body
	maxHeader = 100      // fields
	maxURL    = 8 << 10  // bytes
	// headSlop is what net/http allows beyond what it is told to.
	headSlop = 4 << 10
)

// bounds are how long the head of a request and all of it may take to arrive, and how many connections there may be.
type bounds struct {
	head, all   time.Duration
	connections int
}

func usualBounds() bounds {
	return bounds{head: 5 * time.Second, all: 10 * time.Second, connections: 10_000}
}

// boundHead refuses what is too long to be looked at.
func boundHead(next echo.HandlerFunc) echo.HandlerFunc {
	return func(c echo.Context) error {
		r := c.Request()
		if len(r.RequestURI) > maxURL {
			return longURL()
		}
		fields := 0
		for _, values := range r.Header {
			fields += len(values)
		}
		if fields > maxHeader {
			return refuse(http.StatusRequestHeaderFieldsTooLarge, fmt.Sprintf("the header may have at most %d fields", maxHeader))
		}
		return next(c)
	}
}

func longURL() *refusal {
	return refuse(http.StatusRequestURITooLong, fmt.Sprintf("the URL may have at most %d bytes", maxURL))
}
