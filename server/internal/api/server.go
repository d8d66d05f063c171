package api

import (
	"context"
	"errors"
	"log/slog"
	"net"
	"net/http"
	"time"

	"golang.org/x/sync/errgroup"
)

// shutdownTimeout is the time for requests to end after the drain. The dispatcher has 12 s, so the process ends within
// 15 s after the drain.
const shutdownTimeout = 10 * time.Second

// Serve serves a listener until ctx ends, and then waits for the requests in progress. If the listener fails, Serve
// calls stop before it waits: long polls end only then.
func Serve(
	ctx context.Context, stop func(), h http.Handler, on net.Listener, log *slog.Logger, limits Limits,
) error {
	server := newServer(h, log, limits)
	server.RegisterOnShutdown(stop)
	group, ctx := errgroup.WithContext(ctx)
	group.Go(func() error { return shutdown(ctx, server, log) })
	group.Go(func() error {
		if err := server.Serve(newListener(on, log, limits)); !errors.Is(err, http.ErrServerClosed) {
			return err
		}
		return nil
	})
	return group.Wait()
}

func newServer(h http.Handler, log *slog.Logger, limits Limits) *http.Server {
	return &http.Server{
		Handler:           h,
		ReadHeaderTimeout: limits.Head,
		ReadTimeout:       limits.Request, // covers only the arrival of the request
		MaxHeaderBytes:    maxHead - headSlop,
		WriteTimeout:      2 * time.Minute, // a test delivery takes up to a minute
		IdleTimeout:       2 * time.Minute,
		ErrorLog:          slog.NewLogLogger(log.Handler(), slog.LevelWarn),
		ConnState:         followState,
		ConnContext:       withConn,
		// The API itself answers OPTIONS *.
		DisableGeneralOptionsHandler: true,
	}
}

// shutdown waits for the end of ctx, and then for the requests. It cuts off requests that take too long, which is not
// an error.
func shutdown(ctx context.Context, server *http.Server, log *slog.Logger) error {
	<-ctx.Done()
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), shutdownTimeout)
	defer cancel()
	if server.Shutdown(ctx) != nil {
		log.Warn("requests cut off")
		return server.Close()
	}
	return nil
}
