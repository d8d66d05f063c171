package main

import (
	"bytes"
	"context"
	"fmt"
	"strconv"
	"time"

	"golang.org/x/sync/errgroup"

	"github.com/agentevents/agentevents/server/lab"
)

// concurrency is how many connections a stream has, with one request at a time each.
const concurrency = 32

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

// call is a change and the request that makes it.
type call struct {
	change          // its sequence is set from the answer unless it is known before
	request []byte  // made before: on a machine with few processors, what the load takes is missing to what is measured
	due     float64 // seconds after the first; 0 for when the call before has its answer
}

// send sends a stream. All calls of an agent use one connection, in their order. It returns the changes that were sent
// until a context ended. An answer that is not a 2xx is an error.
func (c *caller) send(ctx, until context.Context, s stream) (changes []change, err error) {
	calls := make([]call, s.n)
	lines := make([][]*call, concurrency)
	for i := range calls {
		calls[i], err = c.call(s.agents[i%len(s.agents)].toggle(), int64(i+1))
		if err != nil {
			return nil, err
		}
		if s.rate > 0 {
			calls[i].due = float64(i) / s.rate
		}
		line := &lines[calls[i].id%concurrency]
		*line = append(*line, &calls[i])
	}
	group, ctx := errgroup.WithContext(ctx)
	began := time.Now()
	for _, line := range lines {
		group.Go(func() error { return c.sendLine(ctx, until, began, line) })
	}
	err = group.Wait()
	for _, one := range calls {
		if !one.sent.IsZero() {
			changes = append(changes, one.change)
		}
	}
	return changes, err
}

// call makes the request for a change: by the API or, with a sequence, of the form.
func (c *caller) call(ch change, sequence int64) (call, error) {
	if !c.isReceiver {
		body := fmt.Sprintf(`{"agent_status":%q}`, ch.status)
		return call{change: ch, request: fmt.Appendf(nil, "PUT %s/client/%s/agent/local/%d/status HTTP/1.1\r\n"+
			"Host: %s\r\nAuthorization: Bearer %s\r\nContent-Type: application/json\r\nContent-Length: %d\r\n\r\n%s",
			lab.APIPath, ch.client, ch.id, c.addr, c.token, len(body), body)}, nil
	}
	ch.sequence = sequence
	req, err := formRequest(ch, ch.urls[0], ch.receiver)
	if err != nil {
		return call{}, err
	}
	var b bytes.Buffer
	err = req.Write(&b)
	return call{change: ch, request: b.Bytes()}, err
}

// sendLine sends the calls of a connection.
func (c *caller) sendLine(ctx, until context.Context, began time.Time, line []*call) error {
	w := lab.Wire{Addr: c.addr}
	defer w.Close()
	for _, one := range line {
		sent := one.await(until, began)
		if until.Err() != nil || ctx.Err() != nil {
			return nil
		}
		one.sent = sent
		body, err := w.Call(one.request)
		if err != nil {
			return err
		}
		if one.sequence == 0 {
			if one.sequence = sequenceIn(body); one.sequence == 0 {
				return fmt.Errorf("the answer %q has no sequence", body)
			}
		}
	}
	return nil
}

// await waits until a call is due, and returns from when on it counts: if its connection is late, from when it was due.
func (c *call) await(until context.Context, began time.Time) time.Time {
	due := began.Add(time.Duration(c.due * float64(time.Second)))
	if c.due > 0 && time.Until(due) <= 0 {
		return due
	}
	_ = lab.Pause(until, time.Until(due))
	return time.Now()
}

var sequenceKey = []byte(`"sequence":`)

// sequenceIn is the sequence number in the JSON of a status, 0 if there is none.
func sequenceIn(body []byte) int64 {
	_, tail, _ := bytes.Cut(body, sequenceKey)
	end := bytes.IndexAny(tail, ",}")
	n, _ := strconv.ParseInt(string(bytes.TrimSpace(tail[:max(end, 0)])), 10, 64)
	return n
}
