package main

import (
	"context"
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"io"
	"os"
	"os/signal"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"syscall"
	"time"

	"golang.org/x/term"
)

// workload is one thing to measure.
type workload interface {
	name() string
	flags(f *flag.FlagSet)
	run(ctx context.Context, h *house) (*report, error)
}

func workloads() []workload {
	return []workload{&burst{}, &steady{}, &shift{}, &fanout{}, &pending{}, &api{}, &isolation{}, &backlog{}, &soak{}, &large{}}
}

func main() {
	if play(os.Args[1:], os.Stdin, os.Stdout) {
		return
	}
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM, syscall.SIGHUP)
	defer stop()
	err := run(ctx, os.Args[1:], os.Stdout, os.Stderr)
	if err != nil && !errors.Is(err, flag.ErrHelp) {
		fmt.Fprintln(os.Stderr, "\nbench:", err)
		os.Exit(1) //nolint:gocritic // the process ends, and with it what stop would undo
	}
}

// run measures what the arguments ask for and leaves nothing behind but the results.
func run(ctx context.Context, args []string, stdout, stderr io.Writer) (err error) {
	all := workloads()
	flags := flag.NewFlagSet("bench", flag.ContinueOnError)
	flags.SetOutput(stderr)
	binary := flags.String("binary", "bin/agentevents", "the `program` that is measured")
	file := flags.String("json", "", "the `file` that the results are written to as JSON")
	picture := flags.String("picture", "", "the `file` for a picture (SVG) of how long burst and steady took")
	engines := flags.String("engines", sqliteName+","+postgresName, "the `stores` of what is held against floors, and of growth")
	rounds := flags.Int("rounds", 3, "how many `rounds` of that")
	profiles := flags.String("profile", "", "the `directory` for the program's profiles under these, for which it is a little slower")
	for _, w := range all {
		w.flags(flags)
	}
	if err := flags.Parse(args); err != nil {
		return err
	}
	wanted, err := pick(all, flags.Args())
	if err != nil {
		return err
	}
	h := &house{binary: *binary, out: stdout, began: time.Now(), repeats: *rounds, profiles: *profiles, terminal: terminal(stdout)}
	if h.wanted, err = parseEngines(*engines); err != nil {
		return err
	}
	return h.open(ctx, func() error { return measureAll(ctx, h, wanted, *file, *picture) })
}

func terminal(w io.Writer) bool {
	f, ok := w.(*os.File)
	return ok && term.IsTerminal(int(f.Fd()))
}

// pick returns the workloads of some names, or if there are none all but growth, which takes very much of time and disk.
func pick(all []workload, names []string) (wanted []workload, err error) {
	if len(names) == 0 {
		return slices.DeleteFunc(all, func(w workload) bool { return w.name() == (*large)(nil).name() }), nil
	}
	for _, name := range names {
		i := slices.IndexFunc(all, func(w workload) bool { return w.name() == name })
		if i < 0 {
			return nil, fmt.Errorf("there is no workload %q", name)
		}
		wanted = append(wanted, all[i])
	}
	return wanted, nil
}

// measureAll runs the workloads one after the other, and says at the end what each has found.
func measureAll(ctx context.Context, h *house, wanted []workload, file, picture string) error {
	all := results{At: time.Now().UTC(), System: system()}
	for _, w := range wanted {
		r, err := w.run(ctx, h)
		if ctx.Err() != nil {
			return errors.New("interrupted")
		}
		if err != nil {
			return fmt.Errorf("%s: %w", w.name(), err)
		}
		all.Reports = append(all.Reports, r)
	}
	fmt.Fprintf(h.out, "\n%s\n", all.System)
	for _, r := range all.Reports {
		r.print(h.out)
	}
	all.printTargets(h.out)
	return errors.Join(all.write(file), all.picture(picture, (*burst)(nil).name(), (*steady)(nil).name()), all.wrong())
}

// results are what is written as JSON.
type results struct {
	At      time.Time `json:"at"`
	System  string    `json:"system"`
	Reports []*report `json:"reports"`
}

func system() string {
	return fmt.Sprintf("%s/%s, %d CPUs for all processes, %s", runtime.GOOS, runtime.GOARCH, runtime.NumCPU(), runtime.Version())
}

func (r results) write(file string) error {
	if file == "" {
		return nil
	}
	text, err := json.MarshalIndent(r, "", "  ")
	if err != nil {
		return err
	}
	return os.WriteFile(filepath.Clean(file), append(text, '\n'), 0o600)
}

// wrong is an error if anything happened that must never happen.
func (r results) wrong() error {
	var all []string
	for _, report := range r.Reports {
		for _, w := range report.Wrong {
			all = append(all, report.Workload+": "+w)
		}
	}
	if len(all) == 0 {
		return nil
	}
	return errors.New("this must never happen:\n" + strings.Join(all, "\n"))
}
