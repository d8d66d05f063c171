package telemetry

import (
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

// collectTimeout is the time limit for reads of the store in one scrape, and for its test write.
const collectTimeout = 3 * time.Second

// maxScrapes is the number of concurrent scrapes. Each uses one of the store's readers for some milliseconds.
const maxScrapes = 2

// Metrics counts and measures what the program does. No label names a client, an agent or a URL: their number is
// unlimited, and they are the clients' data. CONTRIBUTING.md lists the steps to add a metric.
type Metrics struct {
	registry *prometheus.Registry
	attempts *prometheus.CounterVec
	inFlight prometheus.Gauge
	arrival  *prometheus.HistogramVec
	requests *prometheus.CounterVec
	duration *prometheus.HistogramVec
}

// NewMetrics returns metrics of the program and of its store. version and commit are those of the build.
func NewMetrics(st *store.Store, version, commit string) *Metrics {
	m := &Metrics{
		registry: prometheus.NewRegistry(),
		attempts: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "agentevents_attempts_total", Help: "Attempts at deliveries, by verdict.",
		}, []string{"verdict"}),
		inFlight: prometheus.NewGauge(prometheus.GaugeOpts{
			Name: "agentevents_attempts_in_flight", Help: "Attempts in progress.",
		}),
		arrival: prometheus.NewHistogramVec(prometheus.HistogramOpts{
			Name:    "agentevents_arrival_seconds",
			Help:    "Time from a status change to the answer that confirmed its delivery, without replays.",
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
	m.registry.MustRegister(m.attempts, m.inFlight, m.arrival, m.requests, m.duration,
		newBuildInfo(version, commit), storeCollector{st},
		collectors.NewGoCollector(), collectors.NewProcessCollector(collectors.ProcessCollectorOpts{}))
	return m
}

func newBuildInfo(version, commit string) prometheus.Collector {
	return prometheus.NewGaugeFunc(prometheus.GaugeOpts{
		Name: "agentevents_build_info", Help: "Version, commit and Go version of the build; always 1.",
		ConstLabels: prometheus.Labels{"version": version, "commit": commit, "go": runtime.Version()},
	}, func() float64 { return 1 })
}

// Attempt measures an attempt at a delivery (see webhook.DispatcherOptions.Observe).
func (m *Metrics) Attempt(d *webhook.Delivery) func(webhook.Outcome) {
	m.inFlight.Inc()
	return func(o webhook.Outcome) {
		m.inFlight.Dec()
		if o.Verdict != "" {
			m.attempts.WithLabelValues(string(o.Verdict)).Inc()
		}
		if o.Verdict == webhook.Delivered && !d.Redelivery {
			answered := o.StartedAt.Add(o.Duration)
			m.arrival.WithLabelValues(firstOrLater(d.Attempt)).Observe(answered.Sub(d.CreatedAt).Seconds())
		}
	}
}

func firstOrLater(attempt int) string {
	if attempt == 1 {
		return "first"
	}
	return "later"
}

// Request counts and times answered requests. Requests for no operation of the API are counted as "none". A nil Metrics
// does nothing.
func (m *Metrics) Request(next echo.HandlerFunc) echo.HandlerFunc {
	if m == nil {
		return next
	}
	return func(c echo.Context) error {
		start := time.Now()
		err := next(c)
		name := request.Operation(c)
		if name == "" {
			name = "none"
		}
		m.requests.WithLabelValues(name, strconv.Itoa(c.Response().Status)).Inc()
		m.duration.WithLabelValues(name).Observe(time.Since(start).Seconds())
		return err
	}
}

// Handler returns the handler of /metrics and of the profiles of net/http/pprof.
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

// storeCollector reads the store at each scrape.
type storeCollector struct{ *store.Store }

// The metrics that storeCollector reads from the store.
var (
	storeUpDesc = newDesc("agentevents_store_up",
		"1 if /readyz of this process has no reason about the store, and its gauges can be read, else 0.")
	changesDesc = newDesc("agentevents_status_changes_total",
		"Status changes, by the type of event that they fire.", "event_type")
	deliveriesDesc = newDesc("agentevents_deliveries_total",
		"Finished deliveries, by state.", "state")
	repairedLanesDesc = newDesc("agentevents_lanes_repaired_total",
		"Repaired lanes, whose rows were inconsistent. Should stay 0.")
	unreadableDesc = newDesc("agentevents_secrets_unreadable_total",
		"Due lanes that were not sent, since the signing secret of their client cannot be read. Should stay 0.")
	pendingDesc = newDesc("agentevents_deliveries_pending",
		"Unfinished deliveries, without parked ones.")
	dueLanesDesc = newDesc("agentevents_lanes_due",
		"Lanes with a due delivery, by the state of their receiver: ready, or waiting (breaker open, or paused by a "+
			"429 answer).", "receiver_state")
	oldestDueDesc = newDesc("agentevents_oldest_due_seconds",
		"Time since the oldest due delivery without an attempt in progress became due; 0 for none.", "receiver_state")
	expiredDesc = newDesc("agentevents_deliveries_expired_total",
		"Deliveries that failed because their retry window ended.")
	openingsDesc = newDesc("agentevents_breaker_openings_total",
		"Openings of receivers' breakers.")
	breakersDesc = newDesc("agentevents_breakers_open",
		"Receivers whose breaker is open: they are probed, and get no other attempts.")
	walBytesDesc = newDesc("agentevents_wal_bytes",
		"Size of SQLite's write-ahead log, which grows during a long read; 0 with PostgreSQL.")
	checkpointsDesc = newDesc("agentevents_checkpoint_failures_total",
		"Failed checkpoints of SQLite's write-ahead log.")
	atLimitDesc = newDesc("agentevents_clients_at_pending_limit",
		"Clients that have as many pending deliveries as they may have, or more.")
	disabledDesc = newDesc("agentevents_events_disabled",
		"Events that a request or a 410 answer has disabled.")
)

func newDesc(name, help string, labels ...string) *prometheus.Desc {
	return prometheus.NewDesc(name, help, labels, nil)
}

// Describe implements prometheus.Collector.
func (s storeCollector) Describe(to chan<- *prometheus.Desc) {
	for _, d := range []*prometheus.Desc{
		storeUpDesc, changesDesc, deliveriesDesc, expiredDesc, repairedLanesDesc, openingsDesc, pendingDesc,
		dueLanesDesc, oldestDueDesc, breakersDesc, disabledDesc, atLimitDesc, unreadableDesc, walBytesDesc,
		checkpointsDesc,
	} {
		to <- d
	}
}

// Collect implements prometheus.Collector. It omits metrics that cannot be read within collectTimeout.
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
	to <- prometheus.MustNewConstMetric(storeUpDesc, prometheus.GaugeValue, up)
}

// counts sends the counters of the process, without a read of the store.
func (s storeCollector) counts(to chan<- prometheus.Metric) {
	counter := func(d *prometheus.Desc, n int64, labels ...string) {
		to <- prometheus.MustNewConstMetric(d, prometheus.CounterValue, float64(n), labels...)
	}
	c := s.Counts()
	counter(changesDesc, c.Logins, string(gen.EventTypeAgentLogin))
	counter(changesDesc, c.Logouts, string(gen.EventTypeAgentLogout))
	counter(deliveriesDesc, c.Delivered, string(gen.DeliveryStateDelivered))
	counter(deliveriesDesc, c.Failed, string(gen.DeliveryStateFailed))
	counter(deliveriesDesc, c.Cancelled, string(gen.DeliveryStateCancelled))
	counter(repairedLanesDesc, c.Repaired)
	counter(unreadableDesc, c.Unreadable)
	counter(openingsDesc, c.BreakerOpenings)
	counter(expiredDesc, c.Expired)
	file := s.FileStats()
	counter(checkpointsDesc, file.CheckpointFailures)
	to <- prometheus.MustNewConstMetric(walBytesDesc, prometheus.GaugeValue, float64(file.WALBytes))
}

// gauges sends the current state of the store.
func gauges(s store.Stats, to chan<- prometheus.Metric) {
	gauge := func(d *prometheus.Desc, value float64, labels ...string) {
		to <- prometheus.MustNewConstMetric(d, prometheus.GaugeValue, value, labels...)
	}
	gauge(pendingDesc, float64(s.Pending))
	gauge(dueLanesDesc, float64(s.Ready.Lanes), "ready")
	gauge(dueLanesDesc, float64(s.Waiting.Lanes), "waiting")
	gauge(oldestDueDesc, s.Ready.Oldest.Seconds(), "ready")
	gauge(oldestDueDesc, s.Waiting.Oldest.Seconds(), "waiting")
	gauge(breakersDesc, float64(s.Breakers))
	gauge(disabledDesc, float64(s.Disabled))
	gauge(atLimitDesc, float64(s.AtLimit))
}
