package api

import (
	"context"
	"log/slog"
	"maps"
	"sync"
	"time"
)

const (
	probeWindow    = time.Minute // the longest interval between two probes of a load balancer
	enoughRefusals = 3           // answers 503 after which most load balancers, by default, send no requests
	maxProbers     = 100         // tracked addresses; if more probe, the drain does not end early
)

// Drain is the time between a signal and the close of the listener. During it, /readyz answers 503, so that load
// balancers send requests elsewhere. A GET of /readyz is called a probe. The drain ends early when each address that
// probed in the minute before the signal got three answers of 503. With more than 100 such addresses, it does not end
// early. If no address probed in that minute, there is no drain.
type Drain struct {
	max      time.Duration
	signal   <-chan struct{} // closed by the signal
	complete chan struct{}   // closed when all probers got enough 503s
	now      func() time.Time

	mu       sync.Mutex
	probers  map[string]*prober // by address
	overflow time.Time          // the last probe of an untracked address
	sealed   bool               // the signal has come: probers gets no new address
}

// prober is an address that probes /readyz.
type prober struct {
	last     time.Time // time of the last probe before the signal
	refusals int       // answers 503 after the signal
}

// NewDrain returns a drain of a maximum duration that begins when signal is closed.
func NewDrain(maximum time.Duration, signal <-chan struct{}) *Drain {
	return &Drain{
		max: maximum, signal: signal, complete: make(chan struct{}), now: time.Now, probers: map[string]*prober{},
	}
}

// Context returns a context that ends with the drain. signalled ends with the signal. The returned function ends the
// context at once.
func (d *Drain) Context(signalled context.Context, log *slog.Logger) (context.Context, func()) {
	ctx, stop := context.WithCancel(context.WithoutCancel(signalled))
	stopWaiting := context.AfterFunc(signalled, func() {
		d.wait(ctx, log)
		stop()
	})
	return ctx, func() { stopWaiting(); stop() }
}

// wait returns when the drain is complete, its time is over, or ctx ends.
func (d *Drain) wait(ctx context.Context, log *slog.Logger) {
	if !d.probed() || d.max == 0 {
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

// probe records a probe by an address, and reports whether the server is draining. A nil Drain is never draining.
func (d *Drain) probe(address string) (draining bool) {
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

// probed reports whether an address probed within probeWindow before the signal.
func (d *Drain) probed() bool {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.seal()
	return len(d.probers) > 0
}

// track records a probe before the signal.
func (d *Drain) track(address string) {
	now := d.now()
	if d.probers[address] == nil && len(d.probers) >= maxProbers {
		d.removeOld()
		if len(d.probers) >= maxProbers {
			d.overflow = now
			return
		}
	}
	d.probers[address] = &prober{last: now}
}

// refuse records a probe after the signal.
func (d *Drain) refuse(address string) {
	d.seal()
	p := d.probers[address]
	if p == nil {
		return
	}
	p.refusals++
	if p.refusals == enoughRefusals && d.isComplete() {
		close(d.complete)
	}
}

// seal removes probers that are not recent. Only its first call, after the signal, has an effect.
func (d *Drain) seal() {
	if !d.sealed {
		d.removeOld()
		d.sealed = true
	}
}

// removeOld removes addresses that have not probed within probeWindow.
func (d *Drain) removeOld() {
	maps.DeleteFunc(d.probers, func(_ string, p *prober) bool { return !d.isRecent(p.last) })
}

func (d *Drain) isRecent(at time.Time) bool { return d.now().Sub(at) < probeWindow }

func (d *Drain) isComplete() bool {
	for _, p := range d.probers {
		if p.refusals < enoughRefusals {
			return false
		}
	}
	return d.overflow.IsZero() || !d.isRecent(d.overflow)
}
