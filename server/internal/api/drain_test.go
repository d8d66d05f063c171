package api

import (
	"strconv"
	"testing"
	"time"
)

// A drain ends early when each address that probed before the signal got three answers of 503. Probes of other
// addresses do not count.
func TestDrainCountsEachProber(t *testing.T) {
	begun := make(chan struct{})
	d := NewDrain(time.Minute, begun)
	d.probe("192.0.2.1")
	d.probe("192.0.2.2")
	close(begun)
	for range 10 * enoughRefusals {
		d.probe("192.0.2.1")
		d.probe("198.51.100.9")
	}
	for n := range enoughRefusals {
		if d.over() {
			t.Errorf("the drain ended after %d probes of the second load balancer", n)
		}
		d.probe("192.0.2.2")
	}
	if !d.over() {
		t.Error("the drain did not end after enough 503s for all probers")
	}
}

// A drain waits for a load balancer that probes twice a minute, but not for one whose last probe is a minute old.
func TestDrainWaitsForRecentProbers(t *testing.T) {
	for ago, want := range map[time.Duration]bool{30 * time.Second: true, time.Minute: false} {
		begun, now := make(chan struct{}), time.Now()
		d := NewDrain(time.Minute, begun)
		d.now = func() time.Time { return now }
		d.probe("192.0.2.1")
		now = now.Add(ago)
		close(begun)
		if got := d.probed(); got != want {
			t.Errorf("with a probe %v ago, probed is %v", ago, got)
		}
	}
}

// Probes from more than maxProbers addresses do not end a drain early. The surplus addresses are not stored.
func TestUntrackedProbersPreventAnEarlyEnd(t *testing.T) {
	begun, now := make(chan struct{}), time.Now()
	d := NewDrain(time.Minute, begun)
	d.now = func() time.Time { return now }
	for n := range 2 * maxProbers {
		d.probe(strconv.Itoa(n))
	}
	if len(d.probers) != maxProbers {
		t.Errorf("the drain tracks %d addresses", len(d.probers))
	}
	close(begun)
	for n := range enoughRefusals * maxProbers {
		d.probe(strconv.Itoa(n % maxProbers))
	}
	if d.over() {
		t.Error("the drain ended although untracked addresses probed")
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
