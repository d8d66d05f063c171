package main

import (
	"slices"
	"time"

	"github.com/agentevents/agentevents/webhook"
)

// schedule is that of the server. A delivery has few failures of its own, and comes again in the same life or the
// next: a receiver refuses it at random once at most, and its first failure in an outage is its own, as is the first
// one after a replica has recorded late what was confirmed before the outage. The last delay is longer than the bound
// and shorter than silence: a delivery waits for it only if the receiver's failures count as its own.
const schedule = "200ms,200ms,200ms,200ms,1m"

const (
	jitter = 0.2             // that of the server, as a part of a delay
	pace   = 3 * time.Second // what it takes to send all the others
	// mostLeases is how many leases may hold one delivery: of a replica that was hit while it held the lane, and of a
	// second one that took it then and was hit too. Some replica is hit every few seconds, so that without a limit every
	// wait would be excused.
	mostLeases = 2
)

// bound is how long after its return a receiver gets what has waited, if the server can send: as long as the breaker,
// or a delivery that fails because of its receiver, waits by then at most. Each probe may have failed as soon as it
// was due.
func (u up) bound() time.Duration {
	failed := 0
	if u.after != nil {
		for probe := webhook.RecoveryDelay(0); probe <= u.after.length(); probe += webhook.RecoveryDelay(failed) {
			failed++
		}
	}
	return time.Duration(float64(webhook.RecoveryDelay(failed)) * (1 + jitter))
}

// waits: what is pending for a receiver that is there is sent within the bound, lane by lane. One that is behind others
// waits from when the one before it was answered.
func (v *verdict) waits(debts []debt, arrivals []*arrival) {
	of := map[delivery]debt{}
	for _, d := range debts {
		of[d.delivery] = d
	}
	v.unanswered = unanswered(arrivals)
	before := map[lane]*arrival{}
	for _, a := range arrivals {
		if d := of[a.delivery]; !d.at.IsZero() {
			v.pending(d, before[a.lane()], a.at)
		}
		before[a.lane()] = a
	}
	now := time.Now()
	for _, d := range heads(debts, arrivals) {
		v.pending(d, before[lane{d.agent, d.receiver}], now)
	}
}

// heads are what has not been confirmed in each lane, the first of it.
func heads(debts []debt, arrivals []*arrival) map[lane]debt {
	confirmed, first := map[delivery]bool{}, map[lane]debt{}
	for _, a := range arrivals {
		confirmed[a.delivery] = confirmed[a.delivery] || a.confirmed()
	}
	for _, d := range debts {
		where := lane{d.agent, d.receiver}
		if f, ok := first[where]; !d.cancelled && !d.at.IsZero() && !confirmed[d.delivery] && (!ok || d.sequence < f.sequence) {
			first[where] = d
		}
	}
	return first
}

// unanswered are the times in which each receiver has kept a request without an answer: a client has few in flight.
func unanswered(arrivals []*arrival) map[int][]span {
	spans := map[int][]span{}
	for _, a := range arrivals {
		if a.answer == 0 {
			spans[a.receiver] = append(spans[a.receiver], span{a.at, a.ended})
		}
	}
	return spans
}

// pending: a delivery is sent, or is not even by the end, since the one before it in its lane. A busy agent's may be
// parked meanwhile, or on their way to another receiver.
func (v *verdict) pending(d debt, before *arrival, sent time.Time) {
	if d.agent >= firstBusy {
		return
	}
	since := d.at
	if before != nil {
		since = latest(since, before.ended)
	}
	for _, u := range v.times.ups(d.receiver) {
		if before == nil || !u.refused(before) {
			v.wait(u, d, span{since, sent})
		}
	}
}

// refused says whether a receiver has refused a delivery, or was too slow, while it took others: then that waits by the
// schedule.
func (u up) refused(a *arrival) bool {
	slow := a.answer == 0 && a.ended.Sub(a.at) >= timeout
	return (a.answer >= 300 || slow) && a.at.After(u.from) && a.at.Before(u.to)
}

// wait: in a time in which its receiver is there, a delivery does not wait for too long.
func (v *verdict) wait(u up, d debt, pending span) {
	waited := pending.within(u.span)
	if u.after != nil && pending.from.Before(u.from) && pending.to.After(u.from) && pending.to.Before(u.to) {
		v.waiting, v.longest = v.waiting+1, max(v.longest, waited.length())
	}
	late := span{waited.from.Add(u.bound()), waited.to}
	if late.length() <= pace { // next to always
		return
	}
	sendable := late.outside(slices.Concat(v.unanswered[d.receiver], v.times.nothing()))
	if leases := v.leases(waited); sendable > pace+time.Duration(leases)*lease {
		v.fault(overdue, "%v: it waited for %v from %s on, %v longer than the bound, in which it could be sent",
			d, waited.length().Round(time.Millisecond), waited.from.Format(clock), sendable.Round(time.Millisecond))
	}
}

// leases is how many leases of replicas that were hit may have kept a delivery.
func (v *verdict) leases(waited span) (n int) {
	if v.hits == nil {
		return 0
	}
	return min(v.hits(waited), mostLeases)
}

// hits is how many troubles a time has had that may keep a lane's lease. It is for the judgement, which holds the book.
func (l *ledger) hits(s span) (n int) {
	for _, t := range l.troubles {
		if !t.blow.harmless() && t.began.Before(s.to) && (t.ended.IsZero() || t.ended.Add(lease).After(s.from)) {
			n++
		}
	}
	return n
}

// count counts the outages of each mode.
func (t *timeline) count() (counts [modes]int) {
	for _, o := range t.outages {
		counts[o.mode]++
	}
	return counts
}

// outageRows count the outages, and the waits after them.
func (t total) outageRows() (rows []row) {
	for i, n := range t.times.count() {
		if mode(i) != healthy {
			rows = append(rows, row{mode(i).String(), n})
		}
	}
	return append(rows,
		row{"lanes that waited at a return", t.waiting},
		row{"the longest of them waited for", t.longest.Round(time.Millisecond)})
}
