// Crash kills the program (kill -9) again and again at random moments: while statuses change and deliveries are in
// flight, while registrations are moved, disabled and deleted, while it starts, while it stops. After each kill it is
// started again on the same store. In the end everything that was promised is held against everything that has
// arrived; what is lost, out of order, or came twice without need is told, and makes the exit code 1.
//
//	go run ./server/crash -binary bin/agentevents -cycles 300
//
// Agents are of two sorts. Nobody touches the registrations of the plain ones: each of their lanes is judged request by
// request. Those of the busy ones change all the time: nothing may be lost but what a deletion has cancelled, and each
// registration is judged as a lane is, wherever it moves.
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"math/rand/v2"
	"os"
	"os/signal"
	"syscall"
	"time"
)

// patience is how long anything may take that normally takes milliseconds.
const patience = 20 * time.Second

// options are what a run is made of.
type options struct {
	binary        string
	cycles        int
	seed          uint64
	agents        int // plain ones; a quarter as many are busy
	registrations int // of each plain agent, for each of the two types of event
}

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM, syscall.SIGHUP)
	defer stop()
	err := run(ctx, os.Args[1:], os.Stdout, os.Stderr, isTerminal(os.Stdout))
	if err != nil && !errors.Is(err, flag.ErrHelp) {
		fmt.Fprintln(os.Stderr, "\ncrash:", err)
		os.Exit(1) //nolint:gocritic // the process ends, and with it what stop would undo
	}
}

// parse reads the command line.
func parse(args []string, stderr io.Writer) (o options, err error) {
	flags := flag.NewFlagSet("crash", flag.ContinueOnError)
	flags.SetOutput(stderr)
	flags.StringVar(&o.binary, "binary", "bin/agentevents", "the `program` that is killed")
	flags.IntVar(&o.cycles, "cycles", 300, "how often it is killed")
	flags.Uint64Var(&o.seed, "seed", 0, "what decides about the moments and the load; 0 takes one at random")
	flags.IntVar(&o.agents, "agents", 16, "agents whose registrations stay as they are; a quarter as many have others")
	flags.IntVar(&o.registrations, "registrations", 3, "registrations of such an agent for login, and as many for logout")
	if err := flags.Parse(args); err != nil {
		return o, err
	}
	if o.seed == 0 {
		o.seed = rand.Uint64N(1_000_000-1) + 1
	}
	if o.cycles < 1 || o.registrations < 1 || o.agents < 4 || o.agents >= firstBusy {
		return o, fmt.Errorf("cycles and registrations must be at least 1, agents from 4 to %d", firstBusy-1)
	}
	return o, nil
}

// run plays all cycles and prints the verdict. The store is left for whoever wants to look at it when anything is wrong.
func run(ctx context.Context, args []string, stdout, stderr io.Writer, terminal bool) error {
	o, err := parse(args, stderr)
	if err != nil {
		return err
	}
	dir, err := os.MkdirTemp("", "agentevents-crash-")
	if err != nil {
		return err
	}
	out := &printer{w: stdout, terminal: terminal, cycles: o.cycles}
	out.begin(o)
	err = play(ctx, o, dir, out)
	if ctx.Err() != nil {
		err = errors.New("interrupted")
	} else if err != nil {
		return fmt.Errorf("%w\nthe store is left in %s; the seed was %d", err, dir, o.seed)
	}
	return errors.Join(err, os.RemoveAll(dir))
}

// play runs the receivers around the cycles and judges what has come of them.
func play(ctx context.Context, o options, dir string, out *printer) error {
	began := time.Now()
	c, err := newCrash(o, dir, out)
	if err != nil {
		return err
	}
	defer c.close()
	if err := c.run(ctx); err != nil {
		return err
	}
	t := c.book.total()
	t.cycles, t.kills, t.cutOff, t.longest, t.took = o.cycles, c.kills, c.cutOff, c.longest, time.Since(began)
	out.end(t)
	if len(t.faults) > 0 {
		return errors.New("what was promised was not kept")
	}
	return nil
}
