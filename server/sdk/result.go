package main

import (
	"errors"
	"fmt"
	"strings"
	"text/tabwriter"
	"time"
)

// outcome is what a step came to; it is empty when the step was not reached or is none.
type outcome string

const (
	passed outcome = "ok"
	failed outcome = "FAILED"
)

func (o outcome) String() string {
	if o == "" {
		return "-"
	}
	return string(o)
}

// result is what came of an SDK.
type result struct {
	sdk
	generated, built, told outcome
	missing                []string // what is not installed, so that nothing was run
	err                    error
	took                   time.Duration
}

// remark says in short what is special about it.
func (r *result) remark() string {
	switch {
	case len(r.missing) > 0:
		return "not run, missing: " + strings.Join(r.missing, ", ")
	case r.err != nil:
		return "see above"
	case r.tell == "":
		return "generated only"
	}
	return ""
}

// line is what is printed as soon as it is known.
func (r *result) line() string {
	if r.err != nil {
		return fmt.Sprintf("%s: %v", r.name, r.err)
	}
	if len(r.missing) > 0 {
		return r.name + ": " + r.remark()
	}
	return fmt.Sprintf("%s: ok, %.0f s", r.name, r.took.Seconds())
}

// table is what came of all.
func table(results []result) string {
	var b strings.Builder
	w := tabwriter.NewWriter(&b, 0, 0, 2, ' ', 0)
	fmt.Fprintln(w, "SDK\tmade by\tgenerated\tbuilt\tstory\tseconds\tremark")
	for _, r := range results {
		fmt.Fprintf(w, "%s\t%s\t%s\t%s\t%s\t%.0f\t%s\n", r.name, r.tool, r.generated, r.built, r.told,
			r.took.Seconds(), r.remark())
	}
	_ = w.Flush() // to memory
	lines := strings.Split(b.String(), "\n")
	for i := range lines {
		lines[i] = strings.TrimRight(lines[i], " ")
	}
	return strings.Join(lines, "\n")
}

// verdict is an error when one failed. Where everything has to be installed, one that was not run has failed.
func verdict(results []result, strict bool) (err error) {
	for _, r := range results {
		if r.err != nil {
			err = errors.Join(err, fmt.Errorf("%s failed", r.name))
		}
		if strict && len(r.missing) > 0 {
			err = errors.Join(err, fmt.Errorf("%s was not run: %s missing", r.name, strings.Join(r.missing, ", ")))
		}
	}
	return err
}
