package main

import (
	"context"
	"fmt"
	"math/rand/v2"
	"net"
	"net/http"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/agentevents/agentevents/server/lab"
)

// second is a time of a story whose end is now.
func second(n float64) time.Time { return zero.Add(time.Duration(n * float64(time.Second))) }

var zero = time.Now().Add(-100 * time.Second)

func path(agent int64) string { return fmt.Sprintf("/%d-0-1", agent) }

func expected(agent, sequence int64) *lab.Expected {
	e := &lab.Expected{
		Key: lab.Key{Path: path(agent), Sequence: sequence}, Agent: agent, Status: "available", Since: zero,
		Line: lineAt(path(agent), 0),
	}
	if agent >= firstBusy {
		e.Receiver = lab.Anywhere
	}
	return e
}

func got(agent, sequence int64, attempt, status int) *lab.Arrival {
	return &lab.Arrival{
		Key: lab.Key{Path: path(agent), Sequence: sequence}, ID: fmt.Sprintf("msg_%d_%d", agent, sequence), Attempt: attempt,
		Method: "POST", Body: fmt.Sprintf("agent_id=%d&agent_status=available", agent), Status: status,
	}
}

// A receiver is away for 7 seconds, so that one probe fails and the breaker then waits for 10, or 12 with the jitter.
// One delivery is pending meanwhile, behind one that arrived before.
type waiting struct {
	lab.History
	timeline timeline
	servers  int
}

func newWaiting(sent float64) *waiting { return newWaitingOf(1, sent) }

func newWaitingOf(agent int64, sent float64) *waiting {
	w := &waiting{servers: 1}
	w.Line = lineOf
	w.Expected = []*lab.Expected{expected(agent, 1), expected(agent, 2)}
	w.Expected[0].Since, w.Expected[1].Since = second(1), second(12)
	w.Arrivals = []*lab.Arrival{got(agent, 1, 1, 200), got(agent, 2, 1, 200)}
	for i, at := range []float64{2, sent} {
		w.Arrivals[i].At, w.Arrivals[i].Ended = second(at), second(at)
	}
	return w.outage(10, 17)
}

func (w *waiting) judge() (lab.Verdict, waits) {
	var v lab.Verdict
	judge := waits{Verdict: &v, timeline: &w.timeline, servers: w.servers}
	judge.judge(w.History)
	return v, judge
}

func (w *waiting) outage(from, to float64) *waiting {
	w.timeline.outages = append(w.timeline.outages, &trouble{mode: failing, span: span{second(from), second(to)}})
	return w
}

// dead has the only server be away.
func (w *waiting) dead(from, to float64) *waiting {
	w.timeline.faults = append(w.timeline.faults, &trouble{
		fault: &fault{recover: start}, who: 1, span: span{second(from), second(to)}, back: second(to),
	})
	return w
}

// hits has n faults of one of two servers in a time in which it could send nevertheless.
func (w *waiting) hits(n int) *waiting {
	w.servers = 2
	for range n {
		w.timeline.faults = append(w.timeline.faults, &trouble{
			fault: &fault{excuses: everything}, who: 1, span: span{second(20), second(21)}, back: second(21),
		})
	}
	return w
}

func (w *waiting) first(change func(*lab.Arrival)) *waiting {
	change(w.Arrivals[0])
	return w
}

// another is a request that the receiver keeps without an answer.
func (w *waiting) another(from, to float64) *waiting {
	a := got(2, 1, 1, 0)
	a.At, a.Ended = second(from), second(to)
	w.Arrivals = append(w.Arrivals, a)
	return w
}

// What is sent within the bound after its receiver's return is in time; time in which it could not be sent does not
// count.
func TestJudgeWaits(t *testing.T) {
	refused := func(a *lab.Arrival) { a.Status = 503 }
	for name, c := range map[string]struct {
		story *waiting
		late  bool
	}{
		"at once":                                      {newWaiting(17.1), false},
		"within the bound and the pace":                {newWaiting(31.9), false},
		"after the bound":                              {newWaiting(32.2), true},
		"never":                                        {newWaiting(90).never(), true},
		"within the bound of a shorter outage":         {newWaiting(29.9).outage(17.5, 21), false},
		"after the bound of a shorter outage":          {newWaiting(30.1).outage(17.5, 21), true},
		"after a long outage":                          {newWaiting(91).longer(), false},
		"no outage":                                    {newWaiting(25).healthy(), true},
		"the program was dead when it was due":         {newWaiting(40).dead(30, 39), false},
		"the program was dead before it was due":       {newWaiting(32.2).dead(18, 28), true},
		"dead time that overlaps counts once":          {newWaiting(40).dead(30, 34).dead(31, 35), true},
		"the one before it was answered late":          {newWaiting(40).first(func(a *lab.Arrival) { a.Ended = second(30) }), false},
		"the one before it was refused in the outage":  {newWaiting(40).first(refused).first(at11), true},
		"the one before it was refused alone":          {newWaiting(40.1).healthy().first(refused).again(40), false},
		"the receiver keeps others without an answer":  {newWaiting(40).another(28, 39), false},
		"the next outage begins":                       {newWaiting(90).outage(30, 80), false},
		"after the bound, and the next outage begins":  {newWaiting(90).outage(40, 80), true},
		"a replica was hit that may have had its lane": {newWaiting(38).hits(1), false},
		"that is over too":                             {newWaiting(39.5).hits(1), true},
		"two replicas":                                 {newWaiting(45).hits(2), false},
		"more":                                         {newWaiting(47).hits(9), true},
	} {
		t.Run(name, func(t *testing.T) {
			v, _ := c.story.judge()
			if late := v.Count(overdue) > 0; late != c.late {
				t.Errorf("late: %t; the faults are %v", late, v.Faults)
			}
		})
	}
}

func at11(a *lab.Arrival) { a.At, a.Ended = second(11), second(11) }

// again has the first delivery arrive once more.
func (w *waiting) again(at float64) *waiting {
	a := got(1, 1, 2, 200)
	a.At, a.Ended = second(at), second(at)
	w.Arrivals = slices.Insert(w.Arrivals, 1, a)
	return w
}

func (w *waiting) never() *waiting {
	w.Arrivals = w.Arrivals[:1]
	return w
}

func (w *waiting) longer() *waiting {
	w.timeline.outages[0].from = second(-35)
	return w
}

func (w *waiting) healthy() *waiting {
	w.timeline.outages = nil
	return w
}

// A busy agent's may be parked.
func TestJudgeWaitsOfBusyAgents(t *testing.T) {
	if v, _ := newWaitingOf(firstBusy, 90).judge(); len(v.Faults) > 0 {
		t.Errorf("faults: %v", v.Faults)
	}
}

// The longest wait after a return is that of the first delivery of a lane.
func TestJudgeLongestWait(t *testing.T) {
	if _, w := newWaiting(20).judge(); w.lanes != 1 || w.longest != 3*time.Second {
		t.Errorf("%d lanes have waited, at most for %v", w.lanes, w.longest)
	}
}

// The bound follows from how many probes can have failed.
func TestBound(t *testing.T) {
	for lasted, want := range map[float64]time.Duration{4.9: 6, 5: 12, 14.9: 12, 15: 36, 44.9: 36, 45: 72, 105: 72, 9000: 72} {
		u := up{after: &trouble{span: span{zero, second(lasted)}}}
		if got := u.bound(); got != want*time.Second {
			t.Errorf("after %v s: %v", lasted, got)
		}
	}
}

// A timeline knows when nothing could be sent: without any server, without the database, and on a machine that stood still.
func TestTimeline(t *testing.T) {
	var l timeline
	down := func(who int, from, to float64) {
		l.faults = append(l.faults, &trouble{
			fault: &fault{recover: start}, who: who, span: span{second(from), second(to)},
			back: second(to),
		})
	}
	down(1, 1, 5)
	down(2, 3, 4)
	down(2, 6, 7)
	down(1, 6.5, 9)
	down(0, 8, 8.5)
	l.faults = append(l.faults, &trouble{fault: &fault{}, who: 1, span: span{second(2), second(7)}, back: second(7)})
	l.stalls = []span{{second(20), second(21)}}
	want := []span{{second(20), second(21)}, {second(8), second(8.5)}, {second(3), second(4)}, {second(6.5), second(7)}}
	if got := l.dead(2); !slices.Equal(got, want) {
		t.Errorf("nothing could be sent in %v", got)
	}
}

// The seed alone decides about outages, and three in a row have three modes.
func TestOutagePlan(t *testing.T) {
	all := func(seed uint64) (planned []outage) {
		p := &outagePlan{random: rand.New(rand.NewPCG(seed, 0))}
		for range 6 {
			planned = append(planned, p.next())
		}
		return planned
	}
	if !slices.Equal(all(7), all(7)) || slices.Equal(all(7), all(8)) {
		t.Error("the seed does not decide")
	}
	for i := closed; i < modes; i++ {
		if !slices.ContainsFunc(all(7)[:3], func(o outage) bool { return o.mode == i }) {
			t.Errorf("%v: not among the first three", i)
		}
	}
}

// A receiver takes nothing during an outage, in three ways, and everything after it.
func TestOutage(t *testing.T) {
	for m := closed; m < modes; m++ {
		t.Run(m.String(), func(t *testing.T) { testOutage(t, m) })
	}
}

func testOutage(t *testing.T, m mode) {
	c := newCrash(options{agents: 4}, "", nil)
	if err := c.openReceiver(alone); err != nil {
		t.Fatal(err)
	}
	r := c.receivers[0]
	defer r.Close()
	ctx, end := context.WithCancel(t.Context())
	over := make(chan error)
	go func() { over <- r.outage(ctx, outage{mode: m, lasts: time.Hour}) }()
	for r.modeNow() != m || m == closed && !silent(r.URL) {
		time.Sleep(time.Millisecond)
	}
	answers := make(chan string, 1)
	go func() { answers <- post(r) }()
	if m == hanging {
		for c.record.Count() == 0 {
			time.Sleep(time.Millisecond)
		}
	} else if got := <-answers; got != map[mode]string{closed: "no answer", failing: "5xx"}[m] {
		t.Errorf("during the outage: %s", got)
	}
	if c.record.Count() > 0 && m == closed {
		t.Error("a request has arrived at a port that is closed")
	}
	end()
	if err := <-over; err != nil {
		t.Fatal(err)
	}
	if m == hanging {
		if got := <-answers; got != "no answer" || !c.record.Arrivals()[0].Cut {
			t.Errorf("at its end: %s", got)
		}
	}
	if got := post(r); got != "2xx" {
		t.Errorf("after the outage: %s", got)
	}
	if o := c.timeline.outages[0]; o.mode != m || o.length() <= 0 {
		t.Errorf("the timeline has %v", o)
	}
}

func (r *receiver) modeNow() mode {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.mode
}

// silent says whether nothing listens at a URL.
func silent(url string) bool {
	conn, err := net.Dial("tcp", strings.TrimPrefix(url, "http://"))
	if err == nil {
		_ = conn.Close()
	}
	return err != nil
}

// post sends a delivery and says what became of it.
func post(r *receiver) string {
	alone := &http.Client{Transport: &http.Transport{DisableKeepAlives: true}}
	resp, err := alone.Post(r.URL+path(1), "application/x-www-form-urlencoded", strings.NewReader("agent_id=1"))
	if err != nil {
		return "no answer"
	}
	_ = resp.Body.Close()
	return fmt.Sprintf("%dxx", resp.StatusCode/100)
}

// arrivals puts arrivals into a record through a receiver that holds them.
func hold(t *testing.T, c *crash, number int, paths ...string) (*receiver, func()) {
	t.Helper()
	if err := c.openReceiver(number); err != nil {
		t.Fatal(err)
	}
	r := c.receivers[len(c.receivers)-1]
	r.setMode(hanging)
	ctx, cancel := context.WithCancel(t.Context())
	for _, p := range paths {
		before := c.record.Count()
		req, err := http.NewRequestWithContext(ctx, http.MethodPost, r.URL+p, http.NoBody)
		if err != nil {
			t.Fatal(err)
		}
		go func() {
			if resp, err := http.DefaultClient.Do(req); err == nil {
				_ = resp.Body.Close()
			}
		}()
		for c.record.Count() == before {
			time.Sleep(time.Millisecond)
		}
	}
	return r, cancel
}

// A receiver that is back lags until each plain agent's lane has got something of what was pending.
func TestLagging(t *testing.T) {
	c := newCrash(options{agents: 4}, "", nil)
	e := expected(1, 1)
	e.Receiver, e.Line = alone, lineAt(path(1), alone)
	c.record.Expect(*e)
	busy := expected(firstBusy, 1)
	c.record.Expect(*busy)
	back := time.Now()
	if !c.lagging(alone, back) || c.lagging(picky, back) || c.lagging(alone, zero) {
		t.Error("what was pending at the return lags, and nothing else")
	}
	r, end := hold(t, c, alone, path(1))
	defer r.Close()
	defer end()
	if c.lagging(alone, back) {
		t.Error("what has arrived does not lag")
	}
}

// What the quick receiver has left without an answer must come again, and not what another has, or a busy agent.
func TestInFlight(t *testing.T) {
	c := newCrash(options{agents: 4}, "", nil)
	began := time.Now()
	r, end := hold(t, c, quick, path(1), path(firstBusy))
	defer r.Close()
	defer end()
	other, endOther := hold(t, c, picky, path(3))
	defer other.Close()
	defer endOther()
	lane := []string{lineAt(path(1), quick)}
	if now, cut := c.inFlight(began); !slices.Equal(now, lane) || cut != nil {
		t.Errorf("while the server lives: %v, and %v cut off", now, cut)
	}
	if now, cut := c.inFlight(time.Now()); now != nil || !slices.Equal(cut, lane) {
		t.Errorf("after a kill: %v, and %v cut off", now, cut)
	}
}

// A receiver that is back refuses no first attempt until each lane has got something: a probe may be one.
func TestReceiverThatIsBackRefusesNoProbe(t *testing.T) {
	r := &receiver{random: rand.New(rand.NewPCG(1, 2)), refuses: true, changed: make(chan struct{})}
	refused := func() (n int) {
		for range 1000 {
			if r.reply(&lab.Arrival{Attempt: 1}).Status >= 300 {
				n++
			}
		}
		return n
	}
	r.setMode(failing)
	r.setMode(healthy)
	if n := refused(); n > 0 {
		t.Errorf("%d of 1000 are refused, want none", n)
	}
	if r.caughtUp(); refused() == 0 {
		t.Error("none is refused later")
	}
}
