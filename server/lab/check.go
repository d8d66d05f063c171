package lab

import (
	"cmp"
	"fmt"
	"slices"
)

// Kind is the sort of promise that a fault breaks.
type Kind string

// What Check finds. Programs have further kinds.
const (
	Lost       Kind = "lost"                // it was stored, and is gone or was not confirmed
	Disorder   Kind = "out of order"        // a later delivery of a line arrived before an earlier one was confirmed
	Needless   Kind = "needless duplicates" // a delivery came again without a reason
	Mismatched Kind = "mismatched"          // two contents of one webhook-id, two ids of a delivery, or not expected
)

// Fault is one promise that was broken.
type Fault struct {
	Kind Kind
	Text string
}

// Rules are what may be so when deliveries are repeated. A request that was refused by a status from 300 on, or cut
// off, comes again in any case.
type Rules struct {
	// Excused says whether a delivery may come again that was confirmed or got no answer; nil means that none may.
	Excused func(before, again *Arrival) bool
	// Recounted says whether an excused repetition may have the next attempt's number, since its sender lives on.
	Recounted bool
	// Unseen says whether attempts between two arrivals may have reached no receiver; nil means that none have.
	Unseen func(before, again *Arrival) bool
}

// Verdict is what Check has found.
type Verdict struct {
	Faults     []Fault
	Retries    int // requests that came again because the receiver had refused or cut them off
	Duplicates int // requests that came again with an excuse
}

// Count is how many faults are of a kind.
func (v *Verdict) Count(k Kind) (n int) {
	for _, f := range v.Faults {
		if f.Kind == k {
			n++
		}
	}
	return n
}

// Wrong adds a fault.
func (v *Verdict) Wrong(k Kind, format string, args ...any) {
	v.Faults = append(v.Faults, Fault{k, fmt.Sprintf(format, args...)})
}

// History is a record when nothing is added any more.
type History struct {
	Expected []*Expected
	Arrivals []*Arrival // in their order
	Line     func(*Arrival) string
}

// Close returns the history of a record, and the faults that were found on the way. Nothing may arrive any more.
func (r *Record) Close() (History, []Fault) {
	r.mu.Lock()
	defer r.mu.Unlock()
	return History{r.expected, r.arrivals, r.line}, r.faults
}

// Check compares what is expected with what has arrived: it was confirmed, and nothing else has arrived. A status that
// has not changed is not sent: no change has its sequence.
func Check(h History, rules Rules) Verdict {
	c := check{Rules: rules}
	expected, confirmed := map[Key]*Expected{}, map[Key]bool{}
	for _, e := range h.Expected {
		expected[e.Key] = e
	}
	// The last arrival of each delivery, webhook-id and line.
	ofKey, ofID, ofLine := map[Key]*Arrival{}, map[string]*Arrival{}, map[string]*Arrival{}
	for _, a := range h.Arrivals {
		line, before := h.Line(a), ofID[a.ID]
		if p := ofKey[a.Key]; p != nil && p.ID != a.ID {
			c.Wrong(Mismatched, "%v came as %s too", a, p.ID)
		}
		c.content(expected[a.Key], a)
		if before != nil {
			c.repetition(before, a)
		}
		if p := ofLine[line]; p != nil && p.ID != a.ID {
			c.order(p, a, before != nil)
		}
		ofKey[a.Key], ofID[a.ID], ofLine[line] = a, a, a
		confirmed[a.Key] = confirmed[a.Key] || a.Confirmed()
	}
	slices.SortFunc(h.Expected, func(a, b *Expected) int { return cmp.Compare(a.Sequence, b.Sequence) })
	for _, e := range h.Expected {
		if !e.Cancelled && !confirmed[e.Key] {
			c.Wrong(Lost, "%v", e)
		}
	}
	return c.Verdict
}

type check struct {
	Rules
	Verdict
}

// content: a request is one that is expected, with that agent and status, at that receiver.
func (c *check) content(e *Expected, a *Arrival) {
	if e == nil {
		c.Wrong(Mismatched, "%v: it is not expected", a)
		return
	}
	pairs := Pairs(a.Form())
	for _, want := range []Pair{{"agent_id", fmt.Sprint(e.Agent)}, {"agent_status", e.Status}} {
		if !slices.Contains(pairs, want) {
			c.Wrong(Mismatched, "%v with %s: expected is %v", a, a.Form(), e)
		}
	}
	if e.Receiver != Anywhere && a.Receiver != e.Receiver {
		c.Wrong(Mismatched, "%v: its receiver is %d", a, e.Receiver)
	}
}

// repetition: what comes under one id is the same each time. It comes again only if the receiver has refused it or cut
// it off, or with an excuse.
func (c *check) repetition(p, a *Arrival) {
	if a.Key != p.Key || a.Request() != p.Request() {
		c.Wrong(Mismatched, "%v: before, this id was %v", a, p)
		return
	}
	refused, excused := p.Status >= 300 || p.Cut, c.Excused != nil && c.Excused(p, a)
	switch {
	case refused:
		c.Retries++
	case excused:
		c.Duplicates++
	default:
		c.Wrong(Needless, "%v, though it was there before: %v", a, p)
	}
	counted := (refused || excused && c.Recounted) && a.Attempt == p.Attempt+1
	uncounted := (excused || p.Cut) && a.Attempt == p.Attempt // what is cut off may go out once more at once
	unseen := a.Attempt > p.Attempt && c.Unseen != nil && c.Unseen(p, a)
	if !counted && !uncounted && !unseen {
		c.Wrong(Mismatched, "%v: before, this was attempt %d", a, p.Attempt)
	}
}

// order: nothing of a line is sent before what precedes it is confirmed. So only the last one comes again.
func (c *check) order(p, a *Arrival, again bool) {
	switch {
	case again:
		c.Wrong(Needless, "%v came again after %v", a, p)
	case a.Sequence < p.Sequence:
		c.Wrong(Disorder, "%v came after %v", a, p)
	case !p.Confirmed() || a.At.Before(p.Ended):
		c.Wrong(Disorder, "%v came before this was confirmed: %v", a, p)
	}
}
