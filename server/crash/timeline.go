package main

import (
	"cmp"
	"context"
	"fmt"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/agentevents/agentevents/server/lab"
	"github.com/agentevents/agentevents/webhook"
)

// incident is the period of a fault of a server or of the database, or of an outage of a receiver.
type incident struct {
	name       string
	number     int       // of the server, or everyServer; for an outage, of the receiver
	outage     mode      // empty for a fault
	since      time.Time // the breaker may be open from this outage on, or an earlier one; set by joinOutages
	duplicates duplicates
	from, to   time.Time // to is zero until the end
	back       time.Time // when the server could send again; zero until then
}

// everyServer stands for all servers.
const everyServer = 0

// during reports whether the incident overlaps a period.
func (i *incident) during(from, to time.Time) bool {
	return i.from.Before(to) && (i.to.IsZero() || i.to.After(from))
}

// timeline has all incidents, and finds deliveries that waited too long in spite of them.
type timeline struct {
	mu        sync.Mutex
	incidents []*incident // in the order of their starts
	servers   int
	serving   []time.Time    // times at which watch found a server that could send
	held      []*lab.Arrival // requests that receivers held

	count   int           // lanes that waited at the end of an outage
	longest time.Duration // longest wait of these lanes
}

func (l *timeline) begin(i incident) *incident {
	l.mu.Lock()
	defer l.mu.Unlock()
	i.from = time.Now()
	l.incidents = append(l.incidents, &i)
	return &i
}

// addTimeout adds an attempt that timed out. To the breaker it is an outage, even if only the server was suspended.
func (l *timeline) addTimeout(receiver int, from, to time.Time) {
	l.mu.Lock()
	defer l.mu.Unlock()
	o := incident{name: "an attempt timed out", number: receiver, outage: hanging, from: from, to: to}
	l.incidents = append(l.incidents, &o)
	slices.SortFunc(l.incidents, func(a, b *incident) int { return a.from.Compare(b.from) })
}

// mark sets times to now, except those that are set.
func (l *timeline) mark(times ...*time.Time) {
	l.mu.Lock()
	defer l.mu.Unlock()
	for _, t := range times {
		if t.IsZero() {
			*t = time.Now()
		}
	}
}

// any reports whether a condition holds for any incident.
func (l *timeline) any(so func(*incident) bool) bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	return slices.ContainsFunc(l.incidents, so)
}

// disturbed reports whether a server or the database had a fault since a time. The fault must permit at least the
// duplicates of least.
func (l *timeline) disturbed(server int, since time.Time, least duplicates) bool {
	return l.any(func(i *incident) bool {
		its := i.number == everyServer || i.number == server
		return its && i.duplicates >= least && (i.back.IsZero() || i.back.After(since))
	})
}

// permits reports whether a delivery may be repeated because of a fault between the two arrivals. The fault must be one
// of the database or of the sender of the first request.
func (l *timeline) permits(before, again *lab.Arrival) bool {
	from := senderOf(before)
	return l.any(func(i *incident) bool {
		enough := i.duplicates == anyRequest || i.duplicates == unanswered && before.Status == 0
		its := i.number == everyServer || from == 0 || i.number == from
		return enough && its && i.during(before.At, again.At)
	})
}

func (l *timeline) String() string {
	var s strings.Builder
	for _, i := range l.incidents {
		fmt.Fprintf(&s, "%s to %s, %d: %s\n", i.from.Format(lab.Clock), i.to.Format(lab.Clock), i.number, i.name)
	}
	return s.String()
}

// retrySchedule is the schedule of the servers. A delivery has few failures of its own: a random refusal, the first
// failure in an outage, and the first one after the late record of an earlier success. The last delay is longer than
// the bound and shorter than lostAfter. A delivery reaches it only if the receiver's failures count as its own.
const retrySchedule = "200ms,200ms,200ms,200ms,1m"

const (
	jitter = 0.2             // maximum random variation of the server's delays, as a fraction
	pace   = 3 * time.Second // time to send all other pending deliveries
	// maxLeases is the number of leases for which a delivery may wait: of a server that had a fault while it held the
	// lane, and of the next one that leased the lane and had a fault. There are faults every few seconds, so without
	// this limit every wait would be permitted.
	maxLeases = 2
	// watchInterval is the time between two checks of the servers.
	watchInterval = 20 * time.Millisecond
)

// bound returns the maximum wait of a delivery after an outage, if the servers can send. It is the longest delay of the
// breaker, or of a delivery with failures of its receiver, if each probe failed when it was due.
func bound(outage time.Duration) time.Duration {
	failed := 0
	if outage > 0 {
		for probe := webhook.RecoveryDelay(0); probe <= outage; probe += webhook.RecoveryDelay(failed) {
			failed++
		}
	}
	return time.Duration(float64(webhook.RecoveryDelay(failed)) * (1 + jitter))
}

// watch records the times at which a server can send, until ctx ends. If the machine is too busy for watch, it is also
// too busy for the servers, and that time does not count.
func (l *timeline) watch(ctx context.Context) {
	for lab.Pause(ctx, watchInterval) == nil {
		l.mu.Lock()
		down := map[int]bool{}
		for _, i := range l.incidents {
			if i.back.IsZero() && i.duplicates != noneStillServing {
				down[i.number] = true
			}
		}
		if !down[everyServer] && len(down) < l.servers {
			l.serving = append(l.serving, time.Now())
		}
		l.mu.Unlock()
	}
}

// judge returns the deliveries of plain agents that waited too long at the head of their lane, between two arrivals or
// until the end. Deliveries of busy agents are not judged: they may have been parked or moved.
func (l *timeline) judge(h lab.History) (late []*lab.Expected) {
	l.mu.Lock()
	defer l.mu.Unlock()
	pending, arrivals := map[string][]*lab.Expected{}, map[string][]*lab.Arrival{}
	for _, e := range h.Expected {
		if e.Receiver != lab.Anywhere {
			pending[e.OrderKey] = append(pending[e.OrderKey], e) // the key is a lane
		}
	}
	for _, a := range h.Arrivals {
		arrivals[h.OrderKey(a)] = append(arrivals[h.OrderKey(a)], a)
		if a.Held {
			l.held = append(l.held, a)
		}
	}
	end, joined := latest(l.serving...), l.joinOutages(h)
	for lane, left := range pending {
		slices.SortFunc(left, func(a, b *lab.Expected) int { return cmp.Compare(a.Sequence, b.Sequence) })
		var before lab.Arrival
		confirmed := map[lab.Key]bool{}
		for _, a := range append(arrivals[lane], &lab.Arrival{At: end}) {
			for len(left) > 0 && confirmed[left[0].Key] {
				left = left[1:]
			}
			if len(left) > 0 && l.late(left[0], &before, a.At, joined[left[0].Receiver]) {
				late = append(late, left[0])
			}
			before = *a
			confirmed[a.Key] = confirmed[a.Key] || a.Confirmed()
		}
	}
	return late
}

func latest(times ...time.Time) time.Time {
	return slices.MaxFunc(append(times, time.Time{}), time.Time.Compare)
}

// joinOutages returns the outages of each receiver. The breaker that opened in one may still be open in the next one,
// with its longer delays, unless the servers recorded a success between them. They did if they never repeated a
// confirmed delivery of a plain agent, which is never cancelled.
func (l *timeline) joinOutages(h lab.History) (joined map[int][]*incident) {
	last, confirmed := map[lab.Key]*lab.Arrival{}, map[int][]time.Time{}
	for _, a := range h.Arrivals {
		last[a.Key] = a
	}
	for _, a := range last {
		if a.Confirmed() && h.OrderKey(a) != a.Path {
			confirmed[a.Receiver] = append(confirmed[a.Receiver], a.Ended)
		}
	}
	joined = map[int][]*incident{}
	for _, o := range l.incidents {
		if o.outage == "" {
			continue
		}
		earlier := joined[o.number]
		if o.since = o.from; len(earlier) > 0 {
			before := earlier[len(earlier)-1]
			separates := func(t time.Time) bool { return t.After(before.to) && t.Before(o.from) }
			if o.to = latest(o.to, before.to); !slices.ContainsFunc(confirmed[o.number], separates) {
				o.since = before.since
			}
		}
		joined[o.number] = append(earlier, o)
	}
	return joined
}

// late reports whether a delivery waited too long between two arrivals. The wait begins again at the end of each
// outage. A wait after a refusal or a timeout outside an outage does not count: it follows the retry schedule.
func (l *timeline) late(e *lab.Expected, before *lab.Arrival, next time.Time, all []*incident) (late bool) {
	var last incident // the previous outage; zero for none
	slow := before.Status == 0 && before.Ended.Sub(before.At) >= attemptTimeout
	for _, o := range append(slices.Clone(all), &incident{from: next}) {
		if o.from.After(next) {
			continue
		}
		begin := latest(e.Since, before.Ended, last.to)
		refused := (before.Status >= 300 || slow) && before.At.After(last.to)
		if begin.Before(o.from) && !refused {
			due := begin.Add(bound(last.to.Sub(last.since)))
			late = late || due.Before(o.from) && l.sendable(e.Receiver, due, o.from) > l.grace(begin, o.from)
			if begin.Equal(last.to) && o.from.Equal(next) {
				l.count, l.longest = l.count+1, max(l.longest, next.Sub(begin))
			}
		}
		last = *o
	}
	return late
}

// grace returns how long a delivery may wait beyond the bound. A replica with a fault may have held the lease.
func (l *timeline) grace(from, to time.Time) time.Duration {
	leases := 0
	for _, i := range l.incidents {
		if l.servers > 1 && i.duplicates > none && i.during(from.Add(-lease), to) {
			leases++
		}
	}
	return pace + time.Duration(min(leases, maxLeases))*lease
}

// sendable returns for how long, in a period, a server could send to a receiver. Time in which the receiver held a
// request does not count: a server may have at most one request in flight there.
func (l *timeline) sendable(receiver int, from, to time.Time) (d time.Duration) {
	for _, t := range l.serving {
		keeps := func(a *lab.Arrival) bool { return a.Receiver == receiver && !a.At.After(t) && a.Ended.After(t) }
		if t.After(from) && t.Before(to) && !slices.ContainsFunc(l.held, keeps) {
			d += watchInterval
		}
	}
	return d
}
