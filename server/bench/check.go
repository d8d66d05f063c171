package main

import (
	"maps"
	"slices"
	"time"

	"github.com/agentevents/agentevents/server/lab"
)

// check notes what must never happen to the deliveries of a client, when all of them had their time.
func (b *bench) check(where, client string, changes []change, arrivals []*lab.Arrival) {
	h := lab.History{Line: laneOf}
	for _, a := range arrivals {
		if clientOf(a) == client {
			h.Arrivals = append(h.Arrivals, a)
		}
	}
	for _, c := range changes {
		if c.client != client {
			continue
		}
		for r := c.receiver; r < c.receiver+len(c.urls); r++ {
			h.Expected = append(h.Expected, &lab.Expected{
				Key:   lab.Key{Path: c.path(r), Sequence: c.sequence},
				Agent: c.id, Status: string(c.status), Receiver: r,
			})
		}
	}
	v := lab.Check(h, lab.Rules{})
	for i, f := range v.Faults {
		if i < 10 {
			b.neverIf(true, "%s: %s: %s", where, f.Kind, f.Text)
		}
	}
	b.neverIf(len(v.Faults) > 10, "%s: %d faults in all", where, len(v.Faults))
}

// span is a time from one instant to before another; a zero time leaves an end open.
type span struct{ from, to time.Time }

func (s span) has(t time.Time) bool {
	return !t.Before(s.from) && (s.to.IsZero() || t.Before(s.to))
}

// latencyOf is how long the deliveries of a client took until their first arrival, of the changes in a span. What never
// arrived is found by check.
func latencyOf(changes []change, arrivals []*lab.Arrival, client string, within span) (times []time.Duration) {
	sent := map[int64]time.Time{}
	for _, c := range changes {
		if c.client == client && within.has(c.sent) {
			sent[c.sequence] = c.sent
		}
	}
	known := map[lab.Key]bool{}
	for _, a := range arrivals {
		if at, ok := sent[a.Sequence]; ok && !known[a.Key] && clientOf(a) == client {
			known[a.Key] = true
			times = append(times, a.At.Sub(at))
		}
	}
	return times
}

// deliveries is how many the changes of a client have.
func deliveries(changes []change, client string) (n int) {
	for _, c := range changes {
		if c.client == client {
			n += len(c.urls)
		}
	}
	return n
}

// maxTogether is how many requests of a client were under way at the same time at most.
func maxTogether(arrivals []*lab.Arrival, client string) (most int) {
	steps := map[time.Time]int{} // how many more there are from then on
	for _, a := range arrivals {
		if clientOf(a) == client {
			steps[a.At]++
			steps[a.Ended]--
		}
	}
	now := 0
	for _, at := range slices.SortedFunc(maps.Keys(steps), time.Time.Compare) {
		now += steps[at]
		most = max(most, now)
	}
	return most
}
