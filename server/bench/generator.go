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

// load is changes to send, with their requests made before: on a machine with few processors, what the load itself
// takes is missing to what is measured.
type load struct {
	addr        string // HOST:PORT
	connections int    // kept open, with one request at a time each
	rate        float64
	calls       []call
}

// call is a change and the request that makes it. All calls of an agent use one connection, in their order. A sequence
// of 0 is set from the answer.
type call struct {
	change
	request []byte
}

// send sends calls as fast as their connections allow, or at a rate: then a call whose connection is late with it
// counts from when it was due. It returns the changes that were sent until a context ended. An answer that is not a 2xx
// is an error.
func (l *load) send(ctx, until context.Context) ([]change, error) {
	changes := make([]change, len(l.calls))
	group, ctx := errgroup.WithContext(ctx)
	began := time.Now()
	for n := range l.connections {
		group.Go(func() error { return l.sendOn(ctx, until, int64(n), began, changes) })
	}
	err := group.Wait()
	return slices.DeleteFunc(changes, func(c change) bool { return c.sequence == 0 }), err
}

// sendOn sends the calls of a connection.
func (l *load) sendOn(ctx, until context.Context, connection int64, began time.Time, changes []change) error {
	w := lab.Wire{Addr: l.addr}
	defer w.Close()
	for i, c := range l.calls {
		if c.agent%int64(l.connections) != connection {
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

// apiRequest is the request that makes a change by the API, as it is sent.
func apiRequest(addr, token string, c change) []byte {
	body := fmt.Sprintf(`{"agent_status":%q}`, c.status)
	return fmt.Appendf(nil, "PUT %s/client/%s/agent/local/%d/status HTTP/1.1\r\nHost: %s\r\n"+
		"Authorization: Bearer %s\r\nContent-Type: application/json\r\nContent-Length: %d\r\n\r\n%s",
		lab.APIPath, c.client, c.agent, addr, token, len(body), body)
}
