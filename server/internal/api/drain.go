package api

import (
	"context"
	"log/slog"
	"maps"
	"sync"
	"time"
)

const (
	pollWindow     = time.Minute // the longest interval between two polls of a load balancer
	enoughRefusals = 3           // answers 503 after which most load balancers, by default, send no requests
	maxPollers     = 100         // tracked addresses; if more poll, the drain does not end early
)

// Drain is the time between a signal and the close of the listener. During it, /readyz answers 503, so that load
// balancers send requests elsewhere. The drain ends early when each address that polled /readyz before the signal got
// enoughRefusals answers of 503. If no address polled, there is no drain.
type Drain struct {
	max      time.Duration
	signal   <-chan struct{} // closed by the signal
	complete chan struct{}   // closed when all pollers got enough 503s
	now      func() time.Time

	mu       sync.Mutex
	pollers  map[string]*poller // by address
	overflow time.Time          // the last poll of an untracked address
	fixed    bool               // the signal has come: pollers gets no new address
}

// poller is an address that polls /readyz.
type poller struct {
	last     time.Time // time of the last poll before the signal
	refusals int       // answers 503 after the signal
}

// NewDrain returns a drain of a maximum duration that begins when signal is closed.
func NewDrain(maximum time.Duration, signal <-chan struct{}) *Drain {
	return &Drain{
		max: maximum, signal: signal, complete: make(chan struct{}), now: time.Now, pollers: map[string]*poller{},
	}
}

// Context returns a context that ends with the drain. signalled ends with the signal. The returned function ends the
// context at once.
func (d *Drain) Context(signalled context.Context, log *slog.Logger) (context.Context, func()) {
	ctx, stop := context.WithCancel(context.WithoutCancel(signalled))
	forget := context.AfterFunc(signalled, func() {
		d.wait(ctx, log)
		stop()
	})
	return ctx, func() { forget(); stop() }
}

// wait returns when the drain is complete, its time is over, or ctx ends.
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

// poll records a poll of /readyz by an address, and reports whether the server is draining. A nil Drain is never
// draining.
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

// polled reports whether an address polled within pollWindow before the signal.
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

// fix removes outdated pollers once, at the signal.
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
