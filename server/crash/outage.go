package main

import (
	"context"
	"math/rand/v2"
	"time"
)

// illness is how a receiver takes nothing.
type illness int

const (
	healthy   illness = iota
	closed            // nothing listens on its port
	hanging           // it answers nothing, and ends all connections when it comes back
	failing           // it answers 5xx
	illnesses         // how many there are
)

func (i illness) String() string {
	return [illnesses]string{"none", "outages: port closed", "outages: no answers", "outages: 5xx"}[i]
}

const (
	// An outage is long enough for the breaker to open, and for one probe or two to fail.
	shortestOutage = 2 * time.Second
	longestOutage  = 14 * time.Second
	// given is how long a receiver that is back is given to get what has waited, before its next outage.
	given = time.Minute
)

// fate is the next outage of a receiver.
type fate struct {
	pause   time.Duration // before it, since the receiver got all that had waited
	lasts   time.Duration
	illness illness
}

// fates decides about the outages of one receiver: they are dealt from a deck in which each illness is, until it is empty.
type fates struct {
	random *rand.Rand
	deck   []int
}

func (f *fates) next() fate {
	if len(f.deck) == 0 {
		f.deck = f.random.Perm(int(illnesses) - 1)
	}
	i := illness(1 + f.deck[0])
	f.deck = f.deck[1:]
	lasts := shortestOutage + time.Duration(f.random.Int64N(int64(longestOutage-shortestOutage)))
	return fate{pause: time.Duration(f.random.Int64N(int64(8 * time.Second))), lasts: lasts, illness: i}
}

// suffer has a receiver go away and come back until ctx ends. In the end it is back.
func (r *receiver) suffer(ctx context.Context, f *fates) error {
	for ctx.Err() == nil {
		next := f.next()
		wait(ctx, 4*time.Second+next.pause)
		if ctx.Err() != nil {
			break
		}
		if err := r.outage(ctx, next); err != nil {
			return err
		}
		back := time.Now()
		for ctx.Err() == nil && r.book.lagging(r.number, back) && time.Since(back) < given {
			wait(ctx, 10*time.Millisecond)
		}
	}
	return nil
}

// outage is one outage, which ends early when ctx does.
func (r *receiver) outage(ctx context.Context, f fate) error {
	o := r.book.times.begin(r.number, f.illness)
	err := r.fall(f.illness)
	wait(ctx, f.lasts)
	if err == nil {
		err = r.rise()
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
