package main

import (
	"context"
	"time"

	"github.com/agentevents/agentevents/server/lab"
	"github.com/agentevents/agentevents/webhook"
)

// schedule is that of the servers. A delivery has few failures of its own, and comes again in the same life of a server
// or the next: a receiver refuses it at random once at most, and its first failure in an outage is its own, as is the
// first one after a server has recorded late what was confirmed before the outage. The last delay is longer than the
// bound and shorter than silence: a delivery waits for it only if the receiver's failures count as its own.
const schedule = "200ms,200ms,200ms,200ms,1m"

const (
	jitter = 0.2             // that of the server, as a part of a delay
	pace   = 3 * time.Second // what it takes to send all the others
	// maxLeases is how many leases may hold one delivery: of a server that had a fault while it held the lane, and of a
	// second one that took it then and had one too. Some server has one every few seconds, so that without a limit
	// every wait would be excused.
	maxLeases = 2
	// beat is how often waits are looked at. When the machine is too busy to do that it does not run the server either.
	beat = 20 * time.Millisecond
)

// bound is how long after an outage a receiver gets what has waited, if the servers can send: as long as the breaker,
// or a delivery that fails because of its receiver, waits by then at most. Each probe may have failed as soon as it was
// due.
func bound(away time.Duration) time.Duration {
	failed := 0
	if away > 0 {
		for probe := webhook.RecoveryDelay(0); probe <= away; probe += webhook.RecoveryDelay(failed) {
			failed++
		}
	}
	return time.Duration(float64(webhook.RecoveryDelay(failed)) * (1 + jitter))
}

// up is since when a receiver takes what it gets, and how long the outage before was; since is zero during an outage.
type up struct {
	since  time.Time
	outage time.Duration
}

// wait is how the first delivery of a lane waits.
type wait struct {
	from     time.Time
	bound    time.Duration
	over     time.Duration // how long it could have been sent since the bound
	returned bool          // its receiver was away before
	judged   bool          // it was found to be late
}

// waits judges how long the first delivery of each plain agent's lane waits that is pending for a receiver that is
// there. A busy agent's may be parked, or on their way to another receiver.
type waits struct {
	record   *lab.Record
	timeline *timeline
	servers  int

	before  time.Time
	lanes   map[string]*wait
	count   int           // lanes that waited at a return of their receiver
	longest time.Duration // that one of them waited for
}

// watch looks until ctx ends.
func (w *waits) watch(ctx context.Context) {
	for lab.Pause(ctx, beat) == nil {
		able := w.timeline.able(w.servers)
		var late []*lab.Expected
		w.record.View(func(last map[string]*lab.Arrival, pending map[lab.Key]*lab.Expected) {
			late = w.look(time.Now(), able, last, pending)
		})
		for _, e := range late {
			w.record.Wrong(overdue, "%v: it waits since %s", e, w.lanes[e.Line].from.Format(lab.Clock))
		}
	}
}

// look returns what waits for too long now. Time in which nothing is able to send does not count, nor time in which the
// receiver keeps a request without an answer: a server has few in flight.
func (w *waits) look(
	now time.Time, able bool, last map[string]*lab.Arrival, pending map[lab.Key]*lab.Expected,
) (late []*lab.Expected) {
	elapsed := min(now.Sub(w.before), 2*beat)
	w.before = now
	keeps, first := map[int]bool{}, map[string]*lab.Expected{}
	for _, a := range last {
		keeps[a.Receiver] = keeps[a.Receiver] || a.Held && a.Ended.IsZero()
	}
	for _, e := range pending {
		if f := first[e.Line]; e.Receiver != lab.Anywhere && (f == nil || e.Sequence < f.Sequence) {
			first[e.Line] = e
		}
	}
	for line := range w.lanes {
		if first[line] == nil {
			w.sent(line, now)
		}
	}
	for line, e := range first {
		x := w.waiting(now, e, last[line])
		if x == nil || !able || keeps[e.Receiver] || now.Sub(x.from) <= x.bound {
			continue
		}
		x.over += elapsed
		leases := 0
		if w.servers > 1 {
			leases = min(w.timeline.leases(x.from, now), maxLeases)
		}
		if !x.judged && x.over > pace+time.Duration(leases)*lease {
			x.judged = true
			late = append(late, e)
		}
	}
	return late
}

// waiting is how a delivery waits, behind the last arrival of its lane; nil if it need not be sent.
func (w *waits) waiting(now time.Time, e *lab.Expected, before *lab.Arrival) *wait {
	u, from := w.timeline.up(e.Receiver), e.Since
	switch {
	case u.since.IsZero() || before != nil && u.refused(before):
		delete(w.lanes, e.Line)
		return nil
	case before != nil && before.Ended.IsZero():
		w.sent(e.Line, now)
		return nil
	case before != nil && before.Ended.After(from):
		from = before.Ended
	}
	x := wait{from: from, bound: bound(u.outage)}
	if u.since.After(from) {
		x.from, x.returned = u.since, u.outage > 0
	}
	if y := w.lanes[e.Line]; y != nil && y.from.Equal(x.from) {
		return y
	}
	w.sent(e.Line, now)
	w.lanes[e.Line] = &x
	return &x
}

// sent notes that a lane no longer waits.
func (w *waits) sent(line string, now time.Time) {
	if x := w.lanes[line]; x != nil && x.returned {
		w.count, w.longest = w.count+1, max(w.longest, now.Sub(x.from))
	}
	delete(w.lanes, line)
}

// refused says whether a receiver has refused a delivery, or was too slow, while it took others: then that waits by the
// schedule.
func (u up) refused(a *lab.Arrival) bool {
	slow := a.Status == 0 && a.Ended.Sub(a.At) >= timeout
	return (a.Status >= 300 || slow) && a.At.After(u.since)
}
