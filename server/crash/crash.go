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
	"github.com/agentevents/agentevents/gen/client"
)

const (
	quick = 0 // the receiver that confirms everything at once
	moody = 1 // the one that does not
	// prompt is how soon after a start all has arrived again that was in flight at a kill. The server promises a second;
	// what is to be told apart from that is the end of a lease, more than a minute.
	prompt = 5 * time.Second
	// silence is how long nothing may arrive before what is still owed counts as lost: longer than a breaker waits.
	silence = 65 * time.Second
	writers = 4  // for plain agents; a busy one has its own
	checks  = 10 // every so many cycles the store is verified
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
		m := &mood{random: c.random(0, number), moody: number == moody}
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

// cycle is one life of the server, from a start to a kill.
func (c *crash) cycle(ctx context.Context, n int, p plan) error {
	c.kills[p.moment]++
	if p.moment == whileNew {
		return c.newborn(ctx, n, p)
	}
	l, err := c.begin(ctx, p)
	if err != nil {
		return err
	}
	err = c.await(ctx, l, p)
	err = l.explain(errors.Join(err, l.kill(p)))
	c.book.complaints(l.server.Log.String())
	if err != nil {
		return err
	}
	if err := c.settle(ctx); err != nil {
		return err
	}
	if n%checks == 0 {
		return c.verify(ctx, c.file())
	}
	return nil
}

// begin starts the server on the store.
func (c *crash) begin(ctx context.Context, p plan) (*life, error) {
	for _, r := range c.receivers {
		r.mood.set(p.holds, p.outage)
	}
	changes, requests := c.book.begin(p.count)
	l, err := start(ctx, c.binary, c.file())
	if err == nil {
		l.changes, l.requests = changes, requests
	}
	return l, err
}

// await lets the server live until its moment has come.
func (c *crash) await(ctx context.Context, l *life, p plan) error {
	if p.moment == whileStarting {
		return until(ctx, l, time.After(c.partOfStart(p)))
	}
	if err := l.ready(ctx); err != nil {
		return err
	}
	if err := c.load(ctx, l, writer.work); err != nil {
		return err
	}
	switch p.moment {
	case afterChanges:
		return until(ctx, l, l.changes)
	case afterRequests:
		return until(ctx, l, l.requests)
	case whileHeld:
		return c.held(ctx, l, p.held)
	case afterAgain:
		return c.again(ctx, l)
	}
	return until(ctx, l, time.After(p.wait))
}

// partOfStart is a part of the time that a start takes.
func (c *crash) partOfStart(p plan) time.Duration {
	return time.Duration(p.part * float64(c.startTook))
}

// load sets all writers to work.
func (c *crash) load(ctx context.Context, l *life, work func(writer, context.Context) error) error {
	s, err := c.session(l)
	if err != nil {
		return err
	}
	for i, agents := range c.groups {
		w := writer{session: s, random: c.random(c.book.life, i), agents: agents}
		l.begin(func() error { return work(w, ctx) })
	}
	return nil
}

func (c *crash) session(l *life) (session, error) {
	one := &http.Client{
		Timeout:   patience,
		Transport: &http.Transport{MaxIdleConnsPerHost: 64}, // of its own: the server it speaks to is another each time
	}
	api, err := client.NewClientWithResponses(l.server.URL+"/api/ver1.0", client.WithHTTPClient(one))
	s := session{api: api, book: c.book}
	for _, r := range c.receivers {
		s.receivers = append(s.receivers, r.url)
	}
	return s, err
}

// held waits until the quick receiver holds some requests.
func (c *crash) held(ctx context.Context, l *life, want int) error {
	look := time.NewTicker(time.Millisecond)
	defer look.Stop()
	for {
		if now, _ := c.book.unanswered(); len(now) >= want {
			return nil
		}
		if err := until(ctx, l, look.C); err != nil {
			return err
		}
	}
}

// again waits until what was held at earlier kills has arrived again.
func (c *crash) again(ctx context.Context, l *life) error {
	look := time.NewTicker(time.Millisecond)
	defer look.Stop()
	_, rest := c.book.unanswered()
	for c.cutOff += len(rest); len(rest) > 0; _, rest = c.book.unanswered() {
		if err := until(ctx, l, look.C); err != nil {
			return err
		}
		took := time.Since(l.since)
		c.longest = max(c.longest, took)
		if took > prompt {
			c.book.wrong(late, "what was in flight at a kill did not come again within %v: %v", prompt, rest)
			return nil
		}
	}
	return nil
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

// newborn kills the server while it makes a store. Whatever is there then, the next start is one like any other.
func (c *crash) newborn(ctx context.Context, n int, p plan) error {
	file := filepath.Join(c.dir, fmt.Sprintf("new-%d.db", n))
	l, err := start(ctx, c.binary, file)
	if err != nil {
		return err
	}
	err = until(ctx, l, time.After(c.partOfStart(p)))
	if err := l.explain(errors.Join(err, l.kill(p))); err != nil {
		return err
	}
	if l, err = start(ctx, c.binary, file); err != nil {
		return err
	}
	err = l.ready(ctx)
	err = l.explain(errors.Join(err, l.stop()))
	c.book.complaints(l.server.Log.String())
	return errors.Join(err, c.verify(ctx, file))
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

// drain waits until all that is owed has arrived, or nothing arrives any more.
func (c *crash) drain(ctx context.Context, l *life) error {
	l.writers.Wait()
	look := time.NewTicker(50 * time.Millisecond)
	defer look.Stop()
	since, before := time.Now(), 0
	for {
		owed, requests := c.book.outstanding()
		if requests > before {
			since, before = time.Now(), requests
		}
		if owed == 0 || time.Since(since) > silence {
			return nil // what is lost is for the judgement to say
		}
		if err := until(ctx, l, look.C); err != nil {
			return err
		}
	}
}
