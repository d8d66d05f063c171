package main

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"time"

	"github.com/agentevents/agentevents/server/lab"
)

// fault is something that happens to a server, or to the database of all servers.
type fault struct {
	name    string
	single  int    // how many there are in a deck for one server on SQLite,
	several int    // and in one for replicas on PostgreSQL
	when    step   // waits for the moment
	inject  step   // begins it
	lasts   period // before it recovers
	recover step
	excuses excuses // which deliveries may come again because of it
	how     manner
}

// step does a part of a fault to a server, whose number is 0 if it happens to all.
type step func(ctx context.Context, r *replica, s *stroke) error

// period is a random time, from one to less than the other.
type period struct{ from, to time.Duration }

func between(random *rand.Rand, p period) time.Duration {
	return p.from + time.Duration(random.Int64N(max(1, int64(p.to-p.from))))
}

// excuses are which deliveries may come again.
type excuses int

const (
	nothing    excuses = iota
	unanswered         // those that were in flight
	everything         // and those whose answer may not be recorded
)

type manner int

const (
	lasting    manner = 1 << iota // it lasts until it recovers; else it is over when it is injected
	atDatabase                    // it needs the database: no two are injected at a time
	ofAll                         // it happens to all servers
	private                       // only if the database server is ours
)

const (
	timeout = 2 * time.Second         // of an attempt, which replicas are given so that a lease is short
	lease   = timeout + 5*time.Second // how long a replica holds a lane
)

var (
	atOnce        period
	shortly       = period{0, 2 * time.Second}
	lessThanLease = period{10 * time.Millisecond, lease - time.Second}
	aboutLease    = period{lease - time.Second/2, lease + time.Second/2}
	moreThanLease = period{lease + time.Second/2, lease + 4*time.Second}
	anyLength     = period{time.Second / 2, lease + 4*time.Second}
)

// faults are all that there are. What is most dangerous is in a deck more than once.
func faults() []fault {
	return []fault{
		// name, in a deck of each kind, when, inject, lasts, recover, excuses, manner
		{"killed after some changes", 2, 0, afterChanges, killServer, atOnce, startServer, everything, 0},
		{"killed after some requests", 2, 0, afterRequests, killServer, atOnce, startServer, everything, 0},
		{"killed after some time", 1, 0, afterTime, killServer, atOnce, startServer, everything, 0},
		{"killed while requests are held", 1, 0, whileHeld, killTwice, atOnce, startServer, everything, 0},
		{"killed while it starts", 1, 0, nil, killStarting, atOnce, startServer, everything, 0},
		{"killed while it stops", 1, 0, afterTime, killStopping, atOnce, startServer, everything, 0},
		{"killed while it makes its store", 1, 0, nil, killNew, atOnce, nil, nothing, 0},
		{"stopped in order", 1, 0, afterTime, stopServer, atOnce, startServer, unanswered, 0},
		{"a second server on its file", 1, 0, nil, startSecond, atOnce, nil, nothing, 0},
		{"killed, and a lane damaged", 1, 1, afterTime, damageLane, shortly, startServer, everything, atDatabase},

		{"kill -9", 0, 3, nil, killServer, shortly, startServer, everything, 0},
		{"stop in order", 0, 1, nil, stopServer, shortly, startServer, nothing, 0},
		{"freeze of less than a lease", 0, 1, nil, freezeServer, lessThanLease, undoFault, everything, lasting},
		{"freeze of about a lease", 0, 2, nil, freezeServer, aboutLease, undoFault, everything, lasting},
		{"freeze of more than a lease", 0, 2, nil, freezeServer, moreThanLease, undoFault, everything, lasting},
		{"cut off from the database", 0, 1, nil, cutOff, anyLength, undoFault, everything, lasting},
		{"connections ended", 0, 1, nil, endConnections, atOnce, nil, everything, atDatabase},
		{"all connections ended", 0, 1, nil, endConnections, atOnce, nil, everything, atDatabase | ofAll},
		{"restart of the database", 0, 1, nil, restartDatabase, atOnce, nil, everything, atDatabase | ofAll | private},
		{"crash of the database", 0, 1, nil, crashDatabase, atOnce, nil, everything, atDatabase | ofAll | private},
	}
}

// count is how many of a fault are in a deck.
func (f *fault) count(single, ours bool) int {
	switch {
	case single:
		return f.single
	case f.how&private != 0 && !ours:
		return 0
	}
	return f.several
}

// stroke is one fault that is planned.
type stroke struct {
	*fault
	replica int           // which server it happens to, from 1; the next one that has no fault
	lasts   time.Duration // before it recovers
	pause   time.Duration // before the next
	random  *rand.Rand    // decides about the rest
}

// upTo is a random time that is less than another.
func (s *stroke) upTo(d time.Duration) time.Duration { return between(s.random, period{0, d}) }

// deck decides about strokes: each fault in it is dealt, until it is empty.
type deck struct {
	random   *rand.Rand
	replicas int // 0 for one server on SQLite
	private  bool
	left     []fault
}

func (d *deck) next() *stroke {
	if len(d.left) == 0 {
		for _, f := range faults() {
			for range f.count(d.replicas == 0, d.private) {
				d.left = append(d.left, f)
			}
		}
		d.random.Shuffle(len(d.left), func(i, j int) { d.left[i], d.left[j] = d.left[j], d.left[i] })
	}
	s := &stroke{fault: &d.left[0], replica: 1}
	s.random = rand.New(rand.NewPCG(d.random.Uint64(), 0)) //nolint:gosec // no secret
	d.left = d.left[1:]
	if d.replicas > 0 { // else no other server would continue
		s.replica += d.random.IntN(d.replicas)
		s.lasts = between(d.random, s.fault.lasts)
		s.pause = between(d.random, period{0, 15 * time.Second / time.Duration(d.replicas)})
	}
	return s
}

// strike deals faults until there were enough and all servers are up again.
func (c *crash) strike(ctx context.Context) error {
	d := &deck{random: c.random(0, -1), replicas: c.options.replicas, private: c.database.cluster != nil}
	began := time.Now()
	for n := 1; n <= c.cycles && c.single() || time.Since(began) < c.lasts && !c.single(); n++ {
		s := d.next()
		r, err := c.free(ctx, s)
		if err != nil {
			return err
		}
		c.spawn(&c.suffering, func() error { return r.suffer(ctx, s) })
		if c.single() {
			c.suffering.Wait()
		}
		if err := lab.Pause(ctx, s.pause); err != nil {
			return err
		}
		how := fmt.Sprintf("cycle %d of %d", n, c.cycles)
		if !c.single() {
			how = fmt.Sprintf("%.0f of %.0f seconds", time.Since(began).Seconds(), c.lasts.Seconds())
		}
		c.out.Show("%s, last: %s; so far %d changes, %d requests", how, s.name, c.tally.of(statusSet), c.record.Count())
	}
	c.suffering.Wait()
	return context.Cause(ctx)
}

// free waits for a server that has no fault, from a certain one on, and takes it. One with the number 0 stands for all.
func (c *crash) free(ctx context.Context, s *stroke) (r *replica, err error) {
	if s.how&ofAll != 0 {
		return &replica{crash: c}, nil
	}
	return r, until(ctx, patience, func() bool {
		for i := range c.replicas {
			r = c.replicas[(s.replica-1+i)%len(c.replicas)]
			if r.busy.CompareAndSwap(false, true) {
				return true
			}
		}
		return false
	})
}

// suffer has a fault happen to a server, and waits until it has recovered.
func (r *replica) suffer(ctx context.Context, s *stroke) error {
	defer r.busy.Store(false)
	if s.when != nil {
		err := s.when(ctx, r, s)
		if errors.Is(err, errLate) {
			r.record.Wrong(overdue, "the moment to be %s does not come", s.name)
		} else if err != nil {
			return err
		}
	}
	t, err := r.inject(ctx, s)
	if err != nil {
		return err
	}
	defer r.timeline.recovered(t)
	err = lab.Pause(ctx, s.lasts)
	if s.recover != nil { // in any case: what is frozen would stay so
		err = errors.Join(err, s.recover(ctx, r, s))
	}
	return err
}

func (r *replica) inject(ctx context.Context, s *stroke) (*trouble, error) {
	if s.how&atDatabase != 0 {
		r.database.exclusive.Lock()
		defer r.database.exclusive.Unlock()
	}
	r.tally.add(s.name, 1)
	t := r.timeline.begin(trouble{fault: s.fault, who: r.number})
	err := s.inject(ctx, r, s)
	if s.how&lasting == 0 {
		r.timeline.end(t)
	}
	return t, err
}
