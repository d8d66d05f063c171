package request

import (
	"context"
	"net/url"

	"github.com/labstack/echo/v4"

	"github.com/agentevents/agentevents/store"
)

// Info is what is known of a request for an operation. The middlewares fill it in as they learn it.
type Info struct {
	Operation string       // operationId
	URL       *url.URL     // as the client sent it
	Caller    store.Caller // zero until the token is checked
	Recheck   func() error // refuses a caller that has lost its access since; set together with Caller
	Release   func()       // has the request no longer count as in progress; set when it begins to count

	TokenApplication string // id of the application that requests a token; empty if there is no such application
}

type infoKey struct{}

// NewContext returns a context that carries i.
func NewContext(ctx context.Context, i *Info) context.Context {
	return context.WithValue(ctx, infoKey{}, i)
}

// From returns the Info that ctx carries. It is empty, and never nil, for a request that is for no operation.
func From(ctx context.Context) *Info {
	if i, ok := ctx.Value(infoKey{}).(*Info); ok {
		return i
	}
	return &Info{}
}

// WithOperation gives the context of each request an Info with the operationId.
func WithOperation(id string) echo.MiddlewareFunc {
	return func(next echo.HandlerFunc) echo.HandlerFunc {
		return func(c echo.Context) error {
			r := c.Request()
			c.SetRequest(r.WithContext(NewContext(r.Context(), &Info{Operation: id, URL: r.URL})))
			return next(c)
		}
	}
}

// Operation is the operationId of a request, empty if it is for no operation.
func Operation(c echo.Context) string { return From(c.Request().Context()).Operation }

// Caller is the application that makes the request, zero if it is not known.
func Caller(ctx context.Context) store.Caller { return From(ctx).Caller }

// ApplicationID is the id of the caller's application, or of the application that requests a token.
func ApplicationID(ctx context.Context) string {
	i := From(ctx)
	if i.Caller.Application != "" {
		return i.Caller.Application
	}
	return i.TokenApplication
}

// StillAllowed refuses a caller that was revoked or blocked since the request began: a body may arrive late, and a
// poll may wait for long. It requires an authenticated request.
func StillAllowed(ctx context.Context) error { return From(ctx).Recheck() }
