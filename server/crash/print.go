package main

import (
	"fmt"
	"io"
	"os"
	"text/tabwriter"
	"time"

	"golang.org/x/term"
)

// mostFaults is how many faults are printed.
const mostFaults = 30

// isTerminal says whether somebody looks on.
func isTerminal(f *os.File) bool {
	return term.IsTerminal(int(f.Fd())) && os.Getenv("TERM") != "dumb"
}

// printer tells how it goes.
type printer struct {
	w        io.Writer
	terminal bool
	cycles   int
}

// begin says what it takes to play the same again, as far as timing allows.
func (p *printer) begin(o options) {
	how := fmt.Sprintf("-cycles %d", o.cycles)
	if o.replicas > 0 {
		how = fmt.Sprintf("-replicas %d -lasts %v", o.replicas, o.lasts)
	}
	fmt.Fprintf(p.w, "crash %s -seed %d -agents %d -registrations %d\n", how, o.seed, o.agents, o.registrations)
}

// progress says how far it is: on a terminal always, in one line, and else ten times in all.
func (p *printer) progress(cycle int, m moment, changes, requests int) {
	text := fmt.Sprintf("cycle %d of %d, killed %s; so far %d changes, %d requests", cycle, p.cycles, m, changes, requests)
	switch {
	case p.terminal:
		fmt.Fprintf(p.w, "\r\x1b[K%s", text)
	case cycle%max(1, p.cycles/10) == 0:
		fmt.Fprintln(p.w, text)
	}
}

// passing says how far replicas are.
func (p *printer) passing(since, lasts time.Duration, b blow, changes, requests int) {
	text := fmt.Sprintf("%.0f of %.0f seconds, last %s; so far %d changes, %d requests", since.Seconds(), lasts.Seconds(), b, changes, requests)
	if p.terminal {
		fmt.Fprintf(p.w, "\r\x1b[K%s", text)
	} else {
		fmt.Fprintln(p.w, text)
	}
}

// row is one of the table.
type row struct {
	what string
	n    any
}

// end prints the table.
func (p *printer) end(rows []row, faults []fault) {
	if p.terminal {
		fmt.Fprint(p.w, "\r\x1b[K")
	}
	table := tabwriter.NewWriter(p.w, 0, 0, 2, ' ', tabwriter.AlignRight)
	for _, r := range rows {
		fmt.Fprintf(table, "%s\t%v\t\n", r.what, r.n)
	}
	_ = table.Flush() // nothing could be done about it
	p.faults(faults)
}

// rows are those of every run.
func (t total) rows() []row {
	return []row{
		{"changes of registrations", t.amended},
		{"changes answered 200", t.answered},
		{"changes in doubt", t.doubtful},
		{"of these found stored", t.stored},
		{"requests arrived", t.requests},
		{"retries that a receiver had asked for", t.retries},
	}
}

// last are the last rows: what was promised and not kept.
func (t total) last(promises ...kind) (rows []row) {
	for _, k := range promises {
		rows = append(rows, row{k.String(), t.count(k)})
	}
	return append(rows, row{"seconds", fmt.Sprintf("%.1f", t.took.Seconds())})
}

// rows tell what a run came to.
func (c *crash) rows(t total) []row {
	rows := []row{{"cycles", c.cycles}}
	for m := range moments {
		rows = append(rows, row{fmt.Sprintf("killed %v", m), c.kills[m]})
	}
	rows = append(append(append(rows, t.rows()...), t.outageRows()...),
		row{"duplicates, each over a kill", t.duplicates},
		row{"held at a kill and waited for", c.cutOff},
		row{"these came again after at most", c.longest.Round(time.Millisecond)})
	return append(rows, t.last(lost, disorder, needless, mismatched, late, overdue, complaint)...)
}

func (p *printer) faults(all []fault) {
	for _, f := range all[:min(len(all), mostFaults)] {
		fmt.Fprintf(p.w, "%s: %s\n", f.kind, f.text)
	}
	if len(all) > mostFaults {
		fmt.Fprintf(p.w, "and %d more\n", len(all)-mostFaults)
	}
}
