package api

import (
	"errors"
	"sync"
)

// requestBounds are how many requests of a kind may be in progress at a time.
type requestBounds struct {
	all       int
	clients   int // of these, those of all clients together; the others are left to operators
	perClient int
}

// The reasons why a request may not begin.
var (
	errClientBound = errors.New("the client has too many requests of this kind in progress")
	errCommonBound = errors.New("the server has too many requests of this kind in progress")
)

// clientLimiter keeps requests of a kind within their bounds, so that one client leaves room for the others, and all
// clients leave room for operators.
type clientLimiter struct {
	bounds requestBounds

	mu       sync.Mutex
	all      int
	clients  int // of all
	byClient map[string]int
}

func newClientLimiter(b requestBounds) *clientLimiter {
	return &clientLimiter{bounds: b, byClient: map[string]int{}}
}

// acquire begins a request of a client, or of an operator if the client is empty. If there is no error, release must
// follow.
func (l *clientLimiter) acquire(client string) error {
	l.mu.Lock()
	defer l.mu.Unlock()
	switch {
	case client != "" && l.byClient[client] >= l.bounds.perClient:
		return errClientBound
	case l.all >= l.bounds.all, client != "" && l.clients >= l.bounds.clients:
		return errCommonBound
	}
	l.all++
	if client != "" {
		l.clients++
		l.byClient[client]++
	}
	return nil
}

// release ends what acquire began.
func (l *clientLimiter) release(client string) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.all--
	if client == "" {
		return
	}
	l.clients--
	if l.byClient[client]--; l.byClient[client] == 0 {
		delete(l.byClient, client)
	}
}
