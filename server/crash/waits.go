package main

import (
	"slices"
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
	// second one that took it then and had one too. Some server has one every few seconds, so that without a limit every
	// wait would be excused.
	maxLeases = 2
)

// bound is how long after its return a receiver gets what has waited, if the servers can send: as long as the breaker, or
// a delivery that fails because of its receiver, waits by then at most. Each probe may have failed as soon as it was due.
func (u up) bound() time.Duration {
	failed := 0
	if u.after != nil {
		for probe := webhook.RecoveryDelay(0); probe <= u.after.length(); probe += webhook.RecoveryDelay(failed) {
			failed++
		}
	}
	return time.Duration(float64(webhook.RecoveryDelay(failed)) * (1 + jitter))
}

// waits judges how long what is pending for a receiver that is there waits, lane by lane.
type waits struct {
	*lab.Verdict
	*timeline
	servers int // 1 or more replicas
	kept    map[int][]span
	down    []span

	lanes   int           // that waited at a return of their receiver
	longest time.Duration // that one of them waited for
}

// judge: a delivery waits from when it became known or the one before it in its lane was answered until it is sent, or
// until now. A busy agent's may be parked meanwhile, or on their way to another receiver.
func (w *waits) judge(h lab.History) {
	w.kept, w.down = kept(h.Arrivals), w.dead(w.servers)
	expected, confirmed, before := map[lab.Key]*lab.Expected{}, map[lab.Key]bool{}, map[string]*lab.Arrival{}
	for _, e := range h.Expected {
		expected[e.Key] = e
	}
	for _, a := range h.Arrivals {
		line := h.Line(a)
		if e := expected[a.Key]; e != nil {
			w.pending(e, before[line], a.At)
		}
		before[line], confirmed[a.Key] = a, confirmed[a.Key] || a.Confirmed()
	}
	first := map[string]*lab.Expected{} // that is not confirmed, in each lane
	for _, e := range h.Expected {
		f := first[e.Line]
		if !e.Cancelled && !confirmed[e.Key] && (f == nil || e.Sequence < f.Sequence) {
			first[e.Line] = e
		}
	}
	for line, e := range first {
		w.pending(e, before[line], time.Now())
	}
}

// kept are the times in which each receiver has kept a request without an answer: a server has few in flight.
func kept(arrivals []*lab.Arrival) map[int][]span {
	spans := map[int][]span{}
	for _, a := range arrivals {
		if a.Status == 0 {
			spans[a.Receiver] = append(spans[a.Receiver], span{a.At, a.Ended})
		}
	}
	return spans
}

func (w *waits) pending(e *lab.Expected, before *lab.Arrival, sent time.Time) {
	if e.Receiver == lab.Anywhere {
		return
	}
	since := e.Since
	if before != nil && before.Ended.After(since) {
		since = before.Ended
	}
	for _, u := range w.ups(e.Receiver) {
		if before == nil || !u.refused(before) {
			w.wait(u, e, span{since, sent})
		}
	}
}

// refused says whether a receiver has refused a delivery, or was too slow, while it took others: then that waits by the
// schedule.
func (u up) refused(a *lab.Arrival) bool {
	slow := a.Status == 0 && a.Ended.Sub(a.At) >= timeout
	return (a.Status >= 300 || slow) && a.At.After(u.from) && a.At.Before(u.to)
}

// wait: in a time in which its receiver is there, a delivery does not wait for too long.
func (w *waits) wait(u up, e *lab.Expected, pending span) {
	waited := pending.within(u.span)
	if u.after != nil && pending.from.Before(u.from) && pending.to.After(u.from) && pending.to.Before(u.to) {
		w.lanes, w.longest = w.lanes+1, max(w.longest, waited.length())
	}
	late := span{waited.from.Add(u.bound()), waited.to}
	if late.length() <= pace { // next to always
		return
	}
	leases := 0
	if w.servers > 1 {
		leases = min(w.hits(waited), maxLeases)
	}
	if sendable := late.outside(slices.Concat(w.kept[e.Receiver], w.down)); sendable > pace+time.Duration(leases)*lease {
		w.Wrong(overdue, "%v: it waited for %v from %s on, %v longer than the bound, in which it could be sent",
			e, waited.length().Round(time.Millisecond), waited.from.Format(lab.Clock), sendable.Round(time.Millisecond))
	}
}
