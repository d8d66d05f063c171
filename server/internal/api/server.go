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

// shutdownTimeout is how long requests may take to end when the drain after a signal is over. With it and the
// dispatcher's own bound of 12 s the process ends within 15 s after the drain.
const shutdownTimeout = 10 * time.Second

// Serve serves a listener until ctx ends. If that fails by itself, it has everything stop: what waits for
// something to happen would hold up the end.
func Serve(ctx context.Context, stop func(), h http.Handler, on net.Listener, log *slog.Logger, b Limits) error {
	server := newServer(h, log, b)
	server.RegisterOnShutdown(stop)
	group, ctx := errgroup.WithContext(ctx)
	group.Go(func() error { return shutdown(ctx, server, log) })
	group.Go(func() error {
		if err := server.Serve(newListener(on, log, b)); !errors.Is(err, http.ErrServerClosed) {
			return err
		}
		return nil
	})
	return group.Wait()
}

func newServer(h http.Handler, log *slog.Logger, b Limits) *http.Server {
	return &http.Server{
		Handler:           h,
		ReadHeaderTimeout: b.Head,
		ReadTimeout:       b.Request, // net/http stops that clock when all is there
		MaxHeaderBytes:    maxHead - headSlop,
		WriteTimeout:      2 * time.Minute, // a test of an event takes up to a minute
		IdleTimeout:       2 * time.Minute,
		ErrorLog:          slog.NewLogLogger(log.Handler(), slog.LevelWarn),
		ConnState:         awaitRequest,
		// The handler also answers OPTIONS *.
		DisableGeneralOptionsHandler: true,
	}
}

// shutdown waits for the end of ctx, then for that of the requests. Those that take too long are cut off, which is no
// failure of ours.
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
