package main

import (
	"bytes"
	"context"
	"fmt"
	"slices"
	"strconv"
	"time"

	"golang.org/x/sync/errgroup"

	"github.com/agentevents/agentevents/server/lab"
)

// stream is n changes that log agents in and out in turn, as fast as they are taken or at a rate per second.
type stream struct {
	agents []*agent
	n      int
	rate   float64 // 0 for as fast as they are taken
}

// steadily is a stream that lasts for a time.
func steadily(all []*agent, rate float64, lasts time.Duration) stream {
	return stream{all, int(rate * lasts.Seconds()), rate}
}

// nothing is beside a stream.
func nothing(context.Context) ([]change, error) { return nil, nil }

// load is a stream with its requests made before: on a machine with few processors, what the load itself takes is
// missing to what is measured.
type load struct {
	addr  string // HOST:PORT
	rate  float64
	calls []call
}

// call is a change and the request that makes it. All calls of an agent use one connection, in their order. A sequence
// of 0 is set from the answer.
type call struct {
	change
	request []byte
}

// send sends a stream over connections with one request at a time each. At a rate, a call whose connection is late with
// it counts from when it was due. It returns the changes that were sent until a context ended. An answer that is not a
// 2xx is an error.
func (c *caller) send(ctx, until context.Context, s stream) ([]change, error) {
	l := load{addr: c.addr, rate: s.rate}
	for i := range s.n {
		one, err := c.call(s.agents[i%len(s.agents)].toggle(), int64(i+1))
		if err != nil {
			return nil, err
		}
		l.calls = append(l.calls, one)
	}
	changes := make([]change, len(l.calls))
	group, ctx := errgroup.WithContext(ctx)
	began := time.Now()
	for n := range int64(concurrency) {
		group.Go(func() error { return l.sendOn(ctx, until, n, began, changes) })
	}
	err := group.Wait()
	return slices.DeleteFunc(changes, func(c change) bool { return c.sequence == 0 }), err
}

// call makes the request for a change: by the API or, with a sequence, of the form.
func (c *caller) call(ch change, sequence int64) (call, error) {
	if !c.isReceiver {
		body := fmt.Sprintf(`{"agent_status":%q}`, ch.status)
		return call{ch, fmt.Appendf(nil, "PUT %s/client/%s/agent/local/%d/status HTTP/1.1\r\nHost: %s\r\n"+
			"Authorization: Bearer %s\r\nContent-Type: application/json\r\nContent-Length: %d\r\n\r\n%s",
			lab.APIPath, ch.client, ch.id, c.addr, c.token, len(body), body)}, nil
	}
	ch.sequence = sequence
	req, err := formRequest(ch, ch.urls[0], ch.receiver)
	if err != nil {
		return call{}, err
	}
	var b bytes.Buffer
	err = req.Write(&b)
	return call{ch, b.Bytes()}, err
}

// sendOn sends the calls of a connection.
func (l *load) sendOn(ctx, until context.Context, connection int64, began time.Time, changes []change) error {
	w := lab.Wire{Addr: l.addr}
	defer w.Close()
	for i, c := range l.calls {
		if c.id%concurrency != connection {
			continue
		}
		if c.sent = l.await(until, i, began); until.Err() != nil || ctx.Err() != nil {
			return nil
		}
		body, err := w.Call(c.request)
		if err != nil {
			return fmt.Errorf("request %d: %w", i, err)
		}
		if c.sequence == 0 {
			if c.sequence = sequenceIn(body); c.sequence == 0 {
				return fmt.Errorf("request %d: the answer %q has no sequence", i, body)
			}
		}
		changes[i] = c.change
	}
	return nil
}

// await waits until a call is due, and returns from when on it counts.
func (l *load) await(until context.Context, i int, began time.Time) time.Time {
	if l.rate <= 0 {
		return time.Now()
	}
	due := began.Add(time.Duration(float64(i) / l.rate * float64(time.Second)))
	if wait := time.Until(due); wait > 0 {
		sleep(until, wait)
		return time.Now()
	}
	return due
}

var sequenceKey = []byte(`"sequence":`)

// sequenceIn is the sequence number in the JSON of a status, 0 if there is none.
func sequenceIn(body []byte) int64 {
	_, tail, _ := bytes.Cut(body, sequenceKey)
	end := bytes.IndexAny(tail, ",}")
	n, _ := strconv.ParseInt(string(bytes.TrimSpace(tail[:max(end, 0)])), 10, 64)
	return n
}
