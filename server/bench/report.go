package main

import (
	"fmt"
	"io"
	"math"
	"slices"
	"strings"
	"text/tabwriter"
	"time"
)

// report is what a workload has found, round by round.
type report struct {
	Workload  string     `json:"workload"`
	What      string     `json:"what"`            // in a sentence
	Floor     string     `json:"floor,omitempty"` // what the subjects of Measures are held against
	Latencies []latency  `json:"latencies"`       // from change to arrival
	Figures   []figure   `json:"figures"`
	Measures  []*measure `json:"measures,omitempty"`
	Targets   []target   `json:"targets,omitempty"`
	Trends    []trend    `json:"trends,omitempty"`
	Sizes     []scale    `json:"sizes,omitempty"`
	Samples   []sample   `json:"samples,omitempty"`
	Wrong     []string   `json:"wrong"` // what must never happen and did
}

// latency is how long changes of one kind took in one round, in milliseconds.
type latency struct {
	Round int     `json:"round"` // from 1
	Of    string  `json:"of"`
	Base  string  `json:"base,omitempty"` // what Ratio compares with, by its Of, in the same round
	N     int     `json:"n"`
	P50   float64 `json:"p50"`
	P99   float64 `json:"p99"`
	Max   float64 `json:"max"`
	Ratio float64 `json:"ratio,omitempty"` // of this P99 to the base's
}

// figure is any other number of one round.
type figure struct {
	Round int     `json:"round"`
	Name  string  `json:"name"`
	Value float64 `json:"value"`
}

// trend is what something was in the first third of the time and in the last, as the median of what was seen.
type trend struct {
	Of    string  `json:"of"`
	First float64 `json:"first"`
	Last  float64 `json:"last"`
	Ratio float64 `json:"ratio"` // of Last to First
}

// scale is how long something takes in a small store and in a large one, in milliseconds, as medians.
type scale struct {
	Engine string  `json:"engine"`
	Of     string  `json:"of"`
	N      int     `json:"n"` // times in each
	Small  float64 `json:"small"`
	Large  float64 `json:"large"`
	Ratio  float64 `json:"ratio"` // of Large to Small
}

// latency adds how long changes took, and compares it with what the same round has under the name of base.
func (r *report) latency(round int, of, base string, times []time.Duration) {
	l := latency{
		Round: round, Of: of, Base: base, N: len(times),
		P50: ms(percentile(times, 50)), P99: ms(percentile(times, 99)), Max: ms(percentile(times, 100)),
	}
	for _, b := range r.Latencies {
		if b.Round == round && b.Of == base && b.P99 > 0 {
			l.Ratio = l.P99 / b.P99
		}
	}
	r.Latencies = append(r.Latencies, l)
}

func (r *report) figure(round int, name string, value float64) {
	r.Figures = append(r.Figures, figure{round, name, value})
}

// trends compares what was seen first with what was seen last.
func (r *report) trends(first, last []sample) {
	for _, t := range []struct {
		of    string
		value func(s sample) float64
	}{
		{"database, MB", func(s sample) float64 { return s.File }},
		{"its write-ahead log, MB", func(s sample) float64 { return s.WAL }},
		{"resident memory, MB", func(s sample) float64 { return s.Resident }},
		{"heap after a collection, MB", func(s sample) float64 { return s.Heap }},
		{"goroutines", func(s sample) float64 { return s.Goroutines }},
		{"open files and sockets", func(s sample) float64 { return s.Files }},
		{"deliveries kept", func(s sample) float64 { return s.Rows }},
		{"changes kept", func(s sample) float64 { return s.Changes }},
	} {
		before, after := middle(first, t.value), middle(last, t.value)
		r.Trends = append(r.Trends, trend{t.of, before, after, after / max(before, 1e-9)})
	}
}

// growth compares what the same things take in a small store and in a large one.
func (r *report) growth(engine string, small, large []timed) {
	for i, t := range small {
		s := scale{Engine: engine, Of: t.of, N: len(t.times), Small: ms(percentile(t.times, 50)), Large: ms(percentile(large[i].times, 50))}
		s.Ratio = s.Large / max(s.Small, 1e-9)
		r.Sizes = append(r.Sizes, s)
	}
}

// middle is the median of a value, 0 if there is none.
func middle(all []sample, value func(s sample) float64) float64 {
	if len(all) == 0 {
		return 0
	}
	values := make([]float64, len(all))
	for i, s := range all {
		values[i] = value(s)
	}
	return median(slices.Sorted(slices.Values(values)))
}

// never notes a count of what must never happen, and to whose deliveries.
func (r *report) never(round int, name, whose string, count int) {
	r.figure(round, name, float64(count))
	if count != 0 {
		r.Wrong = append(r.Wrong, fmt.Sprintf("round %d: %s, of %s: %d", round, name, whose, count))
	}
}

// atMost notes a number that has a bound.
func (r *report) atMost(round int, name string, value, bound int) {
	r.figure(round, name, float64(value))
	if value > bound {
		r.Wrong = append(r.Wrong, fmt.Sprintf("round %d: %s: %d, and at most %d are allowed", round, name, value, bound))
	}
}

// percentile returns the smallest of some times that p percent of them do not exceed, 0 if there are none.
func percentile(times []time.Duration, p float64) time.Duration {
	if len(times) == 0 {
		return 0
	}
	sorted := slices.Sorted(slices.Values(times))
	return sorted[max(int(math.Ceil(p/100*float64(len(sorted)))), 1)-1]
}

func ms(d time.Duration) float64 { return float64(d.Microseconds()) / 1000 }

// print prints one line for each name, over all rounds.
func (r *report) print(w io.Writer) {
	fmt.Fprintf(w, "\n%s: %s\nOf several rounds the median (least-most).\n\n", strings.ToUpper(r.Workload), r.What)
	if len(r.Measures) > 0 {
		r.printMeasures(w)
	}
	t := tabwriter.NewWriter(w, 0, 0, 2, ' ', 0)
	if len(r.Latencies) > 0 {
		fmt.Fprintln(t, "from change to arrival, ms\tn\tp50\tp99\tmax\tratio of p99")
	}
	for _, of := range names(r.Latencies, func(l latency) string { return l.Of }) {
		r.printLatency(t, of)
	}
	fmt.Fprintln(t, "\t\t\t\t\t")
	for _, name := range names(r.Figures, func(f figure) string { return f.Name }) {
		fmt.Fprintf(t, "%s\t%s\t\t\t\t\n", name, spread(r.Figures,
			func(f figure) (float64, bool) { return f.Value, f.Name == name }))
	}
	if len(r.Trends) > 0 {
		fmt.Fprintln(t, "\t\t\t\t\t\nmedian of the\tfirst third\tlast third\t\t\tratio")
	}
	for _, d := range r.Trends {
		fmt.Fprintf(t, "%s\t%s\t%s\t\t\t%s\n", d.Of, short(d.First), short(d.Last), short(d.Ratio))
	}
	r.printSizes(t)
	_ = t.Flush()
}

func (r *report) printSizes(t io.Writer) {
	if len(r.Sizes) > 0 {
		fmt.Fprintln(t, "median, ms\tn\tsmall\tlarge\t\tratio")
	}
	for _, s := range r.Sizes {
		fmt.Fprintf(t, "%s: %s\t%d\t%s\t%s\t\t%s\n", s.Engine, s.Of, s.N, short(s.Small), short(s.Large), short(s.Ratio))
	}
}

func (r *report) printLatency(t io.Writer, of string) {
	column := func(value func(l latency) float64) string {
		return spread(r.Latencies, func(l latency) (float64, bool) { return value(l), l.Of == of })
	}
	ratio := ""
	if i := slices.IndexFunc(r.Latencies, func(l latency) bool { return l.Of == of }); r.Latencies[i].Base != "" {
		ratio = column(func(l latency) float64 { return l.Ratio }) + " to " + r.Latencies[i].Base
	}
	fmt.Fprintf(t, "%s\t%s\t%s\t%s\t%s\t%s\n", of,
		column(func(l latency) float64 { return float64(l.N) }), column(func(l latency) float64 { return l.P50 }),
		column(func(l latency) float64 { return l.P99 }), column(func(l latency) float64 { return l.Max }), ratio)
}

// names lists names once each, in their first order.
func names[T any](all []T, name func(T) string) (once []string) {
	for _, x := range all {
		if !slices.Contains(once, name(x)) {
			once = append(once, name(x))
		}
	}
	return once
}

// spread is the median of what value picks, with the least and the most if there are several.
func spread[T any](all []T, value func(T) (float64, bool)) string {
	var values []float64
	for _, x := range all {
		if v, ok := value(x); ok {
			values = append(values, v)
		}
	}
	return around(values)
}

// median is the middle of sorted values.
func median(sorted []float64) float64 {
	n := len(sorted)
	return (sorted[(n-1)/2] + sorted[n/2]) / 2
}

// short is a number with as many digits as are of interest.
func short(v float64) string {
	if v == math.Trunc(v) || v >= 100 {
		return fmt.Sprintf("%.0f", v)
	}
	return fmt.Sprintf("%.*f", map[bool]int{true: 1, false: 2}[v >= 10], v)
}
