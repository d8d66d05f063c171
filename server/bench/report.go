package main

import (
	"context"
	"fmt"
	"maps"
	"math"
	"path"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/prometheus/procfs"

	"github.com/agentevents/agentevents/server/lab"
)

// values are what was measured, by unit. benchstat scales ns and B.
type values map[string]float64

// print prints a line in Go's benchmark format: the workload, a further part of its name (KEY=VALUE) unless that is
// empty, the system, the number of deliveries, and what was measured of them.
func (m *measurement) print(part string, n int, v values) {
	v["ns/op"] = 0 // which leaves it out
	name := strings.ToUpper(m.name[:1]) + m.name[1:]
	fmt.Fprintf(m.out, "Benchmark%s %v\n", path.Join(name, part, m.label), testing.BenchmarkResult{N: n, Extra: v})
}

// printPhase prints how long the deliveries of a client took, of the changes in a phase.
func (m *measurement) printPhase(c *client, p phase) {
	ns := c.latencies(p.span)
	v := values{
		"p50-ns": percentile(ns, 50), "p90-ns": percentile(ns, 90), "p99-ns": percentile(ns, 99),
		"max-ns": percentile(ns, 100),
	}
	maps.Copy(v, p.values)
	if c.name != m.name {
		p.part = path.Join("client="+c.name, p.part)
	}
	m.print(p.part, len(ns), v)
}

// check notes what must never happen to the deliveries of a client, when all of them had their time.
func (m *measurement) check(c *client) {
	h := lab.History{OrderKey: laneOf, Arrivals: c.arrived}
	for _, s := range c.sent {
		for i := range s.urls {
			r := s.receiver + i
			h.Expected = append(h.Expected, &lab.Expected{
				Key:   lab.Key{Path: s.path(r), Sequence: s.sequence},
				Agent: s.id, Status: string(s.status), Receiver: r,
			})
		}
	}
	faults := lab.Check(h, lab.Rules{}).Faults
	m.neverIf(len(faults) > 0, "%s, client %s: %d faults, such as %v", m.where, c.name, len(faults),
		faults[:min(len(faults), 10)])
}

// span is a time from one instant to before another; a zero time leaves an end open.
type span struct{ from, to time.Time }

func (s span) has(t time.Time) bool {
	return !t.Before(s.from) && (s.to.IsZero() || t.Before(s.to))
}

// latencies are how many nanoseconds the deliveries of the changes in a span took until their first arrival, sorted.
// What never arrived is found by check.
func (c *client) latencies(within span) (ns []float64) {
	sent := map[int64]time.Time{}
	for _, s := range c.sent {
		if within.has(s.sent) {
			sent[s.sequence] = s.sent
		}
	}
	seen := map[lab.Key]bool{}
	for _, a := range c.arrived {
		if at, ok := sent[a.Sequence]; ok && !seen[a.Key] {
			seen[a.Key] = true
			ns = append(ns, float64(a.At.Sub(at)))
		}
	}
	slices.Sort(ns)
	return ns
}

// percentile returns the smallest of sorted numbers that p percent of them do not exceed, 0 if there are none.
func percentile(sorted []float64, p float64) float64 {
	if len(sorted) == 0 {
		return 0
	}
	return sorted[max(int(math.Ceil(p/100*float64(len(sorted)))), 1)-1]
}

// deliveries is how many some changes have.
func deliveries(changes []*change) (n int) {
	for _, c := range changes {
		n += len(c.urls)
	}
	return n
}

// maxConcurrent is how many requests were under way at the same time at most.
func (c *client) maxConcurrent() (most int) {
	steps := map[time.Time]int{} // how many more there are from then on
	for _, a := range c.arrived {
		steps[a.At]++
		steps[a.Ended]--
	}
	now := 0
	for _, at := range slices.SortedFunc(maps.Keys(steps), time.Time.Compare) {
		now += steps[at]
		most = max(most, now)
	}
	return most
}

// clockTick is the unit of /proc/PID/stat on every Linux that Go runs on.
const clockTick = 10 * time.Millisecond

// usage is what an instance has taken since its start. Where there is no /proc, or no process, it is 0.
type usage struct {
	processor, database time.Duration // of its process, and of those of its database server
	resident, peak      float64       // bytes of memory, now and at most
}

// values are those of so many deliveries, without what is 0.
func (u usage) values(n int) values {
	each := float64(max(n, 1))
	all := values{
		"cpu-ns/delivery": float64(u.processor) / each, "database-cpu-ns/delivery": float64(u.database) / each,
		"peak-B": u.peak,
	}
	maps.DeleteFunc(all, func(_ string, v float64) bool { return v == 0 })
	return all
}

func (i *instance) usage() (u usage) {
	processes, _ := procfs.AllProcs()
	for _, p := range processes {
		stat, err := p.Stat()
		if err != nil {
			continue // it has ended
		}
		taken := time.Duration(int(stat.UTime+stat.STime)+stat.CUTime+stat.CSTime) * clockTick
		switch {
		case p.PID == i.pid:
			u.processor = taken
			if status, err := p.NewStatus(); err == nil {
				u.resident, u.peak = float64(status.VmRSS), float64(status.VmHWM)
			}
		case i.database != 0 && (p.PID == i.database || stat.PPID == i.database):
			u.database += taken
		}
	}
	return u
}

// rest returns the usage when the processor time grows no more than that of a process that waits, after 5 s at most.
func (i *instance) rest(ctx context.Context) (now usage) {
	for range 50 {
		before := now
		now = i.usage()
		if now.processor+now.database-before.processor-before.database <= clockTick {
			break
		}
		_ = lab.Pause(ctx, 100*time.Millisecond)
	}
	return now
}
