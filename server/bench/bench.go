package main

import (
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"github.com/agentevents/agentevents/server/lab"
)

// options are what the command line says of all workloads.
type options struct{ binaries, onEngines, floors string }

// bench is what the workloads run in.
type bench struct {
	options
	dir      string // for what the workloads store
	out      io.Writer
	progress *lab.Progress
	began    time.Time
	engines  []*engine // that were started
	wrong    []string  // what happened and must never happen
}

func newBench(o options, stdout, stderr io.Writer) *bench {
	terminal, _ := stderr.(*os.File)
	return &bench{options: o, out: stdout, began: time.Now(), progress: &lab.Progress{
		Out: stderr, Terminal: terminal != nil && lab.IsTerminal(terminal), Every: 10 * time.Second,
	}}
}

// check finds what is not known in the lists of options.
func (o options) check() error {
	for kind, list := range map[string][2]string{
		"engine": {o.onEngines, "sqlite postgres"}, "floor": {o.floors, "raw relay ledger none"},
	} {
		for name := range strings.SplitSeq(list[0], ",") {
			if !slices.Contains(strings.Fields(list[1]), name) {
				return fmt.Errorf("there is no %s %q", kind, name)
			}
		}
	}
	names := map[string]bool{}
	for path := range strings.SplitSeq(o.binaries, ",") {
		name := filepath.Base(path)
		if names[name] {
			return fmt.Errorf("two programs are called %q", name)
		}
		names[name] = true
	}
	return nil
}

// has says whether a floor is asked for.
func (o options) has(floor string) bool { return slices.Contains(strings.Split(o.floors, ","), floor) }

// open runs a function with a directory that is removed afterwards, and stops the databases that it has started.
func (b *bench) open(fn func() error) (err error) {
	if b.dir, err = os.MkdirTemp("", "agentevents-bench-"); err != nil {
		return err
	}
	defer func() {
		for _, e := range b.engines {
			err = errors.Join(err, e.Stop())
		}
		err = errors.Join(err, os.RemoveAll(b.dir))
	}()
	return fn()
}

// say prints a line of progress that stays.
func (b *bench) say(format string, args ...any) {
	b.progress.Print("%5.0f s  %s\n", time.Since(b.began).Seconds(), fmt.Sprintf(format, args...))
}

// show shows a state that the next one may overwrite.
func (b *bench) show(format string, args ...any) {
	b.progress.Show("%5.0f s  %s", time.Since(b.began).Seconds(), fmt.Sprintf(format, args...))
}

// neverIf notes a fault unless it did not happen.
func (b *bench) neverIf(happened bool, format string, args ...any) {
	if happened {
		b.wrong = append(b.wrong, fmt.Sprintf(format, args...))
	}
}
