package api

import (
	"log/slog"
	"net/http"
	"net/netip"
	"slices"
	"strings"
	"time"

	"github.com/getkin/kin-openapi/openapi3"
	"github.com/getkin/kin-openapi/routers"
	"github.com/labstack/echo/v4"

	"github.com/agentevents/agentevents/gen/api"
	"github.com/agentevents/agentevents/server/internal/auth"
	"github.com/agentevents/agentevents/server/internal/contract"
	"github.com/agentevents/agentevents/server/internal/request"
	"github.com/agentevents/agentevents/server/internal/telemetry"
	"github.com/agentevents/agentevents/store"
	"github.com/agentevents/agentevents/webhook"
)

// tokenPath is where tokens are got, below basePath and, for clients of the original API, at the root.
const tokenPath = "/oauth/token"

// handlers are the operations of openapi.yaml.
type handlers struct {
	store       *store.Store
	guard       *webhook.Guard
	sender      *webhook.Sender
	tokens      *auth.TokenCache
	traces      *telemetry.Traces
	stopping    <-chan struct{}
	testLimiter *auth.TestLimiter
	throttle    *auth.Throttle // of who fails to get a token
}

// Options are what the API is made of. Store, Guard, Sender, Log and Turned are required.
type Options struct {
	Store    *store.Store
	Guard    *webhook.Guard  // says which URLs receivers may have
	Sender   *webhook.Sender // sends tests of events
	Log      *slog.Logger
	Turned   func() time.Time   // when the dispatcher's loop last turned
	Metrics  *telemetry.Metrics // nil measures nothing
	Traces   *telemetry.Traces  // nil traces nothing
	Drain    *Drain             // nil for none
	Stopping <-chan struct{}    // closed when no request is to wait any longer; nil never is

	TrustedProxies []netip.Prefix // whose X-Forwarded-For counts
}

func newHandlers(o Options) handlers {
	return handlers{
		store: o.Store, guard: o.Guard, sender: o.Sender, tokens: auth.NewTokenCache(o.Store, auth.TokenCacheLife), traces: o.Traces,
		stopping: o.Stopping, testLimiter: auth.NewTestLimiter(), throttle: auth.NewThrottle(o.Store.Now),
	}
}

var _ api.StrictServerInterface = handlers{}

// NewRouter returns all that is served to clients.
func NewRouter(o Options) (http.Handler, error) { return newHandlers(o).router(o) }

func (h handlers) router(o Options) (http.Handler, error) {
	e, err := h.routes(o)
	if err != nil {
		return nil, err
	}
	return BrowserHeaders(e), nil
}

// routes are those of all that is served to clients.
func (h handlers) routes(o Options) (*echo.Echo, error) {
	document, err := contract.Load()
	if err != nil {
		return nil, err
	}
	each, err := operationMiddlewares(document, h)
	if err != nil {
		return nil, err
	}
	e := echo.New()
	e.HTTPErrorHandler = errorHandler(o.Log)
	e.IPExtractor = request.ClientIP(o.TrustedProxies)
	served := wrap([]echo.MiddlewareFunc{
		request.Identify, o.Metrics.Request, o.Traces.Request, telemetry.LogRequests(o.Log), auth.SetLimitHeaders(o.Store), recoverPanics, limitHead,
	}, routedHandler)
	e.Use(func(echo.HandlerFunc) echo.HandlerFunc { return served })
	api.RegisterHandlersWithOptions(slashRouter{e}, api.NewStrictHandler(h, nil),
		api.RegisterHandlersOptions{BaseURL: contract.BasePath, OperationMiddlewares: each})
	addHealth(e, o)
	return e, addDocs(e, document)
}

// wrap puts a handler into middlewares, the first of them outermost. Echo would do so anew at each request.
func wrap(m []echo.MiddlewareFunc, h echo.HandlerFunc) echo.HandlerFunc {
	for _, around := range slices.Backward(m) {
		h = around(h)
	}
	return h
}

// routedHandler is the handler that a request was routed to.
func routedHandler(c echo.Context) error { return c.Handler()(c) }

// operationMiddlewares are what a request passes through after it was routed, by operationId.
func operationMiddlewares(document *openapi3.T, h handlers) (map[string][]echo.MiddlewareFunc, error) {
	all := map[string][]echo.MiddlewareFunc{}
	for path, item := range document.Paths.Map() {
		for method, operation := range item.Operations() {
			level, err := auth.LevelOf(operation)
			if err != nil {
				return nil, err
			}
			id := operation.OperationID
			if level == auth.NoToken {
				all[id] = []echo.MiddlewareFunc{request.WithOperation(id), h.throttle.LimitFailures, auth.TokenForm}
				continue
			}
			route := &routers.Route{Spec: document, Path: path, PathItem: item, Method: method, Operation: operation}
			all[id] = []echo.MiddlewareFunc{
				refuseGetOfRedeliver, request.WithOperation(id), contract.UnescapePath, auth.Authenticate(h.tokens, level), auth.Authorize(level), auth.LimitRequests(h.store),
				auth.ResolveMe, contract.ParsePHPArrays, contract.Validate(route), auth.AuthorizeAgain, withIdempotencyKey(route),
			}
		}
	}
	return all, nil
}

// refuseGetOfRedeliver refuses a GET of the path that sends many deliveries again, which is not that of a delivery with a strange id.
func refuseGetOfRedeliver(next echo.HandlerFunc) echo.HandlerFunc {
	return func(c echo.Context) error {
		if c.Request().Method == http.MethodGet && c.Param("delivery_id") == "redeliver" {
			c.Set(echo.ContextKeyHeaderAllow, "OPTIONS, POST")
			return echo.MethodNotAllowedHandler(c)
		}
		return next(c)
	}
}

// slashRouter serves every path with and without its trailing slash, and neither by a redirect, which would make a GET
// of a POST.
type slashRouter struct{ *echo.Echo }

var _ api.EchoRouter = slashRouter{}

func (b slashRouter) GET(path string, h echo.HandlerFunc, m ...echo.MiddlewareFunc) *echo.Route {
	return b.both(http.MethodGet, path, h, m)
}

func (b slashRouter) POST(path string, h echo.HandlerFunc, m ...echo.MiddlewareFunc) *echo.Route {
	return b.both(http.MethodPost, path, h, m)
}

func (b slashRouter) PUT(path string, h echo.HandlerFunc, m ...echo.MiddlewareFunc) *echo.Route {
	return b.both(http.MethodPut, path, h, m)
}

func (b slashRouter) DELETE(path string, h echo.HandlerFunc, m ...echo.MiddlewareFunc) *echo.Route {
	return b.both(http.MethodDelete, path, h, m)
}

func (b slashRouter) both(method, path string, h echo.HandlerFunc, m []echo.MiddlewareFunc) *echo.Route {
	if len(m) == 0 {
		panic(method + " " + path + " would not be validated: openapi.yaml does not have it")
	}
	h = wrap(m, h)
	bare := strings.TrimSuffix(path, "/")
	if bare == contract.BasePath+tokenPath {
		b.Add(method, tokenPath, h)
		b.Add(method, tokenPath+"/", h)
	}
	b.Add(method, bare+"/", h)
	return b.Add(method, bare, h)
}
