package lab

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"os"
	"os/signal"
	"sync"
	"syscall"
	"time"
)

// Main runs a program until it returns or a signal interrupts it. After an error, it prints the error and exits with 1.
func Main(name string, run func(ctx context.Context, args []string, stdout, stderr io.Writer) error) {
	ctx, stop := signal.NotifyContext(context.Background(),
		os.Interrupt, syscall.SIGTERM, syscall.SIGHUP, syscall.SIGPIPE)
	defer stop()
	err := run(ctx, os.Args[1:], os.Stdout, os.Stderr)
	if err == nil || errors.Is(err, flag.ErrHelp) {
		return
	}
	if ctx.Err() != nil {
		err = errors.New("interrupted")
	}
	fmt.Fprintf(os.Stderr, "\n%s: %v\n", name, err)
	os.Exit(1) //nolint:gocritic // the process ends without stop
}

// Pause waits for a duration. If ctx ends before, it returns the cause.
func Pause(ctx context.Context, d time.Duration) error {
	select {
	case <-time.After(d):
		return nil
	case <-ctx.Done():
		return context.Cause(ctx)
	}
}

// ErrLate reports that a condition did not hold in time.
var ErrLate = errors.New("the condition did not hold in time")

// Until waits until a condition holds. It checks the condition every millisecond. The error is ErrLate after the limit,
// or the cause of the end of ctx.
func Until(ctx context.Context, limit time.Duration, holds func() bool) error {
	for began := time.Now(); !holds(); {
		if time.Since(began) > limit {
			return ErrLate
		}
		if err := Pause(ctx, time.Millisecond); err != nil {
			return err
		}
	}
	return nil
}

// Progress prints the state of a program at intervals.
type Progress struct {
	Out   io.Writer
	Every time.Duration // minimum time between two states

	mu    sync.Mutex
	shown time.Time
}

// Show prints a state in a line, unless it printed one within Every.
func (p *Progress) Show(format string, args ...any) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if time.Since(p.shown) >= p.Every {
		p.shown = time.Now()
		fmt.Fprintf(p.Out, format+"\n", args...)
	}
}

// Print prints text, without a limit.
func (p *Progress) Print(format string, args ...any) {
	p.mu.Lock()
	defer p.mu.Unlock()
	fmt.Fprintf(p.Out, format, args...)
}
