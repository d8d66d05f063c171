package main

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"path/filepath"
	"time"

	"github.com/agentevents/agentevents/gen"
)

const (
	quick     = 0 // the receiver that confirms everything at once
	moody     = 1 // the one that does not, and has outages
	alone     = 2 // has outages, and one lane alone; it confirms everything else at once
	receivers = 3

	// silence is how long nothing may arrive before what is still outstanding counts as lost: longer than a breaker and the
	// last delay wait.
	silence = 75 * time.Second
)

// crash is a run: one store, many lives of the server, and all that outlives them.
type crash struct {
	*scene
	dir       string
	kills     map[moment]int
	cutOff    int           // requests that were held at a kill and waited for
	longest   time.Duration // until they came again, from ready on
	startTook time.Duration // the first start
}

// file is the store that lives through it all.
func (c *crash) file() string { return filepath.Join(c.dir, "agentevents.db") }

// run plays all cycles, and then waits for what is owed.
func (c *crash) run(ctx context.Context) error {
	if err := c.found(ctx); err != nil {
		return fmt.Errorf("first start: %w", err)
	}
	c.beginOutages(ctx)
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
	if err := c.calm(); err != nil {
		return err
	}
	l, err := c.begin(ctx, plan{})
	if err != nil {
		return err
	}
	if err = c.ready(ctx, l); err == nil {
		err = c.load(ctx, l, writer.conclude)
	}
	if err == nil {
		err = c.drain(ctx, l)
	}
	err = l.explain(errors.Join(err, l.stop()))
	c.book.complaints(l.server.Log.String())
	return errors.Join(err, c.settle(ctx), c.verify(ctx, "sqlite:"+c.file()))
}

func (c *crash) rules() rules { return oneServer(c.book.times) }
