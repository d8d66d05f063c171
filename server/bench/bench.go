package main

import (
	"context"
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
type options struct{ binaries, engines, floors string }

// bench is what the workloads run in.
type bench struct {
	options
	dir      string // for what the workloads store
	out      io.Writer
	progress *lab.Progress
	began    time.Time
	started  []*engine
	wrong    []string // what happened and must never happen
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
		"engine": {o.engines, "sqlite postgres"}, "floor": {o.floors, "raw relay ledger none"},
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
	defer func() { err = errors.Join(err, b.stopEngines(), os.RemoveAll(b.dir)) }()
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

// program is a binary on an engine.
type program struct {
	*bench
	*engine
	binary string
}

// programs are all binaries on all engines that there are.
func (b *bench) programs(ctx context.Context) (all []program, err error) {
	engines, err := b.startEngines(ctx)
	for _, e := range engines {
		for binary := range strings.SplitSeq(b.binaries, ",") {
			all = append(all, program{b, e, binary})
		}
	}
	return all, err
}

// label is the part of a benchmark's name that says what it ran on.
func (p program) label() string {
	if !strings.Contains(p.binaries, ",") {
		return "on=" + p.name
	}
	return "on=" + p.name + "/binary=" + filepath.Base(p.binary)
}

// serve runs a function beside the program on a store, given by its URL, with further variables (NAME=VALUE).
func (p program) serve(ctx context.Context, url string, fn func(*caller) error, env ...string) error {
	s, err := lab.Start(ctx, p.binary, url, append(env, "AGENTEVENTS_LOG_LEVEL=warn")...)
	if err != nil {
		return err
	}
	if err = s.Ready(ctx); err == nil {
		var c *caller
		if c, err = newCaller(s, url); err == nil {
			err = fn(c)
		}
	}
	return s.Explain(errors.Join(err, s.Stop()))
}

// prepare makes a store by a function beside the program. The rounds use copies of it, so that each begins with the
// same data, and with a program that has nothing in memory of the round before.
func (p program) prepare(ctx context.Context, fn func(*caller) error) (url string, err error) {
	if url, err = p.create(ctx); err != nil {
		return "", err
	}
	return url, p.serve(ctx, url, fn)
}

// round runs a function beside the program on a copy of such a store.
func (p program) round(ctx context.Context, store string, fn func(*caller) error, env ...string) (err error) {
	url, err := p.copy(ctx, store)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, p.drop(context.WithoutCancel(ctx), url)) }()
	return p.serve(ctx, url, fn, env...)
}
