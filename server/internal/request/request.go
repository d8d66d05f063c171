package request

import (
	"cmp"
	"context"
	"net/url"

	"github.com/labstack/echo/v4"

	"github.com/agentevents/agentevents/store"
)

// Caller is who makes a request.
func Caller(ctx context.Context) store.Caller { return From(ctx).Caller }

// StillAllowed refuses a caller who was revoked or blocked since the request began, which may have taken its time.
func StillAllowed(ctx context.Context) error { return From(ctx).Recheck() }

// Info is what is known of a request for an operation.
type Info struct {
	Operation string   // its id
	URL       *url.URL // that it was asked for by
	Caller    store.Caller
	Recheck   func() error // looks once more whether the caller still may

	TokenApplication string // the id of the application that asks for a token, empty if there is none
}

// ApplicationID is the id of who makes a request, also of one who asks for a token.
func (a *Info) ApplicationID() string { return cmp.Or(a.Caller.Application, a.TokenApplication) }

// infoKey is where it is in a request's context.
type infoKey struct{}

// NewContext puts it there.
func NewContext(ctx context.Context, a *Info) context.Context {
	return context.WithValue(ctx, infoKey{}, a)
}

// From knows nothing of what is no request for an operation.
func From(ctx context.Context) *Info {
	if a, ok := ctx.Value(infoKey{}).(*Info); ok {
		return a
	}
	return &Info{}
}

// WithOperation notes which operation a request is for.
func WithOperation(id string) echo.MiddlewareFunc {
	return func(next echo.HandlerFunc) echo.HandlerFunc {
		return func(c echo.Context) error {
			r := c.Request()
			c.SetRequest(r.WithContext(NewContext(r.Context(), &Info{Operation: id, URL: r.URL})))
			return next(c)
		}
	}
}

func Operation(c echo.Context) string { return From(c.Request().Context()).Operation }
