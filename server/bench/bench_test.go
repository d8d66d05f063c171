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
	"github.com/google/go-cmp/cmp/cmpopts"

	"github.com/agentevents/agentevents/store/cluster"
	"github.com/agentevents/agentevents/store/benchfill"
)

func TestMain(m *testing.M) {
	if play(os.Args[1:], os.Stdin, os.Stdout) {
		return
	}
	os.Exit(m.Run())
}

func TestPercentile(t *testing.T) {
	hundred := make([]time.Duration, 100)
	for i := range hundred {
		hundred[len(hundred)-1-i] = time.Duration(i + 1)
	}
	for _, c := range []struct {
		times []time.Duration
		p     float64
		want  time.Duration
	}{
		{nil, 99, 0},
		{[]time.Duration{7}, 1, 7},
		{[]time.Duration{7}, 100, 7},
		{[]time.Duration{2, 1}, 50, 1},
		{hundred, 50, 50},
		{hundred, 99, 99},
		{hundred, 99.1, 100},
		{hundred, 100, 100},
	} {
		if got := percentile(c.times, c.p); got != c.want {
			t.Errorf("percentile %v of %d times is %d, want %d", c.p, len(c.times), got, c.want)
		}
	}
}

func TestMedian(t *testing.T) {
	for want, sorted := range map[float64][]float64{1: {1}, 1.5: {1, 2}, 3: {1, 3, 9}, 2.5: {1, 2, 3, 9}} {
		if got := median(sorted); got != want {
			t.Errorf("the median of %v is %v, want %v", sorted, got, want)
		}
	}
}

// A change counts by when it was sent, and by its first arrival.
func TestTimes(t *testing.T) {
	began := time.Unix(1000, 0)
	at := func(s int64) time.Time { return began.Add(time.Duration(s) * time.Second) }
	changes := []change{{"a", 1, at(0)}, {"a", 2, at(1)}, {"b", 3, at(1)}, {"a", 4, at(2)}, {"a", 5, at(1)}}
	got := Harvest{Arrivals: []Arrival{
		{Client: "a", Sequence: 2, At: at(4).UnixNano()},
		{Client: "b", Sequence: 3, At: at(5).UnixNano()},
		{Client: "a", Sequence: 2, At: at(9).UnixNano()},
		{Client: "a", Sequence: 1, At: at(1).UnixNano()},
		{Client: "a", Sequence: 4, At: at(2).UnixNano()},
	}}
	for name, c := range map[string]struct {
		within span
		want   []time.Duration
	}{
		"all":             {span{}, []time.Duration{time.Second, 3 * time.Second, 0}},
		"the end is out":  {span{at(0), at(2)}, []time.Duration{time.Second, 3 * time.Second}},
		"the start is in": {span{from: at(1)}, []time.Duration{3 * time.Second, 0}},
		"none":            {span{from: at(3)}, nil},
	} {
		if diff := cmp.Diff(c.want, times(changes, got, "a", c.within)); diff != "" {
			t.Errorf("%s: (-want +got)\n%s", name, diff)
		}
	}
}

func TestFaults(t *testing.T) {
	changes := []change{{client: "a", sequence: 1}, {client: "a", sequence: 2}, {client: "a", sequence: 3}, {client: "b", sequence: 4}}
	in := func(client string, agent, sequence int64, id string, status int) Arrival {
		return Arrival{Client: client, Agent: agent, Sequence: sequence, ID: id, Status: status}
	}
	for name, c := range map[string]struct {
		arrivals []Arrival
		want     faults
	}{
		"all well": {[]Arrival{
			in("a", 1, 1, "x", 500), in("a", 1, 1, "x", 200), in("a", 2, 3, "y", 200), in("a", 1, 2, "z", 204),
		}, faults{}},
		"nothing came":      {nil, faults{lost: 3}},
		"not confirmed":     {[]Arrival{in("a", 1, 1, "x", 500), in("a", 1, 2, "y", 0), in("a", 1, 3, "z", 200)}, faults{lost: 2}},
		"of another client": {[]Arrival{in("b", 1, 1, "x", 200), in("b", 1, 2, "y", 200), in("b", 1, 3, "z", 200)}, faults{lost: 3}},
		"twice": {[]Arrival{
			in("a", 1, 1, "x", 200), in("a", 1, 1, "x", 200), in("a", 1, 2, "y", 200), in("a", 1, 3, "z", 200),
		}, faults{twice: 1}},
		"out of order": {[]Arrival{
			in("a", 1, 2, "y", 200), in("a", 1, 1, "x", 200), in("a", 1, 3, "z", 200),
		}, faults{outOfOrder: 1}},
	} {
		if got := faultsOf(changes, Harvest{Arrivals: c.arrivals}, "a", 1); got != c.want {
			t.Errorf("%s: %+v, want %+v", name, got, c.want)
		}
	}
}

// A ratio is to the same round, and only what must never happen is an error.
func TestReport(t *testing.T) {
	r := &report{Workload: "trial", What: "a trial"}
	for round, ms := range []time.Duration{1, 2, 4} {
		r.latency(round+1, "before", "", []time.Duration{2 * ms * time.Millisecond})
		r.latency(round+1, "after", "before", []time.Duration{3 * ms * ms * time.Millisecond})
	}
	r.figure(1, "seconds", 12.5)
	r.never(1, "lost", "a", 0)
	r.atMost(1, "together", 32, 32)
	if err := (results{Reports: []*report{r}}).wrong(); err != nil {
		t.Errorf("nothing is wrong, but: %v", err)
	}
	r.never(2, "lost", "a", 3)
	r.atMost(2, "together", 33, 32)
	err := results{Reports: []*report{r}}.wrong()
	want := "this must never happen:\ntrial: round 2: lost, of a: 3\ntrial: round 2: together: 33, and at most 32 are allowed"
	if err == nil || err.Error() != want {
		t.Errorf("the error is %v, want %s", err, want)
	}
	var out bytes.Buffer
	r.print(&out)
	for _, want := range []string{"TRIAL: a trial", "3 (1.50-6) to before", "12.5", "1.50 (0-3)"} {
		if !strings.Contains(out.String(), want) {
			t.Errorf("there is no %q in\n%s", want, out.String())
		}
	}
}

// A trend is of medians, and an outlier makes none.
func TestTrends(t *testing.T) {
	at := func(files, rows float64) sample { return sample{File: files, Rows: rows} }
	r := &report{Workload: "trial"}
	r.trends([]sample{at(10, 5), at(10, 6), at(90, 7)}, []sample{at(12, 3), at(15, 3)})
	want := map[string]trend{
		"database, MB": {"database, MB", 10, 13.5, 1.35}, "deliveries kept": {"deliveries kept", 6, 3, 0.5},
		"goroutines": {"goroutines", 0, 0, 0},
	}
	for _, got := range r.Trends {
		if w, ok := want[got.Of]; ok && got != w {
			t.Errorf("%+v, want %+v", got, w)
		}
	}
	var out bytes.Buffer
	r.print(&out)
	if !strings.Contains(out.String(), "1.35") {
		t.Errorf("there is no ratio in\n%s", out.String())
	}
}

// What comes after the first minute is parted in thirds, and a sample is of the one that it was taken in.
func TestSoakThirds(t *testing.T) {
	x := bath{soak: soak{lasts: 4 * time.Minute}, began: time.Unix(1000, 0)}
	for _, at := range []float64{0, 59, 60, 119, 120, 239.9, 240} {
		x.samples = append(x.samples, sample{At: at})
	}
	for n, want := range [][]sample{{{At: 60}, {At: 119}}, {{At: 120}}, {{At: 239.9}}} {
		if diff := cmp.Diff(want, x.of(x.third(n))); diff != "" {
			t.Errorf("third %d: (-want +got)\n%s", n, diff)
		}
	}
}

// Of what a server tells of itself only what is a name and a number counts.
func TestGaugeReadsNumbers(t *testing.T) {
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.URL.Path != "/metrics" {
			http.NotFound(w, r)
		}
		fmt.Fprint(w, "# HELP a b\na 1.5e+06\nb{c=\"d\"} 7\n\ne\n")
	}))
	defer server.Close()
	g := gauge{url: server.URL}
	got, err := g.get(t.Context(), "/metrics")
	if diff := cmp.Diff(map[string]float64{"a": 1.5e6, `b{c="d"}`: 7}, got); diff != "" || err != nil {
		t.Errorf("%v (-want +got)\n%s", err, diff)
	}
	if _, err := g.get(t.Context(), "/nothing"); err == nil {
		t.Error("404 is no error")
	}
}

// Nobody who asks for nothing in particular waits for a store to grow.
func TestGrowthIsAskedFor(t *testing.T) {
	usual, err := pick(workloads(), nil)
	if err != nil {
		t.Fatal(err)
	}
	for _, w := range usual {
		if w.name() == "growth" {
			t.Error("growth is among what is measured anyway")
		}
	}
}

// Each thing is measured as often in a small store and in a larger one, on each engine that is there, and both stores are
// sound in the end.
func TestGrowth(t *testing.T) {
	w := &large{Size: benchfill.Size{Agents: 2000, Events: 2000, Deliveries: 20_000}, rounds: 3, postgres: os.Getenv(cluster.ServerVariable)}
	var said bytes.Buffer
	h := &house{binary: build(t), dir: t.TempDir(), out: &said, began: time.Now(), wanted: []string{sqliteName, postgresName}}
	r, err := w.run(t.Context(), h)
	if err != nil {
		t.Fatal(err)
	}
	for _, s := range r.Sizes {
		if s.N%3 != 0 || s.N == 0 || s.Small <= 0 || s.Large <= 0 || s.Ratio <= 0 {
			t.Errorf("%+v", s)
		}
	}
	if engines := names(r.Sizes, func(s scale) string { return s.Engine }); len(engines) == 0 || len(r.Sizes) != 26*len(engines) || len(r.Wrong) > 0 {
		t.Errorf("%d figures of %q, wrong is %q; it said:\n%s", len(r.Sizes), engines, r.Wrong, said.String())
	}
	var out bytes.Buffer
	r.print(&out)
	if !strings.Contains(out.String(), "SQLite: by the API: those of an agent that failed") || strings.Contains(out.String(), "arrival") {
		t.Errorf("printed:\n%s", out.String())
	}
}

func TestArguments(t *testing.T) {
	for name, args := range map[string][]string{
		"there is no workload \"nap\"": {"nap"},
		"that is no large store":       {"-growth-deliveries", "999", "growth"},
		"-colour":                      {"-colour"},
		"there is no engine \"paper\"": {"-engines", "paper"},
		"/nonexistent":                 {"-binary", "/nonexistent/agentevents", "backlog"},
	} {
		t.Setenv("TMPDIR", t.TempDir())
		err := run(t.Context(), args, io.Discard, io.Discard)
		if err == nil || !strings.Contains(err.Error(), name) {
			t.Errorf("%v: the error is %v, and does not say %s", args, err, name)
		}
		if left, err := os.ReadDir(os.Getenv("TMPDIR")); err != nil || len(left) > 0 {
			t.Errorf("%v: left behind: %v (%v)", args, left, err)
		}
	}
}

// The receivers, in a process of their own: they answer, hang until they are told otherwise, and tell what came.
func TestReceivers(t *testing.T) {
	r, err := startReceivers(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	defer func() {
		if err := r.stop(); err != nil {
			t.Error(err)
		}
	}()
	urls, err := r.open(2)
	if err != nil {
		t.Fatal(err)
	}
	if err := r.answer("b", 0); err != nil {
		t.Fatal(err)
	}
	hung := make(chan int)
	go func() { hung <- ask(t, urls[1]+"/b/7", 4) }()
	if status := ask(t, urls[0]+"/a/5", 3); status != http.StatusOK {
		t.Errorf("a is answered %d", status)
	}
	got := arrivals(t, r, 2)
	if err := r.answer("b", http.StatusTeapot); err != nil {
		t.Fatal(err)
	}
	if status := <-hung; status != http.StatusTeapot {
		t.Errorf("b is answered %d", status)
	}
	want := []Arrival{
		{Client: "a", Agent: 5, Sequence: 3, ID: "msg_3", Status: http.StatusOK}, {Client: "b", Agent: 7, Sequence: 4, ID: "msg_4"},
	}
	if diff := cmp.Diff(want, got, cmpopts.IgnoreFields(Arrival{}, "At", "Host")); diff != "" {
		t.Errorf("what came: (-want +got)\n%s", diff)
	}
}

// arrivals waits until so many requests have come, and returns them by client.
func arrivals(t *testing.T, r *remote, n int) (all []Arrival) {
	t.Helper()
	for len(all) < n {
		h, err := r.take()
		if err != nil {
			t.Fatal(err)
		}
		all = append(all, h.Arrivals...)
	}
	slices.SortFunc(all, func(a, b Arrival) int { return strings.Compare(a.Client, b.Client) })
	return all
}

// ask makes a request as the server does, and returns the status of the answer.
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
