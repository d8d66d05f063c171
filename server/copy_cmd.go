package main

import (
	"context"
	"fmt"
	"io"
	"os"
	"time"

	"github.com/schollz/progressbar/v3"
	"golang.org/x/term"

	"github.com/agentevents/agentevents/store"
)

type copyCommand struct {
	From string `command:"" placeholder:"URL" required:"" help:"${copy_from}"`
	To   string `command:"" placeholder:"URL" required:"" help:"${copy_to}"`
}

func (c copyCommand) run(ctx context.Context, stdout, stderr io.Writer) error {
	p := progress{on: stderr, plain: !terminal(stderr)}
	err := store.CopyTo(ctx, c.From, c.To, p.show)
	p.end()
	if err != nil {
		return err
	}
	_, err = fmt.Fprintf(stdout, "%s is a verified copy of %s\n", store.Redacted(c.To), c.From)
	return err
}

// progress shows how many rows of a table are copied.
type progress struct {
	on    io.Writer
	plain bool // one line for each complete table, and no bar
	table string
	bar   *progressbar.ProgressBar
}

func (p *progress) show(c store.Copied) {
	if c.Restarted {
		fmt.Fprintln(p.on, "the database has a copy of another store, or the store has changed since: "+
			"deleting that copy and starting over")
		return
	}
	if p.plain {
		p.line(c)
		return
	}
	if c.Table != p.table {
		p.end()
		p.table = c.Table
		p.bar = progressbar.NewOptions64(max(c.Total, 1), progressbar.OptionSetWriter(p.on),
			progressbar.OptionShowCount(), progressbar.OptionSetPredictTime(true),
			progressbar.OptionSetDescription(fmt.Sprintf("%-14s", c.Table)),
			progressbar.OptionThrottle(100*time.Millisecond))
	}
	if c.Total == 0 {
		c.Done = 1
	}
	_ = p.bar.Set64(c.Done) // a bar that fails does not stop the copy
}

func (p *progress) line(c store.Copied) {
	if c.Done >= c.Total {
		fmt.Fprintf(p.on, "%-14s %d of %d rows\n", c.Table, c.Done, c.Total)
	}
}

// terminal reports whether w is a terminal.
func terminal(w io.Writer) bool {
	f, ok := w.(*os.File)
	return ok && term.IsTerminal(int(f.Fd()))
}

// end completes the line of the bar.
func (p *progress) end() {
	if p.bar != nil {
		_, _ = fmt.Fprintln(p.on)
	}
}
