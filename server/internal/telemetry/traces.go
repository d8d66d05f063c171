package telemetry

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net/http"
	"net/url"
	"os"
	"strings"
	"time"

	"github.com/go-logr/logr"
	"github.com/labstack/echo/v4"
	"go.opentelemetry.io/otel"
	"go.opentelemetry.io/otel/attribute"
	"go.opentelemetry.io/otel/codes"
	"go.opentelemetry.io/otel/exporters/otlp/otlptrace/otlptracehttp"
	"go.opentelemetry.io/otel/propagation"
	"go.opentelemetry.io/otel/sdk/resource"
	sdk "go.opentelemetry.io/otel/sdk/trace"
	"go.opentelemetry.io/otel/trace"

	"github.com/agentevents/agentevents/server/internal/contract"
	"github.com/agentevents/agentevents/server/internal/request"
	"github.com/agentevents/agentevents/webhook"
)

// OpenTelemetry's variables for the collector's URL. The second is only for traces, and overrides the first.
const (
	endpointVariable       = "OTEL_EXPORTER_OTLP_ENDPOINT"
	tracesEndpointVariable = "OTEL_EXPORTER_OTLP_TRACES_ENDPOINT"
)

// flushTimeout is the time for Close to send the last spans.
const flushTimeout = 2 * time.Second

// Traces traces a request, its status change, and each attempt to deliver the change, in this process or a later one. A
// nil Traces traces nothing, at no cost.
type Traces struct {
	provider *sdk.TracerProvider
	tracer   trace.Tracer
	w3c      propagation.TraceContext
}

// NewTraces returns nil if the environment has no URL of a collector. version is that of the build.
func NewTraces(ctx context.Context, version string, log *slog.Logger) (*Traces, error) {
	endpoint := cmp.Or(os.Getenv(tracesEndpointVariable), os.Getenv(endpointVariable))
	if endpoint == "" || os.Getenv("OTEL_SDK_DISABLED") == "true" {
		return nil, nil
	}
	if err := checkEndpoint(endpoint); err != nil {
		return nil, err
	}
	if err := checkHeaders(); err != nil {
		return nil, err
	}
	otel.SetLogger(logr.Discard()) // it would log malformed settings, including secrets
	exporter, err := otlptracehttp.New(ctx)
	if err != nil {
		return nil, fmt.Errorf("traces: %w", err)
	}
	about, err := resource.New(ctx, resource.WithTelemetrySDK(), resource.WithAttributes(
		attribute.String("service.name", "agentevents"), attribute.String("service.version", version)),
		resource.WithFromEnv())
	if err != nil {
		return nil, fmt.Errorf("traces: %w", errors.Join(err, exporter.Shutdown(ctx)))
	}
	otel.SetErrorHandler(otel.ErrorHandlerFunc(func(err error) { log.Warn("traces not sent", "error", err) }))
	provider := sdk.NewTracerProvider(sdk.WithBatcher(exporter), sdk.WithResource(about))
	return &Traces{provider: provider, tracer: provider.Tracer("agentevents")}, nil
}

// checkEndpoint refuses a URL that the exporter would silently replace by its default. The error does not contain the
// URL, which may have a secret.
func checkEndpoint(endpoint string) error {
	u, err := url.Parse(endpoint)
	if err != nil || u.Scheme != "http" && u.Scheme != "https" || u.Host == "" {
		return fmt.Errorf("%s and %s must be URLs such as http://127.0.0.1:4318",
			endpointVariable, tracesEndpointVariable)
	}
	return nil
}

// headerVariables are the variables with headers for the collector, such as a token.
var headerVariables = []string{"OTEL_EXPORTER_OTLP_HEADERS", "OTEL_EXPORTER_OTLP_TRACES_HEADERS"}

// checkHeaders refuses headers that the exporter would silently omit. The error does not contain them.
func checkHeaders() error {
	for _, name := range headerVariables {
		for pair := range strings.SplitSeq(os.Getenv(name), ",") {
			key, value, found := strings.Cut(pair, "=")
			_, err := url.PathUnescape(value)
			if strings.TrimSpace(pair) != "" && (!found || strings.TrimSpace(key) == "" || err != nil) {
				return fmt.Errorf("%s must be NAME=VALUE,NAME=VALUE with percent-encoded values", name)
			}
		}
	}
	return nil
}

// Close sends the remaining spans.
func (t *Traces) Close(log *slog.Logger) {
	if t == nil {
		return
	}
	ctx, cancel := context.WithTimeout(context.Background(), flushTimeout)
	defer cancel()
	if err := t.provider.Shutdown(ctx); err != nil {
		log.Warn("last traces lost", "error", err)
	}
}

// Request traces requests to the API, within the client's trace if there is one.
func (t *Traces) Request(next echo.HandlerFunc) echo.HandlerFunc {
	if t == nil {
		return next
	}
	return func(c echo.Context) error {
		r := c.Request()
		if !strings.HasPrefix(c.Path(), contract.BasePath) {
			return next(c)
		}
		ctx := t.w3c.Extract(r.Context(), propagation.HeaderCarrier(r.Header))
		ctx, span := t.tracer.Start(ctx, r.Method, trace.WithSpanKind(trace.SpanKindServer))
		defer span.End()
		c.SetRequest(r.WithContext(ctx))
		err := next(c)
		setResponseAttributes(span, c)
		return err
	}
}

// setResponseAttributes adds the answer to the span of a request.
func setResponseAttributes(span trace.Span, c echo.Context) {
	status := c.Response().Status
	span.SetName(cmp.Or(request.Operation(c), c.Request().Method))
	span.SetAttributes(attribute.String("http.request.method", c.Request().Method),
		attribute.String("http.route", c.Path()), attribute.Int("http.response.status_code", status),
		attribute.String("agentevents.request_id", request.ID(c)))
	if status >= http.StatusInternalServerError {
		span.SetStatus(codes.Error, "")
	}
}

// StatusChange traces a status change within its request. It is a store.Tracer.
func (t *Traces) StatusChange(ctx context.Context) (traceparent string, ended func(int64, error)) {
	if t == nil {
		return "", func(int64, error) {}
	}
	ctx, span := t.tracer.Start(ctx, "status change")
	return t.traceparent(ctx), func(sequence int64, err error) {
		if err != nil {
			span.SetStatus(codes.Error, err.Error())
		} else {
			span.SetAttributes(attribute.Int64("agentevents.sequence", sequence))
		}
		span.End()
	}
}

// Attempt traces an attempt at a delivery (see webhook.DispatcherOptions.Observe). It sets the delivery's traceparent,
// which the receiver gets, to the span of the attempt. A nil Traces removes the traceparent.
func (t *Traces) Attempt(d *webhook.Delivery) func(webhook.Outcome) {
	if t == nil {
		d.Traceparent = ""
		return func(webhook.Outcome) {}
	}
	ctx := t.w3c.Extract(context.Background(), propagation.MapCarrier{"traceparent": d.Traceparent})
	ctx, span := t.tracer.Start(ctx, "attempt", trace.WithSpanKind(trace.SpanKindClient), trace.WithAttributes(
		attribute.String("webhook.id", d.WebhookID), attribute.Int64("agentevents.delivery", d.ID),
		attribute.Int64("agentevents.sequence", d.Sequence), attribute.Int("agentevents.attempt", d.Attempt),
		attribute.String("http.request.method", string(d.Method)), attribute.Bool("agentevents.test", d.Test)))
	d.Traceparent = t.traceparent(ctx)
	return func(o webhook.Outcome) {
		span.SetAttributes(attribute.String("agentevents.verdict", cmp.Or(string(o.Verdict), "cut off")),
			attribute.Int("http.response.status_code", o.Status))
		if o.Verdict != webhook.Delivered {
			span.SetStatus(codes.Error, o.Error)
		}
		span.End()
	}
}

// TestAttempt is Attempt for a test delivery, whose span is within the trace of its request.
func (t *Traces) TestAttempt(ctx context.Context, d *webhook.Delivery) func(webhook.Outcome) {
	if t != nil {
		d.Traceparent = t.traceparent(ctx)
	}
	return t.Attempt(d)
}

func (t *Traces) traceparent(ctx context.Context) string {
	carrier := propagation.MapCarrier{}
	t.w3c.Inject(ctx, carrier)
	return carrier["traceparent"]
}

// traceIDHandler adds the trace id to records that are logged within a trace.
type traceIDHandler struct{ slog.Handler }

func (l traceIDHandler) Handle(ctx context.Context, r slog.Record) error {
	if span := trace.SpanContextFromContext(ctx); span.IsValid() {
		r.AddAttrs(slog.String("trace_id", span.TraceID().String()))
	}
	return l.Handler.Handle(ctx, r)
}

func (l traceIDHandler) WithAttrs(attrs []slog.Attr) slog.Handler {
	return traceIDHandler{l.Handler.WithAttrs(attrs)}
}

func (l traceIDHandler) WithGroup(name string) slog.Handler {
	return traceIDHandler{l.Handler.WithGroup(name)}
}

// Logger returns a log that adds trace ids.
func (t *Traces) Logger(log *slog.Logger) *slog.Logger {
	if t == nil {
		return log
	}
	return slog.New(traceIDHandler{log.Handler()})
}
