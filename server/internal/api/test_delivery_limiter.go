package api

import "sync"

// How many test deliveries are sent at a time.
const (
	maxTestDeliveries          = 64
	maxTestDeliveriesPerClient = 4
)

// testDeliveryLimiter bounds how many test deliveries are sent at a time: each may take as long as a receiver hangs.
type testDeliveryLimiter struct {
	mu       sync.Mutex
	all      int
	byClient map[string]int
}

func newTestDeliveryLimiter() *testDeliveryLimiter {
	return &testDeliveryLimiter{byClient: map[string]int{}}
}

// acquire reports whether a client may send one more. If it may, release must follow.
func (l *testDeliveryLimiter) acquire(client string) bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.all == maxTestDeliveries || l.byClient[client] == maxTestDeliveriesPerClient {
		return false
	}
	l.all++
	l.byClient[client]++
	return true
}

// release ends what acquire began.
func (l *testDeliveryLimiter) release(client string) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.all--
	if l.byClient[client]--; l.byClient[client] == 0 {
		delete(l.byClient, client)
	}
}
