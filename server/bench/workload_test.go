package main

import (
	"bytes"
	stdcmp "cmp"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/agentevents/agentevents/store/pgtest"
)

// Each workload, as small as can be, prints a line in the form that benchstat reads for everything that it measures,
// and nothing is lost, delivered twice or out of order, which would be an error of run.
func TestWorkloads(t *testing.T) {
	wanted := stdcmp.Or(os.Getenv(pgtest.EngineVariable), "sqlite,postgres")
	common := []string{"-count", "1", "-engines", wanted}
	contests, log := measured(t, append(common, "-binary", build(t), "-agents", "20", "-changes", "40",
		"-lasts", "200ms", "burst", "steady", "shift", "fanout")...)
	stories, _ := measured(t, append(common, "-binary", build(t), "-agents", "2", "-changes", "5",
		"-receivers", "4", "-rows", "1000", "-rate", "20", "-lasts", "2s",
		"isolation", "backlog", "soak")...)
	attacked, _ := measured(t, append(common, "-binary", build(t), "-lasts", "300ms", "-attacks", "items,connections",
		"neighbours")...)
	engines := strings.Split(wanted, ",")
	if strings.Contains(log, "NOTHING is measured on PostgreSQL") {
		engines = engines[:1]
	}
	programs, floors := on(engines...), on("relay")
	for _, e := range engines {
		floors = append(floors, "on=ledger-"+e)
	}
	for name, c := range map[string]struct {
		n     int // of each line, where all have the same
		names []string
	}{
		"Burst":  {40, append(slices.Clone(floors), programs...)},
		"Steady": {0, each([]string{"rate=50", "rate=200"}, append(slices.Clone(floors), programs...))},
		"Shift":  {40, append(slices.Clone(floors), programs...)},
		"Fanout": {400, append(on("relay"), programs...)},

		"Isolation": {0, each(each([]string{
			"client=healthy/part=undetected", "client=healthy/part=later",
			"client=fresh/part=undetected", "client=fresh/part=later", "client=hanging",
		}, []string{"when=calm", "when=hang"}), programs)},
		"Backlog": {0, append(slices.Clone(programs), each(each([]string{"client=neighbour", "client=elsewhere"},
			[]string{"when=before", "when=pile-up", "when=down", "when=drain"}), programs)...)},
		"Soak":       {0, each([]string{"when=headroom", "when=first", "when=middle", "when=last"}, programs)},
		"Neighbours": {0, each([]string{"attack=items", "attack=connections"}, programs)},
	} {
		t.Run(name, func(t *testing.T) {
			checkLines(t, contests+stories+attacked, name, c.n, c.names)
		})
	}
}

// on are the labels of targets.
func on(targets ...string) (labels []string) {
	for _, t := range targets {
		labels = append(labels, "on="+t)
	}
	return labels
}

// each joins every part with every other.
func each(parts, others []string) (all []string) {
	for _, p := range parts {
		for _, o := range others {
			all = append(all, p+"/"+o)
		}
	}
	return all
}

// resultLine is the form of a result.
var resultLine = regexp.MustCompile(`(?m)^Benchmark(\w+)/(\S+)\s+(\d+)((?:\s+-?[0-9.]+ \S+)+)$`)

// checkLines looks whether a workload has these names, once each, and n deliveries under each unless that is 0.
func checkLines(t *testing.T, out, name string, n int, names []string) {
	t.Helper()
	var got []string
	for _, found := range resultLine.FindAllStringSubmatch(out, -1) {
		if found[1] != name {
			continue
		}
		got = append(got, found[2])
		if n > 0 && found[3] != strconv.Itoa(n) {
			t.Errorf("%q has %s deliveries, want %d", found[0], found[3], n)
		}
	}
	if diff := cmp.Diff(slices.Sorted(slices.Values(names)), slices.Sorted(slices.Values(got))); diff != "" {
		t.Errorf("%s (-want +got)\n%s", name, diff)
	}
}

// Of several programs each is measured in each round, under its own name.
func TestPrograms(t *testing.T) {
	one := build(t)
	other := filepath.Join(t.TempDir(), filepath.Base(one))
	if err := os.Link(one, other); err != nil {
		t.Fatal(err)
	}
	out, _ := measured(t, "-binary", other+","+one, "-count", "2", "-engines", "sqlite", "-floors", "none",
		"-agents", "5", "-changes", "10", "burst")
	var want, got []string
	for _, binary := range []string{other, one, other, one} { // in turn
		want = append(want, "on=sqlite/binary="+strings.ReplaceAll(binary, "/", "_")+" 10")
	}
	for _, found := range resultLine.FindAllStringSubmatch(out, -1) {
		got = append(got, found[2]+" "+found[3])
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("(-want +got)\n%s", diff)
	}
}

// build builds the program that is measured.
func build(t *testing.T) (binary string) {
	t.Helper()
	binary = filepath.Join(t.TempDir(), "agentevents")
	if out, err := exec.Command("go", "build", "-buildvcs=false", "-o", binary, "..").CombinedOutput(); err != nil {
		t.Fatalf("go build: %v\n%s", err, out)
	}
	return binary
}

// measured returns the results of a run, and its log.
func measured(t *testing.T, args ...string) (results, log string) {
	t.Helper()
	var out, stderr bytes.Buffer
	if err := run(t.Context(), args, &out, &stderr); err != nil {
		t.Fatalf("%v\n%s%s", err, out.String(), stderr.String())
	}
	return out.String(), stderr.String()
}
