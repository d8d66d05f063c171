package api

import (
	"fmt"
	"net/http"
	"net/netip"
	"time"

	"github.com/labstack/echo/v4"

	"github.com/agentevents/agentevents/server/internal/request"
)

const (
	maxHead         = 32 << 10 // bytes: request line and header
	maxHeaderFields = 100
	maxURL          = 8 << 10 // bytes
	// headSlop is the number of bytes that net/http accepts beyond http.Server.MaxHeaderBytes.
	headSlop = 4 << 10
)

// Limits are the limits for the clients of a listener.
type Limits struct {
	Head        time.Duration // for the arrival of a request's head
	Request     time.Duration // for the arrival of a whole request
	Connections int           // open at the same time

	// ConnectionsPerAddress is the most of them for one address. A trusted proxy may have any number.
	ConnectionsPerAddress int
	TrustedProxies        []netip.Prefix
}

// DefaultLimits returns the limits of every listener of the program.
func DefaultLimits() Limits {
	return Limits{
		Head: 5 * time.Second, Request: 10 * time.Second, Connections: 5000, ConnectionsPerAddress: 1000,
	}
}

// limitHead refuses a long URL and a header of many fields.
func limitHead(next echo.HandlerFunc) echo.HandlerFunc {
	return func(c echo.Context) error {
		r := c.Request()
		if len(r.RequestURI) > maxURL {
			return refuseLongURL()
		}
		fields := 0
		for _, values := range r.Header {
			fields += len(values)
		}
		if fields > maxHeaderFields {
			message := fmt.Sprintf("the header may have at most %d fields", maxHeaderFields)
			return request.Refuse(http.StatusRequestHeaderFieldsTooLarge, message)
		}
		return next(c)
	}
}

func refuseLongURL() *request.Refusal {
	return request.Refuse(http.StatusRequestURITooLong, fmt.Sprintf("the URL may have at most %d bytes", maxURL))
}
