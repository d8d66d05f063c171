package main

import (
	"context"
	"errors"
	"sync"
	"sync/atomic"
	"time"

	"github.com/agentevents/agentevents/server/lab"
)

// life is the server from a start to its end.
type life struct {
	server            *lab.Server
	since             time.Time       // when it was ready
	changes, requests <-chan struct{} // when there were as many as was planned
	writers           sync.WaitGroup
	dying             atomic.Bool // what fails from now on fails for that reason
	broken            chan error  // what went wrong before
}

func start(ctx context.Context, binary, file string) (*life, error) {
	server, err := lab.Start(ctx, binary, "sqlite:"+file,
		"AGENTEVENTS_TIMEOUT=1m", // so that only a kill ends what a receiver holds
		"AGENTEVENTS_RETRY_SCHEDULE="+schedule,
		"GORACE=atexit_sleep_ms=0", // else the race detector makes every exit a second longer
	)
	return &life{server: server, broken: make(chan error, 1)}, err
}

func (l *life) ready(ctx context.Context) error {
	err := l.server.Ready(ctx)
	l.since = time.Now()
	return err
}

// begin begins some work that ends when the server does.
func (l *life) begin(work func() error) {
	l.writers.Go(func() {
		err := work()
		if err == nil || l.dying.Load() {
			return
		}
		select {
		case l.broken <- err:
		default: // one is enough
		}
	})
}

// errLate says that something has not happened in time.
var errLate = errors.New("what was waited for did not happen in time")

// until waits for something in the life of a server.
func until[T any](ctx context.Context, l *life, what <-chan T) error {
	limit := time.NewTimer(patience)
	defer limit.Stop()
	select {
	case <-what:
		return l.trouble()
	case err := <-l.broken:
		return err
	case <-ctx.Done():
		return ctx.Err()
	case <-limit.C:
		return errLate
	}
}

// eventually looks again and again whether something is so in the life of a server.
func eventually(ctx context.Context, l *life, limit time.Duration, so func() bool) error {
	look := time.NewTicker(time.Millisecond)
	defer look.Stop()
	for began := time.Now(); !so(); {
		if time.Since(began) > limit {
			return errLate
		}
		if err := until(ctx, l, look.C); err != nil {
			return err
		}
	}
	return nil
}

// trouble is what has gone wrong so far, if anything has.
func (l *life) trouble() error {
	select {
	case err := <-l.broken:
		return err
	default:
		return nil
	}
}

// kill is kill -9, after SIGTERM if that is planned. A server that stops in order before is none the worse for it.
func (l *life) kill(p plan) error {
	defer l.writers.Wait()
	l.dying.Store(true)
	if p.moment != whileStopping {
		return l.server.Kill()
	}
	stopped := make(chan error, 1)
	go func() { stopped <- l.server.Stop() }()
	select {
	case err := <-stopped:
		return err
	case <-time.After(p.grace):
	}
	killed := l.server.Kill()
	if err := <-stopped; killed != nil && err != nil {
		return errors.Join(killed, err)
	}
	return nil
}

// stop stops the server in order.
func (l *life) stop() error {
	defer l.writers.Wait()
	l.dying.Store(true)
	return l.server.Stop()
}

// explain adds to an error what the server printed last.
func (l *life) explain(err error) error {
	return l.server.Explain(err)
}
