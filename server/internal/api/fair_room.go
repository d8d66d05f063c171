package api

import (
	"context"
	"errors"
	"net/http"
	"sync"
	"time"

	"golang.org/x/sync/semaphore"

	"github.com/agentevents/agentevents/server/internal/request"
)

// fairRoom is a semaphore of which requests in progress take parts: bytes for their bodies (body_room.go), or turns to
// read (fair_reads.go) and to write (fair_writes.go). One client takes at most a share. All clients together may have a bound, too, which leaves the
// rest to operators. A request that finds no room waits.
type fairRoom struct {
	share        int64
	all, clients *semaphore.Weighted
	mu           sync.Mutex
	byClient     map[string]*clientRoom
}

// clientRoom is the share of a client with requests that are in progress or wait.
type clientRoom struct {
	*semaphore.Weighted
	requests int
}

// newFairRoom returns an empty room: its size, the part of it that the clients may take, and the share of each.
func newFairRoom(size, clients, share int64) *fairRoom {
	return &fairRoom{
		share: share, all: semaphore.NewWeighted(size), clients: semaphore.NewWeighted(clients),
		byClient: map[string]*clientRoom{},
	}
}

// take waits until there is room for n, which is at most a share. The only error is the end of ctx. The client is empty
// for an operator. The caller must leave what it has taken.
func (r *fairRoom) take(ctx context.Context, client string, n int64) (*takenRoom, error) {
	t := &takenRoom{left: func() {}, size: n}
	from := []*semaphore.Weighted{r.all}
	if client != "" {
		own := r.enter(client)
		t.left = func() { r.leave(client, own) }
		from = []*semaphore.Weighted{own.Weighted, r.clients, r.all} // a request that waits for its share takes no room
	}
	for _, s := range from {
		if err := s.Acquire(ctx, n); err != nil {
			t.leave()
			return nil, err
		}
		t.from = append(t.from, s)
	}
	return t, nil
}

// takeWithin is take that waits no longer than patience, and then refuses the request with a message.
func (r *fairRoom) takeWithin(
	ctx context.Context, patience time.Duration, client string, n int64, message string,
) (*takenRoom, error) {
	limited, cancel := context.WithTimeout(ctx, patience)
	defer cancel()
	taken, err := r.take(limited, client, n)
	if errors.Is(err, context.DeadlineExceeded) && ctx.Err() == nil {
		return nil, request.RefuseAs(http.StatusServiceUnavailable, "server_busy", message)
	}
	return taken, err
}

func (r *fairRoom) enter(client string) *clientRoom {
	r.mu.Lock()
	defer r.mu.Unlock()
	own := r.byClient[client]
	if own == nil {
		own = &clientRoom{Weighted: semaphore.NewWeighted(r.share)}
		r.byClient[client] = own
	}
	own.requests++
	return own
}

func (r *fairRoom) leave(client string, own *clientRoom) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if own.requests--; own.requests == 0 {
		delete(r.byClient, client)
	}
}

// takenRoom is a part of a room. It is for one goroutine at a time.
type takenRoom struct {
	from []*semaphore.Weighted
	size int64
	left func()
}

// shrink gives back all but size.
func (t *takenRoom) shrink(size int64) {
	for _, s := range t.from {
		s.Release(t.size - size)
	}
	t.size = size
}

// leave gives all back.
func (t *takenRoom) leave() {
	t.shrink(0)
	t.left()
}
