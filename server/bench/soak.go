package main

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"maps"
	"net/http"
	"os"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/agentevents/agentevents/server/lab"
	"github.com/agentevents/agentevents/store/benchfill"
)

const (
	soaked = "soaked" // the client of soak
	// sampleEvery is the time from one sample to the next.
	sampleEvery = 5 * time.Second
	// deleteWithin is how long a row may be there that is too many.
	deleteWithin = time.Minute
)

// samples are what the program and its store take at moments of a phase, by units.
type samples map[string][]float64

// soak measures whether file, memory and latency stay the same: changes come at a steady rate to a program that keeps
// few of them. In the first quarter of the time it has room for them; after that it deletes rows all the time.
func soak(x *trial) error {
	quarter, busy := x.lasts/4, agents(soaked, x.agents, 0, 1, x.urls)
	before := x.rows - int(x.rate(0)*quarter.Seconds())
	if before < x.agents {
		return errors.New("needs more rows than agents and than come in a quarter of the time")
	}
	x.plan = plan{
		clients: [][]*agent{busy},
		env: []string{
			"AGENTEVENTS_METRICS_ADDR=127.0.0.1:0", fmt.Sprintf("AGENTEVENTS_KEEP_ROWS=%d", x.rows),
		},
		measured: []string{soaked},
		warm:     []stream{{busy, before, 0}},
		streams:  []stream{steadily(shuffled(busy), x.rate(0), x.lasts)},
	}
	for _, part := range []string{"when=headroom", "when=first", "when=middle", "when=last"} {
		taken := samples{}
		x.phases = append(x.phases, phase{part: part, do: func(ctx context.Context, c *caller) error {
			for began := time.Now(); time.Since(began) < quarter; {
				if err := x.take(ctx, c, taken); err != nil {
					return err
				}
				_ = lab.Pause(ctx, min(sampleEvery, quarter-time.Since(began)))
			}
			return nil
		}, values: func([]*lab.Arrival) []value { return taken.medians() }})
	}
	return nil
}

// take takes a sample, after a garbage collection of the program.
func (x *trial) take(ctx context.Context, c *caller, to samples) error {
	if _, err := fetch(ctx, c.stats+"/debug/pprof/heap?gc=1&debug=1"); err != nil {
		return err
	}
	metrics, err := fetchMetrics(ctx, c.stats)
	if err != nil {
		return err
	}
	rows, changes, err := benchfill.CountRows(ctx, c.store)
	if err != nil {
		return err
	}
	now := map[string]float64{
		"resident-B": metrics["process_resident_memory_bytes"], "heap-B": metrics["go_memstats_heap_alloc_bytes"],
		"goroutines": metrics["go_goroutines"], "open-files": metrics["process_open_fds"],
		"deliveries": float64(rows), "changes": float64(changes),
	}
	for unit, suffix := range map[string]string{"file-B": "", "wal-B": "-wal"} {
		if info, err := os.Stat(sqliteFile(c.store) + suffix); err == nil { // on SQLite
			now[unit] = float64(info.Size())
		}
	}
	for unit, number := range now {
		to[unit] = append(to[unit], number)
	}
	most, allowed := max(rows, changes), x.rows+int(x.rate(0)*deleteWithin.Seconds())
	x.neverIf(most > allowed, "%s: %d rows, allowed are %d", x.where, most, allowed)
	x.show("%s: %v", x.where, now)
	return nil
}

// medians are those of all samples.
func (s samples) medians() (all []value) {
	for _, unit := range slices.Sorted(maps.Keys(s)) {
		all = append(all, value{median(s[unit]), unit})
	}
	return all
}

func fetch(ctx context.Context, url string) ([]byte, error) {
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, url, http.NoBody)
	if err != nil {
		return nil, err
	}
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		return nil, err
	}
	defer resp.Body.Close()
	body, err := io.ReadAll(resp.Body)
	if err == nil && resp.StatusCode != http.StatusOK {
		err = fmt.Errorf("%s: %s", url, resp.Status)
	}
	return body, err
}

// fetchMetrics returns the metrics of a program, by their names with their labels.
func fetchMetrics(ctx context.Context, url string) (map[string]float64, error) {
	body, err := fetch(ctx, url+"/metrics")
	values := map[string]float64{}
	for text := range bytes.Lines(body) {
		name, number, _ := strings.Cut(strings.TrimSpace(string(text)), " ")
		if v, err := strconv.ParseFloat(number, 64); err == nil {
			values[name] = v
		}
	}
	return values, err
}
