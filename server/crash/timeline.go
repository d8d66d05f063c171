package main

import (
	"fmt"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/agentevents/agentevents/server/lab"
)

// trouble is a time in which something is wrong: a fault of a server or of the database, or an outage of a receiver.
type trouble struct {
	from, to time.Time // to is zero while it lasts
	back     time.Time // when the server could send again; zero until then
	fault    *fault    // nil for an outage
	mode     mode      // of an outage
	who      int       // the server, 0 for all; the receiver
}

func (t *trouble) String() string {
	what := t.mode.String()
	if t.fault != nil {
		what = t.fault.name
	}
	return fmt.Sprintf("%s to %s, %d: %s", t.from.Format(lab.Clock), t.to.Format(lab.Clock), t.who, what)
}

// during says whether it lasted in a time.
func (t *trouble) during(from, to time.Time) bool {
	return t.from.Before(to) && (t.to.IsZero() || t.to.After(from))
}

// down says whether the server cannot send yet.
func (t *trouble) down() bool { return t.back.IsZero() && t.stops() }

// stops says whether it keeps a server from sending.
func (t *trouble) stops() bool { return t.fault.recover != nil || t.who == 0 }

// timeline is what was wrong when.
type timeline struct {
	mu      sync.Mutex
	faults  []*trouble // in the order of their beginnings
	outages []*trouble
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

func (l *timeline) some(is func(*trouble) bool) bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	return slices.ContainsFunc(l.faults, is)
}

// troubled says whether a server, or the database, had a fault since a time that excuses as much as another.
func (l *timeline) troubled(server int, since time.Time, least excuses) bool {
	return l.some(func(t *trouble) bool {
		its := t.who == 0 || t.who == server
		return its && t.stops() && t.fault.excuses >= least && (t.down() || t.back.After(since))
	})
}

// excuses says whether a delivery may come again because of a fault, between two arrivals, of the server that the first
// one is from.
func (l *timeline) excuses(before, again *lab.Arrival) bool {
	from := senderOf(before)
	return l.some(func(t *trouble) bool {
		enough := t.fault.excuses == everything || t.fault.excuses == unanswered && before.Status == 0
		its := t.who == 0 || from == 0 || t.who == from
		return enough && its && t.during(before.At, again.At)
	})
}

// leases is how many faults may have kept a lane's lease in a time.
func (l *timeline) leases(from, to time.Time) (n int) {
	l.some(func(t *trouble) bool {
		if t.fault.excuses != nothing && t.during(from.Add(-lease), to) {
			n++
		}
		return false
	})
	return n
}

// able says whether any of some servers can send.
func (l *timeline) able(servers int) bool {
	down := map[int]bool{}
	l.some(func(t *trouble) bool {
		if t.down() {
			down[t.who] = true
		}
		return false
	})
	return !down[0] && len(down) < servers
}

// up is since when a receiver takes what it gets.
func (l *timeline) up(number int) up {
	l.mu.Lock()
	defer l.mu.Unlock()
	for _, o := range slices.Backward(l.outages) {
		switch {
		case o.who == number && o.to.IsZero():
			return up{}
		case o.who == number:
			return up{o.to, o.to.Sub(o.from)}
		}
	}
	return up{since: time.Unix(0, 0)}
}

// closedPort says whether a port was closed between two arrivals.
func (l *timeline) closedPort(before, again *lab.Arrival) bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	return slices.ContainsFunc(l.outages, func(o *trouble) bool {
		return o.mode == closed && o.during(before.At, again.At)
	})
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
