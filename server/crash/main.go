// Crash injects faults into the program at random moments, while statuses change, deliveries are in flight, and events
// are moved, disabled and deleted. In the end it compares every delivery that was promised with every request that has
// arrived. What is lost, out of order, late, or came twice without an excuse is printed, and makes the exit code 1.
//
//	go run ./server/crash -binary bin/agentevents -cycles 300
//	go run ./server/crash -binary bin/agentevents -replicas 3 -lasts 3m
//
// The first runs one server on SQLite, which is killed (kill -9) or stopped so often. The second runs, for a time,
// servers that share a PostgreSQL database. The tables in faults.go list all faults, and what each excuses.
//
// Two of the three receivers have outages of some seconds. What is pending for a receiver that is back has to be sent
// within the bound that the delays of the breaker give, see timeline.go; time in which nothing could be sent does not
// count. Followers of the feed must see each change once and in order.
//
// Agents are of two sorts. The events of plain agents stay as they are: each of their lanes is judged request by
// request. Those of busy agents change all the time: nothing may be lost but what a deletion has cancelled, and each
// event keeps the order that a lane does, wherever it moves.
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"math/rand/v2"
	"net/http"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/agentevents/agentevents/gen"
	"github.com/agentevents/agentevents/server/lab"
	"github.com/agentevents/agentevents/store/benchfill"
)

// options are the flags.
type options struct {
	binary   string
	seed     uint64
	replicas int           // 0 for one server on SQLite
	cycles   int           // the least number of faults
	lasts    time.Duration // the least time with faults
	postgres string        // URL of the database server; empty for a private one
}

func main() { lab.Main("crash", run) }

func parse(args []string, stderr io.Writer) (o options, err error) {
	flags := flag.NewFlagSet("crash", flag.ContinueOnError)
	flags.SetOutput(stderr)
	flags.StringVar(&o.binary, "binary", "bin/agentevents", "the `program` to try")
	flags.Uint64Var(&o.seed, "seed", rand.Uint64N(1_000_000), "decides about faults and load; the default is random")
	flags.IntVar(&o.replicas, "replicas", 0, "on PostgreSQL, from 2 to 4; 0 for one server on SQLite")
	flags.IntVar(&o.cycles, "cycles", 0, "the least number of faults")
	flags.DurationVar(&o.lasts, "lasts", 0, "the least time with faults")
	flags.StringVar(&o.postgres, "postgres", "", "`URL` of a PostgreSQL server; without it, a private one is started")
	err = flags.Parse(args)
	switch {
	case err != nil:
	case o.cycles < 1 && o.lasts <= 0:
		err = errors.New("cycles must be at least 1, or lasts more than 0")
	case o.replicas != 0 && (o.replicas < 2 || o.replicas > 4):
		err = errors.New("replicas must be 0, for one server on SQLite, or from 2 to 4")
	}
	return o, err
}

// run injects faults and prints the verdict. It leaves the store in a temporary directory when anything is wrong.
func run(ctx context.Context, args []string, stdout, stderr io.Writer) error {
	o, err := parse(args, stderr)
	if err != nil {
		return err
	}
	dir, err := os.MkdirTemp("", "agentevents-crash-")
	if err != nil {
		return err
	}
	out := &lab.Progress{Out: stdout, Every: 10 * time.Second}
	out.Print("crash -replicas %d -cycles %d -lasts %v -seed %d\n", o.replicas, o.cycles, o.lasts, o.seed)
	if err = newCrash(o, dir, out).run(ctx); err != nil && ctx.Err() == nil {
		return fmt.Errorf("%w\nthe store is left in %s; the seed was %d", err, dir, o.seed)
	}
	return errors.Join(err, os.RemoveAll(dir))
}

const (
	// patience is how long anything may take that normally takes milliseconds.
	patience = 30 * time.Second
	// silence is how long nothing may arrive before what is still pending counts as lost: longer than a breaker, the
	// last delay and the safety net wait.
	silence = 75 * time.Second
)

// crash is a run: a database, the servers on it, and everything around them.
type crash struct {
	options
	dir      string
	out      *lab.Progress
	record   *lab.Record
	timeline timeline
	tally    tally
	database database
	faults   []fault        // that there can be
	closers  []func() error // of what was opened, in that order

	receivers []*receiver
	servers   []*replica // the only one, too
	followers []*follower
	transport http.Transport         // of requests to the servers
	token     atomic.Pointer[string] // of the operator, which any server issues and any takes

	cancel    context.CancelCauseFunc // ends the run with an error
	injecting sync.WaitGroup          // faults that are not undone
	receiving sync.WaitGroup          // outages of receivers
	writing   sync.WaitGroup          // writers
	reading   sync.WaitGroup          // followers
	over      atomic.Bool             // writers have done enough
	complete  atomic.Bool             // nothing is added to the feed any more

	startTook time.Duration              // the first start
	timeouts  map[benchfill.Attempt]bool // that the log knows of
}

func newCrash(o options, dir string, out *lab.Progress) *crash {
	c := &crash{options: o, dir: dir, out: out, record: lab.NewRecord(lineOf), tally: tally{n: map[string]int{}}}
	c.transport.MaxIdleConnsPerHost, c.transport.ResponseHeaderTimeout = 64, patience
	c.timeline.servers = max(1, o.replicas)
	return c
}

// single says whether there is one server, on SQLite.
func (c *crash) single() bool { return c.replicas == 0 }

// random returns what decides about one thing.
func (c *crash) random(thing int) *rand.Rand {
	return rand.New(rand.NewPCG(c.seed, uint64(thing))) //nolint:gosec // no secret, and from 0 on
}

// spawn runs a function as a goroutine of a group. Its error ends the run.
func (c *crash) spawn(group *sync.WaitGroup, f func() error) {
	group.Go(func() {
		if err := f(); err != nil {
			c.cancel(err)
		}
	})
}

// run runs everything, and judges the outcome.
func (c *crash) run(ctx context.Context) (err error) {
	ctx, c.cancel = context.WithCancelCause(ctx)
	phases := []func(context.Context) error{c.openDatabase, c.open, c.beginLoad, c.injectFaults, c.finish}
	for i := 0; i < len(phases) && err == nil; i++ {
		err = phases[i](ctx)
	}
	if cause := context.Cause(ctx); cause != nil {
		err = cause // what went wrong first
	}
	c.cancel(nil)
	if err := errors.Join(err, c.end()); err != nil {
		return err
	}
	return c.report()
}

// open opens the receivers and starts the servers, all at once: one of them makes the tables.
func (c *crash) open(ctx context.Context) error {
	if c.faults = sqliteFaults; !c.single() {
		c.faults = postgresFaults
	}
	if c.database.cluster != nil {
		c.faults = slices.Concat(c.faults, clusterFaults)
	}
	for number := range max(1, c.replicas) {
		r, err := newReplica(c, number+1)
		if err != nil {
			return err
		}
		c.servers = append(c.servers, r)
	}
	for number := range receivers {
		if err := c.openReceiver(number); err != nil {
			return err
		}
	}
	began := time.Now()
	for _, r := range c.servers {
		c.spawn(&c.injecting, func() error { return r.start(ctx) })
	}
	c.injecting.Wait()
	c.startTook = time.Since(began)
	return context.Cause(ctx)
}

// beginLoad creates the client, and starts what watches the servers, follows the feed and changes agents.
func (c *crash) beginLoad(ctx context.Context) error {
	_, err := lab.Call[any](ctx, c, http.StatusCreated, http.MethodPut, pbx, gen.ClientUpdate{})
	if err != nil {
		return err
	}
	go c.timeline.watch(ctx)
	for number := range 2 {
		f := &follower{crash: c, random: c.random(200 + number)}
		c.followers = append(c.followers, f)
		c.spawn(&c.reading, func() error { return f.follow(ctx) })
	}
	for number, group := range c.groups() {
		w := &writer{crash: c, random: c.random(100 + number), agents: group}
		c.spawn(&c.writing, func() error { return w.work(ctx) })
	}
	return nil
}

// finish lets the servers work in peace until everything that is pending has arrived, stops them in order, and looks at
// what they leave.
func (c *crash) finish(ctx context.Context) error {
	for _, r := range c.receivers {
		r.setMode(healthy)
		r.set(func() { r.refuses = false })
	}
	c.over.Store(true)
	c.writing.Wait()
	c.complete.Store(true)
	c.reading.Wait()
	var late error // if so, the check reports what is lost
	for left := c.record.Pending(); left > 0 && late == nil; left = c.record.Pending() {
		late = lab.Until(ctx, silence, func() bool { return c.record.Pending() < left })
	}
	for _, r := range c.servers {
		c.spawn(&c.injecting, func() error { return r.stop(ctx) })
	}
	c.injecting.Wait()
	c.checkLogs()
	stored, err := benchfill.ChangeIDs(ctx, c.database.DB)
	for _, f := range c.followers {
		f.compare(stored)
	}
	if err == nil {
		c.timeouts, err = benchfill.TimedOut(ctx, c.database.DB)
	}
	return errors.Join(context.Cause(ctx), err, c.settle(ctx), c.verify(ctx, c.database.url))
}

// settle waits until receivers have noted everything that servers have sent, of which none is left.
func (c *crash) settle(ctx context.Context) error {
	for _, r := range c.receivers {
		if err := r.Settle(ctx); err != nil {
			return err
		}
	}
	return nil
}

// await waits until something has happened. If it does not happen in time, that is a fault, and the run continues.
func (c *crash) await(ctx context.Context, what string, happened func() bool) error {
	err := lab.Until(ctx, patience, happened)
	if errors.Is(err, lab.ErrLate) {
		c.record.Wrong(overdue, "after %v there is not yet: %s", patience, what)
		return nil
	}
	return err
}

// end ends what still runs, and leaves the logs in the directory.
func (c *crash) end() (err error) {
	c.injecting.Wait() // what it starts is abandoned next
	for _, r := range c.servers {
		if s := r.life.Swap(nil); s != nil {
			err = errors.Join(err, ignoreEnd(s.Kill()))
		}
	}
	c.receiving.Wait()
	c.writing.Wait()
	c.reading.Wait()
	leave := func(name, text string) {
		err = errors.Join(err, os.WriteFile(filepath.Join(c.dir, name), []byte(text), 0o600))
	}
	leave("incidents.log", c.timeline.String())
	for _, r := range c.servers {
		leave(fmt.Sprintf("server-%d.log", r.number), r.log())
	}
	for _, closeIt := range slices.Backward(c.closers) {
		err = errors.Join(err, closeIt())
	}
	return err
}

const (
	// What a tally counts, in the order of the report, after faults and outages.
	statusSet   = "changes of status"
	doubtful    = "agents in doubt"
	cutOffAtEnd = "requests in flight when a server ended"
	laneDamaged = "lanes damaged"

	// Kinds of faults that Check does not find.
	overdue   lab.Kind = "late"       // it did not happen in time
	complaint lab.Kind = "complaints" // the server says itself that something is wrong
)

// tally counts what has happened.
type tally struct {
	mu sync.Mutex
	n  map[string]int
}

func (t *tally) add(what string, n int) (total int) {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.n[what] += n
	return t.n[what]
}

func (t *tally) of(what string) int { return t.add(what, 0) }

// report compares everything that was promised with everything that has arrived, and prints what has happened and what
// was found. Any fault is an error.
func (c *crash) report() error {
	h, found := c.record.Close()
	v := lab.Check(h, c.rules())
	for _, e := range c.timeline.judge(h) {
		v.Wrong(overdue, "%v", e)
	}
	v.Faults = append(found, v.Faults...)
	var out strings.Builder
	row := func(what string, n any) { fmt.Fprintf(&out, "%50s  %v\n", what, n) }
	for _, f := range c.faults {
		row(f.name, c.tally.of(f.name))
	}
	for _, m := range outages {
		row(string(m), c.tally.of(string(m)))
	}
	for _, what := range []string{statusSet, doubtful, cutOffAtEnd} {
		row(what, c.tally.of(what))
	}
	row("requests arrived", len(h.Arrivals))
	row("changes that each follower of the feed saw", len(c.followers[0].seen))
	row("retries that a receiver had asked for", v.Retries)
	row("duplicates, each with an excuse", v.Duplicates)
	row("lanes that waited at a return", c.timeline.count)
	row("the longest of them waited for", c.timeline.longest.Round(time.Millisecond))
	for _, k := range []lab.Kind{lab.Lost, lab.Disorder, lab.Needless, lab.Mismatched, overdue, complaint} {
		row(string(k), v.Count(k))
	}
	for _, f := range v.Faults[:min(len(v.Faults), 30)] {
		fmt.Fprintf(&out, "%s: %s\n", f.Kind, f.Text)
	}
	c.out.Print("%s", out.String())
	if len(v.Faults) > 0 {
		return errors.New("what was promised was not kept")
	}
	return nil
}

// rules say which deliveries may come again.
func (c *crash) rules() lab.Rules {
	return lab.Rules{
		Excused: func(before, again *lab.Arrival) bool {
			failed := benchfill.Attempt{WebhookID: before.ID, Number: before.Attempt}
			late := c.timeouts[failed] && again.Attempt == before.Attempt+1
			return late || c.timeline.excuses(before, again)
		},
		Recounted: !c.single(),
		Unseen: func(before, again *lab.Arrival) bool {
			return c.timeline.any(func(o *incident) bool { return o.outage == closed && o.during(before.At, again.At) })
		},
	}
}
