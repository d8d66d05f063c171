package main

import (
	"fmt"
	"io"
	"slices"
	"text/tabwriter"
)

// target is what a value is to be, by its median over all rounds.
type target struct {
	Of     string  `json:"of"`
	Least  float64 `json:"least"` // of the rounds
	Median float64 `json:"median"`
	Most   float64 `json:"most"`
	Bound  float64 `json:"bound"`
	Above  bool    `json:"above"` // at least the bound, and not at most
	Met    bool    `json:"met"`
}

// atLeast notes a target for values that are to be large, where there are any.
func (r *report) atLeast(bound float64, of string, values []float64) {
	r.target(of, values, bound, true)
}

// notAbove notes one for values that are to be small.
func (r *report) notAbove(bound float64, of string, values []float64) {
	r.target(of, values, bound, false)
}

func (r *report) target(of string, values []float64, bound float64, above bool) {
	if len(values) == 0 {
		return
	}
	values = slices.Sorted(slices.Values(values))
	m := median(values)
	r.Targets = append(r.Targets, target{
		Of: of, Least: values[0], Median: m, Most: values[len(values)-1], Bound: bound, Above: above,
		Met: m == bound || (m > bound) == above,
	})
}

// printTargets prints those of all workloads, if there are any.
func (r results) printTargets(w io.Writer) {
	if !slices.ContainsFunc(r.Reports, func(r *report) bool { return len(r.Targets) > 0 }) {
		return
	}
	t := tabwriter.NewWriter(w, 0, 0, 2, ' ', 0)
	fmt.Fprintln(t, "\nTARGETS\tmedian\tleast\tmost\ttarget\t")
	for _, report := range r.Reports {
		for _, x := range report.Targets {
			fmt.Fprintf(t, "%s: %s\t%s\t%s\t%s\t%s %s\t%s\n", report.Workload, x.Of, short(x.Median), short(x.Least), short(x.Most),
				map[bool]string{true: "at least", false: "at most"}[x.Above], short(x.Bound), map[bool]string{true: "met", false: "NOT met"}[x.Met])
		}
	}
	_ = t.Flush()
}
