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
	"testing/synctest"
	"time"

	"github.com/agentevents/agentevents/server/lab"
)

// second returns a time in a story, in seconds after zero.
func second(n float64) time.Time { return zero.Add(time.Duration(n * float64(time.Second))) }

var zero = time.Now().Add(-100 * time.Second)

func pathOf(agent int64) string { return fmt.Sprintf("/%d-0-1", agent) }

func expected(agent, sequence int64) *lab.Expected {
	e := &lab.Expected{
		Key: lab.Key{Path: pathOf(agent), Sequence: sequence}, Agent: agent, Status: "available", Since: zero,
		OrderKey: orderKey(pathOf(agent), 0),
	}
	if agent >= firstBusy {
		e.Receiver = lab.Anywhere
	}
	return e
}

func got(agent, sequence int64, attempt, status int) *lab.Arrival {
	return &lab.Arrival{
		Key: lab.Key{Path: pathOf(agent), Sequence: sequence}, ID: fmt.Sprintf("msg_%d_%d", agent, sequence),
		Body:    fmt.Sprintf("agent_id=%d&agent_status=available", agent),
		Attempt: attempt, Method: "POST", Status: status,
	}
}

// story has the expected deliveries and the arrivals at a receiver in the seconds from 1 to 91. An outage from 10 to 17
// lets one probe fail, so that the breaker then waits 10 s, or 12 s with jitter. During it one delivery is pending.
// Another one of its lane arrived before.
type story struct {
	expected []*lab.Expected
	arrivals []*lab.Arrival
	outages  [][2]float64
	timeouts [][2]float64
	away     [][2]float64 // periods in which the only server cannot send
	faults   int          // number of faults of one of two servers; the other one can send
}

func newStory(sent float64) *story { return newStoryOf(1, sent) }

func newStoryOf(agent int64, sent float64) *story {
	s := &story{
		expected: []*lab.Expected{expected(agent, 1), expected(agent, 2)},
		arrivals: []*lab.Arrival{got(agent, 1, 1, 200), got(agent, 2, 1, 200)}, outages: [][2]float64{{10, 17}},
	}
	s.expected[0].Since, s.expected[1].Since = second(1), second(12)
	for i, at := range []float64{2, sent} {
		s.arrivals[i].At, s.arrivals[i].Ended = second(at), second(at)
	}
	return s
}

// judge returns whether a delivery was late.
func (s *story) judge() (l *timeline, late bool) {
	l = &timeline{servers: 1 + min(s.faults, 1)}
	for range s.faults {
		l.incidents = append(l.incidents,
			&incident{duplicates: anyRequest, number: 1, from: second(20), to: second(21)})
	}
	for _, o := range s.outages {
		l.incidents = append(l.incidents, &incident{outage: failing, from: second(o[0]), to: second(o[1])})
	}
	for _, o := range s.timeouts {
		l.addTimeout(0, second(o[0]), second(o[1]))
	}
	for at := 1.0; at < 91; at += watchInterval.Seconds() {
		if !slices.ContainsFunc(s.away, func(a [2]float64) bool { return at >= a[0] && at < a[1] }) {
			l.serving = append(l.serving, second(at))
		}
	}
	slices.SortStableFunc(s.arrivals, func(a, b *lab.Arrival) int { return a.At.Compare(b.At) })
	return l, len(l.judge(lab.History{Expected: s.expected, Arrivals: s.arrivals, OrderKey: orderKeyOf})) > 0
}

func (s *story) outage(from, to float64) *story {
	s.outages = append(s.outages, [2]float64{from, to})
	return s
}

// confirmed adds a delivery of another lane of the receiver, which is confirmed at each of some times.
func (s *story) confirmed(times ...float64) *story {
	e := expected(3, 1)
	e.Since, s.expected = second(times[0]), append(s.expected, e)
	for _, at := range times {
		a := got(3, 1, 1, 200)
		a.At, a.Ended = second(at), second(at)
		s.arrivals = append(s.arrivals, a)
	}
	return s
}

// timeout adds an attempt at another lane of the receiver that timed out at the server.
func (s *story) timeout(from, to float64) *story {
	s.timeouts = append(s.timeouts, [2]float64{from, to})
	return s
}

func (s *story) unserved(from, to float64) *story {
	s.away = append(s.away, [2]float64{from, to})
	return s
}

func (s *story) withFaults(n int) *story {
	s.faults = n
	return s
}

func (s *story) first(change func(*lab.Arrival)) *story {
	change(s.arrivals[0])
	return s
}

// another adds a request that the receiver holds.
func (s *story) another(from, to float64) *story {
	a := got(2, 1, 1, 0)
	a.At, a.Ended, a.Held = second(from), second(to), true
	s.expected, s.arrivals = append(s.expected, expected(2, 1)), append(s.arrivals, a)
	s.expected[2].Since = a.At
	return s
}

// again adds a second arrival of the first delivery.
func (s *story) again(at float64) *story {
	a := got(1, 1, 2, 200)
	a.At, a.Ended = second(at), second(at)
	s.arrivals = slices.Insert(s.arrivals, 1, a)
	return s
}

func (s *story) never() *story {
	s.arrivals = s.arrivals[:1]
	return s
}

func (s *story) longer() *story {
	s.outages[0][0] = -35
	return s
}

func (s *story) healthy() *story {
	s.outages = nil
	return s
}

func at30(a *lab.Arrival) { a.Ended = second(30) }

func at11(a *lab.Arrival) { a.At, a.Ended = second(11), second(11) }

// A delivery is late if it is sent after the bound, counted from the end of the outage. Time in which it could not be
// sent does not count.
func TestJudgeFindsLateDeliveries(t *testing.T) {
	refused := func(a *lab.Arrival) { a.Status = 503 }
	for name, c := range map[string]struct {
		story *story
		late  bool
	}{
		"at once":                                     {newStory(17.1), false},
		"within the bound and the pace":               {newStory(31.9), false},
		"after the bound":                             {newStory(32.2), true},
		"never":                                       {newStory(90).never(), true},
		"within the bound of a shorter outage":        {newStory(29.9).outage(17.5, 21), false},
		"after the bound of a shorter outage":         {newStory(30.1).confirmed(17.2).outage(17.5, 21), true},
		"the breaker is open since the first outage":  {newStory(64.9).outage(19, 26), false},
		"after the bound of both outages":             {newStory(65.1).outage(19, 26), true},
		"the breaker has closed between them":         {newStory(41.1).confirmed(18).outage(19, 26), true},
		"the success between them was not recorded":   {newStory(64.9).confirmed(18, 80).outage(19, 26), false},
		"a probe timed out at the server":             {newStory(65.9).timeout(25, 27), false},
		"after the bound of that probe":               {newStory(66.1).timeout(25, 27), true},
		"after a long outage":                         {newStory(91).longer(), false},
		"no outage":                                   {newStory(25).healthy(), true},
		"no server could send when it was due":        {newStory(40).unserved(30, 39), false},
		"no server could send before it was due":      {newStory(32.2).unserved(18, 28), true},
		"overlapping periods count once":              {newStory(40).unserved(30, 34).unserved(31, 35), true},
		"the previous one was answered late":          {newStory(40).first(at30), false},
		"the previous one was refused in the outage":  {newStory(40).first(refused).first(at11), true},
		"the previous one was refused outside":        {newStory(40.1).healthy().first(refused).again(40), false},
		"the receiver holds other requests":           {newStory(40).another(28, 39), false},
		"the next outage begins":                      {newStory(90).outage(30, 80), false},
		"after the bound, and the next outage begins": {newStory(90).outage(40, 80), true},
		"a replica with a fault may have its lane":    {newStory(38).withFaults(1), false},
		"after the lease of that replica, too":        {newStory(39.5).withFaults(1), true},
		"two leases":                                  {newStory(45).withFaults(2), false},
		"more than two leases":                        {newStory(47).withFaults(9), true},
	} {
		t.Run(name, func(t *testing.T) {
			if _, late := c.story.judge(); late != c.late {
				t.Errorf("late: %t", late)
			}
		})
	}
}

// Deliveries of busy agents may be parked.
func TestJudgeIgnoresBusyAgents(t *testing.T) {
	if _, late := newStoryOf(firstBusy, 90).judge(); late {
		t.Error("it is late")
	}
}

// The longest wait after an outage is that of the first delivery of a lane.
func TestJudgeMeasuresTheLongestWait(t *testing.T) {
	if w, _ := newStory(20).judge(); w.count != 1 || w.longest.Round(time.Second/2) != 3*time.Second {
		t.Errorf("%d lanes have waited, at most for %v", w.count, w.longest)
	}
}

// The bound follows from the number of probes that can have failed.
func TestBoundGrowsWithTheOutage(t *testing.T) {
	for lasted, want := range map[float64]time.Duration{
		4.9: 6, 5: 12, 14.9: 12, 15: 36, 44.9: 36, 45: 72, 105: 72, 9000: 72,
	} {
		if got := bound(time.Duration(lasted * float64(time.Second))); got != want*time.Second {
			t.Errorf("after %v s: %v", lasted, got)
		}
	}
}

// Servers can send while the database and at least one server have no fault.
func TestWatchFindsWhenServersCanSend(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		l := &timeline{servers: 2}
		ctx, end := context.WithCancel(t.Context())
		go l.watch(ctx)
		recorded := func() int {
			l.mu.Lock()
			defer l.mu.Unlock()
			return len(l.serving)
		}
		expect := func(want bool, when string) {
			t.Helper()
			before := recorded()
			time.Sleep(10 * watchInterval)
			synctest.Wait()
			if serving := recorded() > before; serving != want {
				t.Errorf("%s: %t", when, serving)
			}
		}
		begin := func(number int) *incident { return l.begin(incident{number: number, duplicates: anyRequest}) }
		expect(true, "at first")
		one := begin(1)
		l.begin(incident{number: 2, duplicates: noneStillServing})
		l.begin(incident{number: 2, outage: failing})
		expect(true, "without the first server")
		two := begin(2)
		expect(false, "without both")
		l.mark(&one.to)
		expect(false, "until one has recovered")
		l.mark(&one.back)
		expect(true, "with the first server")
		database := begin(everyServer)
		expect(false, "without the database")
		l.mark(&database.back, &two.back)
		expect(true, "in the end")
		end()
		synctest.Wait()
	})
}

// A receiver confirms no request during an outage of any mode, and every request after it.
func TestReceiverConfirmsNothingDuringAnOutage(t *testing.T) {
	for _, m := range outages {
		t.Run(string(m), func(t *testing.T) { testOutage(t, m) })
	}
}

func testOutage(t *testing.T, m mode) {
	c := newCrash(options{}, "", nil)
	if err := c.openReceiver(oneLane); err != nil {
		t.Fatal(err)
	}
	r := c.receivers[0]
	defer r.Close()
	ctx, end := context.WithCancel(t.Context())
	over := make(chan error)
	go func() { over <- r.runOutage(ctx, m, time.Hour) }()
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
		t.Error("a request has arrived at a closed port")
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
	if o := c.timeline.incidents[0]; o.outage != m || !o.to.After(o.from) {
		t.Errorf("the timeline has %v", o)
	}
}

func (r *receiver) modeNow() mode {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.mode
}

// silent reports whether a URL refuses connections.
func silent(url string) bool {
	conn, err := net.Dial("tcp", strings.TrimPrefix(url, "http://"))
	if err == nil {
		_ = conn.Close()
	}
	return err != nil
}

// post sends a delivery and returns the class of the answer.
func post(r *receiver) string {
	alone := &http.Client{Transport: &http.Transport{DisableKeepAlives: true}}
	resp, err := alone.Post(r.URL+pathOf(1), "application/x-www-form-urlencoded", strings.NewReader("agent_id=1"))
	if err != nil {
		return "no answer"
	}
	_ = resp.Body.Close()
	return fmt.Sprintf("%dxx", resp.StatusCode/100)
}

// hold sends requests to a receiver that holds them. The returned function ends them.
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

// After an outage, a receiver lags until it got a request of each plain agent's lane with pending deliveries.
func TestReceiverLags(t *testing.T) {
	c := newCrash(options{}, "", nil)
	e := expected(1, 1)
	e.Receiver, e.OrderKey = oneLane, orderKey(pathOf(1), oneLane)
	c.record.Expect(*e)
	busy := expected(firstBusy, 1)
	c.record.Expect(*busy)
	back := time.Now()
	lags := func(number int, since time.Time) bool {
		return (&receiver{crash: c, Receiver: &lab.Receiver{Number: number}}).lagging(since)
	}
	if !lags(oneLane, back) || lags(flaky, back) || lags(oneLane, zero) {
		t.Error("lanes that were pending at the end of the outage lag, and no others")
	}
	r, end := hold(t, c, oneLane, pathOf(1))
	defer r.Close()
	defer end()
	if lags(oneLane, back) {
		t.Error("a lane lags after its request")
	}
}

// Requests that the reliable receiver holds count as in flight. Of the requests of an earlier process, those of busy
// agents do not: their events may have been moved or deleted.
func TestInFlightListsRequestsAtReliable(t *testing.T) {
	c := newCrash(options{}, "", nil)
	began := time.Now()
	r, end := hold(t, c, reliable, pathOf(1), pathOf(firstBusy))
	defer r.Close()
	defer end()
	other, endOther := hold(t, c, flaky, pathOf(3))
	defer other.Close()
	defer endOther()
	lane := []string{orderKey(pathOf(1), reliable)}
	for _, server := range []struct {
		began       time.Time
		before, now []string
	}{{began, nil, append([]string{pathOf(firstBusy)}, lane...)}, {time.Now(), lane, nil}} {
		if got := c.inFlight(server.began, true); !slices.Equal(got, server.before) {
			t.Errorf("from before: %v, want %v", got, server.before)
		}
		if got := slices.Sorted(slices.Values(c.inFlight(server.began, false))); !slices.Equal(got, server.now) {
			t.Errorf("from now: %v, want %v", got, server.now)
		}
	}
}

// After an outage, a receiver refuses no first attempt until each lane got a request: it may be a probe.
func TestReceiverRefusesNoProbe(t *testing.T) {
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
	r.set(func() { r.behind = false })
	if refused() == 0 {
		t.Error("none is refused later")
	}
}
