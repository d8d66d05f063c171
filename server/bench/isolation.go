package main

import (
	"context"
	"errors"
	"net/http"
	"slices"
	"time"

	"github.com/agentevents/agentevents/server/lab"
)

// The clients of isolation.
const (
	healthy = "healthy" // its receivers always answer
	hanging = "hanging" // its receivers hang in every second half of a round
	fresh   = "fresh"   // its receivers always answer, and get one delivery each
)

const (
	// undetected is how long the program cannot know that receivers hang, and a little more: until the first attempts
	// at them have failed.
	undetected = 12 * time.Second
	// rush is the time in which each receiver that hangs gets its first change: so no breaker can be open when all hang
	// together. In a shorter one these changes alone would take longer than they do in the half in which all answer.
	rush = 2 * time.Second
)

// isolation compares the latency at healthy receivers while all receivers answer with that while three of ten hang
// until the attempt's timeout. Both halves of a round have the same load, each with a new program on the same store:
// most agents change at a steady rate. Before, all their receivers have shown that they are quick: that is the worst
// case, since each may have 32 requests at a time then. Some receivers more get their first request meanwhile.
func isolation(x *trial) error {
	n := len(x.urls)
	hang, answer := n*3/10, n-max(1, n/20) // the numbers of the first receivers that answer, and that are fresh
	if hang < 1 {
		return errors.New("needs at least 4 receivers")
	}
	toHang := agents(hanging, hang*x.agents, 0, 1, x.urls[:hang])
	others := agents(healthy, (answer-hang)*x.agents, hang, 1, x.urls[hang:answer])
	once := agents(fresh, n-answer, answer, 1, x.urls[answer:])
	when, status := "/when=calm", http.StatusOK
	if x.variant == 1 {
		when, status = "/when=hang", noAnswer
	}
	x.plan = plan{
		clients: [][]*agent{toHang, others, once}, measured: []string{healthy, fresh},
		warm: []stream{{toHang, 2 * len(toHang), 0}, {others, 2 * len(others), 0}},
		streams: []stream{
			steadily(shuffled(slices.Concat(toHang[hang:], others)), x.rate(0), x.lasts),
			{once, len(once), float64(len(once)) / x.lasts.Seconds()},
			{toHang[:hang], hang, float64(hang) / rush.Seconds()},
		},
		phases: []phase{{part: "part=undetected" + when, do: func(ctx context.Context, _ *caller) error {
			x.answer(hanging, status)
			_ = lab.Pause(ctx, min(undetected, x.lasts/2))
			return nil
		}}, {part: "part=later" + when}}, // in the beginning there is more to do in both halves
	}
	x.closing = func(arrivals []*lab.Arrival) {
		together := value{float64(maxTogether(arrivals, hanging)), "requests-at-a-time"}
		x.result(deliveries(x.changes, hanging), []value{together}, "client="+hanging+when)
	}
	return nil
}
