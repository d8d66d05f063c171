package main

import (
	"context"
	"math/rand/v2"
	"net/http"
	"sync"
	"time"

	"github.com/agentevents/agentevents/server/lab"
)

// Receivers, by their numbers.
const (
	reliable  = iota // confirms everything at once, but for what is in flight when the only server is killed
	flaky            // is slow, refuses first attempts now and then, and has outages
	oneLane          // has outages, and one lane; it confirms everything else at once
	receivers        // how many there are
)

// mode is whether a receiver takes requests and, if not, how it fails.
type mode string

const (
	healthy mode = "none"
	closed  mode = "outages: port closed" // nothing listens on its port
	hanging mode = "outages: no answers"  // it answers nothing, and ends all connections when it is back
	failing mode = "outages: 5xx"
)

var outages = []mode{closed, hanging, failing}

// receiver is one whose mode changes.
type receiver struct {
	*lab.Receiver
	*crash

	mu      sync.Mutex
	random  *rand.Rand
	mode    mode
	changed chan struct{} // is closed when the mode changes
	behind  bool          // it is back, and not each lane has got something since
	refuses bool          // it is slow, and refuses now and then
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

// set changes how the receiver replies.
func (r *receiver) set(change func()) {
	r.mu.Lock()
	defer r.mu.Unlock()
	change()
}

// setMode begins or ends an outage, and cuts off what has no answer.
func (r *receiver) setMode(to mode) {
	r.set(func() {
		if to != r.mode {
			close(r.changed)
			r.mode, r.changed, r.behind = to, make(chan struct{}), to == healthy
		}
	})
}

// reply is the receiver's program.
func (r *receiver) reply(a *lab.Arrival) (reply lab.Reply) {
	r.mu.Lock()
	defer r.mu.Unlock()
	switch {
	case a.Held:
		reply.Cut = true
	case r.mode == hanging:
		reply.Hold = r.changed
	case r.mode != healthy: // a closed port's are those that have come before
		reply.Status = http.StatusInternalServerError + []int{0, 2, 3}[r.random.IntN(3)]
	case r.refuses:
		if r.random.IntN(2) == 0 {
			reply.Delay = between(r.random, period{0, 50 * time.Millisecond})
		}
		// After more failures the delivery would wait for long, see retrySchedule. A probe that is refused means that
		// the receiver is not back yet.
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

// runOutages has a receiver go away and come back until ctx ends. In the end it is back. An outage is long enough for
// the breaker to open, or for a probe or two to fail. Before the next, each lane gets something, or a minute is over.
func (r *receiver) runOutages(ctx context.Context) error {
	random := r.crash.random(20 + r.Number)
	next := shuffled(random, outages)
	for lab.Pause(ctx, between(random, period{4 * time.Second, 12 * time.Second})) == nil {
		if err := r.goAway(ctx, next(), between(random, period{2 * time.Second, 14 * time.Second})); err != nil {
			return err
		}
		back := time.Now()
		_ = lab.Until(ctx, time.Minute, func() bool { return !r.lagging(back) })
		r.set(func() { r.behind = false })
	}
	return nil
}

// goAway is one outage, which ends early when ctx does. What was confirmed before it gets its answer completely.
func (r *receiver) goAway(ctx context.Context, m mode, lasts time.Duration) (err error) {
	o := r.timeline.begin(incident{name: string(m), who: r.Number, outage: m})
	defer r.timeline.mark(&o.to)
	r.tally.add(string(m), 1)
	r.setMode(m)
	if m == closed {
		err = r.ClosePort()
	}
	if _ = lab.Pause(ctx, lasts); err == nil && m == closed { // it is back in any case
		err = r.OpenPort()
	}
	r.setMode(healthy)
	return err
}

// lagging says whether a plain agent's lane has got nothing yet, since the receiver is back, of what is pending from
// before.
func (r *receiver) lagging(back time.Time) (is bool) {
	r.record.View(func(last map[string]*lab.Arrival, pending map[lab.Key]*lab.Expected) {
		for _, e := range pending {
			if e.Receiver == r.Number && e.Since.Before(back) {
				a := last[e.Line]
				is = is || a == nil || a.At.Before(back)
			}
		}
	})
	return is
}

// inFlight lists the plain agents' lanes of the reliable receiver whose last request has no answer, and arrived before
// or after a server began. At other receivers the server may have reason not to send it again.
func (c *crash) inFlight(began time.Time, before bool) (lines []string) {
	c.record.View(func(last map[string]*lab.Arrival, _ map[lab.Key]*lab.Expected) {
		for line, a := range last {
			if a.Receiver == reliable && line != a.Path && a.Status == 0 && a.At.Before(began) == before {
				lines = append(lines, line)
			}
		}
	})
	return lines
}
