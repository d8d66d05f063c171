package api

import (
	"strconv"
	"testing"
	"time"
)

// A drain ends early when each address that has looked before the signal has seen it three times, however often
// others look.
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
			t.Errorf("it is over when the second load balancer has looked %d times", n)
		}
		d.poll("192.0.2.2")
	}
	if !d.over() {
		t.Error("it is not over when all have seen it")
	}
}

// A load balancer that looks twice a minute is waited for, one that has looked a minute ago is not.
func TestDrainForSlowPollers(t *testing.T) {
	for ago, want := range map[time.Duration]bool{30 * time.Second: true, time.Minute: false} {
		begun, now := make(chan struct{}), time.Now()
		d := NewDrain(time.Minute, begun)
		d.now = func() time.Time { return now }
		d.poll("192.0.2.1")
		now = now.Add(ago)
		close(begun)
		if got := d.polled(); got != want {
			t.Errorf("of a look %v ago: %v", ago, got)
		}
	}
}

// Looks from many addresses do not end a drain early, and are forgotten.
func TestDrainWithMoreAddressesThanItCounts(t *testing.T) {
	begun, now := make(chan struct{}), time.Now()
	d := NewDrain(time.Minute, begun)
	d.now = func() time.Time { return now }
	for n := range 2 * maxPollers {
		d.poll(strconv.Itoa(n))
	}
	if len(d.pollers) != maxPollers {
		t.Errorf("it keeps %d addresses", len(d.pollers))
	}
	close(begun)
	for n := range enoughRefusals * maxPollers {
		d.poll(strconv.Itoa(n % maxPollers))
	}
	if d.over() {
		t.Error("it is over although addresses have looked that it does not count")
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
