package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"time"

	"github.com/KimMachineGun/automemlimit/memlimit"
	"golang.org/x/sync/errgroup"

	"github.com/agentevents/agentevents/server/internal/api"
	"github.com/agentevents/agentevents/server/internal/contract"
	"github.com/agentevents/agentevents/server/internal/telemetry"
	"github.com/agentevents/agentevents/store"
	"github.com/agentevents/agentevents/webhook"
)

// serve runs the server until ctx ends.
func serve(ctx context.Context, s settings, unknown []string, stdout, stderr io.Writer) error {
	c, err := s.validate()
	if err != nil {
		return err
	}
	log := telemetry.NewLog(stderr, c.logLevel, c.logJSON)
	for _, name := range unknown {
		log.Warn("unknown variable", "name", name)
	}
	warnOfExposedFiles(log, s.OperatorSecretFile, s.EncryptionKeyFile)
	tr, err := telemetry.NewTraces(ctx, build().version, log)
	if err != nil {
		return err
	}
	defer tr.Close(log)
	log = tr.Logger(log)
	telemetry.RedirectStandardLog(log)
	on, err := listen(ctx, c)
	if err != nil {
		return err
	}
	st, err := store.Open(ctx, store.Options{
		URL: c.databaseURL, Lease: c.lease(), Window: c.retryWindow, DeployWindow: c.deployWindow,
		Longest: c.schedule.Longest(), Keep: c.keep, KeepRows: c.keepRows, Key: c.encryptionKey, Log: log,
		Trace: tr.StatusChange,
	})
	if err != nil {
		return errors.Join(err, on.close())
	}
	if err = bootstrap(ctx, c, st, stdout); err != nil {
		return errors.Join(err, on.close(), st.Close())
	}
	limitMemory(log, memlimit.FromCgroup, memlimit.FromSystem)
	announce(log, c, on)
	err = serveAndDeliver(ctx, c, st, on, tr, log)
	log.Info("stopped")
	return errors.Join(err, st.Close())
}

// bootstrap ensures that an operator exists: without one, no request could create an application.
func bootstrap(ctx context.Context, c config, st *store.Store, stdout io.Writer) error {
	if c.operatorID != "" {
		return st.EnsureOperator(ctx, c.operatorID, c.operatorSecret)
	}
	operator, created, err := st.FirstOperator(ctx)
	if !created {
		return err
	}
	_, err = fmt.Fprintf(stdout, "Created an operator, an application with full access. "+
		"This is the only time its secret is shown.\n  id     %s\n  secret %s\n", operator.ID, operator.Secret)
	return err
}

// serveAndDeliver serves requests and sends deliveries until signalled is done. Then it stops in this order:
//
//  1. /readyz answers 503, and the listeners accept requests, until the drain ends (api/drain.go).
//  2. The listeners close, long polls are answered, and no attempt starts.
//  3. Requests have 10 s to end (api/server.go). At the same time, attempts in flight have 12 s to end, and 1 s more
//     to be recorded (webhook/dispatch.go).
//
// If a part fails, the others stop by steps 2 and 3. Then serve closes the store, and sends the last traces within 2 s
// (telemetry/traces.go).
func serveAndDeliver(
	signalled context.Context, c config, st *store.Store, on listeners, tr *telemetry.Traces, log *slog.Logger,
) error {
	guard := webhook.NewGuard(webhook.GuardOptions{Allow: c.networks, Deny: c.denied, OwnPorts: on.secretPorts()})
	b := build()
	sender := webhook.NewSender(webhook.SenderOptions{
		Guard: guard, Timeout: c.timeout, UserAgent: "agentevents/" + b.version,
	})
	defer sender.Close()
	m := telemetry.NewMetrics(st, b.version, b.commit)
	draining := api.NewDrain(c.drain, signalled.Done())
	drained, stop := draining.Context(signalled, log)
	defer stop()
	group, ctx := errgroup.WithContext(drained)
	dispatcher := webhook.NewDispatcher(webhook.DispatcherOptions{
		Outbox: st, Sender: sender, Schedule: c.schedule, Log: log, Observe: observe(m, tr),
	})
	router, err := api.NewRouter(api.Options{
		Store: st, Guard: guard, Sender: sender, Log: log, Heartbeat: dispatcher.Heartbeat, Metrics: m, Traces: tr,
		Drain: draining, Stopping: ctx.Done(), TrustedProxies: c.trustedProxies,
	})
	if err != nil {
		return errors.Join(err, on.close())
	}
	group.Go(func() error { dispatcher.Run(ctx); return nil })
	group.Go(func() error { st.Work(ctx); return nil })
	limits := api.DefaultLimits()
	limits.TrustedProxies = c.trustedProxies
	group.Go(func() error { return api.Serve(ctx, stop, router, on.api, log, limits) })
	if on.metrics != nil {
		group.Go(func() error {
			return api.Serve(ctx, stop, api.BrowserHeaders(m.Handler(log)), on.metrics, log, limits)
		})
	}
	<-ctx.Done()
	log.Info("stopping")
	return group.Wait()
}

// observe measures and traces each attempt.
func observe(m *telemetry.Metrics, tr *telemetry.Traces) func(*webhook.Delivery) func(webhook.Outcome) {
	return func(d *webhook.Delivery) func(webhook.Outcome) {
		measured, traced := m.Attempt(d), tr.Attempt(d)
		return func(o webhook.Outcome) {
			traced(o)
			measured(o)
		}
	}
}

// announce logs versions and addresses at any log level.
func announce(log *slog.Logger, c config, on listeners) {
	b := build()
	logAlways(log, slog.LevelInfo, "agentevents", "version", b.version, "commit", b.commit,
		"addr", on.api.Addr().String(), "store", store.Redacted(c.databaseURL))
	if on.metrics != nil {
		url := urlOf(on.metrics)
		logAlways(log, slog.LevelInfo, "metrics listening", "metrics", url+"/metrics", "profiles", url+"/debug/pprof/")
	}
	url := urlOf(on.api)
	logAlways(log, slog.LevelInfo, "API listening", "api", url+contract.BasePath, "docs", url+"/docs/")
	if len(c.networks) > 0 {
		logAlways(log, slog.LevelWarn, "non-public receivers allowed", "networks", c.networks)
	}
}

// logAlways logs a line even if the log omits its level.
func logAlways(log *slog.Logger, level slog.Level, message string, args ...any) {
	r := slog.NewRecord(time.Now(), level, message, 0)
	r.Add(args...)
	_ = log.Handler().Handle(context.Background(), r) // slog.Logger ignores this error as well
}
