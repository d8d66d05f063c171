package main

import (
	"bufio"
	"context"
	"database/sql"
	"errors"
	"fmt"
	"net/http"
	"os"
	"regexp"
	"strconv"
	"strings"
	"time"

	_ "github.com/mattn/go-sqlite3" // to count rows
)

// sample is what a server and its store take at a moment.
type sample struct {
	At         float64 `json:"at"`       // seconds since the load began
	File       float64 `json:"file"`     // MB of the database
	WAL        float64 `json:"wal"`      // MB of what is written and not in there yet
	Resident   float64 `json:"resident"` // MB of memory
	Heap       float64 `json:"heap"`     // MB of it that is left after a collection
	Goroutines float64 `json:"goroutines"`
	Files      float64 `json:"files"` // that are open, with sockets
	Rows       float64 `json:"rows"`  // deliveries that are kept
	Changes    float64 `json:"changes"`
	N          int     `json:"n"`   // changes that were to be sent until the next sample, and
	P50        float64 `json:"p50"` // how long these took to arrive, milliseconds
	P99        float64 `json:"p99"`
}

const mb = 1 << 20

// gauge looks at a server that was told to measure itself, and at its store.
type gauge struct {
	url  string // of metrics and profiles
	file string
	db   *sql.DB
}

// measuring is what a server says when it has metrics.
var measuring = regexp.MustCompile(`metrics=(http://\S+)/metrics`)

func newGauge(c *caller, file string) (*gauge, error) {
	url := c.measuring()
	if url == "" {
		return nil, errors.New("the server does not say where its metrics are")
	}
	db, err := sql.Open("sqlite3", "file:"+file+"?mode=ro&_busy_timeout=5000")
	return &gauge{url, file, db}, err
}

// measuring is the URL that the server has its metrics and profiles below, empty if it has none.
func (c *caller) measuring() string {
	found := measuring.FindStringSubmatch(c.log.String())
	if found == nil {
		return ""
	}
	return found[1]
}

func (g *gauge) close() error { return g.db.Close() }

// look has the server collect its garbage before it counts.
func (g *gauge) look(ctx context.Context, began time.Time) (s sample, err error) {
	s.At = time.Since(began).Seconds()
	if _, err := g.get(ctx, "/debug/pprof/heap?gc=1&debug=1"); err != nil {
		return s, err
	}
	values, err := g.get(ctx, "/metrics")
	if err != nil {
		return s, err
	}
	s.Resident, s.Heap = values["process_resident_memory_bytes"]/mb, values["go_memstats_heap_alloc_bytes"]/mb
	s.Goroutines, s.Files = values["go_goroutines"], values["process_open_fds"]
	s.File, s.WAL = size(g.file), size(g.file+"-wal")
	counts := g.db.QueryRowContext(ctx, "SELECT (SELECT count(*) FROM deliveries), (SELECT count(*) FROM status_changes)")
	return s, counts.Scan(&s.Rows, &s.Changes)
}

// size is that of a file in MB, 0 if there is none.
func size(file string) float64 {
	info, err := os.Stat(file)
	if err != nil {
		return 0
	}
	return float64(info.Size()) / mb
}

// get returns the lines of an answer that are a name and a number.
func (g *gauge) get(ctx context.Context, path string) (map[string]float64, error) {
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, g.url+path, http.NoBody)
	if err != nil {
		return nil, err
	}
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		return nil, err
	}
	defer resp.Body.Close()
	if resp.StatusCode != http.StatusOK {
		return nil, fmt.Errorf("%s: %s", path, resp.Status)
	}
	values := map[string]float64{}
	lines := bufio.NewScanner(resp.Body)
	lines.Buffer(nil, mb)
	for lines.Scan() {
		name, number, _ := strings.Cut(lines.Text(), " ")
		if value, err := strconv.ParseFloat(number, 64); err == nil {
			values[name] = value
		}
	}
	return values, lines.Err()
}
