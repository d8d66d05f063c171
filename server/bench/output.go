package main

import (
	"fmt"
	"math"
	"slices"
	"strconv"
	"strings"
	"time"
)

// value is a measured number with its unit. benchstat scales ns and B.
type value struct {
	number float64
	unit   string
}

// String is a value as a line of Go's benchmark format has it.
func (v value) String() string {
	if math.Abs(v.number) >= 1000 {
		return fmt.Sprintf("%.0f %s", v.number, v.unit)
	}
	return strconv.FormatFloat(v.number, 'g', 4, 64) + " " + v.unit
}

// result prints such a line: the workload, a further part of its name (KEY=VALUE) unless that is empty, what it ran on,
// the number of deliveries, and what was measured of them.
func (x *trial) result(n int, values []value, part string) {
	text := "Benchmark" + strings.ToUpper(x.name[:1]) + x.name[1:] + "/"
	if part != "" {
		text += part + "/"
	}
	text += x.label + " " + strconv.Itoa(n)
	for _, v := range values {
		text += " " + v.String()
	}
	x.progress.Print("") // clears a line that could be overwritten, on a terminal
	fmt.Fprintln(x.out, text)
}

// latencies are the values of how long deliveries took.
func latencies(times []time.Duration) (all []value) {
	times = slices.Sorted(slices.Values(times))
	for _, p := range []struct {
		percent float64
		unit    string
	}{{50, "p50-ns"}, {90, "p90-ns"}, {99, "p99-ns"}, {100, "max-ns"}} {
		all = append(all, value{float64(percentile(times, p.percent)), p.unit})
	}
	return all
}

// percentile returns the smallest of sorted times that p percent of them do not exceed, 0 if there are none.
func percentile(sorted []time.Duration, p float64) time.Duration {
	if len(sorted) == 0 {
		return 0
	}
	return sorted[max(int(math.Ceil(p/100*float64(len(sorted)))), 1)-1]
}

// median is the middle of some values, 0 if there are none.
func median(values []float64) float64 {
	n := len(values)
	if n == 0 {
		return 0
	}
	values = slices.Sorted(slices.Values(values))
	return (values[(n-1)/2] + values[n/2]) / 2
}
