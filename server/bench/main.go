package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"os"
	"os/signal"
	"runtime"
	"strings"
	"syscall"
)

func main() {
	if serveRelay() {
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

// run measures what the arguments ask for, and leaves nothing behind but the results on stdout.
func run(ctx context.Context, args []string, stdout, stderr io.Writer) error {
	o, chosen, err := parse(args, stderr)
	if err != nil {
		return err
	}
	b := newBench(o, stdout, stderr)
	return b.open(func() error {
		// benchstat shows this above its tables.
		fmt.Fprintf(stdout, "goos: %s\ngoarch: %s\npkg: github.com/agentevents/agentevents/server/bench\ncpus: %d\n",
			runtime.GOOS, runtime.GOARCH, runtime.NumCPU())
		for _, w := range chosen {
			err := b.measure(ctx, w)
			if ctx.Err() != nil {
				return errors.New("interrupted")
			}
			if err != nil {
				return fmt.Errorf("%s: %w", w.name, err)
			}
		}
		if len(b.wrong) > 0 {
			return errors.New("this must never happen:\n" + strings.Join(b.wrong, "\n"))
		}
		return nil
	})
}
