package main

import (
	"fmt"
	"io"
	"os"
	"text/tabwriter"
	"time"
)

// mostFaults is how many faults are printed.
const mostFaults = 30

// isTerminal says whether somebody looks on.
func isTerminal(f *os.File) bool {
	info, err := f.Stat()
	return err == nil && info.Mode()&os.ModeCharDevice != 0 && os.Getenv("TERM") != "dumb"
}

// printer tells how it goes.
type printer struct {
	w        io.Writer
	terminal bool
	cycles   int
}

// begin says what it takes to play the same again, as far as timing allows.
func (p *printer) begin(o options) {
	fmt.Fprintf(p.w, "crash -cycles %d -seed %d -agents %d -registrations %d\n", o.cycles, o.seed, o.agents, o.registrations)
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

// end prints the table.
func (p *printer) end(t total) {
	if p.terminal {
		fmt.Fprint(p.w, "\r\x1b[K")
	}
	table := tabwriter.NewWriter(p.w, 0, 0, 2, ' ', tabwriter.AlignRight)
	row := func(what string, n any) { fmt.Fprintf(table, "%s\t%v\t\n", what, n) }
	row("cycles", t.cycles)
	for m := range moments {
		row(fmt.Sprintf("killed %v", m), t.kills[m])
	}
	row("changes of registrations", t.amended)
	row("changes answered 200", t.answered)
	row("changes in doubt", t.doubtful)
	row("of these found stored", t.stored)
	row("requests arrived", t.requests)
	row("retries that a receiver had asked for", t.retries)
	row("duplicates, each over a kill", t.duplicates)
	row("held at a kill and waited for", t.cutOff)
	row("these came again after at most", t.longest.Round(time.Millisecond))
	for k := range kinds {
		row(k.String(), t.count(k))
	}
	row("seconds", fmt.Sprintf("%.1f", t.took.Seconds()))
	_ = table.Flush() // nothing could be done about it
	p.faults(t.faults)
}

func (p *printer) faults(all []fault) {
	for _, f := range all[:min(len(all), mostFaults)] {
		fmt.Fprintf(p.w, "%s: %s\n", f.kind, f.text)
	}
	if len(all) > mostFaults {
		fmt.Fprintf(p.w, "and %d more\n", len(all)-mostFaults)
	}
}
