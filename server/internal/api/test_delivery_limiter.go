package api

import (
	"slices"
	"sync"
)

// How many test deliveries are sent at a time.
const (
	maxTestDeliveries          = 64
	maxTestDeliveriesPerClient = 4
)

// testDeliveryLimiter bounds how many test deliveries are sent at a time: each may take as long as a receiver hangs. If
// all are taken, the client with the most loses its oldest one to a client without any. So a client that sends no other
// test can always send one.
type testDeliveryLimiter struct {
	mu       sync.Mutex
	sent     []*sentTest // the oldest first
	byClient map[string]int
}

// sentTest is a test delivery that is sent now.
type sentTest struct {
	client string
	evict  func()
}

func newTestDeliveryLimiter() *testDeliveryLimiter {
	return &testDeliveryLimiter{byClient: map[string]int{}}
}

// acquire reports whether a client may send one more. If it may, release must follow. Evict is called if another client
// gets the place.
func (l *testDeliveryLimiter) acquire(client string, evict func()) (release func(), ok bool) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.byClient[client] == maxTestDeliveriesPerClient || len(l.sent) == maxTestDeliveries && !l.makeRoom(client) {
		return nil, false
	}
	test := &sentTest{client, evict}
	l.sent = append(l.sent, test)
	l.byClient[client]++
	return func() {
		l.mu.Lock()
		defer l.mu.Unlock()
		l.remove(test)
	}, true
}

// makeRoom evicts the oldest test of the client with the most, for a client without any.
func (l *testDeliveryLimiter) makeRoom(client string) bool {
	if l.byClient[client] > 0 {
		return false
	}
	oldest := slices.MaxFunc(l.sent, func(a, b *sentTest) int { return l.byClient[a.client] - l.byClient[b.client] })
	oldest.evict()
	l.remove(oldest)
	return true
}

// remove does nothing to a test that was evicted.
func (l *testDeliveryLimiter) remove(test *sentTest) {
	i := slices.Index(l.sent, test)
	if i < 0 {
		return
	}
	l.sent = slices.Delete(l.sent, i, i+1)
	if l.byClient[test.client]--; l.byClient[test.client] == 0 {
		delete(l.byClient, test.client)
	}
}
