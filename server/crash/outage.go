package main

import (
	"context"
	"math/rand/v2"
	"time"
)

// mode is whether a receiver takes requests and, if not, what becomes of them.
type mode int

const (
	healthy mode = iota
	closed       // nothing listens on its port
	hanging      // it answers nothing, and ends all connections when it comes back
	failing      // it answers 5xx
	modes        // how many there are
)

func (m mode) String() string {
	return [modes]string{"none", "outages: port closed", "outages: no answers", "outages: 5xx"}[m]
}

// mostBacklog is how long the next outage waits for lanes that have got nothing since the one before it.
const mostBacklog = time.Minute

// plannedOutage is the next outage of a receiver.
type plannedOutage struct {
	pause time.Duration // before it, once each lane has got something since the one before
	lasts time.Duration
	mode  mode
}

// outagePlan decides about the outages of one receiver: they are dealt from a deck in which each mode is, until it is
// empty.
type outagePlan struct {
	random *rand.Rand
	deck   []int
}

// next is an outage that is long enough for the breaker to open, or for one probe or two to fail.
func (p *outagePlan) next() plannedOutage {
	if len(p.deck) == 0 {
		p.deck = p.random.Perm(int(modes) - 1)
	}
	m := mode(1 + p.deck[0])
	p.deck = p.deck[1:]
	return plannedOutage{p.between(4*time.Second, 12*time.Second), p.between(2*time.Second, 14*time.Second), m}
}

func (p *outagePlan) between(least, most time.Duration) time.Duration {
	return least + time.Duration(p.random.Int64N(int64(most-least)))
}

// runOutages has a receiver go away and come back until ctx ends. In the end it is back.
func (r *receiver) runOutages(ctx context.Context, p *outagePlan) error {
	for ctx.Err() == nil {
		next := p.next()
		wait(ctx, next.pause)
		if ctx.Err() != nil {
			break
		}
		if err := r.outage(ctx, next); err != nil {
			return err
		}
		back := time.Now()
		for ctx.Err() == nil && r.book.lagging(r.number, back) && time.Since(back) < mostBacklog {
			wait(ctx, 10*time.Millisecond)
		}
		r.mood.caughtUp()
	}
	return nil
}

// outage is one outage, which ends early when ctx does.
func (r *receiver) outage(ctx context.Context, p plannedOutage) error {
	o := r.book.times.begin(r.number, p.mode)
	err := r.goDown(p.mode)
	wait(ctx, p.lasts)
	if err == nil {
		err = r.comeBack()
	}
	r.book.times.end(o)
	return err
}

func wait(ctx context.Context, d time.Duration) {
	select {
	case <-time.After(d):
	case <-ctx.Done():
	}
}
