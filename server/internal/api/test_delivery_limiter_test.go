package api

import (
	"fmt"
	"testing"
)

// With every place taken by clients that have four tests each, a client without a test gets the oldest place. It loses
// this to none of them.
func TestTestDeliveryLimiterIsFair(t *testing.T) {
	l := newTestDeliveryLimiter()
	var evicted []string
	acquire := func(client string) (release func(), ok bool) {
		return l.acquire(client, func() { evicted = append(evicted, client) })
	}
	for i := range maxTestDeliveries {
		if _, ok := acquire(fmt.Sprint("busy", i%16)); !ok {
			t.Fatalf("test %d is refused", i+1)
		}
	}
	release, ok := acquire("quiet")
	if !ok || len(evicted) != 1 || evicted[0] != "busy0" {
		t.Fatalf("the quiet client's test is taken: %v; evicted are %v", ok, evicted)
	}
	if _, ok := acquire("busy1"); ok {
		t.Error("a fifth test of one client is taken")
	}
	if _, ok := acquire("busy0"); ok {
		t.Error("a client has its fourth test in place of another's fourth")
	}
	release()
	if _, ok := acquire("busy0"); !ok || len(evicted) != 1 {
		t.Errorf("a free place is taken: %v; evicted are %v", ok, evicted)
	}
	if len(l.sent) != maxTestDeliveries {
		t.Errorf("%d tests are sent at a time", len(l.sent))
	}
}

// If each place is another client's, the oldest test is evicted.
func TestTestDeliveryLimiterEvictsTheOldest(t *testing.T) {
	l := newTestDeliveryLimiter()
	evicted := ""
	for i := range maxTestDeliveries + 2 {
		client := fmt.Sprint(i)
		if _, ok := l.acquire(client, func() { evicted += client }); !ok {
			t.Fatalf("the test of client %s is refused", client)
		}
	}
	if evicted != "01" {
		t.Errorf("evicted are %s, want 01", evicted)
	}
}

// The place of an evicted test is given back once.
func TestTestDeliveryLimiterReleasesOnce(t *testing.T) {
	l := newTestDeliveryLimiter()
	first, _ := l.acquire("0", func() {})
	for i := range maxTestDeliveries {
		l.acquire(fmt.Sprint(i+1), func() {})
	}
	first()
	if len(l.sent) != maxTestDeliveries || len(l.byClient) != maxTestDeliveries {
		t.Errorf("%d tests of %d clients are left, want %d", len(l.sent), len(l.byClient), maxTestDeliveries)
	}
}
