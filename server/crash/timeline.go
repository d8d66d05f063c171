package main

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"sync"
	"time"
)

// span is a time from a beginning to an end.
type span struct{ from, to time.Time }

func (s span) length() time.Duration { return max(0, s.to.Sub(s.from)) }

// within is the part of a span that lies in another one.
func (s span) within(o span) span { return span{latest(s.from, o.from), earliest(s.to, o.to)} }

func latest(a, b time.Time) time.Time {
	if a.After(b) {
		return a
	}
	return b
}

func earliest(a, b time.Time) time.Time {
	if a.Before(b) {
		return a
	}
	return b
}

// outage is a time in which a receiver takes nothing.
type outage struct {
	span     // its end is zero while it lasts
	receiver int
	mode     mode
}

// timeline is when receivers took nothing, and when nothing could be sent.
type timeline struct {
	mu      sync.Mutex
	outages []*outage // of all receivers, in the order of their beginnings
	dead    []span    // no server was able to send, or the machine was too busy to run this program

	able      map[int]bool // the replicas that can send now; 1 is the only server
	away      bool         // the database cannot be used now
	deadSince time.Time    // zero while something can be sent
}

func newTimeline() *timeline { return &timeline{able: map[int]bool{}, deadSince: time.Now()} }

// begin notes that an outage begins.
func (t *timeline) begin(receiver int, m mode) *outage {
	t.mu.Lock()
	defer t.mu.Unlock()
	o := &outage{receiver: receiver, mode: m, span: span{from: time.Now()}}
	t.outages = append(t.outages, o)
	return o
}

// end notes that an outage is over.
func (t *timeline) end(o *outage) {
	t.mu.Lock()
	defer t.mu.Unlock()
	o.to = time.Now()
}

// server notes whether a replica can send.
func (t *timeline) server(replica int, able bool) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if delete(t.able, replica); able {
		t.able[replica] = true
	}
	t.note()
}

// database notes whether the database can be used.
func (t *timeline) database(usable bool) {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.away = !usable
	t.note()
}

// note notes what has changed about whether anything can be sent.
func (t *timeline) note() {
	switch dead := t.away || len(t.able) == 0; {
	case dead && t.deadSince.IsZero():
		t.deadSince = time.Now()
	case !dead && !t.deadSince.IsZero():
		t.dead, t.deadSince = append(t.dead, span{t.deadSince, time.Now()}), time.Time{}
	}
}

// beat is how often this program looks whether the machine lets it run.
const beat = 20 * time.Millisecond

// watchStalls notes, until ctx ends, when the machine was too busy to run this program. Then it did not run the server
// either.
func (t *timeline) watchStalls(ctx context.Context) {
	for before := time.Now(); ctx.Err() == nil; {
		time.Sleep(beat)
		now := time.Now()
		if due := before.Add(beat); now.Sub(due) > beat {
			t.stall(span{due, now})
		}
		before = now
	}
}

func (t *timeline) stall(s span) {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.dead = append(t.dead, s)
}

// nothing is when nothing could be sent.
func (t *timeline) nothing() []span {
	t.mu.Lock()
	defer t.mu.Unlock()
	return slices.Clone(t.dead)
}

// story lists all outages, in the order of their beginnings.
func (t *timeline) story() string {
	t.mu.Lock()
	defer t.mu.Unlock()
	var s strings.Builder
	for _, o := range t.outages {
		fmt.Fprintf(&s, "%s to %s, receiver %d: %v\n", o.from.Format(clock), o.to.Format(clock), o.receiver, o.mode)
	}
	return s.String()
}

// up is a time in which a receiver takes what it gets.
type up struct {
	span
	after *outage // nil for the first one
}

// ups are the times in which a receiver takes what it gets; the last one does not end.
func (t *timeline) ups(receiver int) []up {
	all := []up{{span: span{to: time.Now()}}}
	for _, o := range t.outages {
		if o.receiver == receiver {
			all[len(all)-1].to = o.from
			all = append(all, up{span{o.to, time.Now()}, o})
		}
	}
	return all
}

// refusedConnections says whether a port was closed in a time.
func (t *timeline) refusedConnections(s span) bool {
	return slices.ContainsFunc(t.outages, func(o *outage) bool { return o.mode == closed && s.within(o.span).length() > 0 })
}

// outside is how much of a span lies outside of others, which may overlap.
func (s span) outside(spans []span) (left time.Duration) {
	spans = slices.SortedFunc(slices.Values(spans), func(a, b span) int { return a.from.Compare(b.from) })
	for _, o := range spans {
		left += span{s.from, o.from}.within(s).length()
		s.from = latest(s.from, o.to)
	}
	return left + s.length()
}
