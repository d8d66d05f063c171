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
)

// Kinds of faults beside those of the lab.
const (
	late      lab.Kind = "late after a start"               // what was in flight at a kill was not sent at once
	overdue   lab.Kind = "late to a receiver that was back" // what was pending for it has waited for too long
	complaint lab.Kind = "complaints"                       // the server says itself that something is wrong
)

// What a tally counts beside faults and outages.
const (
	amended   = "changes of registrations"
	answered  = "changes answered 200"
	doubtful  = "changes in doubt"
	stored    = "of these found stored"
	refused   = "requests answered 503"
	heldTwice = "held at a kill and waited for"
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

// complain notes what servers printed that they should never have to. Errors of the database may happen to replicas, and
// the safety net has to find each lane that was damaged.
func (c *crash) complain() {
	damaged := int(c.damaged.Load())
	for _, r := range c.replicas {
		for _, log := range r.logs {
			for line := range strings.SplitSeq(log.String(), "\n") {
				repaired := strings.Contains(line, "lanes mended")
				if repaired && damaged > 0 {
					damaged--
				} else if repaired || strings.Contains(line, "panic") || strings.Contains(line, "DATA RACE") ||
					c.single() && strings.Contains(line, "level=ERROR") {
					c.record.Wrong(complaint, "server %d printed: %s", r.number, line)
				}
			}
		}
	}
}

// judge compares everything that was promised with everything that has arrived.
func (c *crash) judge() lab.Verdict {
	h, found := c.record.Close()
	v := lab.Check(h, c.rules())
	v.Faults = append(found, v.Faults...)
	return v
}

// rules say which deliveries may come again.
func (c *crash) rules() lab.Rules {
	return lab.Rules{
		Excused: func(before, again *lab.Arrival) bool {
			late := c.timeouts[attempt{before.ID, before.Attempt}] && again.Attempt == before.Attempt+1
			return late || c.timeline.excuses(before, again)
		},
		Recounted: !c.single(),
		Unseen:    c.timeline.closedPort,
	}
}

// report prints what has happened and what was found. Any fault is an error.
func (c *crash) report(took time.Duration) error {
	v := c.judge()
	var out strings.Builder
	table := tabwriter.NewWriter(&out, 0, 0, 2, ' ', tabwriter.AlignRight)
	row := func(what string, n any) { fmt.Fprintf(table, "%s\t%v\t\n", what, n) }
	for _, f := range faults() {
		if f.count(c.single(), c.database.cluster != nil) > 0 {
			row(f.name, c.tally.of(f.name))
		}
	}
	for m := closed; m < modes; m++ {
		row(m.String(), c.tally.of(m.String()))
	}
	for _, what := range []string{amended, answered, doubtful, stored, refused, heldTwice} {
		row(what, c.tally.of(what))
	}
	row("the longest of these came again after", c.longestAgain.Round(time.Millisecond))
	row("requests arrived", c.record.Count())
	row("changes that each follower of the feed saw", len(c.followers[0].seen))
	row("retries that a receiver had asked for", v.Retries)
	row("duplicates, each with an excuse", v.Duplicates)
	row("lanes that waited at a return", c.waits.count)
	row("the longest of them waited for", c.waits.longest.Round(time.Millisecond))
	for _, k := range []lab.Kind{lab.Lost, lab.Disorder, lab.Needless, lab.Mismatched, late, overdue, complaint} {
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

func list(faults []lab.Fault) string {
	var s strings.Builder
	for _, f := range faults[:min(len(faults), maxFaults)] {
		fmt.Fprintf(&s, "%s: %s\n", f.Kind, f.Text)
	}
	if len(faults) > maxFaults {
		fmt.Fprintf(&s, "and %d more\n", len(faults)-maxFaults)
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
