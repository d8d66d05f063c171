package telemetry

import (
	"cmp"
	"context"
	"log/slog"
	"net/http"
	"net/http/pprof"
	"runtime"
	"strconv"
	"time"

	"github.com/labstack/echo/v4"
	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/collectors"
	"github.com/prometheus/client_golang/prometheus/promhttp"

	"github.com/agentevents/agentevents/gen"
	"github.com/agentevents/agentevents/server/internal/request"
	"github.com/agentevents/agentevents/store"
	"github.com/agentevents/agentevents/webhook"
)

// collectTimeout is how long the store may take to be read and to take a write.
const collectTimeout = 3 * time.Second

// maxScrapes is how many collect at a time. Each takes one of the store's readers for some milliseconds.
const maxScrapes = 2

// Metrics is what an operator sees of the program. No label names a client, an agent or a URL: these are the clients'
// business, and as many as they like.
type Metrics struct {
	registry *prometheus.Registry
	attempts *prometheus.CounterVec
	inFlight prometheus.Gauge
	arrival  *prometheus.HistogramVec
	requests *prometheus.CounterVec
	duration *prometheus.HistogramVec
}

// NewMetrics measures a store and what is done with it; version and commit say what was built.
func NewMetrics(st *store.Store, version, commit string) *Metrics {
	m := &Metrics{
		registry: prometheus.NewRegistry(),
		attempts: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "agentevents_attempts_total", Help: "Attempts at deliveries, by what became of them.",
		}, []string{"verdict"}),
		inFlight: prometheus.NewGauge(prometheus.GaugeOpts{
			Name: "agentevents_attempts_in_flight", Help: "Attempts that are under way.",
		}),
		arrival: prometheus.NewHistogramVec(prometheus.HistogramOpts{
			Name: "agentevents_arrival_seconds", Help: "Time from a status change to the answer that confirmed its delivery, replays excepted.",
			Buckets: []float64{.005, .01, .025, .05, .1, .25, .5, 1, 2.5, 5, 10, 30, 60, 300, 1800, 7200, 28800, 86400},
		}, []string{"attempt"}),
		requests: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "agentevents_http_requests_total", Help: "Requests, by operationId and status.",
		}, []string{"operation", "code"}),
		duration: prometheus.NewHistogramVec(prometheus.HistogramOpts{
			Name: "agentevents_http_request_seconds", Help: "Time from a request to its answer.",
			Buckets: []float64{.001, .0025, .005, .01, .025, .05, .1, .25, .5, 1, 2.5, 5, 10, 30},
		}, []string{"operation"}),
	}
	for _, v := range []webhook.Verdict{webhook.Delivered, webhook.Retry, webhook.Failed, webhook.Gone} {
		m.attempts.WithLabelValues(string(v))
	}
	m.arrival.WithLabelValues("first")
	m.arrival.WithLabelValues("later")
	m.registry.MustRegister(m.attempts, m.inFlight, m.arrival, m.requests, m.duration, newBuildInfo(version, commit), storeCollector{st},
		collectors.NewGoCollector(), collectors.NewProcessCollector(collectors.ProcessCollectorOpts{}))
	return m
}

// newBuildInfo says what was built.
func newBuildInfo(version, commit string) prometheus.Collector {
	return prometheus.NewGaugeFunc(prometheus.GaugeOpts{
		Name: "agentevents_build_info", Help: "What was built; always 1.",
		ConstLabels: prometheus.Labels{"version": version, "commit": commit, "go": runtime.Version()},
	}, func() float64 { return 1 })
}

// Attempt is webhook.DispatcherOptions.Observe.
func (m *Metrics) Attempt(d *webhook.Delivery) func(webhook.Outcome) {
	m.inFlight.Inc()
	return func(o webhook.Outcome) {
		m.inFlight.Dec()
		if o.Verdict != "" {
			m.attempts.WithLabelValues(string(o.Verdict)).Inc()
		}
		if o.Verdict == webhook.Delivered && !d.Replay {
			m.arrival.WithLabelValues(firstOrLater(d.Attempt)).Observe(o.StartedAt.Add(o.Duration).Sub(d.CreatedAt).Seconds())
		}
	}
}

func firstOrLater(attempt int) string {
	if attempt == 1 {
		return "first"
	}
	return "later"
}

// Request counts requests when they are answered. What is no operation of the API is "none". Nil counts nothing.
func (m *Metrics) Request(next echo.HandlerFunc) echo.HandlerFunc {
	if m == nil {
		return next
	}
	return func(c echo.Context) error {
		start := time.Now()
		err := next(c)
		name := cmp.Or(request.Operation(c), "none")
		m.requests.WithLabelValues(name, strconv.Itoa(c.Response().Status)).Inc()
		m.duration.WithLabelValues(name).Observe(time.Since(start).Seconds())
		return err
	}
}

// Handler serves the metrics and, for who looks deeper, profiles.
func (m *Metrics) Handler(log *slog.Logger) http.Handler {
	mux := http.NewServeMux()
	mux.Handle("/metrics", promhttp.HandlerFor(m.registry, promhttp.HandlerOpts{
		ErrorLog: slog.NewLogLogger(log.Handler(), slog.LevelWarn), MaxRequestsInFlight: maxScrapes,
	}))
	mux.HandleFunc("/debug/pprof/", pprof.Index)
	mux.HandleFunc("/debug/pprof/cmdline", pprof.Cmdline)
	mux.HandleFunc("/debug/pprof/profile", pprof.Profile)
	mux.HandleFunc("/debug/pprof/symbol", pprof.Symbol)
	mux.HandleFunc("/debug/pprof/trace", pprof.Trace)
	return mux
}

// storeCollector is what is asked of the store when somebody collects.
type storeCollector struct{ *store.Store }

var (
	storeUp     = newDesc("agentevents_store_up", "1 when the store can be read and takes a write, else 0.")
	changes     = newDesc("agentevents_status_changes_total", "Status changes, by the type of event that they fire.", "event_type")
	deliveries  = newDesc("agentevents_deliveries_total", "Deliveries that have ended, by how.", "state")
	mendedLanes = newDesc("agentevents_lanes_mended_total", "Lanes that were astray and were put right, which should never happen.")
	pending     = newDesc("agentevents_deliveries_pending", "Deliveries that have not ended, but for parked ones.")
	dueLanes    = newDesc("agentevents_lanes_due", "Lanes that wait to be worked, by whether their receiver is left alone (breaker open, or 429).", "receiver")
	oldestDue   = newDesc("agentevents_oldest_due_seconds", "For how long the oldest delivery is due that is not under way; 0 for none.", "receiver")
	expired     = newDesc("agentevents_deliveries_expired_total", "Deliveries that failed because their retry window was over.")
	openings    = newDesc("agentevents_breaker_openings_total", "Times that the breaker of a receiver opened, since it failed.")
	breakers    = newDesc("agentevents_breakers_open", "Receivers that are probed and not sent to, since they fail.")
	walBytes    = newDesc("agentevents_wal_bytes", "Size of SQLite's write-ahead log, which grows while a transaction reads; 0 with PostgreSQL.")
	checkpoints = newDesc("agentevents_checkpoint_failures_total", "Times that SQLite's write-ahead log could not be carried over to its file.")
	disabled    = newDesc("agentevents_registrations_disabled", "Registrations that are disabled, by a request or by 410.")
)

func newDesc(name, help string, labels ...string) *prometheus.Desc {
	return prometheus.NewDesc(name, help, labels, nil)
}

// Describe implements prometheus.Collector.
func (s storeCollector) Describe(to chan<- *prometheus.Desc) {
	for _, d := range []*prometheus.Desc{
		storeUp, changes, deliveries, expired, mendedLanes, openings, pending, dueLanes, oldestDue, breakers, disabled,
		walBytes, checkpoints,
	} {
		to <- d
	}
}

// Collect implements prometheus.Collector. What cannot be read in time is left out.
func (s storeCollector) Collect(to chan<- prometheus.Metric) {
	ctx, cancel := context.WithTimeout(context.Background(), collectTimeout)
	defer cancel()
	s.counts(to)
	up := 0.0
	stats, err := s.Stats(ctx)
	if err == nil {
		gauges(stats, to)
		if s.Ready(ctx) == nil {
			up = 1
		}
	}
	to <- prometheus.MustNewConstMetric(storeUp, prometheus.GaugeValue, up)
}

func (s storeCollector) counts(to chan<- prometheus.Metric) {
	counter := func(d *prometheus.Desc, n int64, labels ...string) {
		to <- prometheus.MustNewConstMetric(d, prometheus.CounterValue, float64(n), labels...)
	}
	c := s.Counts()
	counter(changes, c.Logins, string(gen.EventTypeAgentLogin))
	counter(changes, c.Logouts, string(gen.EventTypeAgentLogout))
	counter(deliveries, c.Delivered, string(gen.DeliveryStateDelivered))
	counter(deliveries, c.Failed, string(gen.DeliveryStateFailed))
	counter(deliveries, c.Cancelled, string(gen.DeliveryStateCancelled))
	counter(mendedLanes, c.Mended)
	counter(openings, c.BreakerOpenings)
	counter(expired, c.Expired)
	file := s.FileStats()
	counter(checkpoints, file.CheckpointFailures)
	to <- prometheus.MustNewConstMetric(walBytes, prometheus.GaugeValue, float64(file.WALBytes))
}

func gauges(s store.Stats, to chan<- prometheus.Metric) {
	gauge := func(d *prometheus.Desc, value float64, labels ...string) {
		to <- prometheus.MustNewConstMetric(d, prometheus.GaugeValue, value, labels...)
	}
	gauge(pending, float64(s.Pending))
	gauge(dueLanes, float64(s.Ready.Lanes), "ready")
	gauge(dueLanes, float64(s.Waiting.Lanes), "waiting")
	gauge(oldestDue, s.Ready.Oldest.Seconds(), "ready")
	gauge(oldestDue, s.Waiting.Oldest.Seconds(), "waiting")
	gauge(breakers, float64(s.Breakers))
	gauge(disabled, float64(s.Disabled))
}
