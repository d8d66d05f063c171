package main

import (
	"context"
	"net/http"
	"strings"
	"sync"
	"time"

	"github.com/agentevents/agentevents/server/lab"
)

// patience is how long a round waits in vain for the next of its deliveries.
const patience = 2 * time.Minute

// receivers are web servers of this process that share a record. How they answer is set by client, which is the first
// element of the path.
type receivers struct {
	urls   []string
	record *lab.Record
	all    []*lab.Receiver
	delay  time.Duration // of each answer

	mu      sync.Mutex
	clients map[string]*treatment
}

// treatment is how a client's requests are answered.
type treatment struct {
	lab.Reply
	release   func() // answers the requests that hang
	confirmed int    // requests that were answered with a 2xx since the last harvest
}

// openReceivers opens n receivers, which answer with 200.
func openReceivers(n int) (r *receivers, err error) {
	r = &receivers{record: lab.NewRecord(laneOf), clients: map[string]*treatment{}}
	for i := range n {
		one, err := lab.NewReceiver(r.record, i, r.reply)
		if err != nil {
			r.close()
			return nil, err
		}
		r.all, r.urls = append(r.all, one), append(r.urls, one.URL)
	}
	return r, nil
}

func (r *receivers) close() {
	for _, one := range r.all {
		one.Close()
	}
}

func (r *receivers) reply(a *lab.Arrival) lab.Reply {
	r.mu.Lock()
	defer r.mu.Unlock()
	t := r.of(clientOf(a))
	if t.Status == http.StatusOK {
		t.confirmed++
	}
	return t.Reply
}

// of is how a client is treated.
func (r *receivers) of(client string) *treatment {
	t := r.clients[client]
	if t == nil {
		t = &treatment{Reply: lab.Reply{Status: http.StatusOK, Delay: r.delay}, release: func() {}}
		r.clients[client] = t
	}
	return t
}

// noAnswer leaves requests without an answer.
const noAnswer = 0

// answer answers a client with a status from now on, also the requests that hang, or leaves its requests without one.
func (r *receivers) answer(client string, status int) {
	r.mu.Lock()
	defer r.mu.Unlock()
	t := r.of(client)
	t.release()
	t.Status, t.Hold, t.release = status, nil, func() {}
	if status == noAnswer {
		held := make(chan struct{})
		t.Hold, t.release = held, func() { close(held) }
	}
}

// confirmed waits until n requests of a client were answered with a 2xx since the last harvest. When none comes for too
// long it returns as well: the check finds what is missing.
func (r *receivers) confirmed(ctx context.Context, client string, n int) {
	last := time.Now()
	for before := 0; time.Since(last) < patience && ctx.Err() == nil; _ = lab.Pause(ctx, 10*time.Millisecond) {
		r.mu.Lock()
		done := r.of(client).confirmed
		r.mu.Unlock()
		if done >= n {
			return
		}
		if done > before {
			before, last = done, time.Now()
		}
	}
}

// harvest returns the requests that have arrived since the last harvest, when all of them have ended.
func (r *receivers) harvest(ctx context.Context) []*lab.Arrival {
	all, ended := r.record.Take()
	for !ended && lab.Pause(ctx, time.Millisecond) == nil {
		all, ended = r.record.Take()
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	for _, t := range r.clients {
		t.confirmed = 0
	}
	return all
}

// clientOf is the client of a path /CLIENT/RECEIVER/AGENT, by which each registration has its own.
func clientOf(a *lab.Arrival) string {
	client, _, _ := strings.Cut(strings.TrimPrefix(a.Path, "/"), "/")
	return client
}

// laneOf names the lane of an arrival.
func laneOf(a *lab.Arrival) string { return a.Path }
