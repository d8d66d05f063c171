// Crash injects faults into the program at random moments, while statuses change, deliveries are in flight, and events
// are moved, disabled and deleted. At the end, it compares every expected delivery with every request that arrived. It
// prints deliveries that are lost, out of order, late or needlessly repeated. Any of them makes the exit code 1.
//
//	go run ./server/crash -binary bin/agentevents -faults 300
//	go run ./server/crash -binary bin/agentevents -replicas 3 -lasts 3m
//
// The first command injects 300 faults into one server on SQLite; most are a kill (kill -9). The second runs three
// replicas on a PostgreSQL database for three minutes. The tables in faults.go list all faults, with the duplicates
// that each permits.
//
// Two of the three receivers have outages of some seconds. Afterwards, pending deliveries must be sent within a bound
// that the delays of the breaker give (see timeline.go). Time in which no server could send does not count. Followers
// of the feed must see each change once and in order.
//
// The events of plain agents do not change; each of their lanes is checked request by request. The events of busy
// agents are moved, disabled and deleted. They may lose only deliveries that a deletion cancelled, and each event stays
// in order, even while it moves.
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
	faults   int           // minimum number of faults
	lasts    time.Duration // minimum time with faults
	postgres string        // URL of the database server; empty for a private one
}

func main() { lab.Main("crash", run) }

func parse(args []string, stderr io.Writer) (o options, err error) {
	flags := flag.NewFlagSet("crash", flag.ContinueOnError)
	flags.SetOutput(stderr)
	flags.StringVar(&o.binary, "binary", "bin/agentevents", "the `program` to try")
	flags.Uint64Var(&o.seed, "seed", rand.Uint64N(1_000_000), "decides about faults and load; the default is random")
	flags.IntVar(&o.replicas, "replicas", 0, "on PostgreSQL, from 2 to 4; 0 for one server on SQLite")
	flags.IntVar(&o.faults, "faults", 0, "minimum `number` of faults")
	flags.DurationVar(&o.lasts, "lasts", 0, "minimum time with faults")
	flags.StringVar(&o.postgres, "postgres", "", "`URL` of a PostgreSQL server; without it, a private one is started")
	err = flags.Parse(args)
	switch {
	case err != nil:
	case o.faults < 1 && o.lasts <= 0:
		err = errors.New("faults must be at least 1, or lasts more than 0")
	case o.replicas != 0 && (o.replicas < 2 || o.replicas > 4):
		err = errors.New("replicas must be 0, for one server on SQLite, or from 2 to 4")
	}
	return o, err
}

// run injects faults and prints the verdict. After an error, it leaves the store in a temporary directory.
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
	out.Print("crash -replicas %d -faults %d -lasts %v -seed %d\n", o.replicas, o.faults, o.lasts, o.seed)
	if err = newCrash(o, dir, out).run(ctx); err != nil && ctx.Err() == nil {
		return fmt.Errorf("%w\nthe store is left in %s; the seed was %d", err, dir, o.seed)
	}
	return errors.Join(err, os.RemoveAll(dir))
}

const (
	// patience is the time limit of a step that normally takes milliseconds.
	patience = 30 * time.Second
	// lostAfter is the time without an arrival after which pending deliveries count as lost. It is longer than the
	// waits of a breaker, of the last retry and of lane repair.
	lostAfter = 75 * time.Second
)

// crash is one run, with its database, servers, receivers and load.
type crash struct {
	options
	dir      string
	out      *lab.Progress
	record   *lab.Record
	timeline timeline
	tally    tally
	database database
	table    []fault        // faults that this run can inject
	closers  []func() error // in the order of the openings

	receivers []*receiver
	servers   []*replica // on SQLite, one
	followers []*follower
	transport http.Transport         // of requests to the servers
	token     atomic.Pointer[string] // of the operator; any server issues it, and every server accepts it

	cancel    context.CancelCauseFunc // ends the run with an error
	injecting sync.WaitGroup          // faults that are not undone
	receiving sync.WaitGroup          // outages of receivers
	loading   sync.WaitGroup          // loaders
	reading   sync.WaitGroup          // followers
	over      atomic.Bool             // loaders must end
	complete  atomic.Bool             // the feed gets no further changes

	startTook time.Duration                            // duration of the first start
	timeouts  map[benchfill.Attempt]benchfill.Exchange // attempts that timed out, by the delivery log
}

func newCrash(o options, dir string, out *lab.Progress) *crash {
	c := &crash{options: o, dir: dir, out: out, record: lab.NewRecord(orderKeyOf), tally: tally{n: map[string]int{}}}
	c.transport.MaxIdleConnsPerHost, c.transport.ResponseHeaderTimeout = 64, patience
	c.timeline.servers = max(1, o.replicas)
	return c
}

// single reports whether the run has one server, on SQLite.
func (c *crash) single() bool { return c.replicas == 0 }

// random returns the random numbers of one goroutine. They depend on the seed and stream alone.
func (c *crash) random(stream int) *rand.Rand {
	return rand.New(rand.NewPCG(c.seed, uint64(stream))) //nolint:gosec // no secret, and never negative
}

// spawn runs a function as a goroutine of a group. An error ends the run.
func (c *crash) spawn(group *sync.WaitGroup, f func() error) {
	group.Go(func() {
		if err := f(); err != nil {
			c.cancel(err)
		}
	})
}

// run runs all phases and reports the verdict.
func (c *crash) run(ctx context.Context) (err error) {
	ctx, c.cancel = context.WithCancelCause(ctx)
	phases := []func(context.Context) error{c.openDatabase, c.open, c.beginLoad, c.injectFaults, c.finish}
	for i := 0; i < len(phases) && err == nil; i++ {
		err = phases[i](ctx)
	}
	if cause := context.Cause(ctx); cause != nil {
		err = cause // the first error
	}
	c.cancel(nil)
	if err := errors.Join(err, c.end()); err != nil {
		return err
	}
	return c.report()
}

// open opens the receivers and starts all servers concurrently, so that one of them creates the tables.
func (c *crash) open(ctx context.Context) error {
	if c.table = sqliteFaults; !c.single() {
		c.table = postgresFaults
	}
	if c.database.cluster != nil {
		c.table = slices.Concat(c.table, clusterFaults)
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

// beginLoad creates the client, and starts the timeline's watch, the followers and the loaders.
func (c *crash) beginLoad(ctx context.Context) error {
	_, err := lab.Call[any](ctx, c, http.StatusCreated, http.MethodPut, clientURL, gen.ClientUpdate{})
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
		w := &loader{crash: c, random: c.random(100 + number), agents: group}
		c.spawn(&c.loading, func() error { return w.run(ctx) })
	}
	return nil
}

// finish ends load and outages, waits until all pending deliveries have arrived, stops the servers, and checks their
// logs, the feed and the store.
func (c *crash) finish(ctx context.Context) error {
	for _, r := range c.receivers {
		r.setMode(healthy)
		r.set(func() { r.refuses = false })
	}
	c.over.Store(true)
	c.loading.Wait()
	c.complete.Store(true)
	c.reading.Wait()
	var late error // not returned: the check reports the lost deliveries
	for left := c.record.Pending(); left > 0 && late == nil; left = c.record.Pending() {
		late = lab.Until(ctx, lostAfter, func() bool { return c.record.Pending() < left })
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
	for _, x := range c.timeouts {
		to := slices.IndexFunc(c.receivers, func(r *receiver) bool { return strings.HasPrefix(x.URL, r.URL+"/") })
		c.timeline.addTimeout(to, x.From, x.To)
	}
	return errors.Join(context.Cause(ctx), err, c.settle(ctx), c.verify(ctx, c.database.url))
}

// settle waits until the receivers have recorded all requests that the servers, which have ended, had sent.
func (c *crash) settle(ctx context.Context) error {
	for _, r := range c.receivers {
		if err := r.Settle(ctx); err != nil {
			return err
		}
	}
	return nil
}

// await waits until a condition holds. If it does not hold in time, await records that, and the run continues.
func (c *crash) await(ctx context.Context, what string, happened func() bool) error {
	err := lab.Until(ctx, patience, happened)
	if errors.Is(err, lab.ErrLate) {
		c.record.Wrong(overdue, "not within %v: %s", patience, what)
		return nil
	}
	return err
}

// end kills servers that still run, writes the logs to the directory, and closes everything that was opened.
func (c *crash) end() (err error) {
	c.injecting.Wait() // it may start servers
	for _, r := range c.servers {
		if s := r.process.Swap(nil); s != nil {
			err = errors.Join(err, ignoreEnded(s.Kill()))
		}
	}
	c.receiving.Wait()
	c.loading.Wait()
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
	// Counters of a tally, in the order of the report, in addition to faults and outages.
	statusSet   = "changes of status"
	doubtful    = "agents in doubt"
	cutOffAtEnd = "requests in flight when a server ended"
	laneDamaged = "lanes damaged"

	// Kinds of violations that lab.Check does not find.
	overdue   lab.Kind = "late"       // a delivery or a step took too long
	complaint lab.Kind = "complaints" // an answer, a log or a store shows an error of the program
)

// tally has counters by name.
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

// report compares every expected delivery with every request that arrived, and prints counters and violations. Any
// violation is an error.
func (c *crash) report() error {
	h, found := c.record.Close()
	v := lab.Check(h, c.rules())
	for _, e := range c.timeline.judge(h) {
		v.Wrong(overdue, "%v", e)
	}
	v.Faults = append(found, v.Faults...)
	var out strings.Builder
	row := func(what string, n any) { fmt.Fprintf(&out, "%50s  %v\n", what, n) }
	for _, f := range c.table {
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
	row("retries of refused or cut-off requests", v.Retries)
	row("duplicates that a fault permits", v.Duplicates)
	row("lanes that waited at the end of an outage", c.timeline.count)
	row("longest wait of these lanes", c.timeline.longest.Round(time.Millisecond))
	for _, k := range []lab.Kind{lab.Lost, lab.Disorder, lab.Needless, lab.Mismatched, overdue, complaint} {
		row(string(k), v.Count(k))
	}
	for _, f := range v.Faults[:min(len(v.Faults), 30)] {
		fmt.Fprintf(&out, "%s: %s\n", f.Kind, f.Text)
	}
	c.out.Print("%s", out.String())
	if len(v.Faults) > 0 {
		return errors.New("a guarantee was broken")
	}
	return nil
}

// rules returns the rules of permitted repetitions.
func (c *crash) rules() lab.Rules {
	return lab.Rules{
		Permitted: func(before, again *lab.Arrival) bool {
			failed := benchfill.Attempt{WebhookID: before.ID, Number: before.Attempt}
			_, late := c.timeouts[failed]
			return late && again.Attempt == before.Attempt+1 || c.timeline.permits(before, again)
		},
		Recounted: !c.single(),
		Unseen: func(before, again *lab.Arrival) bool {
			return c.timeline.any(func(o *incident) bool { return o.outage == closed && o.during(before.At, again.At) })
		},
	}
}
