package api

import (
	"context"
	"log/slog"
	"maps"
	"sync"
	"time"
)

const (
	pollWindow     = time.Minute // a load balancer has looked at /readyz, if there is one
	enoughRefusals = 3           // answers after which it takes a server out, as most do by default
	maxPollers     = 100         // addresses that are counted; with more the drain does not end early
)

// Drain is the time between a signal and the end of the listener, in which /readyz says 503 so that load balancers
// send requests elsewhere. It ends early when each address that had looked at /readyz before has seen that: others do
// not count. Without an address that looks there is none.
type Drain struct {
	max    time.Duration
	signal <-chan struct{} // closed by the signal
	seen   chan struct{}   // closed when it was seen
	now    func() time.Time

	mu      sync.Mutex
	pollers map[string]*poller
	crowded time.Time // when an address has looked that is not counted
	frozen  bool      // pollers are those that looked before the signal
}

// poller is an address that looks at /readyz.
type poller struct {
	last     time.Time // before the signal
	refusals int
}

func NewDrain(most time.Duration, begun <-chan struct{}) *Drain {
	return &Drain{max: most, signal: begun, seen: make(chan struct{}), now: time.Now, pollers: map[string]*poller{}}
}

// probed notes that an address asks for /readyz, and says whether the server is about to stop. Without a drain it is not.
func (d *Drain) probed(address string) bool {
	if d == nil {
		return false
	}
	d.mu.Lock()
	defer d.mu.Unlock()
	select {
	case <-d.signal:
		d.noteAfter(address)
		return true
	default:
		d.noteBefore(address)
		return false
	}
}

// noteBefore notes a look before the signal.
func (d *Drain) noteBefore(address string) {
	now := d.now()
	if d.pollers[address] == nil && len(d.pollers) >= maxPollers {
		d.forget()
		if len(d.pollers) >= maxPollers {
			d.crowded = now
			return
		}
	}
	d.pollers[address] = &poller{last: now}
}

// forget removes addresses that have not looked lately.
func (d *Drain) forget() {
	maps.DeleteFunc(d.pollers, func(_ string, p *poller) bool { return !d.recent(p.last) })
}

func (d *Drain) recent(at time.Time) bool { return d.now().Sub(at) < pollWindow }

// freeze has the addresses be those that looked before the signal, and says whether any has.
func (d *Drain) freeze() bool {
	if !d.frozen {
		d.forget()
		d.frozen = true
	}
	return len(d.pollers) > 0
}

// noteAfter notes a look after the signal.
func (d *Drain) noteAfter(address string) {
	d.freeze()
	p := d.pollers[address]
	if p == nil {
		return
	}
	p.refusals++
	if p.refusals == enoughRefusals && d.seenByAll() {
		close(d.seen)
	}
}

func (d *Drain) seenByAll() bool {
	for _, p := range d.pollers {
		if p.refusals < enoughRefusals {
			return false
		}
	}
	return d.crowded.IsZero() || !d.recent(d.crowded)
}

// watched says whether there is a load balancer that has to see that the server stops.
func (d *Drain) watched() bool {
	d.mu.Lock()
	defer d.mu.Unlock()
	return d.freeze()
}

// wait returns when the addresses that look have seen that the server stops, when they have had enough time, or when
// ctx ends.
func (d *Drain) wait(ctx context.Context, log *slog.Logger) {
	if !d.watched() || d.max == 0 {
		return
	}
	log.Info("draining", "for_at_most", d.max)
	timer := time.NewTimer(d.max)
	defer timer.Stop()
	select {
	case <-d.seen:
	case <-timer.C:
	case <-ctx.Done():
	}
}

// Context is a context that ends a drain later than the one that a signal ends. The function that it returns ends it
// at once.
func (d *Drain) Context(signalled context.Context, log *slog.Logger) (context.Context, func()) {
	ctx, stop := context.WithCancel(context.WithoutCancel(signalled))
	forget := context.AfterFunc(signalled, func() {
		d.wait(ctx, log)
		stop()
	})
	return ctx, func() { forget(); stop() }
}
