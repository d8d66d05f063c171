package main

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"slices"
	"time"

	"github.com/agentevents/agentevents/server/lab"
)

// settings are the numbers of a workload. Each has a flag of the same name.
type settings struct {
	count     int     // rounds
	agents    int     // of isolation for each receiver
	changes   int     // in all; of backlog for each agent
	receivers int     // of burst, steady, shift and fanout for each agent, else in all
	rows      int     // deliveries and changes that the program keeps
	rate      float64 // changes per second; of burst, shift and fanout 0, which is as fast as they are taken
	lasts     time.Duration
}

// workload is one thing to measure. Its function returns the scenarios that each round has.
type workload struct {
	name      string
	hasFloors bool // they are measured too
	scenarios func(*measurement) ([]scenario, error)
	settings
}

// workloads returns all of them. Those that have floors have as many rounds as benchstat needs for an interval.
func workloads() []workload {
	return []workload{
		{"burst", true, throughput, settings{count: 6, agents: 2000, changes: 20_000, receivers: 1}},
		{"steady", true, throughput, settings{count: 6, agents: 2000, receivers: 1, lasts: 10 * time.Second}},
		{"shift", true, throughput, settings{count: 6, agents: 101_000, changes: 100_000, receivers: 1}},
		{"fanout", true, throughput, settings{count: 6, agents: 500, changes: 2000, receivers: 10}},
		{"isolation", false, isolation, settings{
			count: 2, agents: 5, receivers: 1000, rate: 150, lasts: 50 * time.Second,
		}},
		{"backlog", false, backlog, settings{
			count: 1, agents: 5000, changes: 10, receivers: 2, rate: 25, lasts: 42 * time.Second,
		}},
		{"soak", false, soak, settings{
			count: 1, agents: 500, receivers: 50, rows: 20_000, rate: 300, lasts: 4 * time.Minute,
		}},
		{"neighbours", false, neighbours, settings{
			count: 1, agents: 4, receivers: 2, rate: 40, lasts: 2 * time.Second,
		}},
	}
}

// override replaces the numbers that others have.
func (s *settings) override(by settings) {
	*s = settings{
		count: cmp.Or(by.count, s.count), agents: cmp.Or(by.agents, s.agents), changes: cmp.Or(by.changes, s.changes),
		receivers: cmp.Or(by.receivers, s.receivers), rows: cmp.Or(by.rows, s.rows), rate: cmp.Or(by.rate, s.rate),
		lasts: cmp.Or(by.lasts, s.lasts),
	}
}

// throughput is burst, steady, shift and fanout: the floors and the program get the same changes. The agents log in and
// out in turn.
func throughput(m *measurement) (all []scenario, err error) {
	rates := []float64{m.rate}
	if m.name == "steady" && m.rate == 0 {
		rates = []float64{50, 200}
	}
	c := m.client(m.name).addAgents(m.agents, 0, len(m.urls), m.urls)
	for _, rate := range rates {
		part, n := "", m.changes
		if rate > 0 {
			part, n = fmt.Sprintf("rate=%.0f", rate), max(1, int(rate*m.lasts.Seconds()))
		}
		warm := min(n/20, 1000)
		turn := warm % len(c.agents) // whose turn it is after the warm-up
		all = append(all, scenario{
			clients: []*client{c}, measured: []*client{c}, clone: true,
			warm:    []stream{{c.agents, warm, rate}},
			streams: []stream{{slices.Concat(c.agents[turn:], c.agents[:turn]), n, rate}},
			phases:  []phase{{part: part}},
			finish: func() {
				v := m.used.values(deliveries(c.sent))
				v["deliveries/s"] = c.deliveryRate()
				m.phases[0].values = v
			},
		})
	}
	return all, nil
}

// deliveryRate is how many deliveries arrived per second, from the first change to the last arrival.
func (c *client) deliveryRate() float64 {
	if len(c.sent) == 0 || len(c.arrived) == 0 {
		return 0
	}
	first := slices.MinFunc(c.sent, func(a, b *change) int { return a.sent.Compare(b.sent) }).sent
	return float64(len(c.arrived)) / c.arrived[len(c.arrived)-1].At.Sub(first).Seconds()
}

const (
	// undetected is how long the program cannot know that receivers hang, and a little more: until the first attempts
	// at them have failed.
	undetected = 12 * time.Second
	// rush is the time in which each receiver that hangs gets its first change: so no breaker can be open when all hang
	// together. In a shorter one these changes alone would take longer than they do when all answer.
	rush = 2 * time.Second
)

// isolation compares the latency at healthy receivers while all receivers answer with that while three of ten hang
// until the attempt's timeout, under the same load: most agents change at a steady rate. In the warm-up all receivers
// have shown that they are quick: that is the worst case, since each may have 32 requests at a time then. Some
// receivers more get their first request meanwhile.
func isolation(m *measurement) (all []scenario, err error) {
	n := len(m.urls)
	hang, answer := n*3/10, n-max(1, n/20) // the numbers of the first receivers that answer, and that are fresh
	if hang < 1 {
		return nil, errors.New("needs at least 4 receivers")
	}
	hanging := m.client("hanging").addAgents(hang*m.agents, 0, 1, m.urls[:hang])
	healthy := m.client("healthy").addAgents((answer-hang)*m.agents, hang, 1, m.urls[hang:answer])
	fresh := m.client("fresh").addAgents(n-answer, answer, 1, m.urls[answer:]) // its receivers get one delivery each
	mixed := slices.Concat(hanging.agents[hang:], healthy.agents)
	random := rand.New(rand.NewPCG(1, 2)) //nolint:gosec // every run has the same order
	random.Shuffle(len(mixed), func(i, j int) { mixed[i], mixed[j] = mixed[j], mixed[i] })
	for _, when := range []string{"when=calm", "when=hang"} {
		all = append(all, scenario{
			clients: []*client{hanging, healthy, fresh}, measured: []*client{healthy, fresh},
			warm: []stream{{hanging.agents, 2 * len(hanging.agents), 0}, {healthy.agents, 2 * len(healthy.agents), 0}},
			streams: []stream{
				{mixed, int(m.rate * m.lasts.Seconds()), m.rate},
				{fresh.agents, len(fresh.agents), float64(len(fresh.agents)) / m.lasts.Seconds()},
				{hanging.agents[:hang], hang, float64(hang) / rush.Seconds()},
			},
			phases: []phase{{part: "part=undetected/" + when, do: func(ctx context.Context) error {
				if when == "when=hang" {
					hanging.reply.Store(&lab.Reply{Hold: make(chan struct{})})
				}
				return lab.Pause(ctx, min(undetected, m.lasts/2))
			}}, {part: "part=later/" + when}}, // in the beginning there is more to do in both
			finish: func() {
				most := values{"requests-at-a-time": float64(hanging.maxConcurrent())}
				m.print("client=hanging/"+when, deliveries(hanging.sent), most)
			},
		})
	}
	return all, nil
}
