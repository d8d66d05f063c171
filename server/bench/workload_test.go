package main

import (
	"bytes"
	stdcmp "cmp"
	"encoding/json"
	"io"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/agentevents/agentevents/store/pgtest"
)

// build builds the program that is measured.
func build(t *testing.T) (binary string) {
	t.Helper()
	binary = filepath.Join(t.TempDir(), "agentevents")
	if out, err := exec.Command("go", "build", "-buildvcs=false", "-o", binary, "..").CombinedOutput(); err != nil {
		t.Fatalf("go build: %v\n%s", err, out)
	}
	return binary
}

// Each workload that is held against floors, as small as can be: every subject has all its figures in each round, and
// nothing is lost, delivered twice or out of order, which would be an error of run.
func TestWorkloads(t *testing.T) {
	wanted := stdcmp.Or(os.Getenv(pgtest.EngineVariable), sqliteName+","+postgresName)
	all, said := measured(
		t, "-binary", build(t), "-rounds", "1", "-engines", wanted, "-burst-agents", "20", "-burst-changes", "100", "-steady-agents", "20",
		"-steady-lasts", "200ms", "-shift-agents", "50", "-fanout-agents", "10", "-fanout-changes", "20", "-fanout-each", "3",
		"-pending-agents", "10", "-pending-changes", "5", "-api-agents", "4", "-api-calls", "40", "-api-receivers", "2",
		"burst", "steady", "shift", "fanout", "pending", "api",
	)
	engines := strings.Split(wanted, ",")
	if strings.Contains(said, "NOTHING is measured on PostgreSQL") {
		engines = engines[:1]
	}
	floors := []string{"raw", "relay"}
	for _, e := range engines {
		floors = append(floors, "ledger-"+e)
	}
	kinds := []string{"get an event", "list events", "page of the log", "PUT without a change"}
	for i, c := range []struct {
		name    string
		n       int // of each measure, where all have the same
		floors  []string
		parts   []string
		targets []string // the engine of each
	}{
		{"burst", 100, floors, []string{""}, []string{"sqlite", "postgres", "sqlite", "sqlite"}},
		{"steady", 0, floors, []string{"50/s", "200/s"}, []string{"sqlite", "sqlite", "postgres", "postgres"}},
		{"shift", 50, floors, []string{""}, nil},
		{"fanout", 60, []string{"relay"}, []string{""}, nil},
		{"pending", 50, nil, []string{""}, []string{"sqlite", "postgres"}},
		{"api", 0, []string{"bare"}, kinds, []string{"sqlite", "postgres", "sqlite", "postgres", "sqlite", "postgres"}},
	} {
		t.Run(c.name, func(t *testing.T) {
			got := all.Reports[i]
			if want, is := whose(c.parts, append(slices.Clone(c.floors), engines...)), subjects(got); !cmp.Equal(want, is) {
				t.Errorf("%s has measures of %q, want %q", got.Workload, is, want)
			}
			for _, m := range got.Measures {
				if m.Round != 1 || m.N == 0 || (c.n > 0 && m.N != c.n) || m.PerSecond <= 0 {
					t.Errorf("%+v", m)
				}
			}
			wanted := slices.DeleteFunc(c.targets, func(engine string) bool { return !slices.Contains(engines, engine) })
			if len(got.Targets) != len(wanted) {
				t.Errorf("targets are %+v, want those of %q", got.Targets, wanted)
			}
			if !strings.Contains(said, strings.ToUpper(c.name)+": ") {
				t.Errorf("it said:\n%s", said)
			}
		})
	}
}

// subjects are those that a report has measures of, each once, with their parts.
func subjects(r *report) []string {
	return slices.Sorted(slices.Values(names(r.Measures, (*measure).whose)))
}

// whose are the same of all subjects with all parts.
func whose(parts, subjects []string) (all []string) {
	for _, part := range parts {
		for _, subject := range subjects {
			all = append(all, (&measure{Part: part, Subject: subject}).whose())
		}
	}
	return slices.Sorted(slices.Values(all))
}

// measured runs the program and returns its results, and what it has said.
func measured(t *testing.T, args ...string) (all results, said string) {
	t.Helper()
	file := filepath.Join(t.TempDir(), "bench.json")
	var out bytes.Buffer
	if err := run(t.Context(), append([]string{"-json", file}, args...), &out, &out); err != nil {
		t.Fatalf("%v\n%s", err, out.String())
	}
	text, err := os.ReadFile(file)
	if err == nil {
		err = json.Unmarshal(text, &all)
	}
	if err != nil {
		t.Fatal(err)
	}
	return all, out.String()
}

// An answer is read to its end, whatever says where that is, and the next one after it.
func TestLine(t *testing.T) {
	addr, err := listen(answers{})
	if err != nil {
		t.Fatal(err)
	}
	c, err := dial(addr)
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	for _, want := range []string{"", `{"sequence": 17}`, strings.Repeat("x", 100_000), `{"sequence":5,`} {
		s := site{addr: addr}
		body, err := c.call(s.request("PUT", "/", want))
		if err != nil || string(body) != want {
			t.Fatalf("%d bytes are answered with %d (%v)", len(want), len(body), err)
		}
	}
	if _, err := c.call((&site{}).request("GET", "/missing", "")); err == nil || !strings.Contains(err.Error(), "404") {
		t.Errorf("404 is %v", err)
	}
}

// answers repeats what it is sent.
type answers struct{}

func (answers) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	if r.URL.Path != "/" {
		http.NotFound(w, r)
		return
	}
	body, _ := io.ReadAll(r.Body)
	_, _ = w.Write(body)
}

func TestSequenceIn(t *testing.T) {
	for text, want := range map[string]int64{`{"sequence":12,"a":3}`: 12, `{ "sequence": 7 }`: 7, `{}`: 0, `"sequence":`: 0} {
		if got := sequenceIn([]byte(text)); got != want {
			t.Errorf("%s has %d, want %d", text, got, want)
		}
	}
}

// A measure counts each delivery once, by its first arrival.
func TestArrivals(t *testing.T) {
	began := time.Unix(1000, 0)
	changes := []change{{"a", 1, began}, {"a", 2, began.Add(time.Second)}}
	in := func(client string, sequence int64, id string, after time.Duration) Arrival {
		return Arrival{Client: client, Sequence: sequence, ID: id, At: began.Add(after).UnixNano()}
	}
	m := &measure{}
	m.arrivals(changes, Harvest{Arrivals: []Arrival{
		in("a", 2, "x", 2*time.Second), in("a", 1, "y", 5*time.Second), in("a", 2, "z", 4*time.Second),
		in("a", 1, "y", 9*time.Second), in("b", 1, "w", time.Second), in("a", 3, "v", time.Second),
	}}, "a")
	if m.N != 3 || m.PerSecond != 0.6 || m.P50 != 3000 || m.Max != 5000 {
		t.Errorf("%+v", m)
	}
}

// A target is met by the median, and also where that is the bound.
func TestTarget(t *testing.T) {
	r := &report{}
	r.atLeast(2, "rate", []float64{9, 1, 2})
	r.notAbove(2, "time", []float64{1, 3})
	r.notAbove(2, "memory", []float64{2.5})
	r.atLeast(1, "nothing", nil)
	want := []target{
		{"rate", 1, 2, 9, 2, true, true}, {"time", 1, 2, 3, 2, false, true}, {"memory", 2.5, 2.5, 2.5, 2, false, false},
	}
	if diff := cmp.Diff(want, r.Targets); diff != "" {
		t.Errorf("(-want +got)\n%s", diff)
	}
}

// The picture has a panel for each part and a curve for each subject, and none for other workloads.
func TestPicture(t *testing.T) {
	file := filepath.Join(t.TempDir(), "latency.svg")
	all := results{Reports: []*report{
		{Workload: "steady", Measures: []*measure{
			{Part: "50/s", Subject: "raw", took: []time.Duration{0, time.Millisecond}},
			{Part: "200/s", Subject: "sqlite", took: []time.Duration{time.Second}},
		}},
		{Workload: "nap"},
	}}
	if err := all.picture(file, "burst", "steady"); err != nil {
		t.Fatal(err)
	}
	text, err := os.ReadFile(file)
	for _, want := range []string{"<svg", "steady, 50/s", "steady, 200/s", ">raw<", ">sqlite<"} {
		if err != nil || !strings.Contains(string(text), want) {
			t.Errorf("there is no %s in the picture (%v)", want, err)
		}
	}
	if err := all.picture(file, "nap"); err == nil {
		t.Error("a picture of nothing is no error")
	}
}
