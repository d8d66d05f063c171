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

// shutdownTimeout is how long requests may take to end after the drain. The dispatcher has 12 s, so the process ends
// within 15 s after the drain.
const shutdownTimeout = 10 * time.Second

// Serve serves a listener until ctx ends, and then finishes the requests that it has. If the listener fails, Serve
// calls stop before it waits for the requests: those that wait for a change end only then.
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
		ReadTimeout:       limits.Request, // counts only until the body has arrived
		MaxHeaderBytes:    maxHead - headSlop,
		WriteTimeout:      2 * time.Minute, // a test delivery takes up to a minute
		IdleTimeout:       2 * time.Minute,
		ErrorLog:          slog.NewLogLogger(log.Handler(), slog.LevelWarn),
		ConnState:         followState,
		ConnContext:       withConn,
		// OPTIONS * gets an answer of the API, too.
		DisableGeneralOptionsHandler: true,
	}
}

// shutdown waits for the end of ctx, then for the requests. Requests that take too long are cut off, which is no error.
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
