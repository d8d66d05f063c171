package main

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"path/filepath"
	"time"

	"github.com/agentevents/agentevents/gen/client"
	"github.com/agentevents/agentevents/server/lab"
)

const (
	// prompt is how soon after a start all has arrived again that was in flight at a kill. The server promises a second;
	// what is to be told apart from that is the end of a lease, more than a minute.
	prompt = 5 * time.Second
	checks = 10 // every so many cycles the store is verified
)

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
	c.book.times.server(1, false)
	err = l.explain(errors.Join(err, l.kill(p)))
	c.book.complaints(l.server.Log.String())
	if err != nil {
		return err
	}
	if err := c.settle(ctx); err != nil {
		return err
	}
	if n%checks == 0 {
		return c.verify(ctx, "sqlite:"+c.file())
	}
	return nil
}

// begin starts the server on the store.
func (c *crash) begin(ctx context.Context, p plan) (*life, error) {
	for _, r := range c.receivers {
		r.mood.set(p.holds)
	}
	changes, requests := c.book.begin(p.count)
	l, err := start(ctx, c.binary, c.file())
	if err == nil {
		l.changes, l.requests = changes, requests
	}
	return l, err
}

// ready waits until the server can send.
func (c *crash) ready(ctx context.Context, l *life) error {
	err := l.ready(ctx)
	c.book.times.server(1, err == nil)
	return err
}

// await lets the server live until its moment has come.
func (c *crash) await(ctx context.Context, l *life, p plan) error {
	if p.moment == whileStarting {
		return until(ctx, l, time.After(c.partOfStart(p)))
	}
	_, cutOff := c.book.unanswered()
	if err := c.ready(ctx, l); err != nil {
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
		return c.held(ctx, l, min(p.held, c.agents/4))
	case afterAgain:
		c.cutOff += len(cutOff)
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
		Timeout: patience,
		Transport: &lab.Operator{
			URL:  l.server.URL,
			Base: &http.Transport{MaxIdleConnsPerHost: 64}, // of its own: the server it speaks to is another each time
		},
	}
	api, err := client.NewClientWithResponses(l.server.URL+"/api/ver1.0", client.WithHTTPClient(one))
	return session{api: api, book: c.book, receivers: c.urls()}, err
}

// held waits until the quick receiver holds some requests.
func (c *crash) held(ctx context.Context, l *life, want int) error {
	return eventually(ctx, l, patience, func() bool {
		now, _ := c.book.unanswered()
		return len(now) >= want
	})
}

// again waits until what was held at earlier kills has arrived again.
func (c *crash) again(ctx context.Context, l *life) error {
	var rest []lane
	err := eventually(ctx, l, prompt, func() bool {
		_, rest = c.book.unanswered()
		return len(rest) == 0
	})
	c.longest = max(c.longest, time.Since(l.since))
	if errors.Is(err, errLate) {
		c.book.wrong(late, "what was in flight at a kill did not come again within %v: %v", prompt, rest)
		return nil
	}
	return err
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
	return errors.Join(err, c.verify(ctx, "sqlite:"+file))
}
