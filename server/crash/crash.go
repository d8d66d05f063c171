package main

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"net/http"
	"path/filepath"
	"time"

	"github.com/agentevents/agentevents/gen"
)

const (
	quick = 0 // the receiver that confirms everything at once
	moody = 1 // the one that does not
	// silence is how long nothing may arrive before what is still owed counts as lost: longer than a breaker waits.
	silence = 65 * time.Second
	writers = 4 // for plain agents; a busy one has its own
)

// crash is a run: one store, many lives of the server, and all that outlives them.
type crash struct {
	options
	dir       string
	out       *printer
	book      *ledger
	receivers []*receiver
	groups    [][]*agent // those of each writer
	kills     map[moment]int
	cutOff    int           // requests that were held at a kill and waited for
	longest   time.Duration // until they came again, from ready on
	startTook time.Duration // the first start
}

func newCrash(o options, dir string, out *printer) (*crash, error) {
	c := &crash{options: o, dir: dir, out: out, book: newLedger(), kills: map[moment]int{}}
	for number := range 2 {
		m := &mood{random: c.random(0, number), moody: number == moody, most: min(o.agents/2, 8)}
		r, err := newReceiver(number, c.book, m)
		if err != nil {
			c.close()
			return nil, err
		}
		c.receivers = append(c.receivers, r)
	}
	c.groups = make([][]*agent, writers)
	for i, a := range newAgents(o.agents, o.registrations, len(c.receivers)) {
		if a.busy() {
			c.groups = append(c.groups, []*agent{a})
		} else {
			c.groups[i%writers] = append(c.groups[i%writers], a)
		}
	}
	return c, nil
}

func (c *crash) close() {
	for _, r := range c.receivers {
		r.close()
	}
}

// random returns what decides about one thing in one life; plans have the life 0 and the number 0 of their own.
func (c *crash) random(life, number int) *rand.Rand {
	return rand.New(rand.NewPCG(c.seed, uint64(life)<<32|uint64(number+1))) //nolint:gosec // no secret
}

// file is the store that lives through it all.
func (c *crash) file() string { return filepath.Join(c.dir, "agentevents.db") }

// run plays all cycles, and then waits for what is owed.
func (c *crash) run(ctx context.Context) error {
	if err := c.found(ctx); err != nil {
		return fmt.Errorf("first start: %w", err)
	}
	for i, p := range plans(c.seed, c.cycles) {
		if err := c.cycle(ctx, i+1, p); err != nil {
			return fmt.Errorf("cycle %d, killed %v: %w", i+1, p.moment, err)
		}
		changes, requests := c.book.sofar()
		c.out.progress(i+1, p.moment, changes, requests)
	}
	if err := c.finish(ctx); err != nil {
		return fmt.Errorf("last life: %w", err)
	}
	return nil
}

// found makes the store and the client, in a life without a kill.
func (c *crash) found(ctx context.Context) error {
	began := time.Now()
	l, err := c.begin(ctx, plan{})
	if err != nil {
		return err
	}
	err = l.ready(ctx)
	c.startTook = time.Since(began)
	if err == nil {
		err = c.putClient(ctx, l)
	}
	return l.explain(errors.Join(err, l.stop()))
}

func (c *crash) putClient(ctx context.Context, l *life) error {
	s, err := c.session(l)
	if err != nil {
		return err
	}
	resp, err := s.api.PutClientWithResponse(ctx, pbxClient, gen.ClientUpdate{})
	return answered(http.StatusCreated, resp, err)
}

// finish lets the server work in peace until all that is owed has arrived, and stops it in order.
func (c *crash) finish(ctx context.Context) error {
	for _, r := range c.receivers {
		r.mood.calm()
	}
	l, err := c.begin(ctx, plan{})
	if err != nil {
		return err
	}
	if err = l.ready(ctx); err == nil {
		err = c.load(ctx, l, writer.conclude)
	}
	if err == nil {
		err = c.drain(ctx, l)
	}
	err = l.explain(errors.Join(err, l.stop()))
	c.book.complaints(l.server.Log.String())
	return errors.Join(err, c.settle(ctx), c.verify(ctx, c.file()))
}

// drain waits until all that is owed has arrived. If nothing of it arrives any more, it is for the judgement to tell.
func (c *crash) drain(ctx context.Context, l *life) error {
	l.writers.Wait()
	for owed := c.book.outstanding(); owed > 0; owed = c.book.outstanding() {
		err := eventually(ctx, l, silence, func() bool { return c.book.outstanding() < owed })
		if errors.Is(err, errLate) {
			return nil
		}
		if err != nil {
			return err
		}
	}
	return l.trouble()
}

// settle waits until the receivers have noted all that a server that is gone has sent.
func (c *crash) settle(ctx context.Context) error {
	for _, r := range c.receivers {
		if err := r.settle(ctx); err != nil {
			return err
		}
	}
	return nil
}
