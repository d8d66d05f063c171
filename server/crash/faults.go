package main

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"slices"
	"strings"
	"time"

	"github.com/agentevents/agentevents/server/lab"
	"github.com/agentevents/agentevents/store/benchfill"
)

// fault is something that happens to a server, or to the database of all servers.
type fault struct {
	name    string
	weight  int // how often it is in a round of the schedule
	when    moment
	inject  injector
	lasts   period // before it is undone
	excuses excuses
	all     bool // it happens to all servers
}

type (
	// moment waits for the moment of a fault of a server, whose number is everyServer if it happens to all.
	moment func(ctx context.Context, r *replica, random *rand.Rand) error
	// injector begins a fault, and returns what undoes it, unless it ends by itself.
	injector func(ctx context.Context, r *replica, random *rand.Rand) (undo, error)
	undo     func(ctx context.Context) error
)

// period is a random time, from one to less than the other.
type period struct{ from, to time.Duration }

func between(random *rand.Rand, p period) time.Duration {
	return p.from + time.Duration(random.Int64N(max(1, int64(p.to-p.from))))
}

// excuses are which deliveries may come again because of a fault.
type excuses int

const (
	harmless excuses = iota // the server does not notice it at all
	nothing
	unanswered // those that were in flight
	everything // and those whose answer may not be recorded
)

const (
	attemptTimeout = 2 * time.Second                // which replicas are given so that a lease is short
	lease          = attemptTimeout + 5*time.Second // how long a replica holds a lane
)

var (
	atOnce        period
	shortly       = period{0, 2 * time.Second}
	lessThanLease = period{10 * time.Millisecond, lease - time.Second}
	aboutLease    = period{lease - time.Second/2, lease + time.Second/2}
	moreThanLease = period{lease + time.Second/2, lease + 4*time.Second}
	anyLength     = period{time.Second / 2, lease + 4*time.Second}
)

// sqliteFaults happen to the only server. What is most dangerous has the highest weight.
var sqliteFaults = []fault{
	{"killed after some changes", 2, afterChanges, killServer, atOnce, everything, false},
	{"killed after some requests", 2, afterRequests, killServer, atOnce, everything, false},
	{"killed after some time", 1, afterTime, killServer, atOnce, everything, false},
	{"killed while requests are held", 1, whileHeld, killTwice, atOnce, everything, false},
	{"killed while it starts", 1, afterTime, killStarting, atOnce, everything, false},
	{"killed while it stops", 1, afterTime, killStopping, atOnce, everything, false},
	{"killed while it makes its store", 1, afterTime, killNew, atOnce, harmless, false},
	{"stopped in order", 1, afterTime, stopServer, atOnce, unanswered, false},
	{"a second server on its file", 1, afterTime, startSecond, atOnce, harmless, false},
	{"killed, and a lane damaged", 1, afterTime, damageLane, atOnce, everything, false},
}

// postgresFaults happen to replicas.
var postgresFaults = []fault{
	{"kill -9", 3, afterTime, killServer, shortly, everything, false},
	{"kill -9, and a lane damaged", 1, afterTime, damageLane, shortly, everything, false},
	{"stop in order", 1, afterTime, stopServer, shortly, nothing, false},
	{"freeze of less than a lease", 1, afterTime, freezeServer, lessThanLease, everything, false},
	{"freeze of about a lease", 2, afterTime, freezeServer, aboutLease, everything, false},
	{"freeze of more than a lease", 2, afterTime, freezeServer, moreThanLease, everything, false},
	{"cut off from the database", 1, afterTime, cutOff, anyLength, everything, false},
	{"connections ended", 1, afterTime, endConnections, atOnce, everything, false},
	{"all connections ended", 1, afterTime, endConnections, atOnce, everything, true},
}

// clusterFaults happen to the database server, if it is a private one.
var clusterFaults = []fault{
	{"restart of the database", 1, afterTime, restartDatabase, atOnce, everything, true},
	{"crash of the database", 1, afterTime, crashDatabase, atOnce, everything, true},
}

func afterTime(ctx context.Context, _ *replica, random *rand.Rand) error {
	return lab.Pause(ctx, between(random, period{0, 300 * time.Millisecond}))
}

func afterChanges(ctx context.Context, r *replica, random *rand.Rand) error {
	want := r.tally.of(statusSet) + 1 + random.IntN(200)
	return r.await(ctx, "some changes", func() bool { return r.tally.of(statusSet) >= want })
}

// afterRequests is when some have arrived: the last is being answered, and not recorded yet.
func afterRequests(ctx context.Context, r *replica, random *rand.Rand) error {
	want := r.record.Count() + 1 + random.IntN(200)
	return r.await(ctx, "some requests", func() bool { return r.record.Count() >= want })
}

// whileHeld is when the reliable receiver leaves some requests without an answer: one, if the server does not know yet
// that it is quick, and has one request at a time for it.
func whileHeld(ctx context.Context, r *replica, random *rand.Rand) error {
	r.receivers[reliable].setMode(hanging)
	want := 1 + random.IntN(3)
	held := func(n int) func() bool { return func() bool { return len(r.inFlight(r.began, false)) >= n } }
	if err := lab.Until(ctx, time.Second, held(want)); !errors.Is(err, lab.ErrLate) {
		return err
	}
	return r.await(ctx, "requests in flight", held(1))
}

// restart starts a server again. What was in flight when the only one ended has to come again at once, and not when a
// lease ends, after more than a minute.
func (r *replica) restart(ctx context.Context) error {
	r.receivers[reliable].setMode(healthy)
	if err := r.start(ctx); err != nil || !r.single() {
		return err
	}
	cut := func() int { return len(r.inFlight(r.began, true)) }
	r.tally.add(cutOffAtEnd, cut())
	return r.await(ctx, "what was in flight again", func() bool { return cut() == 0 })
}

func killServer(ctx context.Context, r *replica, _ *rand.Rand) (undo, error) {
	return r.restart, r.kill(ctx)
}

func stopServer(ctx context.Context, r *replica, _ *rand.Rand) (undo, error) {
	return r.restart, r.stop(ctx)
}

// killTwice kills a server, and again when what was in flight has come again.
func killTwice(ctx context.Context, r *replica, _ *rand.Rand) (undo, error) {
	if err := errors.Join(r.kill(ctx), r.restart(ctx)); err != nil {
		return nil, err
	}
	return r.restart, r.kill(ctx)
}

// killStarting kills a server before it is ready again, or hardly later.
func killStarting(ctx context.Context, r *replica, random *rand.Rand) (undo, error) {
	return r.restart, errors.Join(r.kill(ctx), r.killEarly(ctx, r.url, random), r.gone(ctx))
}

// killStopping sends SIGTERM and kills the server shortly after, if it has not stopped in order by then.
func killStopping(ctx context.Context, r *replica, random *rand.Rand) (undo, error) {
	server, stopped := r.life.Swap(nil), make(chan error, 1)
	go func() { stopped <- server.Stop() }()
	_ = lab.Pause(ctx, between(random, period{0, 60 * time.Millisecond}))
	killed := server.Kill()
	err := <-stopped
	if killed == nil {
		err = nil // it did not stop in order
	}
	return r.restart, errors.Join(server.Explain(err), r.gone(ctx))
}

// killNew kills another server while it makes a store. Whatever is there then, the next start is one like any other.
func killNew(ctx context.Context, r *replica, random *rand.Rand) (undo, error) {
	url := fmt.Sprintf("sqlite:%s/new-%d.db", r.dir, random.Uint64())
	if err := r.killEarly(ctx, url, random); err != nil {
		return nil, err
	}
	server, err := r.launch(ctx, url)
	if err != nil {
		return nil, err
	}
	return nil, errors.Join(server.Explain(errors.Join(server.Ready(ctx), server.Stop())), r.verify(ctx, url))
}

// killEarly starts a server and kills it after a part of the time that a start takes.
func (c *crash) killEarly(ctx context.Context, url string, random *rand.Rand) error {
	server, err := c.launch(ctx, url)
	if err != nil {
		return err
	}
	err = lab.Pause(ctx, between(random, period{0, c.startTook}))
	return errors.Join(err, server.Explain(server.Kill()))
}

// startSecond starts another server on a file that one serves, which must be refused.
func startSecond(ctx context.Context, r *replica, _ *rand.Rand) (undo, error) {
	server, err := r.launch(ctx, r.url)
	if err != nil {
		return nil, err
	}
	if server.Ready(ctx) == nil {
		r.record.Wrong(complaint, "a second server serves a file that another one does")
	}
	return nil, ignoreEnd(server.Kill())
}

// damageLane kills a server and makes the row of a lane wrong. The safety net, which looks when a server starts, has to
// repair that: the only server at once, of replicas any.
func damageLane(ctx context.Context, r *replica, _ *rand.Rand) (undo, error) {
	if err := r.kill(ctx); err != nil {
		return nil, err
	}
	r.tally.add(laneDamaged, 1)
	repaired := func(ctx context.Context) error {
		if err := r.restart(ctx); err != nil || !r.single() {
			return err
		}
		log := r.logs[len(r.logs)-1]
		return r.await(ctx, "a repair", func() bool { return strings.Contains(log.String(), repairLine) })
	}
	return repaired, r.database.alone(func() error { return benchfill.DamageLane(ctx, r.database.DB) })
}

func freezeServer(_ context.Context, r *replica, _ *rand.Rand) (undo, error) {
	thaw, err := r.life.Load().Freeze()
	return func(context.Context) error { return thaw() }, err
}

func cutOff(_ context.Context, r *replica, _ *rand.Rand) (undo, error) {
	r.proxy.gate.Lock()
	return func(context.Context) error { r.proxy.gate.Unlock(); return nil }, nil
}

// endConnections ends a server's connections to the database, or those of all.
func endConnections(ctx context.Context, r *replica, _ *rand.Rand) (undo, error) {
	return nil, r.database.alone(func() error {
		_, err := r.database.ExecContext(ctx, "SELECT pg_terminate_backend(pid) FROM pg_stat_activity "+
			"WHERE datname = current_database() AND pid <> pg_backend_pid() AND $1 IN ($2, application_name)",
			application(r.number), application(everyServer))
		return err
	})
}

func restartDatabase(ctx context.Context, r *replica, _ *rand.Rand) (undo, error) {
	return nil, r.database.alone(func() error { return r.database.cluster.Restart(ctx) })
}

func crashDatabase(ctx context.Context, r *replica, _ *rand.Rand) (undo, error) {
	return nil, r.database.alone(func() error { return r.database.cluster.Crash(ctx) })
}

// shuffled returns the elements of a list in a random order, then all of them again in another one, and so on.
func shuffled[T any](random *rand.Rand, list []T) func() T {
	var left []T
	return func() (next T) {
		if len(left) == 0 {
			left = slices.Clone(list)
			random.Shuffle(len(left), func(i, j int) { left[i], left[j] = left[j], left[i] })
		}
		next, left = left[0], left[1:]
		return next
	}
}

// injectFaults injects faults until there were enough, and all are undone. Receivers have outages meanwhile.
func (c *crash) injectFaults(ctx context.Context) error {
	disturbed, calm := context.WithCancel(ctx)
	defer c.receiving.Wait()
	defer calm()
	for _, r := range c.receivers[reliable+1:] {
		c.spawn(&c.receiving, func() error { return r.runOutages(disturbed) })
	}
	var round []fault
	for _, f := range c.faults {
		round = append(round, slices.Repeat([]fault{f}, f.weight)...)
	}
	random, pauses := c.random(0), atOnce
	if !c.single() {
		pauses.to = 15 * time.Second / time.Duration(c.replicas)
	}
	next, began := shuffled(random, round), time.Now()
	for n := 1; n <= c.cycles || time.Since(began) < c.lasts; n++ {
		f, its := next(), rand.New(rand.NewPCG(random.Uint64(), 0)) //nolint:gosec // no secret
		r, err := c.take(ctx, f, its)
		if err != nil {
			return err
		}
		c.spawn(&c.injecting, func() error { return r.disturb(ctx, f, its) })
		if err := lab.Pause(ctx, between(random, pauses)); err != nil {
			return err
		}
		c.out.Show("fault %d after %.0f seconds, %s; so far %d changes, %d requests",
			n, time.Since(began).Seconds(), f.name, c.tally.of(statusSet), c.record.Count())
	}
	c.injecting.Wait()
	return context.Cause(ctx)
}

// take waits for a server that has no fault, and takes it. One with the number everyServer stands for all.
func (c *crash) take(ctx context.Context, f fault, random *rand.Rand) (r *replica, err error) {
	if f.all {
		return &replica{crash: c, number: everyServer}, nil
	}
	return r, lab.Until(ctx, 4*patience, func() bool {
		r = c.servers[random.IntN(len(c.servers))]
		return r.disturbed.CompareAndSwap(false, true)
	})
}

// disturb injects a fault into a server at its moment, and undoes it. Shortly before the only server ends, the reliable
// receiver leaves requests without an answer.
func (r *replica) disturb(ctx context.Context, f fault, random *rand.Rand) error {
	defer r.disturbed.Store(false)
	if err := f.when(ctx, r, random); err != nil {
		return err
	}
	if r.single() && f.excuses == everything {
		r.receivers[reliable].setMode(hanging)
		if err := lab.Pause(ctx, between(random, period{0, 100 * time.Millisecond})); err != nil {
			return err
		}
	}
	r.tally.add(f.name, 1)
	was := r.timeline.begin(incident{name: f.name, who: r.number, excuses: f.excuses})
	defer r.timeline.mark(&was.to, &was.back)
	restore, err := f.inject(ctx, r, random)
	if r.life.Load() == nil {
		r.timeline.mark(&was.to) // what is sent from now on is another life's
	}
	if err != nil || restore == nil {
		return err
	}
	err = lab.Pause(ctx, between(random, f.lasts))
	return errors.Join(err, restore(ctx)) // in any case: what is suspended would stay so
}
