package main

import (
	"bytes"
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
	if serveRelay() {
		return
	}
	os.Exit(m.Run())
}

func TestPercentile(t *testing.T) {
	hundred := make([]time.Duration, 100)
	for i := range hundred {
		hundred[i] = time.Duration(i + 1)
	}
	for _, c := range []struct {
		sorted []time.Duration
		p      float64
		want   time.Duration
	}{
		{nil, 99, 0},
		{[]time.Duration{7}, 1, 7},
		{[]time.Duration{7}, 100, 7},
		{[]time.Duration{1, 2}, 50, 1},
		{hundred, 50, 50},
		{hundred, 99, 99},
		{hundred, 99.1, 100},
		{hundred, 100, 100},
	} {
		if got := percentile(c.sorted, c.p); got != c.want {
			t.Errorf("percentile %v of %d times is %d, want %d", c.p, len(c.sorted), got, c.want)
		}
	}
}

func TestMedian(t *testing.T) {
	for want, values := range map[float64][]float64{0: nil, 1: {1}, 1.5: {2, 1}, 3: {9, 1, 3}, 2.5: {9, 1, 3, 2}} {
		if got := median(values); got != want {
			t.Errorf("the median of %v is %v, want %v", values, got, want)
		}
	}
}

// arrival is a request for a change of an agent at a receiver, which was answered.
func arrival(client string, of, sequence int64, id string, status int, at time.Time) *lab.Arrival {
	path := (&agent{client: client, id: of}).path(0)
	body := fmt.Sprintf("agent_id=%d&agent_status=available", of)
	return &lab.Arrival{
		Key: lab.Key{Path: path, Sequence: sequence}, Method: http.MethodPost, Body: body, ID: id, Status: status,
		At: at, Ended: at.Add(time.Millisecond),
	}
}

// A change counts by when it was due to be sent, and by its first arrival.
func TestLatencyOf(t *testing.T) {
	began := time.Unix(1000, 0)
	at := func(s int64) time.Time { return began.Add(time.Duration(s) * time.Second) }
	var changes []change
	for _, c := range []struct {
		client         string
		sequence, sent int64
	}{{"a", 1, 0}, {"a", 2, 1}, {"b", 3, 1}, {"a", 4, 2}, {"a", 5, 1}} {
		changes = append(changes, change{agent: &agent{client: c.client}, sequence: c.sequence, sent: at(c.sent)})
	}
	arrivals := []*lab.Arrival{
		arrival("a", 1, 1, "w", 200, at(1)), arrival("a", 1, 4, "x", 200, at(2)), arrival("a", 1, 2, "y", 200, at(4)),
		arrival("b", 1, 3, "z", 200, at(5)), arrival("a", 1, 2, "y", 200, at(9)),
	}
	for name, c := range map[string]struct {
		within span
		want   []time.Duration
	}{
		"all":             {span{}, []time.Duration{time.Second, 0, 3 * time.Second}},
		"the end is out":  {span{at(0), at(2)}, []time.Duration{time.Second, 3 * time.Second}},
		"the start is in": {span{from: at(1)}, []time.Duration{0, 3 * time.Second}},
		"none":            {span{from: at(3)}, nil},
	} {
		if diff := cmp.Diff(c.want, latencyOf(changes, arrivals, "a", c.within)); diff != "" {
			t.Errorf("%s: (-want +got)\n%s", name, diff)
		}
	}
	if got := rateOf(changes, arrivals); got != 5.0/9 {
		t.Errorf("the rate is %v", got)
	}
}

// What is lost, comes twice or out of order is an error, and only that of the client that is asked for.
func TestCheck(t *testing.T) {
	began := time.Unix(1000, 0)
	var changes []change
	for sequence := range int64(4) {
		client := "a"
		if sequence == 3 {
			client = "b"
		}
		changes = append(changes, change{
			agent:  &agent{client: client, id: 1, urls: make([]string, 1)},
			status: gen.AgentStatusValueAvailable, sequence: sequence + 1,
		})
	}
	in := func(second, sequence int64, id string, status int) *lab.Arrival {
		return arrival("a", 1, sequence, id, status, began.Add(time.Duration(second)*time.Second))
	}
	for name, c := range map[string]struct {
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
			b := &bench{}
			b.check("here", "a", changes, c.arrivals)
			said := strings.Join(b.wrong, "\n")
			if c.want == "" && said != "" || !strings.Contains(said, c.want) {
				t.Errorf("it finds %q, want %q", said, c.want)
			}
		})
	}
}

func TestMaxTogether(t *testing.T) {
	began := time.Unix(1000, 0)
	var arrivals []*lab.Arrival
	for i, spans := range [][2]int{{0, 4}, {1, 2}, {2, 3}, {3, 5}} { // one that ends is gone when another begins
		a := arrival("a", int64(i), 1, "x", 200, began.Add(time.Duration(spans[0])*time.Second))
		a.Ended = began.Add(time.Duration(spans[1]) * time.Second)
		arrivals = append(arrivals, a, arrival("b", 1, 1, "y", 200, a.At))
	}
	if got := maxTogether(arrivals, "a"); got != 2 {
		t.Errorf("%d requests of a were under way together, want 2", got)
	}
}

// A line has the form that benchstat reads.
func TestResult(t *testing.T) {
	var out bytes.Buffer
	x := trial{
		bench:    &bench{out: &out, progress: &lab.Progress{Out: io.Discard}},
		workload: workload{name: "burst"}, target: target{label: "on=sqlite"},
	}
	values := append([]value{{6643.96, "deliveries/s"}, {0.1825, "share"}}, latencies([]time.Duration{3, 1, 2})...)
	x.result(3, values, "rate=50")
	want := "BenchmarkBurst/rate=50/on=sqlite 3 6644 deliveries/s 0.1825 share 2 p50-ns 3 p90-ns 3 p99-ns 3 max-ns\n"
	if out.String() != want {
		t.Errorf("the line is\n%swant\n%s", out.String(), want)
	}
}

// Of all samples of a phase the medians count: an outlier does not move one.
func TestSamples(t *testing.T) {
	got := samples{"file-B": {9, 1, 900}, "wal-B": {4, 3}}.medians()
	if diff := cmp.Diff([]string{"9 file-B", "3.5 wal-B"}, words(got)); diff != "" {
		t.Errorf("(-want +got)\n%s", diff)
	}
}

func words(values []value) (all []string) {
	for _, v := range values {
		all = append(all, v.String())
	}
	return all
}

// Of the metrics of a program what is a name and a number counts, and an error status is an error.
func TestFetchMetrics(t *testing.T) {
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.URL.Path != "/metrics" {
			http.NotFound(w, r)
		}
		fmt.Fprint(w, "# HELP a b\na 1.5e+06\nb{c=\"d\"} 7\n\ne\n")
	}))
	defer server.Close()
	got, err := fetchMetrics(t.Context(), server.URL)
	if diff := cmp.Diff(map[string]float64{"a": 1.5e6, `b{c="d"}`: 7}, got); diff != "" || err != nil {
		t.Errorf("%v (-want +got)\n%s", err, diff)
	}
	if _, err := fetchMetrics(t.Context(), server.URL+"/nothing"); err == nil {
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
		`there is no workload "nap"`:    {"nap"},
		`there is no engine "paper"`:    {"-engines", "paper"},
		`there is no floor "cellar"`:    {"-floors", "raw,cellar"},
		"two programs are called \"x\"": {"-binary", "a/x,b/x"},
		"-rate: must be above 0":        {"-rate", "0"},
		"-agents: must be above 0":      {"-agents", "0", "burst"},
		"-colour":                       {"-colour"},
		"/nonexistent":                  {"-engines", "sqlite", "-binary", "/nonexistent/agentevents", "backlog"},
		"needs at least 4 receivers":    {"-receivers", "3", "isolation"},
		"needs at least 2 receivers":    {"-receivers", "1", "backlog"},
		"needs more rows than agents":   {"-rows", "10", "soak"},
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

// A flag overrides the shape of each workload that is named, and no more.
func TestShapes(t *testing.T) {
	_, chosen, err := parse([]string{"-agents", "7", "-rate", "30", "soak", "burst"}, io.Discard)
	if err != nil || len(chosen) != 2 {
		t.Fatalf("%+v, %v", chosen, err)
	}
	for _, w := range chosen {
		if w.agents != 7 || !slices.Equal(w.rates, []float64{30}) {
			t.Errorf("%+v", w.shape)
		}
	}
	if w := chosen[0]; w.name != "burst" || w.changes != 20_000 || w.receivers != 1 {
		t.Errorf("%+v", w)
	}
}

// The receivers answer, hang until that is changed, and hand over what has arrived.
func TestReceivers(t *testing.T) {
	r, err := openReceivers(2)
	if err != nil {
		t.Fatal(err)
	}
	defer r.close()
	r.answer("b", noAnswer)
	answered := make(chan int)
	go func() { answered <- ask(t, r.urls[1]+"/b/1/7", 4) }()
	if status := ask(t, r.urls[0]+"/a/0/5", 3); status != http.StatusOK {
		t.Errorf("a is answered %d", status)
	}
	for r.record.Count() < 2 {
		_ = lab.Pause(t.Context(), time.Millisecond)
	}
	if _, ended := r.record.Take(); ended {
		t.Error("a request that hangs has ended")
	}
	r.answer("b", http.StatusTeapot)
	if status := <-answered; status != http.StatusTeapot {
		t.Errorf("b is answered %d", status)
	}
	r.confirmed(t.Context(), "a", 1)
	got := map[string]int{}
	for _, a := range r.harvest(t.Context()) {
		got[fmt.Sprintf("%s at %d: %s %d", clientOf(a), a.Receiver, a.ID, a.Sequence)] = a.Status
	}
	want := map[string]int{"a at 0: msg_3 3": http.StatusOK, "b at 1: msg_4 4": http.StatusTeapot}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("what has arrived: (-want +got)\n%s", diff)
	}
	if again := r.harvest(t.Context()); len(again) > 0 {
		t.Errorf("a second harvest has %v", again)
	}
}

// ask makes a request as the program does, and returns the status of the answer.
func ask(t *testing.T, url string, sequence int64) int {
	t.Helper()
	req, err := http.NewRequest(http.MethodGet, url, http.NoBody)
	if err != nil {
		t.Error(err)
		return 0
	}
	req.Header.Set("webhook-id", fmt.Sprintf("msg_%d", sequence))
	req.Header.Set("agentevents-sequence", fmt.Sprint(sequence))
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		t.Error(err)
		return 0
	}
	defer resp.Body.Close()
	return resp.StatusCode
}
