package api

import (
	"log/slog"
	"net/http"
	"net/netip"
	"slices"
	"time"

	"github.com/getkin/kin-openapi/openapi3"
	"github.com/getkin/kin-openapi/routers"
	"github.com/labstack/echo/v4"

	"github.com/agentevents/agentevents/gen"
	"github.com/agentevents/agentevents/gen/api"
	"github.com/agentevents/agentevents/server/internal/auth"
	"github.com/agentevents/agentevents/server/internal/contract"
	"github.com/agentevents/agentevents/server/internal/request"
	"github.com/agentevents/agentevents/server/internal/telemetry"
	"github.com/agentevents/agentevents/store"
	"github.com/agentevents/agentevents/webhook"
)

// Options are the parts of the API. Store, Guard, Sender, Log and Heartbeat are required.
type Options struct {
	Store     *store.Store
	Guard     *webhook.Guard  // decides which URLs receivers may have
	Sender    *webhook.Sender // sends test deliveries
	Log       *slog.Logger
	Heartbeat func() time.Time // time of the dispatcher's last iteration

	Metrics        *telemetry.Metrics // nil measures nothing
	Traces         *telemetry.Traces  // nil traces nothing
	Drain          *Drain             // nil drains nothing
	Stopping       <-chan struct{}    // closed when long polls must end; nil is never closed
	TrustedProxies []netip.Prefix     // proxies whose X-Forwarded-For is used
}

// NewRouter returns the handler of the API, its documentation and the probes.
func NewRouter(o Options) (http.Handler, error) { return newHandlers(o).router(o) }

// handlers has a method for each operation of openapi.yaml.
type handlers struct {
	store     *store.Store
	guard     *webhook.Guard
	sender    *webhook.Sender
	log       *slog.Logger
	traces    *telemetry.Traces
	stopping  <-chan struct{}
	tokens    *auth.TokenCache
	throttle  *auth.Throttle
	tokenRate *auth.TokenRate
	requests  *clientLimiter
	polls     *clientLimiter
	tests     *testDeliveryLimiter
	bodies    *fairRoom
	readers   *fairRoom
	bigPages  *fairRoom
	writers   *fairRoom
}

var _ api.StrictServerInterface = handlers{}

func newHandlers(o Options) handlers {
	return handlers{
		store: o.Store, guard: o.Guard, sender: o.Sender, traces: o.Traces, stopping: o.Stopping,
		tokens:   auth.NewTokenCache(o.Store, auth.TokenCacheLife),
		throttle: auth.NewThrottle(o.Store.Now), tokenRate: auth.NewTokenRate(o.Store.Now), log: o.Log,
		requests: newClientLimiter(maxRequests),
		polls:    newClientLimiter(maxPolls),
		tests:    newTestDeliveryLimiter(),
		bodies:   newBodyRoom(maxBodyRoom),
		readers:  newReaderRoom(o.Store.Readers()),
		bigPages: newBigPageRoom(),
		writers:  newWriterRoom(),
	}
}

func (h handlers) router(o Options) (http.Handler, error) {
	e, err := h.routes(o)
	if err != nil {
		return nil, err
	}
	return BrowserHeaders(e), nil
}

func (h handlers) routes(o Options) (*echo.Echo, error) {
	document, err := contract.Load()
	if err != nil {
		return nil, err
	}
	middlewares, err := h.middlewares(document)
	if err != nil {
		return nil, err
	}
	e := echo.New()
	e.HTTPErrorHandler = errorHandler(o.Log)
	e.IPExtractor = request.ClientIP(o.TrustedProxies)
	// The chain is built once, for all requests. It does not need next: it ends in routedHandler, which takes the
	// handler from the context.
	every := wrap([]echo.MiddlewareFunc{
		request.Identify, o.Metrics.Request, o.Traces.Request, telemetry.LogRequests(o.Log),
		auth.SetLimitHeaders(o.Store), recoverPanics, limitHead,
	}, routedHandler)
	e.Use(func(echo.HandlerFunc) echo.HandlerFunc { return every })
	inTurn := []api.StrictMiddlewareFunc{h.readInTurn, h.writeInTurn}
	api.RegisterHandlersWithOptions(slashRouter{e}, api.NewStrictHandler(h, inTurn),
		api.RegisterHandlersOptions{BaseURL: contract.BasePath, OperationMiddlewares: middlewares})
	addHealth(e, o)
	return e, addDocs(e, document)
}

// wrap applies middlewares to a handler, the first outermost. Echo would do it for each request.
func wrap(middlewares []echo.MiddlewareFunc, h echo.HandlerFunc) echo.HandlerFunc {
	for _, m := range slices.Backward(middlewares) {
		h = m(h)
	}
	return h
}

// routedHandler calls the handler that Echo selected for a request.
func routedHandler(c echo.Context) error { return c.Handler()(c) }

// middlewares returns the middlewares of each operation, by operationId.
func (h handlers) middlewares(document *openapi3.T) (map[string][]echo.MiddlewareFunc, error) {
	all := map[string][]echo.MiddlewareFunc{}
	for path, item := range document.Paths.Map() {
		for method, operation := range item.Operations() {
			level, err := auth.LevelOf(operation)
			if err != nil {
				return nil, err
			}
			route := &routers.Route{Spec: document, Path: path, PathItem: item, Method: method, Operation: operation}
			all[operation.OperationID] = h.middlewaresOf(route, level)
		}
	}
	return all, nil
}

// middlewaresOf returns the middlewares of one operation, outermost first. If a request has several faults, the first
// of these middlewares refuses it.
func (h handlers) middlewaresOf(route *routers.Route, level gen.AccessLevel) []echo.MiddlewareFunc {
	id := route.Operation.OperationID
	// Only the operation that issues tokens requires none. These middlewares are for its form. Another operation
	// without a token would need its own, with contract.Validate.
	if level == auth.NoToken {
		return []echo.MiddlewareFunc{
			request.WithOperation(id), h.throttle.LimitFailures,
			takeBodyRoom(h.bodies, auth.MaxTokenBody), auth.TokenForm,
		}
	}
	return []echo.MiddlewareFunc{
		refuseGetOfRedeliver, request.WithOperation(id), contract.UnescapePath,
		auth.Authenticate(h.tokens, level), auth.Authorize(level), admit(h.requests),
		auth.LimitPending(h.store, id), auth.LimitRequests(h.store), auth.ResolveMe, contract.ParsePHPArrays,
		takeBodyRoom(h.bodies, contract.MaxBody(route.Operation)), contract.Validate(route),
		auth.Recheck, withIdempotencyKey(route),
	}
}

// refuseGetOfRedeliver answers 405 to GET …/delivery/redeliver, which Echo routes to the operation of a delivery.
func refuseGetOfRedeliver(next echo.HandlerFunc) echo.HandlerFunc {
	return func(c echo.Context) error {
		if c.Request().Method == http.MethodGet && c.Param("delivery_id") == "redeliver" {
			c.Set(echo.ContextKeyHeaderAllow, "OPTIONS, POST")
			return echo.MethodNotAllowedHandler(c)
		}
		return next(c)
	}
}
