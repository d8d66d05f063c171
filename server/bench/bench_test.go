package main

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"os"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/agentevents/agentevents/gen"
	"github.com/agentevents/agentevents/server/lab"
)

func TestMain(m *testing.M) {
	if os.Getenv(relayVariable) != "" {
		main()
		return
	}
	os.Exit(m.Run())
}

func TestPercentile(t *testing.T) {
	hundred := make([]float64, 100)
	for i := range hundred {
		hundred[i] = float64(i + 1)
	}
	for _, c := range []struct {
		sorted  []float64
		p, want float64
	}{
		{nil, 99, 0},
		{[]float64{7}, 1, 7},
		{[]float64{7}, 100, 7},
		{[]float64{1, 2}, 50, 1},
		{[]float64{1, 9, 900}, 50, 9},
		{hundred, 50, 50},
		{hundred, 99, 99},
		{hundred, 99.1, 100},
		{hundred, 100, 100},
	} {
		if got := percentile(c.sorted, c.p); got != c.want {
			t.Errorf("percentile %v of %d numbers is %v, want %v", c.p, len(c.sorted), got, c.want)
		}
	}
}

// arrival is a request for a change of agent 1 of client a at receiver 0, which was answered.
func arrival(sequence int64, id string, status int, at time.Time) *lab.Arrival {
	path, body := "/a/0/1", "agent_id=1&agent_status=available"
	return &lab.Arrival{
		Key: lab.Key{Path: path, Sequence: sequence}, Method: http.MethodPost, Body: body, ID: id, Status: status,
		At: at, Ended: at.Add(time.Millisecond),
	}
}

// A change counts by when it was due to be sent, and by its first arrival.
func TestLatencies(t *testing.T) {
	began := time.Unix(1000, 0)
	at := func(s int64) time.Time { return began.Add(time.Duration(s) * time.Second) }
	c := &client{arrived: []*lab.Arrival{
		arrival(1, "w", 200, at(1)), arrival(4, "x", 200, at(2)), arrival(2, "y", 200, at(4)),
		arrival(3, "z", 200, at(5)), arrival(2, "y", 200, at(9)),
	}}
	for _, s := range []struct{ sequence, sent int64 }{{1, 0}, {2, 1}, {4, 2}, {5, 1}} {
		c.sent = append(c.sent, &change{sequence: s.sequence, sent: at(s.sent)})
	}
	for name, test := range map[string]struct {
		within span
		want   []float64
	}{
		"all":             {span{}, []float64{0, 1e9, 3e9}},
		"the end is out":  {span{at(0), at(2)}, []float64{1e9, 3e9}},
		"the start is in": {span{from: at(1)}, []float64{0, 3e9}},
		"none":            {span{from: at(3)}, nil},
	} {
		if diff := cmp.Diff(test.want, c.latencies(test.within)); diff != "" {
			t.Errorf("%s: (-want +got)\n%s", name, diff)
		}
	}
	if got := c.deliveryRate(); got != 5.0/9 {
		t.Errorf("the rate is %v", got)
	}
}

// A delivery that is lost, repeated or out of order is an error.
func TestCheckFindsLostRepeatedAndDisorderedDeliveries(t *testing.T) {
	began := time.Unix(1000, 0)
	c := (&client{name: "a"}).addAgents(1, 0, 1, make([]string, 1))
	for sequence := range int64(3) {
		c.sent = append(c.sent, &change{
			agent: c.agents[0], status: gen.AgentStatusValueAvailable, sequence: sequence + 1,
		})
	}
	in := func(second, sequence int64, id string, status int) *lab.Arrival {
		return arrival(sequence, id, status, began.Add(time.Duration(second)*time.Second))
	}
	for name, test := range map[string]struct {
		arrivals []*lab.Arrival
		want     string // what is said
	}{
		"all well":       {[]*lab.Arrival{in(1, 1, "x", 200), in(2, 2, "y", 204), in(3, 3, "z", 200)}, ""},
		"one is lost":    {[]*lab.Arrival{in(1, 1, "x", 200), in(2, 2, "y", 200)}, "lost"},
		"one is refused": {[]*lab.Arrival{in(1, 1, "x", 200), in(2, 2, "y", 200), in(3, 3, "z", 500)}, "lost"},
		"one comes twice": {
			[]*lab.Arrival{in(1, 1, "x", 200), in(2, 1, "x", 200), in(3, 2, "y", 200), in(4, 3, "z", 200)}, "needless",
		},
		"out of order": {[]*lab.Arrival{in(1, 2, "y", 200), in(2, 1, "x", 200), in(3, 3, "z", 200)}, "out of order"},
	} {
		t.Run(name, func(t *testing.T) {
			m := &measurement{bench: &bench{}}
			c.arrived = test.arrivals
			m.check(c)
			said := strings.Join(m.wrong, "\n")
			if test.want == "" && said != "" || !strings.Contains(said, test.want) {
				t.Errorf("it finds %q, want %q", said, test.want)
			}
		})
	}
}

func TestMaxConcurrent(t *testing.T) {
	began := time.Unix(1000, 0)
	c := &client{}
	for _, spans := range [][2]int{{0, 4}, {1, 2}, {2, 3}, {3, 5}} { // one that ends is gone when another begins
		a := arrival(1, "x", 200, began.Add(time.Duration(spans[0])*time.Second))
		a.Ended = began.Add(time.Duration(spans[1]) * time.Second)
		c.arrived = append(c.arrived, a)
	}
	if got := c.maxConcurrent(); got != 2 {
		t.Errorf("%d requests were under way at the same time, want 2", got)
	}
}

// A line has the form that benchstat reads, and no ns/op.
func TestPrintPhase(t *testing.T) {
	var out bytes.Buffer
	m := &measurement{
		bench: &bench{out: &out}, workload: workload{name: "burst"}, system: system{label: "on=sqlite"},
	}
	c := &client{name: "a", sent: []*change{{sequence: 1, sent: time.Unix(1000, 0)}}}
	c.arrived = []*lab.Arrival{arrival(1, "x", 200, time.Unix(1000, 3))}
	m.printPhase(c, phase{part: "rate=50", values: values{"deliveries/s": 6643.96, "share": 0.1825}})
	want := "BenchmarkBurst/client=a/rate=50/on=sqlite 1 6644 deliveries/s 3.000 max-ns 3.000 p50-ns 3.000 p90-ns " +
		"3.000 p99-ns 0.1825 share"
	if got := strings.Join(strings.Fields(out.String()), " "); got != want {
		t.Errorf("the line is\n%s, want\n%s", got, want)
	}
}

// What an instance took is given for each delivery, without what there is none of.
func TestUsageValues(t *testing.T) {
	got := usage{processor: 3 * time.Second, peak: 7}.values(2)
	if diff := cmp.Diff(values{"cpu-ns/delivery": 1.5e9, "peak-B": 7}, got); diff != "" {
		t.Errorf("(-want +got)\n%s", diff)
	}
}

// Of the metrics of a program each has its value by its name, and an error status is an error.
func TestFetch(t *testing.T) {
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.URL.Path != "/metrics" {
			http.NotFound(w, r)
			return
		}
		fmt.Fprint(w, "# HELP a b\na_b 3\na 1.5e+06\nb{c=\"d\"} 7\n")
	}))
	defer server.Close()
	i := &instance{stats: server.URL}
	text, err := i.fetch("/metrics")
	for name, want := range map[string]float64{"a": 1.5e6, "a_b": 3, "b": 0} {
		if got := metric(text, name); got != want || err != nil {
			t.Errorf("%s is %v, want %v (%v)", name, got, want, err)
		}
	}
	if _, err := i.fetch("/nothing"); err == nil {
		t.Error("404 is no error")
	}
}

func TestSequenceIn(t *testing.T) {
	for text, want := range map[string]int64{
		`{"sequence":12,"a":3}`: 12, `{ "sequence": 7 }`: 7, `{"a":1,"sequence":9}`: 9, `{}`: 0, `"sequence":`: 0,
	} {
		if got := sequenceIn([]byte(text)); got != want {
			t.Errorf("%s has %d, want %d", text, got, want)
		}
	}
}

// What cannot be measured is an error that says why, and nothing is left behind.
func TestArguments(t *testing.T) {
	for want, args := range map[string][]string{
		`there is no workload "nap"`:  {"nap"},
		`there is no engine "paper"`:  {"-engines", "paper"},
		`there is no floor "cellar"`:  {"-floors", "relay,cellar"},
		`there is no attack "hug"`:    {"-attacks", "items,hug"},
		"-rate: must be above 0":      {"-rate", "0"},
		"-agents: must be above 0":    {"-agents", "0", "burst"},
		"-changes: must be above 0":   {"-changes", "-3", "burst"},
		"-lasts: must be above 0":     {"-lasts", "0s"},
		"-colour":                     {"-colour"},
		"/nonexistent":                {"-engines", "sqlite", "-binary", "/nonexistent/agentevents", "backlog"},
		"needs at least 4 receivers":  {"-engines", "sqlite", "-receivers", "3", "isolation"},
		"needs at least 2 receivers":  {"-engines", "sqlite", "-receivers", "1", "backlog"},
		"needs more rows than agents": {"-engines", "sqlite", "-rows", "10", "soak"},
	} {
		t.Setenv("TMPDIR", t.TempDir())
		err := run(t.Context(), args, io.Discard, io.Discard)
		if err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%v: the error is %v, and does not say %s", args, err, want)
		}
		if left, err := os.ReadDir(os.Getenv("TMPDIR")); err != nil || len(left) > 0 {
			t.Errorf("%v: left behind: %v (%v)", args, left, err)
		}
	}
}

// A flag overrides the number of each workload that is named, and no other.
func TestSettings(t *testing.T) {
	chosen, err := (&bench{}).parse([]string{"-agents", "7", "-rate", "30", "soak", "burst"}, io.Discard)
	if err != nil || len(chosen) != 2 {
		t.Fatalf("%+v, %v", chosen, err)
	}
	burst := settings{count: 6, agents: 7, changes: 20_000, receivers: 1, rate: 30}
	soaked := settings{count: 1, agents: 7, receivers: 50, rows: 20_000, rate: 30, lasts: 4 * time.Minute}
	if chosen[0].settings != burst || chosen[1].settings != soaked {
		t.Errorf("%+v", chosen)
	}
}

// Receivers answer with 200, unless a client has another reply, and give each client what arrived since the warm-up.
func TestReceivers(t *testing.T) {
	m := &measurement{}
	var err error
	m.receivers, err = openReceivers(2)
	defer m.close()
	if err != nil {
		t.Fatal(err)
	}
	a, b := m.client("a"), m.client("b")
	ask(t.Context(), t, m.urls[0]+"/a/0/5", 2)
	m.warmUp = m.record.Count()
	a.confirmed.Store(0)
	if status := ask(t.Context(), t, m.urls[0]+"/a/0/5", 3); status != http.StatusOK {
		t.Errorf("a is answered %d", status)
	}
	b.reply.Store(&lab.Reply{Status: http.StatusTeapot})
	if status := ask(t.Context(), t, m.urls[1]+"/b/1/7", 4); status != http.StatusTeapot {
		t.Errorf("b is answered %d", status)
	}
	b.reply.Store(&lab.Reply{Hold: make(chan struct{})})
	ctx, cancel := context.WithCancel(t.Context())
	answered := make(chan int)
	go func() { answered <- ask(ctx, t, m.urls[1]+"/b/1/7", 5) }()
	for m.record.Count() < 4 {
		_ = lab.Pause(t.Context(), time.Millisecond)
	}
	cancel()
	if status := <-answered; status != 0 {
		t.Errorf("b is answered %d", status)
	}
	http.DefaultClient.CloseIdleConnections()
	if err := errors.Join(a.await(t.Context(), 1), m.harvest(t.Context())); err != nil {
		t.Fatal(err)
	}
	got := map[string]int{}
	for _, arrival := range slices.Concat(a.arrived, b.arrived) {
		got[fmt.Sprintf("%s at %d: %d", arrival.Path, arrival.Receiver, arrival.Sequence)] = arrival.Status
	}
	want := map[string]int{"/a/0/5 at 0: 3": http.StatusOK, "/b/1/7 at 1: 4": http.StatusTeapot, "/b/1/7 at 1: 5": 0}
	if diff := cmp.Diff(want, got); diff != "" || len(a.arrived) != 1 || a.confirmed.Load() != 1 {
		t.Errorf("what has arrived: (-want +got)\n%s", diff)
	}
}

// ask makes a request as the program does, and returns the status of the answer, 0 if there is none.
func ask(ctx context.Context, t *testing.T, url string, sequence int64) int {
	t.Helper()
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, url, http.NoBody)
	if err != nil {
		t.Error(err)
		return 0
	}
	req.Header.Set("webhook-id", fmt.Sprintf("msg_%d", sequence))
	req.Header.Set("agentevents-sequence", fmt.Sprint(sequence))
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		return 0
	}
	defer resp.Body.Close()
	return resp.StatusCode
}
