package main

import (
	"context"
	"log/slog"
	"sync"
	"time"
)

const (
	polledWithin = 15 * time.Second // a load balancer has looked at /readyz, if there is one
	redEnough    = 3                // answers after which it takes a server out, as most do by default
)

// drain is the time between a signal and the end of the listener, in which /readyz says 503 so that a load balancer sends
// requests elsewhere. Without a load balancer that looks there is none.
type drain struct {
	most   time.Duration
	begun  <-chan struct{} // closed by the signal
	enough chan struct{}   // closed when it was seen

	mu     sync.Mutex
	polled time.Time
	red    int
}

func newDrain(most time.Duration, begun <-chan struct{}) *drain {
	return &drain{most: most, begun: begun, enough: make(chan struct{})}
}

// ends notes that /readyz was asked for, and says whether the server is about to stop. Without a drain it is not.
func (d *drain) ends() bool {
	if d == nil {
		return false
	}
	d.mu.Lock()
	defer d.mu.Unlock()
	d.polled = time.Now()
	select {
	case <-d.begun:
	default:
		return false
	}
	if d.red++; d.red == redEnough {
		close(d.enough)
	}
	return true
}

// wait returns when those who look have seen that the server stops, when they have had enough time, or when ctx ends.
func (d *drain) wait(ctx context.Context, log *slog.Logger) {
	d.mu.Lock()
	watched := !d.polled.IsZero() && time.Since(d.polled) < polledWithin
	d.mu.Unlock()
	if !watched || d.most == 0 {
		return
	}
	log.Info("draining", "for_at_most", d.most)
	timer := time.NewTimer(d.most)
	defer timer.Stop()
	select {
	case <-d.enough:
	case <-timer.C:
	case <-ctx.Done():
	}
}

// drained is a context that ends a drain later than the one that a signal ends. The function that it returns ends it at once.
func drained(signalled context.Context, d *drain, log *slog.Logger) (context.Context, func()) {
	ctx, stop := context.WithCancel(context.WithoutCancel(signalled))
	forget := context.AfterFunc(signalled, func() {
		d.wait(ctx, log)
		stop()
	})
	return ctx, func() { forget(); stop() }
}
