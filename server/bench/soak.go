package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"os"
	"slices"
	"strings"
	"time"

	"github.com/agentevents/agentevents/server/lab"
	"github.com/agentevents/agentevents/store/benchfill"
)

// soak measures whether file, memory and latency stay the same: changes come at a steady rate to a program that keeps
// few of them. In the first quarter of the time it has room for them; after that it deletes rows all the time.
func soak(m *measurement) ([]scenario, error) {
	quarter, c := m.lasts/4, m.client(m.name).addAgents(m.agents, 0, 1, m.urls)
	before := m.rows - int(m.rate*quarter.Seconds())
	if before < m.agents {
		return nil, errors.New("needs more rows than agents and than come in a quarter of the time")
	}
	s := scenario{
		clients: []*client{c}, measured: []*client{c},
		env:     []string{"AGENTEVENTS_METRICS_ADDR=127.0.0.1:0", fmt.Sprintf("AGENTEVENTS_KEEP_ROWS=%d", m.rows)},
		warm:    []stream{{c.agents, before, 0}},
		streams: []stream{{c.agents, int(m.rate * m.lasts.Seconds()), m.rate}},
	}
	for _, part := range []string{"when=headroom", "when=first", "when=middle", "when=last"} {
		medians := values{}
		s.phases = append(s.phases, phase{part: part, values: medians, do: func(ctx context.Context) error {
			return m.sample(ctx, quarter, medians)
		}})
	}
	return []scenario{s}, nil
}

// sample takes samples for a time, and sets the median of each number: an outlier does not move it.
func (m *measurement) sample(ctx context.Context, lasts time.Duration, medians values) error {
	samples := map[string][]float64{}
	for began := time.Now(); time.Since(began) < lasts; {
		now, err := m.takeSample(ctx)
		if err != nil {
			return err
		}
		for unit, number := range now {
			samples[unit] = append(samples[unit], number)
		}
		if err := lab.Pause(ctx, min(5*time.Second, lasts-time.Since(began))); err != nil {
			return err
		}
	}
	for unit, numbers := range samples {
		slices.Sort(numbers)
		medians[unit] = percentile(numbers, 50)
	}
	return nil
}

// takeSample returns what the program and its store take, after a garbage collection of the program.
func (m *measurement) takeSample(ctx context.Context) (values, error) {
	if _, err := m.fetch("/debug/pprof/heap?gc=1"); err != nil {
		return nil, err
	}
	metrics, err := m.fetch("/metrics")
	if err != nil {
		return nil, err
	}
	rows, changes, err := benchfill.CountRows(ctx, m.store)
	if err != nil {
		return nil, err
	}
	most, allowed := max(rows, changes), m.rows+int(m.rate*time.Minute.Seconds()) // older ones must be deleted
	m.neverIf(most > allowed, "%s: %d rows, allowed are %d", m.where, most, allowed)
	now := values{"deliveries": float64(rows), "changes": float64(changes)}
	for unit, name := range map[string]string{
		"resident-B": "process_resident_memory_bytes", "heap-B": "go_memstats_heap_alloc_bytes",
		"goroutines": "go_goroutines", "open-files": "process_open_fds",
	} {
		now[unit] = metric(metrics, name)
	}
	for unit, suffix := range map[string]string{"file-B": "", "wal-B": "-wal"} {
		if info, err := os.Stat(sqliteFile(m.store) + suffix); err == nil { // on SQLite
			now[unit] = float64(info.Size())
		}
	}
	return now, nil
}

func (i *instance) fetch(path string) (string, error) {
	resp, err := http.Get(i.stats + path) //nolint:noctx // takes milliseconds
	if err != nil {
		return "", err
	}
	defer resp.Body.Close()
	body, err := io.ReadAll(resp.Body)
	if err == nil && resp.StatusCode != http.StatusOK {
		err = fmt.Errorf("%s: %s", path, resp.Status)
	}
	return string(body), err
}

// metric is the value of one that has no labels, in Prometheus' text format; 0 if it is not there.
func metric(text, name string) (value float64) {
	_, tail, _ := strings.Cut(text, "\n"+name+" ")
	_, _ = fmt.Sscan(tail, &value)
	return value
}
