package main_test

import (
	"context"
	"net"
	"net/http"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/agentevents/agentevents/gen"
)

// testKill kills the server again and again (kill -9) while statuses change and deliveries are in flight, and then
// compares what was promised with what has arrived.
func testKill(t *testing.T, bin programs) {
	const kills = 3
	agents := []int64{1, 2, 3, 4, 5, 6, 7, 8}
	odd := func(a arrival) bool { return a.agent()%2 == 1 }
	file, r := newStore(t), newReceiver(t)
	p := bin.serve(t, file)
	a := newAPI(t, p)
	a.putClient()
	a.login(r, agents...)
	promised := &promises{}
	for range kills {
		r.wait(t, len(agents)) // the receiver is known as quick, and gets several at once
		r.hold(odd)
		writers := promised.flip(a, agents, 25)
		eventually(t, "the receiver holds deliveries, and statuses change", func() bool {
			return len(r.allHeld()) > 0 && promised.count() > 60
		})
		p.kill(t)
		writers.Wait()
		before, inFlight := len(r.all()), r.allHeld()
		r.release()
		p = bin.serve(t, file)
		a = newAPI(t, p)
		arriveAgain(t, r, before, inFlight, p.since)
		promised.forget()
	}
	for _, id := range agents {
		last := a.status(id).Sequence
		eventually(t, "all has arrived", func() bool { return newest(r.all(), id) == last })
	}
	equal(t, "exit code", p.stop(t), 0)
	promised.check(t, r.all(), agents, kills)
}

// arriveAgain waits for what was in flight at a kill. Within a second, the server promises; what is to be told apart
// from that is the end of a lease, 15 s, and a retry, which has another number.
func arriveAgain(t *testing.T, r *receiver, before int, inFlight []arrival, since time.Time) {
	t.Helper()
	for _, old := range inFlight {
		var again arrival
		eventually(t, "what was in flight arrives again", func() bool {
			for _, x := range r.all()[before:] {
				if x.id() == old.id() {
					again = x
					return true
				}
			}
			return false
		})
		took := again.at.Sub(since)
		t.Logf("in flight at the kill, of agent %d: again %v after the start", old.agent(), took.Round(time.Millisecond))
		if took > 5*time.Second {
			t.Errorf("what was in flight came only %v after the start", took)
		}
		equal(t, "request", again.request(), old.request())
	}
}

// newest is the last change of an agent that has arrived.
func newest(arrivals []arrival, agent int64) (sequence int64) {
	for _, a := range arrivals {
		if a.agent() == agent {
			sequence = a.sequence()
		}
	}
	return sequence
}

// promises are the changes that the server has said 200 to.
type promises struct {
	mu    sync.Mutex
	made  []int64
	fresh int // since the last kill
}

func (p *promises) add(sequence int64) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.made = append(p.made, sequence)
	p.fresh++
}

func (p *promises) count() int {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.fresh
}

func (p *promises) forget() {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.fresh = 0
}

// flip logs agents in and out, all at the same time, until the server is gone.
func (p *promises) flip(a api, agents []int64, times int) *sync.WaitGroup {
	var writers sync.WaitGroup
	ctx := a.t.Context()
	for _, id := range agents {
		status := a.status(id).AgentStatus
		writers.Go(func() {
			for range times {
				status = other(status)
				if !p.set(ctx, a, id, status) {
					return
				}
			}
		})
	}
	return &writers
}

func (p *promises) set(ctx context.Context, a api, id int64, status gen.AgentStatusValue) bool {
	resp, err := a.PutLocalAgentStatusWithResponse(ctx, pbxClient, id, gen.AgentStatusUpdate{AgentStatus: status})
	if err != nil {
		return false // killed: it may have been stored or not
	}
	if resp.StatusCode() != http.StatusOK || !resp.JSON200.Changed || resp.JSON200.Deliveries != 1 {
		a.t.Errorf("status of agent %d: %d %s", id, resp.StatusCode(), resp.Body)
		return false
	}
	p.add(resp.JSON200.Sequence)
	return true
}

func other(s gen.AgentStatusValue) gen.AgentStatusValue {
	if s == gen.AgentStatusValueAvailable {
		return gen.AgentStatusValueLoggedOut
	}
	return gen.AgentStatusValueAvailable
}

// check holds what has arrived against what was promised: nothing is missing, each agent's are in order, and only
// what was the last before a kill has come twice, with the same id.
func (p *promises) check(t *testing.T, arrivals []arrival, agents []int64, kills int) {
	t.Helper()
	ids, sequences := map[int64]string{}, map[string]int64{}
	for _, id := range agents {
		var of []arrival
		for _, a := range arrivals {
			if a.agent() == id {
				of = append(of, a)
				ids[a.sequence()], sequences[a.id()] = a.id(), a.sequence()
			}
		}
		if repeated := inOrder(t, of); repeated > kills {
			t.Errorf("agent %d: %d duplicates after %d kills", id, repeated, kills)
		}
	}
	if len(ids) != len(sequences) {
		t.Errorf("%d changes have arrived under %d ids", len(ids), len(sequences))
	}
	for _, sequence := range p.made {
		if ids[sequence] == "" {
			t.Errorf("the change %d is missing, though its request was answered 200", sequence)
		}
	}
	t.Logf("%d changes were answered 200, %d have arrived, in %d requests", len(p.made), len(ids), len(arrivals))
}

// inOrder looks at what has arrived of one agent, and returns how many of it were duplicates.
func inOrder(t *testing.T, arrivals []arrival) (repeated int) {
	t.Helper()
	for i, a := range arrivals {
		equal(t, "number of the attempt", a.header.Get("agentevents-attempt"), "1") // none failed, so none is a retry
		if i == 0 {
			continue
		}
		last := arrivals[i-1]
		switch {
		case a.id() == last.id():
			repeated++
			equal(t, "sequence of a duplicate", a.sequence(), last.sequence())
			equal(t, "duplicate", a.request(), last.request())
		case a.sequence() <= last.sequence():
			t.Errorf("agent %d: %d came after %d", a.agent(), a.sequence(), last.sequence())
		case a.value("agent_status") == last.value("agent_status"):
			t.Errorf("agent %d: between %d and %d one is missing", a.agent(), last.sequence(), a.sequence())
		}
	}
	return repeated
}

// An attempt that is in flight when the server is stopped is finished and recorded, and no other is begun.
func testAnswerDuringShutdown(t *testing.T, bin programs) {
	file, r := newStore(t), newReceiver(t)
	p := bin.serve(t, file)
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

	p = bin.serve(t, file)
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

	file string
	r    *receiver
	p    *process
	at   time.Time
}

func (c *hanging) start(t *testing.T, bin programs) {
	t.Helper()
	c.file, c.r = newStore(t), newReceiver(t)
	c.p = bin.serve(t, c.file, c.env)
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
	if took > 15*time.Second {
		t.Errorf("%s with %s: it took %v to stop", c.signal, c.env, took)
	}
}

func (c *hanging) startAgain(t *testing.T, bin programs) {
	t.Helper()
	if c.attempt == "" {
		return
	}
	c.r.release()
	c.p = bin.serve(t, c.file, c.env)
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
	if took := p.until.Sub(began); took > 5*time.Second {
		t.Errorf("it took %v", took)
	}
	if p.cmd.ProcessState.Success() {
		t.Error("exit code 0, though an attempt was not waited for")
	}
}
