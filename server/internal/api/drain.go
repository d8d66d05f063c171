package api

import (
	"context"
	"log/slog"
	"maps"
	"sync"
	"time"
)

const (
	pollWindow     = time.Minute // a load balancer polls /readyz at least so often
	enoughRefusals = 3           // answers 503 after which a load balancer sends no requests, by the default of most
	maxPollers     = 100         // addresses that are tracked; if more poll, the drain does not end early
)

// Drain is the time between a signal and the end of the listener. Meanwhile /readyz answers 503, so that load balancers
// send requests elsewhere. The drain ends early when each address that polled /readyz before the signal has seen
// enoughRefusals of them. If no address polled, there is no drain.
type Drain struct {
	max      time.Duration
	signal   <-chan struct{} // closed by the signal
	complete chan struct{}   // closed when all pollers have seen it
	now      func() time.Time

	mu       sync.Mutex
	pollers  map[string]*poller // by address
	overflow time.Time          // when an address polled that is not tracked
	fixed    bool               // the pollers are those from before the signal
}

// poller is an address that polls /readyz.
type poller struct {
	last     time.Time // before the signal
	refusals int       // after it
}

// NewDrain returns a drain that takes at most as long as said, from the moment when signal is closed.
func NewDrain(most time.Duration, signal <-chan struct{}) *Drain {
	return &Drain{
		max: most, signal: signal, complete: make(chan struct{}), now: time.Now, pollers: map[string]*poller{},
	}
}

// Context returns a context that ends with the drain, where signalled ends with the signal. The function ends it at
// once.
func (d *Drain) Context(signalled context.Context, log *slog.Logger) (context.Context, func()) {
	ctx, stop := context.WithCancel(context.WithoutCancel(signalled))
	forget := context.AfterFunc(signalled, func() {
		d.wait(ctx, log)
		stop()
	})
	return ctx, func() { forget(); stop() }
}

// wait returns when the drain is complete or its time is over, or when ctx ends.
func (d *Drain) wait(ctx context.Context, log *slog.Logger) {
	if !d.polled() || d.max == 0 {
		return
	}
	log.Info("draining", "for_at_most", d.max)
	timer := time.NewTimer(d.max)
	defer timer.Stop()
	select {
	case <-d.complete:
	case <-timer.C:
	case <-ctx.Done():
	}
}

// poll records that an address polls /readyz, and reports whether the server is draining. Nil never is.
func (d *Drain) poll(address string) (draining bool) {
	if d == nil {
		return false
	}
	d.mu.Lock()
	defer d.mu.Unlock()
	select {
	case <-d.signal:
		d.refuse(address)
		return true
	default:
		d.track(address)
		return false
	}
}

// polled reports whether any address polled shortly before the signal.
func (d *Drain) polled() bool {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.fix()
	return len(d.pollers) > 0
}

// track records a poll before the signal.
func (d *Drain) track(address string) {
	now := d.now()
	if d.pollers[address] == nil && len(d.pollers) >= maxPollers {
		d.forget()
		if len(d.pollers) >= maxPollers {
			d.overflow = now
			return
		}
	}
	d.pollers[address] = &poller{last: now}
}

// refuse records a poll after the signal.
func (d *Drain) refuse(address string) {
	d.fix()
	p := d.pollers[address]
	if p == nil {
		return
	}
	p.refusals++
	if p.refusals == enoughRefusals && d.isComplete() {
		close(d.complete)
	}
}

// fix makes the pollers those of shortly before the signal.
func (d *Drain) fix() {
	if !d.fixed {
		d.forget()
		d.fixed = true
	}
}

// forget removes addresses that have not polled within pollWindow.
func (d *Drain) forget() {
	maps.DeleteFunc(d.pollers, func(_ string, p *poller) bool { return !d.isRecent(p.last) })
}

func (d *Drain) isRecent(at time.Time) bool { return d.now().Sub(at) < pollWindow }

func (d *Drain) isComplete() bool {
	for _, p := range d.pollers {
		if p.refusals < enoughRefusals {
			return false
		}
	}
	return d.overflow.IsZero() || !d.isRecent(d.overflow)
}
