package main

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"text/tabwriter"
	"time"

	"github.com/agentevents/agentevents/server/lab"
	"github.com/agentevents/agentevents/store/benchfill"
)

// Kinds of faults that Check does not find.
const (
	lateStart lab.Kind = "late after a start"               // what was in flight at a kill was not sent at once
	overdue   lab.Kind = "late to a receiver that was back" // what was pending for it has waited for too long
	complaint lab.Kind = "complaints"                       // the server says itself that something is wrong
)

// What a tally counts, in the order of the report, after faults and outages.
const (
	amended     = "changes of registrations"
	statusSet   = "changes answered 200"
	doubtful    = "changes in doubt"
	foundStored = "of these found stored"
	unavailable = "requests answered 503"
	heldTwice   = "held at a kill and waited for"
	laneDamaged = "lanes damaged"
)

// tally counts what has happened.
type tally struct {
	mu sync.Mutex
	n  map[string]int
}

func (t *tally) add(what string, n int) {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.n[what] += n
}

func (t *tally) of(what string) int {
	t.mu.Lock()
	defer t.mu.Unlock()
	return t.n[what]
}

// rules say which deliveries may come again.
func (c *crash) rules() lab.Rules {
	return lab.Rules{
		Excused: func(before, again *lab.Arrival) bool {
			failed := benchfill.Attempt{WebhookID: before.ID, Number: before.Attempt}
			late := c.timeouts[failed] && again.Attempt == before.Attempt+1
			return late || c.timeline.excuses(before, again)
		},
		Recounted: !c.single(),
		Unseen:    c.timeline.closedPort,
	}
}

// report compares everything that was promised with everything that has arrived, and prints what has happened and what
// was found. Any fault is an error.
func (c *crash) report(took time.Duration) error {
	h, found := c.record.Close()
	v := lab.Check(h, c.rules())
	v.Faults = append(found, v.Faults...)
	var out strings.Builder
	table := tabwriter.NewWriter(&out, 0, 0, 2, ' ', tabwriter.AlignRight)
	row := func(what string, n any) { fmt.Fprintf(table, "%s\t%v\t\n", what, n) }
	counted := []string{}
	for _, f := range faults() {
		if f.count(c.single(), c.database.cluster != nil) > 0 {
			counted = append(counted, f.name)
		}
	}
	for m := closed; m < modes; m++ {
		counted = append(counted, m.String())
	}
	for _, what := range append(counted, amended, statusSet, doubtful, foundStored, unavailable, heldTwice) {
		row(what, c.tally.of(what))
	}
	row("the longest of these came again after", c.longestAgain.Round(time.Millisecond))
	row("requests arrived", len(h.Arrivals))
	row("changes that each follower of the feed saw", len(c.followers[0].seen))
	row("retries that a receiver had asked for", v.Retries)
	row("duplicates, each with an excuse", v.Duplicates)
	row("lanes that waited at a return", c.waits.count)
	row("the longest of them waited for", c.waits.longest.Round(time.Millisecond))
	for _, k := range []lab.Kind{lab.Lost, lab.Disorder, lab.Needless, lab.Mismatched, lateStart, overdue, complaint} {
		row(string(k), v.Count(k))
	}
	row("seconds", fmt.Sprintf("%.1f", took.Seconds()))
	_ = table.Flush() // into memory
	c.out.Print("%s%s", out.String(), list(v.Faults))
	if len(v.Faults) > 0 {
		return errors.New("what was promised was not kept")
	}
	return nil
}

// maxFaults is how many faults are printed.
const maxFaults = 30

func list(all []lab.Fault) string {
	var s strings.Builder
	for _, f := range all[:min(len(all), maxFaults)] {
		fmt.Fprintf(&s, "%s: %s\n", f.Kind, f.Text)
	}
	if len(all) > maxFaults {
		fmt.Fprintf(&s, "and %d more\n", len(all)-maxFaults)
	}
	return s.String()
}

// leaveLogs writes what has happened to where the store is left.
func (c *crash) leaveLogs() error {
	err := os.WriteFile(filepath.Join(c.dir, "troubles.log"), []byte(c.timeline.String()), 0o600)
	for _, r := range c.replicas {
		for i, log := range r.logs {
			name := filepath.Join(c.dir, fmt.Sprintf("server-%d-%d.log", r.number, i+1))
			err = errors.Join(err, os.WriteFile(name, []byte(log.String()), 0o600))
		}
	}
	return err
}
