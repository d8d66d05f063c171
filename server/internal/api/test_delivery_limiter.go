package api

import "sync"

// The limits of concurrent test deliveries.
const (
	maxTestDeliveries          = 64
	maxTestDeliveriesPerClient = 4
)

// testDeliveryLimiter limits concurrent test deliveries: each may take as long as a receiver hangs.
type testDeliveryLimiter struct {
	mu       sync.Mutex
	all      int
	byClient map[string]int
}

func newTestDeliveryLimiter() *testDeliveryLimiter {
	return &testDeliveryLimiter{byClient: map[string]int{}}
}

// acquire reports whether a client may send another test delivery. If so, the caller must call release afterwards.
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

// release frees what acquire reserved.
func (l *testDeliveryLimiter) release(client string) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.all--
	if l.byClient[client]--; l.byClient[client] == 0 {
		delete(l.byClient, client)
	}
}
