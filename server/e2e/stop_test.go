package e2e

import (
	"syscall"
	"testing"
	"time"
)

// On a stop, the server finishes and records attempts in flight, and starts no other.
func TestStopFinishesAttemptsInFlight(t *testing.T) {
	t.Parallel()
	store, r := newStore(t), newReceiver(t)
	p := serve(t, store)
	a := newAPI(t, p)
	a.putClient()
	r.hold(all)
	a.login(r, 1)
	a.logout(1)
	r.wait(t, 1)
	p.signal(t, syscall.SIGTERM)
	eventually(t, "the listener closes", func() bool { return !listens(p.URL) })
	r.release()
	equal(t, "exit code", p.wait(t), 0)
	equal(t, "requests before the stop", len(r.arrivals()), 1)

	p = serve(t, store)
	got := r.wait(t, 2)
	equal(t, "first request after the new start", formValue(got[1].Form(), "agent_status"), "logged_out")
	equal(t, "exit code", p.stop(t), 0)
	equal(t, "total of requests", len(r.arrivals()), 2)
}

// The server stops even if a receiver hangs. An attempt that failed during the stop counts; an attempt that the stop
// cut off does not. The server promises 15 s; the test allows maxStop, for a loaded machine.
func TestStopEndsDespiteAHangingReceiver(t *testing.T) {
	t.Parallel()
	cases := []*hanging{
		{signal: syscall.SIGTERM, env: "AGENTEVENTS_TIMEOUT=2s", attempt: "2"},
		{signal: syscall.SIGTERM, env: "AGENTEVENTS_TIMEOUT=1m", attempt: "1"},
		{signal: syscall.SIGINT, env: "AGENTEVENTS_LOG_LEVEL=debug"}, // the default timeout
	}
	for _, c := range cases {
		c.start(t)
	}
	for _, c := range cases {
		c.stop(t)
	}
	for _, c := range cases {
		c.restart(t)
	}
}

// maxStop is less than the minute of an attempt: a stop that waits for the attempt fails the test.
const maxStop = 40 * time.Second

type hanging struct {
	signal  syscall.Signal
	env     string
	attempt string // number of the next attempt after the restart; empty if it is too late for a test

	store string
	r     *receiver
	p     *process
	at    time.Time
}

func (c *hanging) start(t *testing.T) {
	t.Helper()
	c.store, c.r = newStore(t), newReceiver(t)
	c.p = serve(t, c.store, c.env)
	a := newAPI(t, c.p)
	a.putClient()
	c.r.hold(all)
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
	if took > maxStop {
		t.Errorf("%s with %s: the stop took %v", c.signal, c.env, took)
	}
}

func (c *hanging) restart(t *testing.T) {
	t.Helper()
	if c.attempt == "" {
		return
	}
	c.r.release()
	c.p = serve(t, c.store, c.env)
	got := c.r.wait(t, 2)
	equal(t, "number of the attempt with "+c.env, got[1].Header.Get("agentevents-attempt"), c.attempt)
	equal(t, "webhook-id", got[1].ID, got[0].ID)
}

// A second signal ends the server immediately.
func TestSecondSignalEndsAtOnce(t *testing.T) {
	t.Parallel()
	r := newReceiver(t)
	p := serve(t, newStore(t))
	a := newAPI(t, p)
	a.putClient()
	r.hold(all)
	a.login(r, 1)
	r.wait(t, 1)
	began := time.Now()
	eventually(t, "the server ends", func() bool {
		_ = p.Cmd.Process.Signal(syscall.SIGINT) // fails when it has ended
		return p.ended()
	})
	if took := p.until.Sub(began); took > 10*time.Second { // a stop that waits for the attempt takes longer
		t.Errorf("the stop took %v", took)
	}
	if p.Cmd.ProcessState.ExitCode() == 0 {
		t.Error("exit code 0 although an attempt was cut off")
	}
}
