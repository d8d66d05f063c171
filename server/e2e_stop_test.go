package main_test

import (
	"net"
	"strings"
	"syscall"
	"testing"
	"time"
)

// An attempt that is in flight when the server is stopped is finished and recorded, and no other is begun.
func testAnswerDuringShutdown(t *testing.T, bin programs) {
	store, r := newStore(t), newReceiver(t)
	p := bin.serve(t, store)
	a := newAPI(t, p)
	a.putClient()
	r.hold(func(arrival) bool { return true })
	a.login(r, 1)
	a.logout(1)
	r.wait(t, 1)
	p.signal(t, syscall.SIGTERM)
	eventually(t, "the server listens no more", func() bool { return !dials(p.url) })
	r.release()
	equal(t, "exit code", p.wait(t), 0)
	equal(t, "requests before the stop", len(r.all()), 1)

	p = bin.serve(t, store)
	got := r.wait(t, 2)
	equal(t, "first request after the new start", got[1].value("agent_status"), "logged_out")
	equal(t, "exit code", p.stop(t), 0)
	equal(t, "requests in all", len(r.all()), 2)
}

func dials(url string) bool {
	conn, err := net.Dial("tcp", strings.TrimPrefix(url, "http://"))
	if err != nil {
		return false
	}
	_ = conn.Close()
	return true
}

// However long a receiver takes, the server stops within 15 s, and knows afterwards how far it was: an attempt that
// failed meanwhile counts, one that was cut off by the stop does not.
func testHangingReceiver(t *testing.T, bin programs) {
	cases := []*hanging{
		{signal: syscall.SIGTERM, env: "AGENTEVENTS_TIMEOUT=2s", attempt: "2"},
		{signal: syscall.SIGTERM, env: "AGENTEVENTS_TIMEOUT=1m", attempt: "1"},
		{signal: syscall.SIGINT, env: "AGENTEVENTS_LOG_LEVEL=debug"}, // all as it is by default
	}
	for _, c := range cases {
		c.start(t, bin)
	}
	for _, c := range cases {
		c.stop(t)
	}
	for _, c := range cases {
		c.startAgain(t, bin)
	}
}

type hanging struct {
	signal  syscall.Signal
	env     string
	attempt string // number of the next attempt after the new start; empty when that would be too long to wait for

	store string
	r     *receiver
	p     *process
	at    time.Time
}

func (c *hanging) start(t *testing.T, bin programs) {
	t.Helper()
	c.store, c.r = newStore(t), newReceiver(t)
	c.p = bin.serve(t, c.store, c.env)
	a := newAPI(t, c.p)
	a.putClient()
	c.r.hold(func(arrival) bool { return true })
	a.login(c.r, 1)
	c.r.wait(t, 1)
	c.at = time.Now()
	c.p.signal(t, c.signal)
}

func (c *hanging) stop(t *testing.T) {
	t.Helper()
	equal(t, "exit code after "+c.signal.String(), c.p.wait(t), 0)
	took := c.p.until.Sub(c.at)
	t.Logf("%s with %s: stopped after %v", c.signal, c.env, took.Round(time.Millisecond))
	if took > 40*time.Second {
		t.Errorf("%s with %s: it took %v to stop", c.signal, c.env, took)
	}
}

func (c *hanging) startAgain(t *testing.T, bin programs) {
	t.Helper()
	if c.attempt == "" {
		return
	}
	c.r.release()
	c.p = bin.serve(t, c.store, c.env)
	got := c.r.wait(t, 2)
	equal(t, "number of the attempt with "+c.env, got[1].header.Get("agentevents-attempt"), c.attempt)
	equal(t, "webhook-id", got[1].id(), got[0].id())
}

// Whoever does not want to wait says so a second time.
func testSecondSignal(t *testing.T, bin programs) {
	r := newReceiver(t)
	p := bin.serve(t, newStore(t))
	a := newAPI(t, p)
	a.putClient()
	r.hold(func(arrival) bool { return true })
	a.login(r, 1)
	r.wait(t, 1)
	began := time.Now()
	eventually(t, "the server ends", func() bool {
		_ = p.cmd.Process.Signal(syscall.SIGINT) // fails when it has ended
		return p.ended()
	})
	if took := p.until.Sub(began); took > 10*time.Second { // a stop that waits for the attempt takes longer
		t.Errorf("it took %v", took)
	}
	if p.cmd.ProcessState.Success() {
		t.Error("exit code 0, though an attempt was not waited for")
	}
}
