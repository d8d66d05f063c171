package main

import (
	"cmp"
	"context"
	"log/slog"
	"net/http"
	"net/netip"
	"net/url"
	"slices"
	"strings"
	"time"

	"github.com/getkin/kin-openapi/openapi3"
	"github.com/getkin/kin-openapi/routers"
	"github.com/labstack/echo/v4"

	"github.com/agentevents/agentevents/gen/api"
	"github.com/agentevents/agentevents/store"
	"github.com/agentevents/agentevents/webhook"
)

// basePath is where the API is, as openapi.yaml's servers have it.
const basePath = "/api/ver1.0"

// tokenPath is where tokens are got, below basePath and, for clients of the original API, at the root.
const tokenPath = "/oauth/token"

// handlers are the operations of openapi.yaml.
type handlers struct {
	store    *store.Store
	guard    *webhook.Guard
	sender   *webhook.Sender
	sessions *sessions
	traces   *traces
	stopping <-chan struct{}
	tests    *gate
	throttle *throttle // of who fails to get a token
}

// options are what the API is made of. Store, Guard, Sender, Log and Turned are required.
type options struct {
	Store    *store.Store
	Guard    *webhook.Guard  // says which URLs receivers may have
	Sender   *webhook.Sender // sends tests of events
	Log      *slog.Logger
	Turned   func() time.Time // when the dispatcher's loop last turned
	Metrics  *metrics         // nil measures nothing
	Traces   *traces          // nil traces nothing
	Drain    *drain           // nil for none
	Stopping <-chan struct{}  // closed when no request is to wait any longer; nil never is

	TrustedProxies []netip.Prefix // whose X-Forwarded-For counts
}

func newHandlers(o options) handlers {
	return handlers{
		store: o.Store, guard: o.Guard, sender: o.Sender, sessions: newSessions(o.Store, sessionLife), traces: o.Traces,
		stopping: o.Stopping, tests: newGate(), throttle: newThrottle(o.Store.Now),
	}
}

var _ api.StrictServerInterface = handlers{}

// newRouter returns all that is served to clients.
func newRouter(o options) (http.Handler, error) { return newHandlers(o).router(o) }

func (h handlers) router(o options) (http.Handler, error) {
	e, err := h.routes(o)
	if err != nil {
		return nil, err
	}
	return guardBrowsers(e), nil
}

// routes are those of all that is served to clients.
func (h handlers) routes(o options) (*echo.Echo, error) {
	document, err := loadContract()
	if err != nil {
		return nil, err
	}
	each, err := middlewares(document, h)
	if err != nil {
		return nil, err
	}
	e := echo.New()
	e.HTTPErrorHandler = answerErrors(o.Log)
	e.IPExtractor = addressOf(o.TrustedProxies)
	served := within([]echo.MiddlewareFunc{
		identify, o.Metrics.request, o.Traces.request, logRequests(o.Log), tellLimits(o.Store), catchPanics, boundHead,
	}, routed)
	e.Use(func(echo.HandlerFunc) echo.HandlerFunc { return served })
	api.RegisterHandlersWithOptions(bothForms{e}, api.NewStrictHandler(h, nil),
		api.RegisterHandlersOptions{BaseURL: basePath, OperationMiddlewares: each})
	addHealth(e, o)
	return e, addDocs(e, document)
}

// within puts a handler into middlewares, the first of them outermost. Echo would do so anew at each request.
func within(m []echo.MiddlewareFunc, h echo.HandlerFunc) echo.HandlerFunc {
	for _, around := range slices.Backward(m) {
		h = around(h)
	}
	return h
}

// routed is the handler that a request was routed to.
func routed(c echo.Context) error { return c.Handler()(c) }

// middlewares are what a request passes through after it was routed, by operationId.
func middlewares(document *openapi3.T, h handlers) (map[string][]echo.MiddlewareFunc, error) {
	all := map[string][]echo.MiddlewareFunc{}
	for path, item := range document.Paths.Map() {
		for method, operation := range item.Operations() {
			level, err := accessOf(operation)
			if err != nil {
				return nil, err
			}
			id := operation.OperationID
			if level == anybody {
				all[id] = []echo.MiddlewareFunc{named(id), h.throttle.tokens, tokenForm}
				continue
			}
			route := &routers.Route{Spec: document, Path: path, PathItem: item, Method: method, Operation: operation}
			all[id] = []echo.MiddlewareFunc{
				ownPath, named(id), unescape, authenticate(h.sessions, level), authorize(level), limitRequests(h.store),
				me, unbracket, validate(route), authorizeAgain, idempotent(route),
			}
		}
	}
	return all, nil
}

// ownPath refuses a GET of the path that sends many deliveries again, which is not that of a delivery with a strange id.
func ownPath(next echo.HandlerFunc) echo.HandlerFunc {
	return func(c echo.Context) error {
		if c.Request().Method == http.MethodGet && c.Param("delivery_id") == "redeliver" {
			c.Set(echo.ContextKeyHeaderAllow, "OPTIONS, POST")
			return echo.MethodNotAllowedHandler(c)
		}
		return next(c)
	}
}

// asked is what is known of a request for an operation.
type asked struct {
	operation string   // its id
	url       *url.URL // that it was asked for by
	caller    store.Caller
	again     func() error // looks once more whether the caller still may

	application string // the id of the application that asks for a token, empty if there is none
}

// applicationID is the id of who makes a request, also of one who asks for a token.
func (a *asked) applicationID() string { return cmp.Or(a.caller.Application, a.application) }

// askedKey is where it is in a request's context.
type askedKey struct{}

// withAsked puts it there.
func withAsked(ctx context.Context, a *asked) context.Context {
	return context.WithValue(ctx, askedKey{}, a)
}

// askedOf knows nothing of what is no request for an operation.
func askedOf(ctx context.Context) *asked {
	if a, ok := ctx.Value(askedKey{}).(*asked); ok {
		return a
	}
	return &asked{}
}

// named notes which operation a request is for.
func named(id string) echo.MiddlewareFunc {
	return func(next echo.HandlerFunc) echo.HandlerFunc {
		return func(c echo.Context) error {
			r := c.Request()
			c.SetRequest(r.WithContext(withAsked(r.Context(), &asked{operation: id, url: r.URL})))
			return next(c)
		}
	}
}

func operation(c echo.Context) string { return askedOf(c.Request().Context()).operation }

// bothForms serves every path with and without its trailing slash, and neither by a redirect, which would make a GET
// of a POST.
type bothForms struct{ *echo.Echo }

var _ api.EchoRouter = bothForms{}

func (b bothForms) GET(path string, h echo.HandlerFunc, m ...echo.MiddlewareFunc) *echo.Route {
	return b.both(http.MethodGet, path, h, m)
}

func (b bothForms) POST(path string, h echo.HandlerFunc, m ...echo.MiddlewareFunc) *echo.Route {
	return b.both(http.MethodPost, path, h, m)
}

func (b bothForms) PUT(path string, h echo.HandlerFunc, m ...echo.MiddlewareFunc) *echo.Route {
	return b.both(http.MethodPut, path, h, m)
}

func (b bothForms) DELETE(path string, h echo.HandlerFunc, m ...echo.MiddlewareFunc) *echo.Route {
	return b.both(http.MethodDelete, path, h, m)
}

func (b bothForms) both(method, path string, h echo.HandlerFunc, m []echo.MiddlewareFunc) *echo.Route {
	if len(m) == 0 {
		panic(method + " " + path + " would not be validated: openapi.yaml does not have it")
	}
	h = within(m, h)
	bare := strings.TrimSuffix(path, "/")
	if bare == basePath+tokenPath {
		b.Add(method, tokenPath, h)
		b.Add(method, tokenPath+"/", h)
	}
	b.Add(method, bare+"/", h)
	return b.Add(method, bare, h)
}
