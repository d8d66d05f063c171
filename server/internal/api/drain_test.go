package api

import (
	"strconv"
	"testing"
	"time"
)

// A drain ends early when each address that polled before the signal got three answers of 503. Polls of other addresses
// do not count.
func TestDrainCountsEachPoller(t *testing.T) {
	begun := make(chan struct{})
	d := NewDrain(time.Minute, begun)
	d.poll("192.0.2.1")
	d.poll("192.0.2.2")
	close(begun)
	for range 10 * enoughRefusals {
		d.poll("192.0.2.1")
		d.poll("198.51.100.9")
	}
	for n := range enoughRefusals {
		if d.over() {
			t.Errorf("the drain ended after %d polls of the second load balancer", n)
		}
		d.poll("192.0.2.2")
	}
	if !d.over() {
		t.Error("the drain did not end after enough 503s for all pollers")
	}
}

// A drain waits for a load balancer that polls twice a minute, but not for one whose last poll is a minute old.
func TestDrainWaitsForRecentPollers(t *testing.T) {
	for ago, want := range map[time.Duration]bool{30 * time.Second: true, time.Minute: false} {
		begun, now := make(chan struct{}), time.Now()
		d := NewDrain(time.Minute, begun)
		d.now = func() time.Time { return now }
		d.poll("192.0.2.1")
		now = now.Add(ago)
		close(begun)
		if got := d.polled(); got != want {
			t.Errorf("with a poll %v ago, polled is %v", ago, got)
		}
	}
}

// Polls from more than maxPollers addresses do not end a drain early. The surplus addresses are not stored.
func TestUntrackedPollersPreventAnEarlyEnd(t *testing.T) {
	begun, now := make(chan struct{}), time.Now()
	d := NewDrain(time.Minute, begun)
	d.now = func() time.Time { return now }
	for n := range 2 * maxPollers {
		d.poll(strconv.Itoa(n))
	}
	if len(d.pollers) != maxPollers {
		t.Errorf("the drain tracks %d addresses", len(d.pollers))
	}
	close(begun)
	for n := range enoughRefusals * maxPollers {
		d.poll(strconv.Itoa(n % maxPollers))
	}
	if d.over() {
		t.Error("the drain ended although untracked addresses polled")
	}
}

func (d *Drain) over() bool {
	select {
	case <-d.complete:
		return true
	default:
		return false
	}
}
