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

// half is a half of a round of isolation. It compares the latency at healthy receivers while all receivers answer with
// that while three of ten hang until the attempt's timeout. Both halves have the same load, each with a new program on
// the same store. Before, all receivers have shown that they are quick: that is the worst case, since each may have 32
// requests at a time then. Some receivers more get their first request meanwhile.
type half struct {
	trial
	when         string   // calm or hang
	first, later []*agent // whose receivers hang: one of each of them, and the others
	others, once []*agent
}

func newIsolation(t trial) (story, error) {
	n := len(t.urls)
	hang, answer := n*3/10, n-max(1, n/20) // the numbers of the first receivers that answer, and that are fresh
	if hang < 1 {
		return nil, errors.New("needs at least 4 receivers")
	}
	toHang := agents(hanging, hang*t.agents, 0, 1, t.urls[:hang])
	return &half{
		trial: t, when: []string{"calm", "hang"}[t.variant], first: toHang[:hang], later: toHang[hang:],
		others: agents(healthy, (answer-hang)*t.agents, hang, 1, t.urls[hang:answer]),
		once:   agents(fresh, n-answer, answer, 1, t.urls[answer:]),
	}, nil
}

func (x *half) setup() setup {
	return setup{clients: [][]*agent{slices.Concat(x.first, x.later), x.others, x.once}}
}

// run makes the changes: at a steady rate for most agents, and besides at the fresh receivers, and first at those that
// hang.
func (x *half) run(ctx context.Context, c *caller) error {
	if err := x.warm(ctx, c, 2, slices.Concat(x.first, x.later), x.others); err != nil {
		return err
	}
	x.say("%s: %s for %v", x.where, x.when, x.lasts)
	if x.when == "hang" {
		x.answer(hanging, noAnswer)
	}
	x.began = time.Now()
	err := x.play(ctx, ctx, c, []stream{
		steadily(shuffled(slices.Concat(x.later, x.others)), x.rate(0), x.lasts),
		{x.once, len(x.once), float64(len(x.once)) / x.lasts.Seconds()},
		{x.first, len(x.first), float64(len(x.first)) / rush.Seconds()},
	}, nothing)
	x.delivered(ctx, healthy, fresh)
	x.answer(hanging, http.StatusOK)
	return err
}

// report reports the half as a whole and in parts: in the beginning there is more to do in both halves.
func (x *half) report(arrivals []*lab.Arrival) {
	turn, when := x.began.Add(undetected), "when="+x.when
	x.measureLatency(arrivals, healthy, span{}, "part=all", when)
	x.measureLatency(arrivals, healthy, span{to: turn}, "part=undetected", when)
	x.measureLatency(arrivals, healthy, span{from: turn}, "part=later", when)
	x.measureLatency(arrivals, fresh, span{}, "part=fresh", when)
	together := value{float64(maxTogether(arrivals, hanging)), "requests-at-a-time"}
	x.result(x.workload, deliveries(x.changes, hanging), []value{together}, "part=hanging", when, x.label)
	for _, client := range []string{healthy, fresh} {
		x.check(x.where, client, x.changes, arrivals)
	}
}
