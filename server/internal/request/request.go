package request

import (
	"context"
	"net/url"

	"github.com/labstack/echo/v4"

	"github.com/agentevents/agentevents/store"
)

// Info is the data of a request for an operation. The middlewares fill it in.
type Info struct {
	Operation string       // operationId
	URL       *url.URL     // before any middleware changes it
	Caller    store.Caller // zero until the token is checked
	Recheck   func() error // refuses a caller that has lost its access; set together with Caller
	Release   func()       // ends the count as a request in progress; set when that begins

	TokenApplication string // id of the application that requests a token; empty if unknown
}

type infoKey struct{}

// NewContext returns a context that carries i.
func NewContext(ctx context.Context, i *Info) context.Context {
	return context.WithValue(ctx, infoKey{}, i)
}

// From returns the Info that ctx carries. It is never nil. It is empty if the request is not for an operation.
func From(ctx context.Context) *Info {
	if i, ok := ctx.Value(infoKey{}).(*Info); ok {
		return i
	}
	return &Info{}
}

// WithOperation adds an Info with the operationId to the context of each request.
func WithOperation(id string) echo.MiddlewareFunc {
	return func(next echo.HandlerFunc) echo.HandlerFunc {
		return func(c echo.Context) error {
			r := c.Request()
			c.SetRequest(r.WithContext(NewContext(r.Context(), &Info{Operation: id, URL: r.URL})))
			return next(c)
		}
	}
}

// Operation returns the operationId of a request, or "" if it is not for an operation.
func Operation(c echo.Context) string { return From(c.Request().Context()).Operation }

// Caller returns the application that makes the request, or zero if it is unknown.
func Caller(ctx context.Context) store.Caller { return From(ctx).Caller }

// ApplicationID returns the id of the caller's application, or of the application that requests a token.
func ApplicationID(ctx context.Context) string {
	i := From(ctx)
	if i.Caller.Application != "" {
		return i.Caller.Application
	}
	return i.TokenApplication
}

// Recheck refuses a caller whose application was revoked, or whose client was blocked, after the request began: a body
// may arrive late, and a long poll may wait. The request must be authenticated.
func Recheck(ctx context.Context) error { return From(ctx).Recheck() }
