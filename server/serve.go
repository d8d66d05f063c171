package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"strings"
	"time"

	"golang.org/x/sync/errgroup"

	"github.com/agentevents/agentevents/store"
	"github.com/agentevents/agentevents/webhook"
)

// leaseMargin is what a lane is held for beyond an attempt, to record it.
const leaseMargin = 5 * time.Second

// shutdownTimeout is how long requests may take to end when the drain after a signal is over. With it and the
// dispatcher's own bound of 12 s the process ends within 15 s after the drain.
const shutdownTimeout = 10 * time.Second

// serve runs the server until ctx ends.
func serve(ctx context.Context, s settings, unknown []string, stdout, stderr io.Writer) error {
	c, err := s.validate()
	if err != nil {
		return err
	}
	log := newLog(stderr, c.logLevel, c.logJSON)
	for _, name := range unknown {
		log.Warn("unknown variable", "name", name)
	}
	tr, err := newTraces(ctx, build().version, log)
	if err != nil {
		return err
	}
	defer tr.close(log)
	log = tr.log(log)
	on, err := listen(ctx, c)
	if err != nil {
		return err
	}
	st, err := store.Open(ctx, store.Options{
		URL: c.databaseURL, Lease: c.lease(), Window: c.retryWindow, DeployWindow: c.deployWindow,
		Longest: c.schedule.Longest(), Keep: c.keep, KeepRows: c.keepRows, Key: c.encryptionKey, Log: log, Trace: tr.change,
	})
	if err != nil {
		return errors.Join(err, on.close())
	}
	if err = bootstrap(ctx, c, st, stdout); err != nil {
		return errors.Join(err, on.close(), st.Close())
	}
	announce(log, c, on)
	err = work(ctx, c, st, on, tr, log)
	log.Info("stopped")
	return errors.Join(err, st.Close())
}

// bootstrap sees to it that there is an operator, without whom nobody could do anything.
func bootstrap(ctx context.Context, c config, st *store.Store, stdout io.Writer) error {
	if c.operatorID != "" {
		return st.EnsureOperator(ctx, c.operatorID, c.operatorSecret)
	}
	operator, made, err := st.FirstOperator(ctx)
	if !made {
		return err
	}
	_, err = fmt.Fprintf(stdout, "The first operator's application, which may do everything. The secret is shown this once.\n"+
		"  id     %s\n  secret %s\n", operator.ID, operator.Secret)
	return err
}

// listeners are where the program listens.
type listeners struct {
	api, metrics net.Listener // metrics is nil for none
}

func listen(ctx context.Context, c config) (on listeners, err error) {
	if on.api, err = new(net.ListenConfig).Listen(ctx, "tcp", c.addr); err != nil || c.metricsAddr == "" {
		return on, err
	}
	if on.metrics, err = new(net.ListenConfig).Listen(ctx, "tcp", c.metricsAddr); err != nil {
		return on, errors.Join(fmt.Errorf("listen for metrics: %w", err), on.api.Close())
	}
	return on, nil
}

func (on listeners) close() error {
	if on.metrics == nil {
		return on.api.Close()
	}
	return errors.Join(on.api.Close(), on.metrics.Close())
}

// work serves requests and carries out deliveries. When ctx ends both stop taking new work and finish what they have.
func work(ctx context.Context, c config, st *store.Store, on listeners, tr *traces, log *slog.Logger) error {
	guard := webhook.NewGuard(c.networks)
	b := build()
	sender := webhook.NewSender(webhook.SenderOptions{
		Guard: guard, Timeout: c.timeout, UserAgent: "agentevents/" + b.version,
	})
	defer sender.Close()
	m := newMetrics(st, b.version, b.commit)
	draining := newDrain(c.drain, ctx.Done())
	ctx, stop := draining.drained(ctx, log)
	defer stop()
	group, ctx := errgroup.WithContext(ctx)
	dispatcher := webhook.NewDispatcher(webhook.DispatcherOptions{
		Outbox: st, Sender: sender, Schedule: c.schedule, Log: log, Observe: observe(m, tr),
	})
	router, err := newRouter(options{
		Store: st, Guard: guard, Sender: sender, Log: log, Turned: dispatcher.Turned, Metrics: m, Traces: tr,
		Drain: draining, Stopping: ctx.Done(), TrustedProxies: c.trustedProxies,
	})
	if err != nil {
		return errors.Join(err, on.close())
	}
	group.Go(func() error { return dispatcher.Run(ctx) })
	group.Go(func() error { st.Work(ctx); return nil })
	group.Go(func() error { return answerRequests(ctx, stop, router, on.api, log, usualBounds()) })
	if on.metrics != nil {
		group.Go(func() error {
			return answerRequests(ctx, stop, guardBrowsers(m.handler(log)), on.metrics, log, usualBounds())
		})
	}
	<-ctx.Done()
	log.Info("stopping")
	return group.Wait()
}

// observe measures attempts, and traces them.
func observe(m *metrics, tr *traces) func(*webhook.Delivery) func(webhook.Outcome) {
	return func(d *webhook.Delivery) func(webhook.Outcome) {
		measured, traced := m.attempt(d), tr.attempt(d)
		return func(o webhook.Outcome) {
			traced(o)
			measured(o)
		}
	}
}

// answerRequests serves a listener until ctx ends. If that fails by itself, it has everything stop: what waits for
// something to happen would hold up the end.
func answerRequests(ctx context.Context, stop func(), h http.Handler, on net.Listener, log *slog.Logger, b bounds) error {
	server := newServer(h, log, b)
	server.RegisterOnShutdown(stop)
	group, ctx := errgroup.WithContext(ctx)
	group.Go(func() error { return shutDown(ctx, server, log) })
	group.Go(func() error {
		if err := server.Serve(newListener(on, log, b)); !errors.Is(err, http.ErrServerClosed) {
			return err
		}
		return nil
	})
	return group.Wait()
}

func newServer(h http.Handler, log *slog.Logger, b bounds) *http.Server {
	return &http.Server{
		Handler:           h,
		ReadHeaderTimeout: b.head,
		ReadTimeout:       b.all, // net/http stops that clock when all is there
		MaxHeaderBytes:    maxHead - headSlop,
		WriteTimeout:      2 * time.Minute, // a test of an event takes up to a minute
		IdleTimeout:       2 * time.Minute,
		ErrorLog:          slog.NewLogLogger(log.Handler(), slog.LevelWarn),
		ConnState:         awaitRequest,
		// The handler also answers OPTIONS *.
		DisableGeneralOptionsHandler: true,
	}
}

// shutDown waits for the end of ctx, then for that of the requests. Those that take too long are cut off, which is no
// failure of ours.
func shutDown(ctx context.Context, server *http.Server, log *slog.Logger) error {
	<-ctx.Done()
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), shutdownTimeout)
	defer cancel()
	if server.Shutdown(ctx) != nil {
		log.Warn("requests cut off")
		return server.Close()
	}
	return nil
}

// announce says what runs where, whatever the log's level is.
func announce(log *slog.Logger, c config, on listeners) {
	b := build()
	say(log, slog.LevelInfo, "agentevents", "version", b.version, "commit", b.commit, "addr", on.api.Addr().String(),
		"store", store.Redacted(c.databaseURL))
	if on.metrics != nil {
		url := urlOf(on.metrics)
		say(log, slog.LevelInfo, "measuring", "metrics", url+"/metrics", "profiles", url+"/debug/pprof/")
	}
	url := urlOf(on.api)
	say(log, slog.LevelInfo, "serving", "api", url+basePath, "docs", url+"/docs/")
	if len(c.networks) > 0 {
		say(log, slog.LevelWarn, "receivers may live in networks that are not public", "networks", c.networks)
	}
}

// urlOf is where a listener is reached from this machine.
func urlOf(on net.Listener) string {
	return "http://" + strings.NewReplacer("[::]", "localhost", "0.0.0.0", "localhost").Replace(on.Addr().String())
}

// say logs what is not left out at any level.
func say(log *slog.Logger, level slog.Level, message string, args ...any) {
	r := slog.NewRecord(time.Now(), level, message, 0)
	r.Add(args...)
	_ = log.Handler().Handle(context.Background(), r) // as Logger does: there is nobody to tell
}
