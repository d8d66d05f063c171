package main

import "time"

// span is the time in which changes count, from one instant to before another; a zero time leaves an end open.
type span struct{ from, to time.Time }

func (s span) has(t time.Time) bool {
	return !t.Before(s.from) && (s.to.IsZero() || t.Before(s.to))
}

// times are how long the changes of a client and a span took until their first arrival. What never arrived is not among
// them, but among the faults.
func times(changes []change, h Harvest, client string, within span) (all []time.Duration) {
	arrived := map[int64]int64{}
	for _, a := range h.Arrivals {
		if _, ok := arrived[a.Sequence]; !ok {
			arrived[a.Sequence] = a.At
		}
	}
	for _, c := range changes {
		if at, ok := arrived[c.sequence]; ok && c.client == client && within.has(c.sent) {
			all = append(all, time.Unix(0, at).Sub(c.sent))
		}
	}
	return all
}

// count is how many changes are of a client.
func count(changes []change, client string) (n int) {
	for _, c := range changes {
		if c.client == client {
			n++
		}
	}
	return n
}

// asked is how many requests of a client arrived within a span.
func asked(h Harvest, client string, within span) (n int) {
	for _, a := range h.Arrivals {
		if a.Client == client && within.has(time.Unix(0, a.At)) {
			n++
		}
	}
	return n
}

// faults count what must never happen to the events of a client, when all of them had their time.
type faults struct{ lost, twice, outOfOrder int }

// lane is an agent at a receiver, to which there is an order.
type lane struct {
	agent int64
	host  string
}

// faultsOf looks for them where each change has so many deliveries.
func faultsOf(changes []change, h Harvest, client string, each int) (f faults) {
	last := map[lane]int64{} // the latest sequence that was confirmed
	known := map[string]bool{}
	confirmed := map[int64]int{}
	for _, a := range h.Arrivals {
		switch {
		case a.Client != client || !a.confirmed():
		case known[a.ID]:
			f.twice++
		default:
			l := lane{a.Agent, a.Host}
			if a.Sequence < last[l] {
				f.outOfOrder++
			}
			known[a.ID] = true
			confirmed[a.Sequence]++
			last[l] = max(last[l], a.Sequence)
		}
	}
	for _, c := range changes {
		if c.client == client {
			f.lost += max(0, each-confirmed[c.sequence])
		}
	}
	return f
}

// report notes the faults, and whose they are.
func (f faults) report(out *report, round int, whose string) {
	out.never(round, "lost", whose, f.lost)
	out.never(round, "delivered twice", whose, f.twice)
	out.never(round, "out of order", whose, f.outOfOrder)
}
