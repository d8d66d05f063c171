package main

import (
	"context"
	"fmt"
	"math/rand/v2"
	"net/http"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/agentevents/agentevents/gen"
)

// second is a time of a story whose end is now.
func second(n float64) time.Time { return zero.Add(time.Duration(n * float64(time.Second))) }

var zero = time.Now().Add(-100 * time.Second)

// A receiver is away for 7 seconds, so that one probe fails and the breaker then waits for 10, or 12 with the jitter.
// One delivery is pending meanwhile, behind one that arrived before.
type waiting struct {
	debts    []debt
	arrivals []*arrival
	rules    rules
}

func newWaiting(sent float64) *waiting {
	w := &waiting{debts: []debt{owed(1, 1), owed(1, 2)}, rules: oneServer(newTimeline())}
	w.debts[0].at, w.debts[1].at = second(1), second(12)
	w.arrivals = []*arrival{got(1, 1, 1, 1, 200), got(1, 2, 1, 1, 200)}
	for i, at := range []float64{2, sent} {
		w.arrivals[i].at, w.arrivals[i].ended = second(at), second(at)
	}
	return w.outage(10, 17)
}

func (w *waiting) outage(from, to float64) *waiting {
	w.rules.times.outages = append(w.rules.times.outages, &outage{mode: failing, span: span{second(from), second(to)}})
	return w
}

func (w *waiting) dead(from, to float64) *waiting {
	w.rules.times.dead = append(w.rules.times.dead, span{second(from), second(to)})
	return w
}

func (w *waiting) hits(n int) *waiting {
	w.rules.hits = func(span) int { return n }
	return w
}

func (w *waiting) first(change func(*arrival)) *waiting {
	change(w.arrivals[0])
	return w
}

// another is a request that the receiver keeps without an answer.
func (w *waiting) another(from, to float64) *waiting {
	a := got(2, 1, 1, 1, 0)
	a.at, a.ended = second(from), second(to)
	w.debts, w.arrivals = append(w.debts, owed(2, 1)), append(w.arrivals, a)
	return w
}

// What is sent within the bound after its receiver's return is in time; time in which it could not be sent does not
// count.
func TestJudgeWaits(t *testing.T) {
	refused := func(a *arrival) { a.answer = 503 }
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
		"the one before it was answered late":          {newWaiting(40).first(func(a *arrival) { a.ended = second(30) }), false},
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
			v := judge(c.story.debts, c.story.arrivals, c.story.rules)
			if late := v.count(overdue) > 0; late != c.late {
				t.Errorf("late: %t; the faults are %v", late, v.faults)
			}
		})
	}
}

func at11(a *arrival) { a.at, a.ended = second(11), second(11) }

// again has the first delivery arrive once more.
func (w *waiting) again(at float64) *waiting {
	a := got(1, 1, 1, 2, 200)
	a.at, a.ended = second(at), second(at)
	w.arrivals = slices.Insert(w.arrivals, 1, a)
	return w
}

func (w *waiting) never() *waiting {
	w.arrivals = w.arrivals[:1]
	return w
}

func (w *waiting) longer() *waiting {
	w.rules.times.outages[0].from = second(-35)
	return w
}

func (w *waiting) healthy() *waiting {
	w.rules.times.outages = nil
	return w
}

// A busy agent's may be parked.
func TestJudgeWaitsOfBusyAgents(t *testing.T) {
	w := newWaiting(90)
	for i := range w.debts {
		w.debts[i].agent, w.arrivals[i].agent = firstBusy, firstBusy
	}
	if v := judge(w.debts, w.arrivals, w.rules); len(v.faults) > 0 {
		t.Errorf("faults: %v", v.faults)
	}
}

// The longest wait after a return is that of the first delivery of a lane.
func TestJudgeLongestWait(t *testing.T) {
	w := newWaiting(20)
	if v := judge(w.debts, w.arrivals, w.rules); v.waiting != 1 || v.longest != 3*time.Second {
		t.Errorf("%d lanes have waited, at most for %v", v.waiting, v.longest)
	}
}

// The bound follows from how many probes can have failed.
func TestBound(t *testing.T) {
	for lasted, want := range map[float64]time.Duration{4.9: 6, 5: 12, 14.9: 12, 15: 36, 44.9: 36, 45: 72, 105: 72, 9000: 72} {
		u := up{after: &outage{span: span{zero, second(lasted)}}}
		if got := u.bound(); got != want*time.Second {
			t.Errorf("after %v s: %v", lasted, got)
		}
	}
}

// After what was cut off the next request may be the same attempt or the next; after a closed port any later one.
func TestJudgeOutages(t *testing.T) {
	for name, c := range map[string]struct {
		cut     bool
		closed  bool
		attempt int
		want    bool
	}{
		"cut off, at once":           {true, false, 1, true},
		"cut off, counted":           {true, false, 2, true},
		"cut off, one too many":      {true, false, 3, false},
		"cut off, closed in between": {true, true, 5, true},
		"one less":                   {true, true, 0, false},
		"not cut off":                {false, true, 1, false},
	} {
		w := newWaiting(20)
		if w.rules.times.outages[0].mode = failing; c.closed {
			w.rules.times.outages[0].mode = closed
		}
		again := got(1, 1, 1, c.attempt, 200)
		w.arrivals[0].answer, w.arrivals[0].cut, again.at = 0, c.cut, second(18)
		v := judge(w.debts, slices.Insert(w.arrivals, 1, again), w.rules)
		if ok := v.count(mismatched)+v.count(needless) == 0; ok != c.want {
			t.Errorf("%s: %v", name, v.faults)
		}
	}
}

// A timeline knows when nothing could be sent: without a program, and without a database.
func TestTimeline(t *testing.T) {
	line := newTimeline()
	steps := []func(){
		func() { line.server(1, true) }, func() { line.server(2, true) }, func() { line.server(1, false) },
		func() { line.server(2, false) }, func() { line.server(2, false) }, func() { line.server(1, true) },
		func() { line.database(false) }, func() { line.server(2, true) }, func() { line.database(true) },
	}
	want := []int{1, 1, 1, 1, 1, 2, 2, 2, 3}
	for i, step := range steps {
		if step(); len(line.dead) != want[i] {
			t.Errorf("after step %d: %v", i, line.dead)
		}
	}
}

// The seed alone decides about outages, and three in a row have three modes.
func TestOutagePlan(t *testing.T) {
	all := func(seed uint64) (planned []plannedOutage) {
		f := &outagePlan{random: rand.New(rand.NewPCG(seed, 0))}
		for range 6 {
			planned = append(planned, f.next())
		}
		return planned
	}
	if !slices.Equal(all(7), all(7)) || slices.Equal(all(7), all(8)) {
		t.Error("the seed does not decide")
	}
	for i := closed; i < modes; i++ {
		if !slices.ContainsFunc(all(7)[:3], func(f plannedOutage) bool { return f.mode == i }) {
			t.Errorf("%v: not among the first three", i)
		}
	}
}

// A receiver takes nothing during an outage, in three ways, and everything after it.
func TestOutage(t *testing.T) {
	for i := closed; i < modes; i++ {
		t.Run(i.String(), func(t *testing.T) { testOutage(t, i) })
	}
}

func testOutage(t *testing.T, i mode) {
	book := newLedger()
	book.begin(1)
	m := &mood{turned: make(chan struct{}), random: rand.New(rand.NewPCG(7, 0))}
	r, err := newReceiver(alone, book, m)
	if err != nil {
		t.Fatal(err)
	}
	defer r.close()
	if err := r.goDown(i); err != nil {
		t.Fatal(err)
	}
	answers := make(chan string)
	go func() { answers <- post(r) }()
	if i == hanging {
		arrived(book)
	} else if got := <-answers; got != map[mode]string{closed: "no answer", failing: "5xx"}[i] {
		t.Errorf("during the outage: %s", got)
	}
	if _, requests := book.sofar(); i == closed && requests > 0 {
		t.Error("a request has arrived at a port that is closed")
	}
	if err := r.comeBack(); err != nil {
		t.Fatal(err)
	}
	if i == hanging {
		if got := <-answers; got != "no answer" || !wasCut(book) {
			t.Errorf("at its end: %s", got)
		}
	}
	if got := post(r); got != "2xx" {
		t.Errorf("after the outage: %s", got)
	}
}

// wasCut says whether the first request was cut off.
func wasCut(book *ledger) bool {
	book.mu.Lock()
	defer book.mu.Unlock()
	return book.arrivals[0].cut
}

// arrived waits until a request has arrived.
func arrived(book *ledger) {
	for {
		if _, requests := book.sofar(); requests > 0 {
			return
		}
		time.Sleep(time.Millisecond)
	}
}

// post sends a delivery and says what became of it.
func post(r *receiver) string {
	req, err := http.NewRequestWithContext(context.Background(), http.MethodPost, r.url+"/1", strings.NewReader("agent_id=1"))
	if err != nil {
		return err.Error()
	}
	req.Header.Set("agentevents-sequence", "1")
	req.Header.Set("agentevents-attempt", "1")
	resp, err := (&http.Client{Transport: &http.Transport{DisableKeepAlives: true}}).Do(req)
	if err != nil {
		return "no answer"
	}
	_ = resp.Body.Close()
	return fmt.Sprintf("%dxx", resp.StatusCode/100)
}

// A receiver that is back lags until each plain agent's lane has got something of what was pending.
func TestLedgerLagging(t *testing.T) {
	book := newLedger()
	book.begin(1)
	login := &registration{name: "1", event: gen.EventTypeAgentLogin, receiver: alone}
	book.owe(&agent{id: 1, registrations: []*registration{login}},
		gen.AgentStatus{AgentStatus: gen.AgentStatusValueAvailable, Sequence: 1})
	back := time.Now()
	if !book.lagging(alone, back) || book.lagging(moody, back) || book.lagging(alone, zero) {
		t.Error("what was pending at the return lags, and nothing else")
	}
	a := got(1, 1, 1, 1, 0)
	a.receiver = alone
	if book.arrive(a); book.lagging(alone, back) {
		t.Error("what has arrived does not lag")
	}
}

// A receiver that is back refuses no first attempt until each lane has got something: a probe may be one.
func TestReceiverThatIsBackRefusesNoProbe(t *testing.T) {
	m := mood{random: rand.New(rand.NewPCG(1, 2)), moody: true, turned: make(chan struct{})} //nolint:gosec // no secret
	refused := func() (n int) {
		for range 1000 {
			if m.next(1).status != http.StatusOK {
				n++
			}
		}
		return n
	}
	m.setMode(failing)
	m.setMode(healthy)
	if n := refused(); n > 0 {
		t.Errorf("%d of 1000 are refused, want none", n)
	}
	if m.caughtUp(); refused() == 0 {
		t.Error("none is refused later")
	}
}
