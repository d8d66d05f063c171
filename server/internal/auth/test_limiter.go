package auth

import (
	"sync"
)

const (
	maxTests          = 64 // that are under way at a time, and
	MaxTestsPerClient = 4  // of one client
)

// TestLimiter lets only so many tests be under way. Each may take as long as a receiver hangs.
type TestLimiter struct {
	mu       sync.Mutex
	all      int
	byClient map[string]int // by client
}

func NewTestLimiter() *TestLimiter { return &TestLimiter{byClient: map[string]int{}} }

func (g *TestLimiter) Acquire(client string) bool {
	g.mu.Lock()
	defer g.mu.Unlock()
	if g.all == maxTests || g.byClient[client] == MaxTestsPerClient {
		return false
	}
	g.all++
	g.byClient[client]++
	return true
}

func (g *TestLimiter) Release(client string) {
	g.mu.Lock()
	defer g.mu.Unlock()
	g.all--
	if g.byClient[client]--; g.byClient[client] == 0 {
		delete(g.byClient, client)
	}
}
