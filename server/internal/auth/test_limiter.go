package auth

import "sync"

// How many test deliveries are sent at a time.
const (
	maxTests          = 64
	MaxTestsPerClient = 4
)

// TestLimiter bounds how many test deliveries are sent at a time: each may take as long as a receiver hangs.
type TestLimiter struct {
	mu       sync.Mutex
	all      int
	byClient map[string]int
}

// NewTestLimiter returns a limiter of which nothing is taken.
func NewTestLimiter() *TestLimiter { return &TestLimiter{byClient: map[string]int{}} }

// Acquire reports whether a client may send one more. If it may, Release must follow.
func (l *TestLimiter) Acquire(client string) bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.all == maxTests || l.byClient[client] == MaxTestsPerClient {
		return false
	}
	l.all++
	l.byClient[client]++
	return true
}

// Release ends what Acquire began.
func (l *TestLimiter) Release(client string) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.all--
	if l.byClient[client]--; l.byClient[client] == 0 {
		delete(l.byClient, client)
	}
}
