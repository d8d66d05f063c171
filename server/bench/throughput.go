package main

import (
	"fmt"
	"slices"

	"github.com/agentevents/agentevents/server/lab"
)

// throughput is burst, steady, shift and fanout: the same changes are made to the floors and to the program. The agents
// log in and out in turn.
func throughput(x *trial) error {
	busy := agents(x.name, x.agents, 0, len(x.urls), x.urls)
	part, n, rate := "", x.workload.changes, x.rate(x.variant)
	if rate > 0 {
		part, n = fmt.Sprintf("rate=%.0f", rate), max(1, int(rate*x.lasts.Seconds()))
	}
	before := min(n/20, 1000)
	turn := before % len(busy) // whose turn it is after the warm-up
	x.plan = plan{
		clients: [][]*agent{busy[:1]}, clones: len(busy), floors: true, measured: []string{x.name},
		streams: []stream{{slices.Concat(busy[turn:], busy[:turn]), n, rate}},
		warm:    []stream{{busy, before, rate}},
		phases: []phase{{part: part, values: func(arrivals []*lab.Arrival) []value {
			rate := value{rateOf(x.changes, arrivals), "deliveries/s"}
			return append([]value{rate}, x.used.values(deliveries(x.changes, x.name))...)
		}}},
	}
	return nil
}

// rateOf is how many deliveries arrived per second, from the first change to the last arrival.
func rateOf(changes []change, arrivals []*lab.Arrival) float64 {
	if len(changes) == 0 || len(arrivals) == 0 {
		return 0
	}
	first := slices.MinFunc(changes, func(a, b change) int { return a.sent.Compare(b.sent) }).sent
	return float64(len(arrivals)) / arrivals[len(arrivals)-1].At.Sub(first).Seconds()
}
