package main

import (
	"cmp"
	"fmt"
	"slices"
	"time"
)

// kind is what sort of promise was broken.
type kind int

const (
	lost       kind = iota // something that was stored is gone, or never arrived
	disorder               // a later one arrived before an earlier one was confirmed
	needless               // a duplicate that no kill or other trouble explains
	mismatched             // two contents under one webhook-id, two ids for one delivery, or a delivery that nobody owes
	late                   // what was in flight at a kill did not go out at once after the next start
	overdue                // what was pending for a receiver that was back has waited for too long
	complaint              // the server says itself that something is wrong
	kinds                  // how many there are
)

func (k kind) String() string {
	return [kinds]string{
		"lost", "out of order", "needless duplicates", "mismatched", "late after a start",
		"late to a receiver that was back", "complaints",
	}[k]
}

// fault is one promise that was broken.
type fault struct {
	kind kind
	text string
}

// verdict is what comes of holding what has arrived against what was owed.
type verdict struct {
	faults     []fault
	retries    int           // requests that came again because the receiver had refused them
	duplicates int           // requests that came again because a kill or other trouble was between the request and its record
	waiting    int           // lanes that waited at a return of their receiver
	longest    time.Duration // that one of them waited for

	unanswered map[int][]span
	rules
}

// rules are what a judgement goes by.
type rules struct {
	// excused says whether a request may come again that the receiver had not refused.
	excused func(before, again *arrival) bool
	// counted says whether it may then be counted as another attempt: its sender outlived the trouble.
	counted bool
	// times are when receivers took nothing and when nothing could be sent.
	times *timeline
	// hits is how many times in a span a replica may have been kept from a lane that it held; nil for one server.
	hits func(span) int
}

// oneServer are the rules for one server, which is killed.
func oneServer(t *timeline) rules {
	return rules{excused: func(before, again *arrival) bool { return again.life > before.life }, times: t}
}

func (v *verdict) fault(k kind, format string, args ...any) {
	v.faults = append(v.faults, fault{k, fmt.Sprintf(format, args...)})
}

// count is how many faults are of a kind.
func (v *verdict) count(k kind) (n int) {
	for _, f := range v.faults {
		if f.kind == k {
			n++
		}
	}
	return n
}

// judge holds what has arrived, in that order, against what was owed.
func judge(debts []debt, arrivals []*arrival, r rules) (v verdict) {
	v.rules = r
	v.waits(debts, arrivals)
	v.debts(debts, arrivals)
	for _, of := range grouped(arrivals, func(a *arrival) string { return a.id }) {
		v.repetitions(of)
	}
	for _, of := range grouped(arrivals, line) {
		v.inTurn(of)
	}
	return v
}

// line is what keeps its order: a lane and, of busy agents, a registration, which has one delivery in flight at a time
// wherever it moves.
func line(a *arrival) string {
	if a.agent >= firstBusy {
		return a.registration
	}
	return fmt.Sprint(a.lane())
}

// grouped is what belongs together, each group in the order of arrival, the groups in that of their first.
func grouped[K comparable](arrivals []*arrival, key func(*arrival) K) (groups [][]*arrival) {
	place := map[K]int{}
	for _, a := range arrivals {
		k := key(a)
		i, ok := place[k]
		if !ok {
			i = len(groups)
			place[k] = i
			groups = append(groups, nil)
		}
		groups[i] = append(groups[i], a)
	}
	return groups
}

// debts: everything that is owed was confirmed once, under one id, and nothing has come that nobody owes. So a status
// that has not changed is sent to nobody: no change has its sequence.
func (v *verdict) debts(debts []debt, arrivals []*arrival) {
	owed, ids, confirmed := map[delivery]debt{}, map[delivery]string{}, map[delivery]bool{}
	for _, d := range debts {
		owed[d.delivery] = d
	}
	for _, a := range arrivals {
		if id, ok := ids[a.delivery]; ok && id != a.id {
			v.fault(mismatched, "%v came as %s too", a, id)
		}
		ids[a.delivery] = a.id
		confirmed[a.delivery] = confirmed[a.delivery] || a.confirmed()
		v.owed(owed, a)
	}
	slices.SortFunc(debts, func(a, b debt) int { return cmp.Compare(a.sequence, b.sequence) })
	for _, d := range debts {
		if !d.cancelled && !confirmed[d.delivery] {
			v.fault(lost, "%v", d)
		}
	}
}

// owed: a request is one that was owed, with that status, to that receiver.
func (v *verdict) owed(owed map[delivery]debt, a *arrival) {
	d, ok := owed[a.delivery]
	switch {
	case !ok:
		v.fault(mismatched, "%v: nobody owed it", a)
	case a.agent != d.agent || a.status != string(d.status):
		v.fault(mismatched, "%v: owed was %v", a, d)
	case a.agent < firstBusy && a.receiver != d.receiver:
		v.fault(mismatched, "%v: its receiver is %d", a, d.receiver)
	}
}

// repetitions: what comes under one id is the same each time. It comes again only when the receiver had refused it, or
// there was trouble: of one server, in a later life alone, since whatever was between the request and its record, it was
// the kill.
func (v *verdict) repetitions(of []*arrival) {
	for i, a := range of[1:] {
		p := of[i]
		if a.delivery != p.delivery || a.request != p.request {
			v.fault(mismatched, "%v: before, this id was %v", a, p)
			continue
		}
		refused, again := p.answer >= 300 || p.cut, v.excused(p, a)
		switch {
		case refused:
			v.retries++
		case again:
			v.duplicates++
		default:
			v.fault(needless, "%v, though it was there before: %v", a, p)
		}
		counted := (refused || again && v.counted) && a.attempt == p.attempt+1
		uncounted := (again || p.cut) && a.attempt == p.attempt // a request that is cut off may go out once more at once
		if !counted && !uncounted && !v.unseen(p, a) {
			v.fault(mismatched, "%v: before, this was attempt %d", a, p.attempt)
		}
	}
}

// unseen says whether there may have been attempts between two requests that found a port closed.
func (v *verdict) unseen(before, again *arrival) bool {
	return again.attempt > before.attempt && v.times.refusedConnections(span{before.at, again.at})
}

// inTurn: nothing is sent before what is before it is confirmed. So whatever comes again is the last one before a kill.
func (v *verdict) inTurn(of []*arrival) {
	seen := map[string]bool{of[0].id: true}
	for i, a := range of[1:] {
		p := of[i]
		switch {
		case a.id == p.id:
		case seen[a.id]:
			v.fault(needless, "%v came again after %v", a, p)
		case a.sequence < p.sequence:
			v.fault(disorder, "%v came after %v", a, p)
		case !p.confirmed() || a.place < p.until:
			v.fault(disorder, "%v came before this was confirmed: %v", a, p)
		}
		seen[a.id] = true
	}
}

func (a *arrival) String() string {
	return fmt.Sprintf("change %d of agent %d, %s, for %s at receiver %d as %s, attempt %d, answered %d in life %d%s",
		a.sequence, a.agent, a.status, a.registration, a.receiver, a.id, a.attempt, a.answer, a.life, a.of())
}

func (d debt) String() string {
	return fmt.Sprintf("change %d of agent %d, %s, for %s at receiver %d, promised in life %d",
		d.sequence, d.agent, d.status, d.registration, d.receiver, d.life)
}

// of says which replica a request was of.
func (a *arrival) of() string {
	if a.sender == 0 {
		return ""
	}
	return fmt.Sprintf(" of replica %d at %s", a.sender, a.at.Format(clock))
}
