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

// fault is a fault of a server, or of the database.
type fault struct {
	name       string
	weight     int // number of times in each round of the schedule
	when       moment
	inject     injector
	lasts      durationRange // before it is undone
	duplicates duplicates
	all        bool // it affects all servers
}

type (
	// moment waits until the fault must begin. The replica is everyServer if the fault affects all servers.
	moment func(ctx context.Context, r *replica, random *rand.Rand) error
	// injector begins a fault. It returns the function that undoes the fault, or nil if the fault has ended.
	injector func(ctx context.Context, r *replica, random *rand.Rand) (undo, error)
	undo     func(ctx context.Context) error
)

// durationRange is a range of durations, without its upper bound.
type durationRange struct{ from, to time.Duration }

// between returns a random duration of a range. It returns the lower bound of an empty range.
func between(random *rand.Rand, p durationRange) time.Duration {
	return p.from + time.Duration(random.Int64N(max(1, int64(p.to-p.from))))
}

// duplicates states which requests may be repeated because of a fault. The values are in ascending order.
type duplicates int

const (
	noneStillServing duplicates = iota // no request: the server continues to send
	none                               // no request, although the server stops
	unanswered                         // a request without an answer
	anyRequest                         // any request, since its answer may not be recorded
)

const (
	attemptTimeout = 2 * time.Second                // the timeout of replicas; it makes leases short
	lease          = attemptTimeout + 5*time.Second // duration of a replica's lease
)

var (
	atOnce        durationRange
	shortly       = durationRange{0, 2 * time.Second}
	lessThanLease = durationRange{10 * time.Millisecond, lease - time.Second}
	aboutLease    = durationRange{lease - time.Second/2, lease + time.Second/2}
	moreThanLease = durationRange{lease + time.Second/2, lease + 4*time.Second}
	anyLength     = durationRange{time.Second / 2, lease + 4*time.Second}
)

// sqliteFaults are the faults of the only server; the most dangerous have the highest weight. A stop cuts off requests
// that are still in flight after 12 s, since this server's timeout is longer (see launch).
var sqliteFaults = []fault{
	{"killed after some changes", 2, afterChanges, killServer, atOnce, anyRequest, false},
	{"killed after some requests", 2, afterRequests, killServer, atOnce, anyRequest, false},
	{"killed after some time", 1, afterTime, killServer, atOnce, anyRequest, false},
	{"killed while requests are held", 1, whileHeld, killTwice, atOnce, anyRequest, false},
	{"killed while it starts", 1, afterTime, killStarting, atOnce, anyRequest, false},
	{"killed while it stops", 1, afterTime, killStopping, atOnce, anyRequest, false},
	{"killed while it makes its store", 1, afterTime, killNew, atOnce, noneStillServing, false},
	{"stopped in order", 1, afterTime, stopServer, atOnce, unanswered, false},
	{"a second server on its file", 1, afterTime, startSecond, atOnce, noneStillServing, false},
	{"killed, and a lane damaged", 1, afterTime, damageLane, atOnce, anyRequest, false},
}

// postgresFaults are the faults of replicas. A stop waits for requests in flight, which end within attemptTimeout.
var postgresFaults = []fault{
	{"kill -9", 3, afterTime, killServer, shortly, anyRequest, false},
	{"kill -9, and a lane damaged", 1, afterTime, damageLane, shortly, anyRequest, false},
	{"stop in order", 1, afterTime, stopServer, shortly, none, false},
	{"suspension of less than a lease", 1, afterTime, suspendServer, lessThanLease, anyRequest, false},
	{"suspension of about a lease", 2, afterTime, suspendServer, aboutLease, anyRequest, false},
	{"suspension of more than a lease", 2, afterTime, suspendServer, moreThanLease, anyRequest, false},
	{"cut off from the database", 1, afterTime, cutOff, anyLength, anyRequest, false},
	{"connections ended", 1, afterTime, endConnections, atOnce, anyRequest, false},
	{"all connections ended", 1, afterTime, endConnections, atOnce, anyRequest, true},
}

// clusterFaults are the faults of the database server, if this program started it.
var clusterFaults = []fault{
	{"restart of the database", 1, afterTime, restartDatabase, atOnce, anyRequest, true},
	{"crash of the database", 1, afterTime, crashDatabase, atOnce, anyRequest, true},
}

func afterTime(ctx context.Context, _ *replica, random *rand.Rand) error {
	return lab.Pause(ctx, between(random, durationRange{0, 300 * time.Millisecond}))
}

func afterChanges(ctx context.Context, r *replica, random *rand.Rand) error {
	want := r.tally.of(statusSet) + 1 + random.IntN(200)
	return r.await(ctx, "some changes", func() bool { return r.tally.of(statusSet) >= want })
}

// afterRequests waits for up to 200 further requests. The server has not yet recorded the answer to the last of them.
func afterRequests(ctx context.Context, r *replica, random *rand.Rand) error {
	want := r.record.Count() + 1 + random.IntN(200)
	return r.await(ctx, "some requests", func() bool { return r.record.Count() >= want })
}

// whileHeld waits until the reliable receiver has left some requests without an answer, or for a second. A server that
// does not know yet that the receiver is quick sends it one request at a time, and that may be of a busy agent.
func whileHeld(ctx context.Context, r *replica, random *rand.Rand) error {
	r.receivers[reliable].setMode(hanging)
	want := 1 + random.IntN(3)
	err := lab.Until(ctx, time.Second, func() bool { return len(r.inFlight(r.began, false)) >= want })
	if errors.Is(err, lab.ErrLate) {
		return nil
	}
	return err
}

// restart starts a server again. If it is the only one, it must immediately repeat the requests that were in flight at
// its end, without waiting for the lease, which is longer than a minute.
func (r *replica) restart(ctx context.Context) error {
	r.receivers[reliable].setMode(healthy)
	if err := r.start(ctx); err != nil || !r.single() {
		return err
	}
	cut := func() int { return len(r.inFlight(r.began, true)) }
	r.tally.add(cutOffAtEnd, cut())
	return r.await(ctx, "repetition of the requests in flight", func() bool { return cut() == 0 })
}

func killServer(ctx context.Context, r *replica, _ *rand.Rand) (undo, error) {
	return r.restart, r.kill(ctx)
}

func stopServer(ctx context.Context, r *replica, _ *rand.Rand) (undo, error) {
	return r.restart, r.stop(ctx)
}

// killTwice kills a server, restarts it, and kills it again when it has repeated the requests in flight.
func killTwice(ctx context.Context, r *replica, _ *rand.Rand) (undo, error) {
	if err := errors.Join(r.kill(ctx), r.restart(ctx)); err != nil {
		return nil, err
	}
	return r.restart, r.kill(ctx)
}

// killStarting kills a server, and its next process within the time of a start.
func killStarting(ctx context.Context, r *replica, random *rand.Rand) (undo, error) {
	return r.restart, errors.Join(r.kill(ctx), r.killEarly(ctx, r.url, random), r.checkEnded(ctx))
}

// killStopping sends SIGTERM, and kills the server up to 60 ms later unless it has stopped by then.
func killStopping(ctx context.Context, r *replica, random *rand.Rand) (undo, error) {
	server, stopped := r.process.Swap(nil), make(chan error, 1)
	go func() { stopped <- server.Stop() }()
	_ = lab.Pause(ctx, between(random, durationRange{0, 60 * time.Millisecond}))
	killed := server.Kill()
	err := <-stopped
	if killed == nil {
		err = nil // Stop reports the kill as an error
	}
	return r.restart, errors.Join(server.Explain(err), r.checkEnded(ctx))
}

// killNew kills another server while it creates a store. A start on the unfinished store must succeed.
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

// killEarly starts a server and kills it within the time of a start.
func (c *crash) killEarly(ctx context.Context, url string, random *rand.Rand) error {
	server, err := c.launch(ctx, url)
	if err != nil {
		return err
	}
	err = lab.Pause(ctx, between(random, durationRange{0, c.startTook}))
	return errors.Join(err, server.Explain(server.Kill()))
}

// startSecond starts a second server on the file of the running one. The second one must not become ready.
func startSecond(ctx context.Context, r *replica, _ *rand.Rand) (undo, error) {
	server, err := r.launch(ctx, r.url)
	if err != nil {
		return nil, err
	}
	if server.Ready(ctx) == nil {
		r.record.Wrong(complaint, "a second server serves the file of the running one")
	}
	return nil, ignoreEnded(server.Kill())
}

// damageLane kills a server and damages the row of a lane. Lane repair, which runs at each start, must correct it: on
// SQLite this server, on PostgreSQL any replica.
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
		return r.await(ctx, "lane repair", func() bool { return strings.Contains(log.String(), repairLine) })
	}
	return repaired, r.database.alone(func() error { return benchfill.DamageLane(ctx, r.database.DB) })
}

func suspendServer(_ context.Context, r *replica, _ *rand.Rand) (undo, error) {
	resume, err := r.process.Load().Suspend()
	return func(context.Context) error { return resume() }, err
}

func cutOff(_ context.Context, r *replica, _ *rand.Rand) (undo, error) {
	r.proxy.gate.Lock()
	return func(context.Context) error { r.proxy.gate.Unlock(); return nil }, nil
}

// endConnections ends the connections of a server, or of all servers, to the database.
func endConnections(ctx context.Context, r *replica, _ *rand.Rand) (undo, error) {
	return nil, r.database.alone(func() error {
		_, err := r.database.ExecContext(ctx, "SELECT pg_terminate_backend(pid) FROM pg_stat_activity "+
			"WHERE datname = current_database() AND pid <> pg_backend_pid() AND $1 IN ($2, application_name)",
			connectionName(r.number), connectionName(everyServer))
		return err
	})
}

func restartDatabase(ctx context.Context, r *replica, _ *rand.Rand) (undo, error) {
	return nil, r.database.alone(func() error { return r.database.cluster.Restart(ctx) })
}

func crashDatabase(ctx context.Context, r *replica, _ *rand.Rand) (undo, error) {
	return nil, r.database.alone(func() error { return r.database.cluster.Crash(ctx) })
}

// shuffled returns a function that returns the elements of a list round after round, each round in a random order.
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

// injectFaults injects faults, as many and for as long as the options require, and waits until all are undone.
// Meanwhile receivers have outages.
func (c *crash) injectFaults(ctx context.Context) error {
	disturbed, calm := context.WithCancel(ctx)
	defer c.receiving.Wait()
	defer calm()
	for _, r := range c.receivers[reliable+1:] {
		c.spawn(&c.receiving, func() error { return r.runOutages(disturbed) })
	}
	var round []fault
	for _, f := range c.table {
		round = append(round, slices.Repeat([]fault{f}, f.weight)...)
	}
	random, pauses := c.random(0), atOnce
	if !c.single() {
		pauses.to = 15 * time.Second / time.Duration(c.replicas)
	}
	next, began := shuffled(random, round), time.Now()
	for n := 1; n <= c.faults || time.Since(began) < c.lasts; n++ {
		f, its := next(), rand.New(rand.NewPCG(random.Uint64(), 0)) //nolint:gosec // no secret
		r, err := c.reserve(ctx, f, its)
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

// reserve returns a random server without a fault, when there is one, and reserves it. For a fault of all servers it
// returns a replica with the number everyServer.
func (c *crash) reserve(ctx context.Context, f fault, random *rand.Rand) (r *replica, err error) {
	if f.all {
		return &replica{crash: c, number: everyServer}, nil
	}
	return r, lab.Until(ctx, 4*patience, func() bool {
		r = c.servers[random.IntN(len(c.servers))]
		return r.disturbed.CompareAndSwap(false, true)
	})
}

// disturb waits for the moment of a fault, injects it into a server, and undoes it. On SQLite, up to 100 ms before a
// kill, the reliable receiver stops answering, so that requests are in flight.
func (r *replica) disturb(ctx context.Context, f fault, random *rand.Rand) error {
	defer r.disturbed.Store(false)
	if err := f.when(ctx, r, random); err != nil {
		return err
	}
	if r.single() && f.duplicates == anyRequest {
		r.receivers[reliable].setMode(hanging)
		if err := lab.Pause(ctx, between(random, durationRange{0, 100 * time.Millisecond})); err != nil {
			return err
		}
	}
	r.tally.add(f.name, 1)
	was := r.timeline.begin(incident{name: f.name, number: r.number, duplicates: f.duplicates})
	defer r.timeline.mark(&was.to, &was.back)
	restore, err := f.inject(ctx, r, random)
	if r.process.Load() == nil {
		r.timeline.mark(&was.to) // requests from now on are from the next process
	}
	if err != nil || restore == nil {
		return err
	}
	err = lab.Pause(ctx, between(random, f.lasts))
	return errors.Join(err, restore(ctx)) // even after an error: a suspended server would stay suspended
}
