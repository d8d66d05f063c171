package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"time"

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
	announce(log, c, on)
	err = serveAndDeliver(ctx, c, st, on, tr, log)
	log.Info("stopped")
	return errors.Join(err, st.Close())
}

// bootstrap ensures that there is an application of the operator: without one, the API could not be called.
func bootstrap(ctx context.Context, c config, st *store.Store, stdout io.Writer) error {
	if c.operatorID != "" {
		return st.EnsureOperator(ctx, c.operatorID, c.operatorSecret)
	}
	operator, made, err := st.FirstOperator(ctx)
	if !made {
		return err
	}
	_, err = fmt.Fprintf(stdout, "The first operator's application, which may do everything. "+
		"The secret is shown this once.\n  id     %s\n  secret %s\n", operator.ID, operator.Secret)
	return err
}

// serveAndDeliver serves requests and processes deliveries until signalled ends. Then it stops in this order:
//
//  1. /readyz answers 503, and requests are still taken, until the drain is over (api/drain.go).
//  2. The listeners close, polls end, and no delivery is begun any more.
//  3. Requests have 10 s to end (api/server.go). Meanwhile the attempts in flight have 12 s to end, and 1 s more to be
//     recorded (webhook/dispatch.go).
//
// A part that fails ends the others by steps 2 and 3. After that, serve closes the store, and has 2 s to send the last
// traces (telemetry/traces.go).
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
		Store: st, Guard: guard, Sender: sender, Log: log, LoopTurned: dispatcher.Turned, Metrics: m, Traces: tr,
		Drain: draining, Stopping: ctx.Done(), TrustedProxies: c.trustedProxies,
	})
	if err != nil {
		return errors.Join(err, on.close())
	}
	group.Go(func() error { return dispatcher.Run(ctx) })
	group.Go(func() error { st.Work(ctx); return nil })
	group.Go(func() error { return api.Serve(ctx, stop, router, on.api, log, api.DefaultLimits()) })
	if on.metrics != nil {
		group.Go(func() error {
			return api.Serve(ctx, stop, api.BrowserHeaders(m.Handler(log)), on.metrics, log, api.DefaultLimits())
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

// announce logs what runs where, at any level of the log.
func announce(log *slog.Logger, c config, on listeners) {
	b := build()
	say(log, slog.LevelInfo, "agentevents", "version", b.version, "commit", b.commit, "addr", on.api.Addr().String(),
		"store", store.Redacted(c.databaseURL))
	if on.metrics != nil {
		url := urlOf(on.metrics)
		say(log, slog.LevelInfo, "metrics listening", "metrics", url+"/metrics", "profiles", url+"/debug/pprof/")
	}
	url := urlOf(on.api)
	say(log, slog.LevelInfo, "API listening", "api", url+contract.BasePath, "docs", url+"/docs/")
	if len(c.networks) > 0 {
		say(log, slog.LevelWarn, "receivers may live in networks that are not public", "networks", c.networks)
	}
}

// say logs a line even if the log leaves out its level.
func say(log *slog.Logger, level slog.Level, message string, args ...any) {
	r := slog.NewRecord(time.Now(), level, message, 0)
	r.Add(args...)
	_ = log.Handler().Handle(context.Background(), r) // slog.Logger ignores this error, too
}
