package main

import (
	"errors"
	"fmt"
	"strings"
	"text/tabwriter"
	"time"
)

// outcome is the result of a step. It is empty if the step did not run.
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

// result is the result of an SDK.
type result struct {
	sdk
	generated, built, ran outcome
	missing               []string // missing packages; if any, no step ran
	err                   error
	took                  time.Duration
}

// remark summarizes the result.
func (r *result) remark() string {
	switch {
	case len(r.missing) > 0:
		return "not run, missing: " + strings.Join(r.missing, ", ")
	case r.err != nil:
		return "error above"
	case r.run == "":
		return "generated only"
	}
	return ""
}

// line returns the line that is printed when the SDK has been tested.
func (r *result) line() string {
	if r.err != nil {
		return fmt.Sprintf("%s: %v", r.name, r.err)
	}
	if len(r.missing) > 0 {
		return r.name + ": " + r.remark()
	}
	return fmt.Sprintf("%s: ok, %.0f s", r.name, r.took.Seconds())
}

// table returns a table of all results.
func table(results []result) string {
	var b strings.Builder
	w := tabwriter.NewWriter(&b, 0, 0, 2, ' ', 0)
	fmt.Fprintln(w, "SDK\tgenerator\tgenerated\tbuilt\tran\tseconds\tremark")
	for _, r := range results {
		fmt.Fprintf(w, "%s\t%s\t%s\t%s\t%s\t%.0f\t%s\n", r.name, r.tool, r.generated, r.built, r.ran,
			r.took.Seconds(), r.remark())
	}
	_ = w.Flush() // cannot fail: it writes to memory
	lines := strings.Split(b.String(), "\n")
	for i := range lines {
		lines[i] = strings.TrimRight(lines[i], " ")
	}
	return strings.Join(lines, "\n")
}

// verdict returns an error if an SDK failed. If strict, an SDK that was not run has failed.
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
