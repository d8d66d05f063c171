package main

import (
	"context"
	"math/rand/v2"
	"net/http"
	"sync"
	"time"

	"github.com/agentevents/agentevents/server/lab"
)

// The numbers of the receivers.
const (
	reliable  = iota // confirms immediately, except shortly before a kill of the only server
	flaky            // is slow, refuses some first attempts, and has outages
	oneLane          // has outages and only one lane; otherwise it confirms immediately
	receivers        // number of receivers
)

// mode is the kind of a receiver's outage.
type mode string

const (
	healthy mode = "none"
	closed  mode = "outages: port closed"
	hanging mode = "outages: no answers" // at the end of the outage, the receiver cuts off the requests
	failing mode = "outages: 5xx"
)

var outages = []mode{closed, hanging, failing}

// receiver is a receiver with outages.
type receiver struct {
	*lab.Receiver
	*crash

	mu      sync.Mutex
	random  *rand.Rand
	mode    mode
	changed chan struct{} // closed when the mode changes
	behind  bool          // since its outage, it has not yet got a request of each pending lane
	refuses bool          // it is slow, and refuses some first attempts
}

func (c *crash) openReceiver(number int) (err error) {
	r := &receiver{
		crash: c, random: c.random(10 + number), mode: healthy, changed: make(chan struct{}), refuses: number == flaky,
	}
	if r.Receiver, err = lab.NewReceiver(c.record, number, r.reply); err == nil {
		owner := c.owner
		r.Peer.Store(&owner)
		c.receivers = append(c.receivers, r)
		c.closers = append(c.closers, func() error { r.Close(); return nil })
	}
	return err
}

// set calls a function that changes the receiver, under the lock.
func (r *receiver) set(change func()) {
	r.mu.Lock()
	defer r.mu.Unlock()
	change()
}

// setMode begins or ends an outage. Requests that the receiver holds are cut off.
func (r *receiver) setMode(to mode) {
	r.set(func() {
		if to != r.mode {
			close(r.changed)
			r.mode, r.changed, r.behind = to, make(chan struct{}), to == healthy
		}
	})
}

// reply returns the reply to a request.
func (r *receiver) reply(a *lab.Arrival) (reply lab.Reply) {
	r.mu.Lock()
	defer r.mu.Unlock()
	switch {
	case a.Held:
		reply.Cut = true
	case r.mode == hanging:
		reply.Hold = r.changed
	case r.mode != healthy: // also for requests that arrive just before the port is closed
		reply.Status = http.StatusInternalServerError + []int{0, 2, 3}[r.random.IntN(3)]
	case r.refuses:
		if r.random.IntN(2) == 0 {
			reply.Delay = between(r.random, durationRange{0, 50 * time.Millisecond})
		}
		// It refuses no retry, since the delivery might then wait for a minute (see retrySchedule), and no probe, which
		// would prolong the outage.
		switch n := r.random.IntN(5000); {
		case a.Attempt > 1 || r.behind:
		case n < 100:
			reply.Status = http.StatusInternalServerError
		case n < 120:
			reply.Status, reply.RetryAfter = http.StatusServiceUnavailable, 1
		case n < 123:
			reply.Status, reply.RetryAfter = http.StatusTooManyRequests, 1
		}
	}
	return reply
}

// runOutages makes outages until ctx ends; the receiver is then healthy. An outage is long enough for the breaker to
// open, or for a probe or two to fail. The next one begins after each pending lane got a request, or after a minute.
func (r *receiver) runOutages(ctx context.Context) error {
	random := r.crash.random(20 + r.Number)
	next := shuffled(random, outages)
	for lab.Pause(ctx, between(random, durationRange{4 * time.Second, 12 * time.Second})) == nil {
		lasts := between(random, durationRange{2 * time.Second, 14 * time.Second})
		if err := r.runOutage(ctx, next(), lasts); err != nil {
			return err
		}
		back := time.Now()
		_ = lab.Until(ctx, time.Minute, func() bool { return !r.lagging(back) })
		r.set(func() { r.behind = false })
	}
	return nil
}

// runOutage makes one outage. It ends early if ctx ends. Requests that were confirmed before it get their answers.
func (r *receiver) runOutage(ctx context.Context, m mode, lasts time.Duration) (err error) {
	o := r.timeline.begin(incident{name: string(m), number: r.Number, outage: m})
	defer r.timeline.mark(&o.to)
	r.tally.add(string(m), 1)
	r.setMode(m)
	if m == closed {
		err = r.ClosePort()
	}
	if _ = lab.Pause(ctx, lasts); err == nil && m == closed { // also if ctx has ended
		err = r.OpenPort()
	}
	r.setMode(healthy)
	return err
}

// lagging reports whether some plain agent's lane with deliveries pending from before back has had no request since.
func (r *receiver) lagging(back time.Time) (is bool) {
	r.record.View(func(last map[string]*lab.Arrival, pending map[lab.Key]*lab.Expected) {
		for _, e := range pending {
			if e.Receiver == r.Number && e.Since.Before(back) {
				a := last[e.OrderKey]
				is = is || a == nil || a.At.Before(back)
			}
		}
	})
	return is
}

// inFlight lists the order keys of the reliable receiver whose last request has no answer, and arrived before began, or
// after it. From before began it leaves out those of busy agents: an event may have moved to a receiver with an outage.
func (c *crash) inFlight(began time.Time, before bool) (lanes []string) {
	c.record.View(func(last map[string]*lab.Arrival, _ map[lab.Key]*lab.Expected) {
		for key, a := range last {
			plain := key != a.Path // the key of a busy agent is a path
			if a.Receiver == reliable && (plain || !before) && a.Status == 0 && a.At.Before(began) == before {
				lanes = append(lanes, key)
			}
		}
	})
	return lanes
}
