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

// Main runs a program until it is done or a signal interrupts it. An error is printed, and makes the exit code 1.
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
	os.Exit(1) //nolint:gocritic // the process ends, and with it what stop would undo
}

// Pause waits for a time, or returns why ctx has ended before.
func Pause(ctx context.Context, d time.Duration) error {
	select {
	case <-time.After(d):
		return nil
	case <-ctx.Done():
		return context.Cause(ctx)
	}
}

// ErrLate says that what was waited for did not happen in time.
var ErrLate = errors.New("what was waited for did not happen in time")

// Until waits until something is so, and looks every millisecond. The error is ErrLate after the limit, or why ctx has
// ended before.
func Until(ctx context.Context, limit time.Duration, so func() bool) error {
	for began := time.Now(); !so(); {
		if time.Since(began) > limit {
			return ErrLate
		}
		if err := Pause(ctx, time.Millisecond); err != nil {
			return err
		}
	}
	return nil
}

// Progress shows now and then how far a program is.
type Progress struct {
	Out   io.Writer
	Every time.Duration // the least time between two states

	mu    sync.Mutex
	shown time.Time
}

// Show prints a state in a line, unless one was shown shortly before.
func (p *Progress) Show(format string, args ...any) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if time.Since(p.shown) >= p.Every {
		p.shown = time.Now()
		fmt.Fprintf(p.Out, format+"\n", args...)
	}
}

// Print prints text in any case.
func (p *Progress) Print(format string, args ...any) {
	p.mu.Lock()
	defer p.mu.Unlock()
	fmt.Fprintf(p.Out, format, args...)
}
