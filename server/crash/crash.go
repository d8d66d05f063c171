package main

import (
	"context"
	"errors"
	"math/rand/v2"
	"net/http"
	"sync"
	"sync/atomic"
	"time"

	"github.com/agentevents/agentevents/gen"
	"github.com/agentevents/agentevents/server/lab"
	"github.com/agentevents/agentevents/store/benchfill"
)

const (
	// patience is how long anything may take that normally takes milliseconds.
	patience = 30 * time.Second
	// silence is how long nothing may arrive before what is still pending counts as lost: longer than a breaker, the
	// last delay and the safety net wait.
	silence = 75 * time.Second
)

// crash is a run: a database, the servers on it, and everything around them.
type crash struct {
	options
	dir      string
	out      *lab.Progress
	record   *lab.Record
	timeline timeline
	waits    waits
	tally    tally
	database *database

	receivers []*receiver
	replicas  []*replica // the one server on SQLite too
	followers []*follower

	cancel    context.CancelCauseFunc // ends the run with an error
	reading   sync.WaitGroup          // followers
	writing   sync.WaitGroup          // writers
	watching  sync.WaitGroup          // of waits
	suffering sync.WaitGroup          // faults that have not recovered
	receiving sync.WaitGroup          // outages of receivers
	over      atomic.Bool             // writers have done enough
	complete  atomic.Bool             // nothing is added to the feed any more

	startTook    time.Duration // the first start
	longestAgain time.Duration // that came again after a kill what was in flight
	timeouts     map[benchfill.Attempt]bool
}

func newCrash(o options, dir string, out *lab.Progress) *crash {
	c := &crash{options: o, dir: dir, out: out, record: lab.NewRecord(lineOf), tally: tally{n: map[string]int{}}}
	c.waits = waits{record: c.record, timeline: &c.timeline, servers: max(1, o.replicas), lanes: map[string]*wait{}}
	return c
}

// single says whether there is one server, on SQLite.
func (c *crash) single() bool { return c.options.replicas == 0 }

// run has everything happen, and judges what has come of it.
func (c *crash) run(ctx context.Context) (err error) {
	began := time.Now()
	ctx, c.cancel = context.WithCancelCause(ctx)
	watched, endWatch := context.WithCancel(ctx)
	c.spawn(&c.watching, func() error { c.waits.watch(watched); return nil })
	if c.database, err = openDatabase(ctx, c.options, c.dir); err == nil {
		err = c.play(ctx)
	}
	if cause := context.Cause(ctx); cause != nil {
		err = cause // what went wrong first
	}
	endWatch()
	c.watching.Wait()
	c.cancel(nil)
	if err := errors.Join(err, c.end()); err != nil {
		return err
	}
	return c.report(time.Since(began))
}

func (c *crash) play(ctx context.Context) error {
	if err := c.open(ctx); err != nil {
		return err
	}
	if err := c.beginLoad(ctx); err != nil {
		return err
	}
	troubled, calm := context.WithCancel(ctx)
	defer calm()
	for _, r := range c.receivers[quick+1:] {
		plan := outages(c.random(0, 100+r.Number))
		c.spawn(&c.receiving, func() error { return r.runOutages(troubled, plan) })
	}
	if err := c.strike(ctx); err != nil {
		return err
	}
	calm()
	c.receiving.Wait()
	return c.finish(ctx)
}

// spawn runs a function as a goroutine of a group. Its error ends the run.
func (c *crash) spawn(group *sync.WaitGroup, f func() error) {
	group.Go(func() {
		if err := f(); err != nil {
			c.cancel(err)
		}
	})
}

// open opens the receivers and starts the servers, all at once: one of them makes the tables.
func (c *crash) open(ctx context.Context) error {
	for number := range receivers {
		if err := c.openReceiver(number); err != nil {
			return err
		}
	}
	for number := range max(1, c.options.replicas) {
		r, err := newReplica(c, number+1)
		if err != nil {
			return err
		}
		c.replicas = append(c.replicas, r)
	}
	began := time.Now()
	for _, r := range c.replicas {
		c.spawn(&c.suffering, func() error { return r.start(ctx) })
	}
	c.suffering.Wait()
	c.startTook = time.Since(began)
	peer := c.owner
	for _, r := range c.receivers {
		r.Peer.Store(&peer)
	}
	return context.Cause(ctx)
}

// beginLoad makes the client, and sets writers and followers to work.
func (c *crash) beginLoad(ctx context.Context) error {
	_, err := lab.Call[any](ctx, c.router(0), http.StatusCreated, http.MethodPut, pbx, gen.ClientUpdate{})
	if err != nil {
		return err
	}
	for number := range followers {
		f := &follower{crash: c, api: c.router(1 + number), random: c.random(3, number)}
		c.followers = append(c.followers, f)
		c.spawn(&c.reading, func() error { return f.follow(ctx) })
	}
	for number, agents := range c.groups() {
		w := &writer{crash: c, api: c.router(10 + number), random: c.random(1, number), agents: agents}
		c.spawn(&c.writing, func() error { return w.work(ctx) })
	}
	return nil
}

// random returns what decides about one thing.
func (c *crash) random(thing, number int) *rand.Rand {
	return rand.New(rand.NewPCG(c.seed, uint64(thing)<<32|uint64(number+1))) //nolint:gosec // no secret
}

// finish lets the servers work in peace until everything that is pending has arrived, stops them in order, and looks at
// what they leave.
func (c *crash) finish(ctx context.Context) error {
	c.calm()
	c.over.Store(true)
	c.writing.Wait()
	c.complete.Store(true)
	c.reading.Wait()
	for left := c.record.Pending(); left > 0; left = c.record.Pending() {
		err := until(ctx, silence, func() bool { return c.record.Pending() < left })
		if errors.Is(err, errLate) {
			break // the check reports what is lost
		}
		if err != nil {
			return err
		}
	}
	for _, r := range c.replicas {
		c.spawn(&c.suffering, func() error { return r.stop(ctx) })
	}
	c.suffering.Wait()
	err := errors.Join(context.Cause(ctx), c.settle(ctx), c.verify(ctx, c.database.url), c.compareFeeds(ctx))
	if err == nil {
		c.timeouts, err = benchfill.TimedOut(ctx, c.database.DB)
	}
	damaged := c.tally.of(laneDamaged)
	for _, r := range c.replicas {
		damaged = r.complain(damaged)
	}
	return err
}

// settle waits until receivers have noted everything that servers have sent, of which none is left.
func (c *crash) settle(ctx context.Context) error {
	for _, r := range c.receivers {
		if err := r.Settle(ctx); err != nil {
			return err
		}
	}
	return nil
}

// end ends what still runs, and leaves the logs in the directory.
func (c *crash) end() (err error) {
	c.suffering.Wait() // what it starts is abandoned next
	for _, r := range c.replicas {
		err = errors.Join(err, r.abandon())
	}
	c.receiving.Wait()
	c.writing.Wait()
	c.reading.Wait()
	for _, r := range c.receivers {
		r.Close()
	}
	err = errors.Join(err, c.leaveLogs())
	if c.database != nil {
		err = errors.Join(err, c.database.close())
	}
	return err
}

// errLate says that something has not happened in time.
var errLate = errors.New("what was waited for did not happen in time")

// until looks every millisecond whether something is so.
func until(ctx context.Context, limit time.Duration, so func() bool) error {
	for began := time.Now(); !so(); {
		if time.Since(began) > limit {
			return errLate
		}
		if err := lab.Pause(ctx, time.Millisecond); err != nil {
			return err
		}
	}
	return nil
}
