package main

import (
	"io"
	"net/http"
	"runtime"
	"strconv"
	"strings"
	"testing"
	"time"
)

// After a signal /readyz is red while the listener still takes requests, until a load balancer has seen that.
func TestReadinessEndsBeforeTheListener(t *testing.T) {
	p := start(t, "AGENTEVENTS_DRAIN=1m")
	for status := 0; status != http.StatusOK; { // the dispatcher begins meanwhile
		status, _ = p.readiness()
	}
	p.stop()
	p.awaits("draining")
	for range redEnough {
		if strings.Contains(p.log.String(), "msg=stopping") {
			t.Error("it has stopped before it was seen")
		}
		if status, body := p.readiness(); status != http.StatusServiceUnavailable || !strings.Contains(body, "the server is stopping") {
			t.Errorf("after the signal it is %d %s", status, body)
		}
	}
	p.ends(40 * time.Second)
}

// Requests are answered as ever meanwhile.
func TestRequestsWhileDraining(t *testing.T) {
	p := start(t, "AGENTEVENTS_DRAIN=1m")
	p.readiness()
	p.stop()
	p.awaits("draining")
	p.put("/client/12", `{}`)
	for range redEnough {
		p.readiness()
	}
	p.ends(40 * time.Second)
}

// Where nothing looks at /readyz the end waits for nothing.
func TestNoDrainWithoutALoadBalancer(t *testing.T) {
	p := start(t, "AGENTEVENTS_DRAIN=1m")
	p.put("/client/12", `{}`)
	p.stop()
	p.ends(40 * time.Second)
}

// A drain ends early when each address that has looked before the signal has seen it three times, however often
// others look.
func TestDrainCountsEachPoller(t *testing.T) {
	begun := make(chan struct{})
	d := newDrain(time.Minute, begun)
	d.ends("192.0.2.1")
	d.ends("192.0.2.2")
	close(begun)
	for range 10 * redEnough {
		d.ends("192.0.2.1")
		d.ends("198.51.100.9")
	}
	for n := range redEnough {
		if d.over() {
			t.Errorf("it is over when the second load balancer has looked %d times", n)
		}
		d.ends("192.0.2.2")
	}
	if !d.over() {
		t.Error("it is not over when all have seen it")
	}
}

// A load balancer that looks twice a minute is waited for, one that has looked a minute ago is not.
func TestDrainForSlowPollers(t *testing.T) {
	for ago, want := range map[time.Duration]bool{30 * time.Second: true, time.Minute: false} {
		begun, now := make(chan struct{}), time.Now()
		d := newDrain(time.Minute, begun)
		d.now = func() time.Time { return now }
		d.ends("192.0.2.1")
		now = now.Add(ago)
		close(begun)
		if got := d.watched(); got != want {
			t.Errorf("of a look %v ago: %v", ago, got)
		}
	}
}

// Looks from many addresses do not end a drain early, and are forgotten.
func TestDrainWithMoreAddressesThanItCounts(t *testing.T) {
	begun, now := make(chan struct{}), time.Now()
	d := newDrain(time.Minute, begun)
	d.now = func() time.Time { return now }
	for n := range 2 * mostPollers {
		d.ends(strconv.Itoa(n))
	}
	if len(d.pollers) != mostPollers {
		t.Errorf("it keeps %d addresses", len(d.pollers))
	}
	close(begun)
	for n := range redEnough * mostPollers {
		d.ends(strconv.Itoa(n % mostPollers))
	}
	if d.over() {
		t.Error("it is over although addresses have looked that it does not count")
	}
}

func (d *drain) over() bool {
	select {
	case <-d.enough:
		return true
	default:
		return false
	}
}

func (p *program) readiness() (status int, body string) {
	p.Helper()
	resp, err := http.Get(p.url + "/readyz")
	if err != nil {
		p.Fatal(err)
	}
	defer resp.Body.Close()
	text, err := io.ReadAll(resp.Body)
	if err != nil {
		p.Fatal(err)
	}
	return resp.StatusCode, string(text)
}

// awaits waits for a line of the log.
func (p *program) awaits(text string) {
	p.Helper()
	for end := time.Now().Add(time.Minute); !strings.Contains(p.log.String(), text); runtime.Gosched() {
		if time.Now().After(end) {
			p.Fatalf("the log does not say %q: %s", text, p.log)
		}
	}
}
