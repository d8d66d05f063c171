package main

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/agentevents/agentevents/server/lab"
)

// span is a time from a beginning to an end.
type span struct{ from, to time.Time }

func (s span) length() time.Duration { return max(0, s.to.Sub(s.from)) }

// within is the part of a span that lies in another one.
func (s span) within(o span) span {
	if o.from.After(s.from) {
		s.from = o.from
	}
	if o.to.Before(s.to) {
		s.to = o.to
	}
	return s
}

// outside is how much of a span lies outside of others, which may overlap.
func (s span) outside(spans []span) (left time.Duration) {
	for _, o := range slices.SortedFunc(slices.Values(spans), func(a, b span) int { return a.from.Compare(b.from) }) {
		left += span{s.from, o.from}.within(s).length()
		if o.to.After(s.from) {
			s.from = o.to
		}
	}
	return left + s.length()
}

// overlap are the times that lie in spans of two lists.
func overlap(some, others []span) (both []span) {
	for _, s := range some {
		for _, o := range others {
			if x := s.within(o); x.length() > 0 {
				both = append(both, x)
			}
		}
	}
	return both
}

// trouble is a time in which something is wrong: a fault of a server or of the database, or an outage of a receiver.
type trouble struct {
	span            // its end is zero while it lasts
	fault *fault    // nil for an outage
	mode  mode      // of an outage
	who   int       // the server, 0 for all; the receiver
	back  time.Time // when the server could send again; zero until then
}

func (t *trouble) String() string {
	what := t.mode.String()
	if t.fault != nil {
		what = t.fault.name
	}
	return fmt.Sprintf("%s to %s, %d: %s", t.from.Format(lab.Clock), t.to.Format(lab.Clock), t.who, what)
}

// during says whether there was trouble in a time.
func (t *trouble) during(s span) bool {
	return t.from.Before(s.to) && (t.to.IsZero() || t.to.After(s.from))
}

// of says whether a server had it; one of 0 is not known.
func (t *trouble) of(server int) bool { return t.who == 0 || server == 0 || t.who == server }

// stops says whether a fault keeps a server from sending.
func (t *trouble) stops() bool { return t.fault.recover != nil || t.who == 0 }

// timeline is what was wrong when.
type timeline struct {
	mu      sync.Mutex
	faults  []*trouble // in the order of their beginnings
	outages []*trouble
	stalls  []span // the machine was too busy to run this program
}

func (l *timeline) begin(t trouble) *trouble {
	l.mu.Lock()
	defer l.mu.Unlock()
	t.from = time.Now()
	if t.fault != nil {
		l.faults = append(l.faults, &t)
	} else {
		l.outages = append(l.outages, &t)
	}
	return &t
}

// end notes that trouble is over.
func (l *timeline) end(t *trouble) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if t.to.IsZero() {
		t.to = time.Now()
	}
}

// recovered notes that trouble is over and the server can send again.
func (l *timeline) recovered(t *trouble) {
	l.end(t)
	l.mu.Lock()
	defer l.mu.Unlock()
	t.back = time.Now()
}

// troubled says whether a server, or the database, had a fault since a time that excuses as much as another.
func (l *timeline) troubled(server int, since time.Time, least excuses) bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	return slices.ContainsFunc(l.faults, func(t *trouble) bool {
		its := t.who == 0 || t.who == server
		return its && t.stops() && t.fault.excuses >= least && (t.back.IsZero() || t.back.After(since))
	})
}

// excuses says whether a delivery may come again because of a fault, between two arrivals, of the server that the first
// one is from.
func (l *timeline) excuses(before, again *lab.Arrival) bool {
	return slices.ContainsFunc(l.faults, func(t *trouble) bool {
		enough := t.fault.excuses == everything || t.fault.excuses == unanswered && before.Status == 0
		return enough && t.of(server(before)) && t.during(span{before.At, again.At})
	})
}

// hits is how many faults a time has had that may keep a lane's lease.
func (l *timeline) hits(s span) (n int) {
	for _, t := range l.faults {
		if t.fault.excuses != nothing && t.during(span{s.from.Add(-lease), s.to}) {
			n++
		}
	}
	return n
}

// dead is when nothing could be sent: without the database, without any server, or on a machine that was too busy.
func (l *timeline) dead(servers int) []span {
	down := make([][]span, servers+1)
	for _, t := range l.faults {
		if t.stops() {
			down[t.who] = append(down[t.who], span{t.from, t.back})
		}
	}
	every := down[1]
	for _, of := range down[2:] {
		every = overlap(every, of)
	}
	return slices.Concat(l.stalls, down[0], every)
}

// beat is how often this program looks whether the machine lets it run.
const beat = 20 * time.Millisecond

// watchStalls notes, until ctx ends, when the machine was too busy to run this program. Then it did not run the server
// either.
func (l *timeline) watchStalls(ctx context.Context) {
	for before := time.Now(); ctx.Err() == nil; {
		time.Sleep(beat)
		now := time.Now()
		if due := before.Add(beat); now.Sub(due) > beat {
			l.mu.Lock()
			l.stalls = append(l.stalls, span{due, now})
			l.mu.Unlock()
		}
		before = now
	}
}

func (l *timeline) String() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	var s strings.Builder
	for _, t := range slices.Concat(l.faults, l.outages) {
		fmt.Fprintln(&s, t)
	}
	return s.String()
}

// up is a time in which a receiver takes what it gets.
type up struct {
	span
	after *trouble // the outage before it, nil for the first one
}

// ups are the times in which a receiver takes what it gets; the last one ends now.
func (l *timeline) ups(receiver int) []up {
	all := []up{{span: span{to: time.Now()}}}
	for _, o := range l.outages {
		if o.who == receiver {
			all[len(all)-1].to = o.from
			all = append(all, up{span{o.to, time.Now()}, o})
		}
	}
	return all
}

// refusedConnections says whether a port was closed between two arrivals.
func (l *timeline) refusedConnections(before, again *lab.Arrival) bool {
	between := span{before.At, again.At}
	return slices.ContainsFunc(l.outages, func(o *trouble) bool { return o.mode == closed && o.during(between) })
}
