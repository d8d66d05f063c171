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

// incident is a time in which something was wrong: a fault of a server or of the database, or an outage of a receiver.
type incident struct {
	name     string
	who      int  // the server, or everyServer; the receiver
	outage   mode // empty for a fault
	excuses  excuses
	from, to time.Time // to is zero while it lasts
	back     time.Time // when the server could send again; zero until then
}

// everyServer is the number of all servers.
const everyServer = 0

// during says whether it lasted in a time.
func (i *incident) during(from, to time.Time) bool {
	return i.from.Before(to) && (i.to.IsZero() || i.to.After(from))
}

// timeline is what was wrong when, and how long deliveries waited nevertheless.
type timeline struct {
	mu        sync.Mutex
	incidents []*incident // in the order of their beginnings
	servers   int
	able      []time.Time    // looks at which a server could send
	held      []*lab.Arrival // what receivers left without an answer for a while

	count   int           // lanes that waited at a return of their receiver
	longest time.Duration // that one of them waited for
}

func (l *timeline) begin(i incident) *incident {
	l.mu.Lock()
	defer l.mu.Unlock()
	i.from = time.Now()
	l.incidents = append(l.incidents, &i)
	return &i
}

// mark notes that it is the time of something, if that has not been before.
func (l *timeline) mark(times ...*time.Time) {
	l.mu.Lock()
	defer l.mu.Unlock()
	for _, t := range times {
		if t.IsZero() {
			*t = time.Now()
		}
	}
}

// any says whether any incident is so.
func (l *timeline) any(so func(*incident) bool) bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	return slices.ContainsFunc(l.incidents, so)
}

// disturbed says whether a server, or the database, had a fault since a time that excuses as much as another.
func (l *timeline) disturbed(server int, since time.Time, least excuses) bool {
	return l.any(func(i *incident) bool {
		its := i.who == everyServer || i.who == server
		return its && i.excuses >= least && (i.back.IsZero() || i.back.After(since))
	})
}

// excuses says whether a delivery may come again because of a fault, between two arrivals, of the server that the first
// one is from.
func (l *timeline) excuses(before, again *lab.Arrival) bool {
	from := senderOf(before)
	return l.any(func(i *incident) bool {
		enough := i.excuses == everything || i.excuses == unanswered && before.Status == 0
		its := i.who == everyServer || from == 0 || i.who == from
		return enough && its && i.during(before.At, again.At)
	})
}

func (l *timeline) String() string {
	var s strings.Builder
	for _, i := range l.incidents {
		fmt.Fprintf(&s, "%s to %s, %d: %s\n", i.from.Format(lab.Clock), i.to.Format(lab.Clock), i.who, i.name)
	}
	return s.String()
}

// retrySchedule is that of the servers. A delivery has few failures of its own, and comes again in the same life of a
// server or the next: a receiver refuses it at random once at most, and its first failure in an outage is its own, as
// is the first one after a server has recorded late what was confirmed before the outage. The last delay is longer than
// the bound and shorter than silence: a delivery waits for it only if the receiver's failures count as its own.
const retrySchedule = "200ms,200ms,200ms,200ms,1m"

const (
	jitter = 0.2             // that of the server, as a part of a delay
	pace   = 3 * time.Second // what it takes to send all the others
	// maxLeases is how many leases may hold one delivery: of a server that had a fault while it held the lane, and of a
	// second one that took it then and had one too. Some server has one every few seconds, so that without a limit
	// every wait would be excused.
	maxLeases = 2
	// beat is the time between two looks at the servers.
	beat = 20 * time.Millisecond
)

// bound is how long after an outage a receiver gets what has waited, if the servers can send: as long as the breaker,
// or a delivery that fails because of its receiver, waits by then at most. Each probe may have failed as soon as it was
// due.
func bound(outage time.Duration) time.Duration {
	failed := 0
	if outage > 0 {
		for probe := webhook.RecoveryDelay(0); probe <= outage; probe += webhook.RecoveryDelay(failed) {
			failed++
		}
	}
	return time.Duration(float64(webhook.RecoveryDelay(failed)) * (1 + jitter))
}

// watch looks whether any server can send, until ctx ends. A machine that is too busy for that does not run the
// servers either.
func (l *timeline) watch(ctx context.Context) {
	for lab.Pause(ctx, beat) == nil {
		l.mu.Lock()
		down := map[int]bool{}
		for _, i := range l.incidents {
			if i.back.IsZero() && i.excuses != harmless {
				down[i.who] = true
			}
		}
		if !down[everyServer] && len(down) < l.servers {
			l.able = append(l.able, time.Now())
		}
		l.mu.Unlock()
	}
}

// judge returns the deliveries of plain agents that waited for too long, for each arrival in their lane or until the
// end, to be sent to a receiver that was there. Those of busy agents may have been parked, or moved.
func (l *timeline) judge(h lab.History) (late []*lab.Expected) {
	l.mu.Lock()
	defer l.mu.Unlock()
	pending, arrivals := map[string][]*lab.Expected{}, map[string][]*lab.Arrival{}
	for _, e := range h.Expected {
		if e.Receiver != lab.Anywhere {
			pending[e.Line] = append(pending[e.Line], e)
		}
	}
	for _, a := range h.Arrivals {
		arrivals[h.Line(a)] = append(arrivals[h.Line(a)], a)
		if a.Held {
			l.held = append(l.held, a)
		}
	}
	end := latest(l.able...)
	for line, left := range pending {
		slices.SortFunc(left, func(a, b *lab.Expected) int { return cmp.Compare(a.Sequence, b.Sequence) })
		var before lab.Arrival
		confirmed := map[lab.Key]bool{}
		for _, a := range append(arrivals[line], &lab.Arrival{At: end}) {
			for len(left) > 0 && confirmed[left[0].Key] {
				left = left[1:]
			}
			if len(left) > 0 && l.late(left[0], &before, a.At) {
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

// late says whether a delivery waited for too long between two arrivals. With each return of its receiver the wait
// begins again. What a receiver has refused, or was too slow for, while it took others, waits by the schedule.
func (l *timeline) late(e *lab.Expected, before *lab.Arrival, next time.Time) (late bool) {
	var last incident // the outage before; at first, none
	slow := before.Status == 0 && before.Ended.Sub(before.At) >= attemptTimeout
	for _, o := range append(slices.Clone(l.incidents), &incident{who: e.Receiver, outage: healthy, from: next}) {
		if o.outage == "" || o.who != e.Receiver || o.from.After(next) {
			continue
		}
		begin := latest(e.Since, before.Ended, last.to)
		refused := (before.Status >= 300 || slow) && before.At.After(last.to)
		if begin.Before(o.from) && !refused {
			due := begin.Add(bound(last.to.Sub(last.from)))
			late = late || due.Before(o.from) && l.sendable(e.Receiver, due, o.from) > l.grace(begin, o.from)
			if begin.Equal(last.to) && o.from.Equal(next) {
				l.count, l.longest = l.count+1, max(l.longest, next.Sub(begin))
			}
		}
		last = *o
	}
	return late
}

// grace is how long a delivery may wait beyond the bound: a replica that had a fault may have kept the lane.
func (l *timeline) grace(from, to time.Time) time.Duration {
	leases := 0
	for _, i := range l.incidents {
		if l.servers > 1 && i.excuses > nothing && i.during(from.Add(-lease), to) {
			leases++
		}
	}
	return pace + time.Duration(min(leases, maxLeases))*lease
}

// sendable is for how long, in a time, a receiver could get something. While it keeps a request without an answer, a
// server may have no further one in flight.
func (l *timeline) sendable(receiver int, from, to time.Time) (d time.Duration) {
	for _, t := range l.able {
		keeps := func(a *lab.Arrival) bool { return a.Receiver == receiver && !a.At.After(t) && a.Ended.After(t) }
		if t.After(from) && t.Before(to) && !slices.ContainsFunc(l.held, keeps) {
			d += beat
		}
	}
	return d
}
