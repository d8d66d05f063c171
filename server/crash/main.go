// Crash kills the program (kill -9) again and again at random moments: while statuses change and deliveries are in
// flight, while registrations are moved, disabled and deleted, while it starts, while it stops. After each kill it is
// started again on the same store. In the end everything that was promised is held against everything that has
// arrived; what is lost, out of order, or came twice without need is told, and makes the exit code 1.
//
//	go run ./server/crash -binary bin/agentevents -cycles 300
//
// With -replicas that many servers share one PostgreSQL database, for a time (-lasts), and troubles come over them and over
// it at random: kill -9, a stop in order, SIGSTOP for less than a lease, about one and more than one, a network that
// swallows what goes to the database and back, connections that are ended, a restart and a crash of PostgreSQL. A request
// may come again only after such trouble of its sender or of the database. Whoever follows the feed sees each change once
// and in order, whichever replica is asked.
//
//	go run ./server/crash -binary bin/agentevents -replicas 3 -lasts 3m
//
// Two of the three receivers go away again and again, for some seconds: the port of one is closed, or it answers
// nothing, or 5xx. What is pending for a receiver that is back has to be sent within the bound that the README gives,
// from the delays that the outage was long enough for; time in which nothing could be sent does not count.
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

	replicas int           // 0 for one server on SQLite
	lasts    time.Duration // how long there are troubles
	postgres string        // URL of the database server; empty for a private one
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
	flags.IntVar(&o.replicas, "replicas", 0, "replicas on PostgreSQL, from 2 to 4; 0 for one server on SQLite")
	flags.DurationVar(&o.lasts, "lasts", 3*time.Minute, "how long replicas are in trouble")
	flags.StringVar(&o.postgres, "postgres", "", "`URL` of a PostgreSQL server to make a database in; without it, one is started, and restarted")
	if err := flags.Parse(args); err != nil {
		return o, err
	}
	if o.seed == 0 {
		o.seed = rand.Uint64N(1_000_000-1) + 1
	}
	if o.cycles < 1 || o.registrations < 1 || o.agents < 4 || o.agents >= firstBusy {
		return o, fmt.Errorf("cycles and registrations must be at least 1, agents from 4 to %d", firstBusy-1)
	}
	if o.replicas != 0 && (o.replicas < 2 || o.replicas > 4 || o.lasts <= 0) {
		return o, errors.New("replicas must be from 2 to 4, or 0 for one server, and last for a while")
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
	s, err := newScene(o, out)
	if err != nil {
		return err
	}
	defer s.close()
	how := o.way(s, dir)
	if err := how.run(ctx); err != nil {
		return err
	}
	t := s.book.total(how.rules())
	t.took = time.Since(began)
	out.end(how.rows(t), t.faults)
	if len(t.faults) > 0 {
		return errors.New("what was promised was not kept")
	}
	return nil
}

// way is how a program is put to the test.
type way interface {
	run(ctx context.Context) error
	rules() rules
	rows(t total) []row
}

func (o options) way(s *scene, dir string) way {
	if o.replicas > 0 {
		return newFleet(s, dir)
	}
	return &crash{scene: s, dir: dir, kills: map[moment]int{}}
}
