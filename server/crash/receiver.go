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
	quick     = iota // confirms everything at once, or leaves it without an answer
	picky            // is slow, refuses first attempts now and then, and has outages
	alone            // has outages, and one lane alone; it confirms everything else at once
	receivers        // how many there are
)

// mode is whether a receiver takes requests and, if not, how it fails.
type mode int

const (
	healthy mode = iota
	closed       // nothing listens on its port
	hanging      // it answers nothing, and ends all connections when it comes back
	failing      // it answers 5xx
	modes        // how many there are
)

func (m mode) String() string {
	return [modes]string{"none", "outages: port closed", "outages: no answers", "outages: 5xx"}[m]
}

// receiver is one whose mode changes.
type receiver struct {
	*lab.Receiver
	*crash

	mu      sync.Mutex
	random  *rand.Rand
	mode    mode
	changed chan struct{} // is closed when the mode changes
	behind  bool          // it has come back, and not each lane has got something since
	refuses bool          // it is slow, and refuses now and then
	holds   bool          // it leaves some requests without an answer
	asked   int           // requests since that was set
	held    int           // how many of these have no answer
}

func (c *crash) openReceiver(number int) (err error) {
	r := &receiver{crash: c, random: c.random(0, number), changed: make(chan struct{}), refuses: number == picky}
	r.Receiver, err = lab.NewReceiver(c.record, number, r.reply)
	if err == nil {
		c.receivers = append(c.receivers, r)
	}
	return err
}

// hold makes receivers leave some requests without an answer, or not.
func (c *crash) hold(holds bool) {
	for _, r := range c.receivers {
		r.mu.Lock()
		r.holds, r.asked, r.held = holds && r.Number != alone, 0, 0
		r.mu.Unlock()
	}
}

// calm makes receivers confirm everything from now on.
func (c *crash) calm() {
	c.hold(false)
	for _, r := range c.receivers {
		r.setMode(healthy)
		r.mu.Lock()
		r.refuses = false
		r.mu.Unlock()
	}
}

// setMode begins or ends an outage, and cuts off what has no answer.
func (r *receiver) setMode(to mode) {
	r.mu.Lock()
	defer r.mu.Unlock()
	close(r.changed)
	r.mode, r.changed, r.behind = to, make(chan struct{}), to == healthy
}

// caughtUp notes that each lane has got something since the receiver came back.
func (r *receiver) caughtUp() {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.behind = false
}

// reply is the receiver's program.
func (r *receiver) reply(a *lab.Arrival) (reply lab.Reply) {
	r.mu.Lock()
	defer r.mu.Unlock()
	switch {
	case a.Held:
		reply.Cut = true
	case r.mode == hanging || r.mode == healthy && r.holdsNext():
		reply.Hold = r.changed
	case r.mode != healthy: // a closed port's are those that have come before
		reply.Status = http.StatusInternalServerError + []int{0, 2, 3}[r.random.IntN(3)]
	case r.refuses:
		if r.random.IntN(2) == 0 {
			reply.Delay = between(r.random, period{0, 50 * time.Millisecond})
		}
		// After more failures the delivery would wait for long, see schedule. A probe that is refused means that the
		// receiver is not back yet.
		if a.Attempt == 1 && !r.behind {
			reply.Status, reply.RetryAfter = refusal(r.random.IntN(5000))
		}
	}
	return reply
}

// holdsNext says whether a request is left without an answer. None of the first is: a server that knows nothing yet of
// a receiver sends it few at a time, and without answers no more.
func (r *receiver) holdsNext() bool {
	r.asked++
	if !r.holds || r.asked < 20 || r.held == min(r.agents/2, 8) || r.random.IntN(20) > 0 {
		return false
	}
	r.held++
	return true
}

// refusal is that of a random number below 5000, and most of the time nothing.
func refusal(n int) (status, retryAfter int) {
	switch {
	case n < 100:
		return http.StatusInternalServerError, 0
	case n < 120:
		return http.StatusServiceUnavailable, 1
	case n < 123:
		return http.StatusTooManyRequests, 1
	}
	return 0, 0
}

// outage is one that is planned.
type outage struct {
	mode  mode
	pause time.Duration // before it, once each lane has got something since the one before
	lasts time.Duration
}

// outages plans those of one receiver: each mode is dealt, until the deck is empty. An outage is long enough for the
// breaker to open, or for one probe or two to fail.
func outages(random *rand.Rand) func() outage {
	var left []int
	return func() outage {
		if len(left) == 0 {
			left = random.Perm(int(modes) - 1)
		}
		m := mode(1 + left[0])
		left = left[1:]
		before := between(random, period{4 * time.Second, 12 * time.Second})
		return outage{m, before, between(random, period{2 * time.Second, 14 * time.Second})}
	}
}

// maxBacklog is how long the next outage waits for lanes that have got nothing since the one before it.
const maxBacklog = time.Minute

// runOutages has a receiver go away and come back until ctx ends. In the end it is back.
func (r *receiver) runOutages(ctx context.Context, next func() outage) error {
	for {
		o := next()
		if lab.Pause(ctx, o.pause) != nil {
			return nil //nolint:nilerr // it is the end
		}
		if err := r.goAway(ctx, o); err != nil {
			return err
		}
		back := time.Now()
		_ = until(ctx, maxBacklog, func() bool { return !r.lagging(r.Number, back) })
		r.caughtUp()
	}
}

// goAway is one outage, which ends early when ctx does. What was confirmed before it gets its answer completely.
func (r *receiver) goAway(ctx context.Context, o outage) (err error) {
	t := r.timeline.begin(trouble{mode: o.mode, who: r.Number})
	defer r.timeline.end(t)
	r.tally.add(o.mode.String(), 1)
	r.setMode(o.mode)
	if o.mode == closed {
		err = r.ClosePort()
	}
	if _ = lab.Pause(ctx, o.lasts); err == nil && o.mode == closed { // it comes back in any case
		err = r.OpenPort()
	}
	r.setMode(healthy)
	return err
}

// lagging says whether a plain agent's lane has got nothing yet, since a receiver is back, of what is pending from
// before.
func (c *crash) lagging(number int, back time.Time) (is bool) {
	c.record.View(func(last map[string]*lab.Arrival, pending map[lab.Key]*lab.Expected) {
		for _, e := range pending {
			if e.Receiver == number && e.Since.Before(back) {
				a := last[e.Line]
				is = is || a == nil || a.At.Before(back)
			}
		}
	})
	return is
}

// inFlight lists the plain agents' lanes of the quick receiver whose last request has no answer: one that has arrived
// since a server began, or one that a kill has cut off before. At others the server may have reason not to send it
// again.
func (c *crash) inFlight(since time.Time) (now, cut []string) {
	c.record.View(func(last map[string]*lab.Arrival, _ map[lab.Key]*lab.Expected) {
		for line, a := range last {
			switch {
			case a.Receiver != quick || line == a.Path || a.Status != 0:
			case a.At.Before(since):
				cut = append(cut, line)
			default:
				now = append(now, line)
			}
		}
	})
	return now, cut
}
