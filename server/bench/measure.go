package main

import (
	"context"
	"fmt"
	"io"
	"slices"
	"text/tabwriter"
	"time"
)

// measure is what a subject has shown in one round. What it does not have is 0.
type measure struct {
	Round     int     `json:"round"` // from 1
	Part      string  `json:"part,omitempty"`
	Subject   string  `json:"subject"`
	N         int     `json:"n"`                                  // deliveries that have arrived
	PerSecond float64 `json:"per_second"`                         // from the first change sent to the last arrival
	P50       float64 `json:"p50"`                                // from when a change was sent to its arrival,
	P90       float64 `json:"p90"`                                // milliseconds
	P99       float64 `json:"p99"`                                //
	Max       float64 `json:"max"`                                //
	Processor float64 `json:"processor"`                          // seconds of its processor time for 1,000 deliveries
	Database  float64 `json:"processor_of_the_database,omitzero"` // the same of the processes of its database server
	Peak      float64 `json:"peak_memory,omitzero"`               // MiB

	// Growth is how many MiB more it takes than before when deliveries are pending.
	Growth float64 `json:"growth,omitzero"`

	took []time.Duration // sorted
}

// whose names the subject.
func (m *measure) whose() string {
	if m.Part == "" {
		return m.Subject
	}
	return m.Subject + ", " + m.Part
}

// arrivals notes when the changes of a client have arrived, each delivery by its first arrival.
func (m *measure) arrivals(changes []change, h Harvest, client string) {
	sent := map[int64]time.Time{}
	for _, c := range changes {
		sent[c.sequence] = c.sent
	}
	known := map[string]bool{}
	last := time.Time{}
	for _, a := range h.Arrivals {
		if since, ok := sent[a.Sequence]; ok && a.Client == client && !known[a.ID] {
			known[a.ID] = true
			last = time.Unix(0, max(a.At, last.UnixNano()))
			m.took = append(m.took, time.Unix(0, a.At).Sub(since))
		}
	}
	m.sum(slices.MinFunc(changes, func(a, b change) int { return a.sent.Compare(b.sent) }).sent, last)
}

// answers notes when calls were answered.
func (m *measure) answers(made Made) {
	for i, sent := range made.Sent {
		m.took = append(m.took, time.Duration(made.Answered[i]-sent))
	}
	m.sum(time.Unix(0, slices.Min(made.Sent)), time.Unix(0, slices.Max(made.Answered)))
}

// measured reads what a function has a site take, for each thousand of n that it does.
func (m *measure) measured(ctx context.Context, at *site, n float64, fn func() error) error {
	atRest(ctx, at.processors)
	program, database := processor(at.pid), processors(at.database)
	if err := fn(); err != nil {
		return err
	}
	atRest(ctx, at.processors)
	m.Processor = (processor(at.pid) - program) / n * 1000
	m.Database = (processors(at.database) - database) / n * 1000
	_, m.Peak = memory(at.pid)
	return nil
}

// sum does the sums of the times that it has.
func (m *measure) sum(first, last time.Time) {
	slices.Sort(m.took)
	m.N = len(m.took)
	if m.N > 0 {
		m.PerSecond = float64(m.N) / last.Sub(first).Seconds()
	}
	for _, p := range []struct {
		value *float64
		of    float64
	}{{&m.P50, 50}, {&m.P90, 90}, {&m.P99, 99}, {&m.Max, 100}} {
		*p.value = ms(percentile(m.took, p.of))
	}
}

// ratios are those of a value of a subject to that of another, round by round.
func (r *report) ratios(part, subject, to string, value func(m *measure) float64) (all []float64) {
	for _, m := range r.Measures {
		if m.Part != part || m.Subject != subject {
			continue
		}
		for _, base := range r.Measures {
			if base.Part == part && base.Subject == to && base.Round == m.Round {
				all = append(all, value(m)/max(value(base), 1e-9))
			}
		}
	}
	return all
}

// values are those of a subject, round by round.
func (r *report) values(part, subject string, value func(m *measure) float64) (all []float64) {
	for _, m := range r.Measures {
		if m.Part == part && m.Subject == subject {
			all = append(all, value(m))
		}
	}
	return all
}

// column is a value, and what it is called.
type column struct {
	title string
	value func(m *measure) float64
}

// columns are what the table has of each measure.
var columns = []column{
	{"n", func(m *measure) float64 { return float64(m.N) }},
	{"per second", perSecond},
	{"p50 ms", func(m *measure) float64 { return m.P50 }},
	{"p90 ms", func(m *measure) float64 { return m.P90 }},
	{"p99 ms", func(m *measure) float64 { return m.P99 }},
	{"max ms", func(m *measure) float64 { return m.Max }},
	{"CPU s/1000", processorTime},
	{"database's", func(m *measure) float64 { return m.Database }},
	{"peak MiB", peakMemory},
	{"MiB more", func(m *measure) float64 { return m.Growth }},
}

func perSecond(m *measure) float64     { return m.PerSecond }
func processorTime(m *measure) float64 { return m.Processor }
func peakMemory(m *measure) float64    { return m.Peak }

// printMeasures prints a line for each subject, with the ratio of its rate to that of the floor. What
// no subject has, has no column.
func (r *report) printMeasures(w io.Writer) {
	t := tabwriter.NewWriter(w, 0, 0, 2, ' ', 0)
	shown := slices.Clone(columns)
	shown = slices.DeleteFunc(shown, func(c column) bool {
		return !slices.ContainsFunc(r.Measures, func(m *measure) bool { return c.value(m) != 0 })
	})
	for _, c := range shown {
		fmt.Fprintf(t, "\t%s", c.title)
	}
	if r.Floor != "" {
		fmt.Fprint(t, "\tto the rate of "+r.Floor)
	}
	fmt.Fprintln(t)
	for _, whose := range names(r.Measures, (*measure).whose) {
		i := slices.IndexFunc(r.Measures, func(m *measure) bool { return m.whose() == whose })
		part, subject := r.Measures[i].Part, r.Measures[i].Subject
		fmt.Fprint(t, whose)
		for _, c := range shown {
			fmt.Fprint(t, "\t"+present(r.values(part, subject, c.value)))
		}
		fmt.Fprintf(t, "\t%s\n", present(r.ratios(part, subject, r.Floor, perSecond)))
	}
	_ = t.Flush()
}

// present is the median of some values as a table has it, and empty if there are none but 0.
func present(values []float64) string {
	if !slices.ContainsFunc(values, func(v float64) bool { return v != 0 }) {
		return ""
	}
	return around(values)
}

// around is the median of some values, with the least and the most if there are several.
func around(values []float64) string {
	values = slices.Sorted(slices.Values(values))
	least, most := values[0], values[len(values)-1]
	if least == most {
		return short(least)
	}
	return fmt.Sprintf("%s (%s-%s)", short(median(values)), short(least), short(most))
}
