// Crash has faults happen to the program again and again at random moments, while statuses change and deliveries are in
// flight, while registrations are moved, disabled and deleted. In the end every delivery that was promised is compared
// with every request that has arrived. What is lost, out of order, late, or came twice without an excuse is printed,
// and makes the exit code 1.
//
//	go run ./server/crash -binary bin/agentevents -cycles 300
//	go run ./server/crash -binary bin/agentevents -replicas 3 -lasts 3m
//
// The first is one server on SQLite, which is killed (kill -9) or stopped so often. The second are servers that share
// one PostgreSQL database, with more faults, for a time. The table in faults.go has all of them, and what each excuses.
//
// Two of the three receivers go away again and again for some seconds, see mode. What is pending for a receiver that is
// back has to be sent within the bound that the README gives, from the delays that the outage was long enough for; time
// in which nothing could be sent does not count. Followers of the feed must see each change once and in order.
//
// Agents are of two sorts. The registrations of plain agents stay as they are: each of their lanes is judged request by
// request. Those of busy agents change all the time: nothing may be lost but what a deletion has cancelled, and each
// registration keeps the order that a lane does, wherever it moves.
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

	"github.com/agentevents/agentevents/server/lab"
)

// options are what a run is made of.
type options struct {
	binary        string
	cycles        int // faults of the one server
	seed          uint64
	agents        int // plain ones; a quarter as many are busy
	registrations int // of each plain agent, for each of the two types of event

	replicas int           // 0 for one server on SQLite
	lasts    time.Duration // how long replicas have faults
	postgres string        // URL of the database server; empty for a private one
}

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM, syscall.SIGHUP)
	defer stop()
	err := run(ctx, os.Args[1:], os.Stdout, os.Stderr, lab.IsTerminal(os.Stdout))
	if err != nil && !errors.Is(err, flag.ErrHelp) {
		fmt.Fprintln(os.Stderr, "\ncrash:", err)
		os.Exit(1) //nolint:gocritic // the process ends, and with it what stop would undo
	}
}

// parse reads the command line.
func parse(args []string, stderr io.Writer) (o options, err error) {
	flags := flag.NewFlagSet("crash", flag.ContinueOnError)
	flags.SetOutput(stderr)
	flags.StringVar(&o.binary, "binary", "bin/agentevents", "the `program` to try")
	flags.IntVar(&o.cycles, "cycles", 300, "how many faults one server has")
	flags.Uint64Var(&o.seed, "seed", 0, "decides about faults and load; 0 takes one at random")
	flags.IntVar(&o.agents, "agents", 16, "agents whose registrations stay; a quarter as many have others")
	flags.IntVar(&o.registrations, "registrations", 3, "of such an agent for login, and as many for logout")
	flags.IntVar(&o.replicas, "replicas", 0, "on PostgreSQL, from 2 to 4; 0 for one server on SQLite")
	flags.DurationVar(&o.lasts, "lasts", 3*time.Minute, "how long replicas have faults")
	flags.StringVar(&o.postgres, "postgres", "", "`URL` of a PostgreSQL server; without it, a private one is started")
	if err := flags.Parse(args); err != nil {
		return o, err
	}
	if o.seed == 0 {
		o.seed = rand.Uint64N(1_000_000-1) + 1
	}
	switch {
	case o.cycles < 1 || o.registrations < 1 || o.agents < 4 || o.agents >= firstBusy:
		err = fmt.Errorf("cycles and registrations must be at least 1, agents from 4 to %d", firstBusy-1)
	case o.replicas != 0 && (o.replicas < 2 || o.replicas > 4 || o.lasts <= 0):
		err = errors.New("replicas must be from 2 to 4, or 0 for one server, and last for a while")
	}
	return o, err
}

// String says what it takes to play the same again, as far as timing allows.
func (o options) String() string {
	how := fmt.Sprintf("-cycles %d", o.cycles)
	if o.replicas > 0 {
		how = fmt.Sprintf("-replicas %d -lasts %v", o.replicas, o.lasts)
	}
	return fmt.Sprintf("crash %s -seed %d -agents %d -registrations %d", how, o.seed, o.agents, o.registrations)
}

// run runs the faults and prints the verdict. It leaves the store in a temporary directory when anything is wrong.
func run(ctx context.Context, args []string, stdout, stderr io.Writer, terminal bool) error {
	o, err := parse(args, stderr)
	if err != nil {
		return err
	}
	dir, err := os.MkdirTemp("", "agentevents-crash-")
	if err != nil {
		return err
	}
	out := &lab.Progress{Out: stdout, Terminal: terminal, Every: max(10*time.Second, o.lasts/10)}
	out.Print("%v\n", o)
	err = newCrash(o, dir, out).run(ctx)
	if ctx.Err() != nil {
		err = errors.New("interrupted")
	} else if err != nil {
		return fmt.Errorf("%w\nthe store is left in %s; the seed was %d", err, dir, o.seed)
	}
	return errors.Join(err, os.RemoveAll(dir))
}
