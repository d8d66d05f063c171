package main

import (
	"context"
	"log/slog"
	"maps"
	"sync"
	"time"
)

const (
	polledWithin = time.Minute // a load balancer has looked at /readyz, if there is one
	redEnough    = 3           // answers after which it takes a server out, as most do by default
	mostPollers  = 100         // addresses that are counted; with more the drain does not end early
)

// drain is the time between a signal and the end of the listener, in which /readyz says 503 so that load balancers
// send requests elsewhere. It ends early when each address that had looked at /readyz before has seen that: others do
// not count. Without an address that looks there is none.
type drain struct {
	most   time.Duration
	begun  <-chan struct{} // closed by the signal
	enough chan struct{}   // closed when it was seen
	now    func() time.Time

	mu      sync.Mutex
	pollers map[string]*poller
	crowded time.Time // when an address has looked that is not counted
	settled bool      // pollers are those that looked before the signal
}

// poller is an address that looks at /readyz.
type poller struct {
	last time.Time // before the signal
	red  int
}

func newDrain(most time.Duration, begun <-chan struct{}) *drain {
	return &drain{most: most, begun: begun, enough: make(chan struct{}), now: time.Now, pollers: map[string]*poller{}}
}

// ends notes that an address asks for /readyz, and says whether the server is about to stop. Without a drain it is not.
func (d *drain) ends(address string) bool {
	if d == nil {
		return false
	}
	d.mu.Lock()
	defer d.mu.Unlock()
	select {
	case <-d.begun:
		d.saw(address)
		return true
	default:
		d.polled(address)
		return false
	}
}

// polled notes a look before the signal.
func (d *drain) polled(address string) {
	now := d.now()
	if d.pollers[address] == nil && len(d.pollers) >= mostPollers {
		d.forget()
		if len(d.pollers) >= mostPollers {
			d.crowded = now
			return
		}
	}
	d.pollers[address] = &poller{last: now}
}

// forget removes addresses that have not looked lately.
func (d *drain) forget() {
	maps.DeleteFunc(d.pollers, func(_ string, p *poller) bool { return !d.lately(p.last) })
}

func (d *drain) lately(at time.Time) bool { return d.now().Sub(at) < polledWithin }

// settle has the addresses be those that looked before the signal, and says whether any has.
func (d *drain) settle() bool {
	if !d.settled {
		d.forget()
		d.settled = true
	}
	return len(d.pollers) > 0
}

// saw notes a look after the signal.
func (d *drain) saw(address string) {
	d.settle()
	p := d.pollers[address]
	if p == nil {
		return
	}
	p.red++
	if p.red == redEnough && d.allSaw() {
		close(d.enough)
	}
}

func (d *drain) allSaw() bool {
	for _, p := range d.pollers {
		if p.red < redEnough {
			return false
		}
	}
	return d.crowded.IsZero() || !d.lately(d.crowded)
}

// watched says whether there is a load balancer that has to see that the server stops.
func (d *drain) watched() bool {
	d.mu.Lock()
	defer d.mu.Unlock()
	return d.settle()
}

// wait returns when the addresses that look have seen that the server stops, when they have had enough time, or when
// ctx ends.
func (d *drain) wait(ctx context.Context, log *slog.Logger) {
	if !d.watched() || d.most == 0 {
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

// drained is a context that ends a drain later than the one that a signal ends. The function that it returns ends it
// at once.
func (d *drain) drained(signalled context.Context, log *slog.Logger) (context.Context, func()) {
	ctx, stop := context.WithCancel(context.WithoutCancel(signalled))
	forget := context.AfterFunc(signalled, func() {
		d.wait(ctx, log)
		stop()
	})
	return ctx, func() { forget(); stop() }
}
