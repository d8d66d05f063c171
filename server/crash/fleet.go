package main

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"os"
	"path/filepath"
	"sync"
	"sync/atomic"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"

	"github.com/agentevents/agentevents/gen"
	"github.com/agentevents/agentevents/gen/client"
	"github.com/agentevents/agentevents/store/cluster"
)

// followers is how many read the feed.
const followers = 2

// fleet is a run: some replicas on one PostgreSQL database, and their troubles.
type fleet struct {
	*scene
	life       *life // of all the goroutines, and of no server
	dir        string
	cluster    *cluster.Cluster // nil for a server that somebody else runs
	url        string           // of the database
	replicas   []*replica
	followers  []*follower
	blows      sync.WaitGroup
	busy       sync.WaitGroup // writers
	atDatabase sync.Mutex     // one blow at a time
	over       atomic.Bool    // writers have done enough
	complete   atomic.Bool    // nothing is added to the feed any more
}

func newFleet(s *scene, dir string) *fleet {
	return &fleet{scene: s, life: &life{broken: make(chan error, 1)}, dir: dir}
}

func (f *fleet) rules() rules { return rules{excused: f.book.excused, counted: true} }

// run starts what is needed, and ends it in any case.
func (f *fleet) run(ctx context.Context) (err error) {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	drop, err := f.provide(ctx)
	if err != nil {
		return err
	}
	f.book.begin(0)
	err = f.play(ctx)
	f.life.dying.Store(true)
	cancel()
	f.blows.Wait()
	for _, r := range f.replicas {
		r.proxy.close()
		err = errors.Join(err, r.abandon())
	}
	f.life.writers.Wait()
	return errors.Join(err, f.leaveLogs(), drop())
}

// provide makes the database, and returns what ends it.
func (f *fleet) provide(ctx context.Context) (end func() error, err error) {
	if f.postgres != "" {
		server := cluster.At(f.postgres)
		f.url, err = server.Create(ctx)
		return func() error { return server.Drop(context.WithoutCancel(ctx), f.url) }, err
	}
	if err := os.Chmod(f.dir, 0o755); err != nil { //nolint:gosec // the server may run as another user
		return nil, err
	}
	f.cluster, err = cluster.Start(ctx, cluster.Options{
		Dir: filepath.Join(f.dir, "postgres"), Settings: map[string]string{"max_connections": "200"},
	})
	if err == nil {
		f.url, err = f.cluster.Create(ctx)
	}
	if err != nil {
		return nil, err
	}
	return f.cluster.Stop, nil
}

// play has replicas work, in trouble first and then in peace, until all that is owed has arrived.
func (f *fleet) play(ctx context.Context) error {
	if err := f.launch(ctx); err != nil {
		return err
	}
	if err := f.begin(ctx); err != nil {
		return err
	}
	if err := f.strike(ctx); err != nil {
		return err
	}
	return f.finish(ctx)
}

// launch starts the replicas, all at once: one of them makes the tables.
func (f *fleet) launch(ctx context.Context) error {
	config, err := pgx.ParseConfig(f.url)
	if err != nil {
		return err
	}
	network, address := pgconn.NetworkAddress(config.Host, config.Port)
	for number := range f.options.replicas {
		p, err := newProxy(network, address)
		if err != nil {
			return err
		}
		f.replicas = append(f.replicas, &replica{fleet: f, number: number + 1, proxy: p})
	}
	look := newCensus(ctx, f.replicas).look
	for _, r := range f.receivers {
		r.look.Store(&look)
	}
	return f.all(func(r *replica) error { return r.start(ctx) })
}

// all does something with all replicas at once.
func (f *fleet) all(do func(*replica) error) error {
	errs := make([]error, len(f.replicas))
	var wg sync.WaitGroup
	for i, r := range f.replicas {
		wg.Go(func() { errs[i] = do(r) })
	}
	wg.Wait()
	return errors.Join(errs...)
}

// begin makes the client and the agents, and sets writers and followers to work.
func (f *fleet) begin(ctx context.Context) error {
	s, err := f.session(0)
	if err != nil {
		return err
	}
	resp, err := s.api.PutClientWithResponse(ctx, pbxClient, gen.ClientUpdate{})
	if err := answered(http.StatusCreated, resp, err); err != nil {
		return err
	}
	for number := range followers {
		s, err := f.session(1 + number)
		if err != nil {
			return err
		}
		w := &follower{session: s, random: f.random(3, number)}
		f.followers = append(f.followers, w)
		f.life.begin(func() error { return w.follow(ctx, f.complete.Load) })
	}
	if err := f.load(ctx, func(ctx context.Context, w writer) error { return w.prepare(ctx) }); err != nil {
		return err
	}
	if err := f.idle(ctx); err != nil {
		return err
	}
	return f.load(ctx, f.work)
}

// load sets all writers to work.
func (f *fleet) load(ctx context.Context, work func(context.Context, writer) error) error {
	for i, agents := range f.groups {
		s, err := f.session(10 + i)
		if err != nil {
			return err
		}
		w := writer{session: s, random: f.random(1, i), agents: agents}
		f.busy.Add(1)
		f.life.begin(func() error {
			defer f.busy.Done()
			return work(ctx, w)
		})
	}
	return nil
}

// session speaks to any of the replicas, another one at each request.
func (f *fleet) session(number int) (session, error) {
	r := &router{fleet: f, random: f.random(2, number), home: number % len(f.replicas)}
	api, err := client.NewClientWithResponses("http://replica/api/ver1.0", client.WithHTTPClient(r))
	return session{api: api, book: f.book, receivers: f.urls()}, err
}

// work changes agents until it is enough. When a replica or the database is away it looks how its agents stand and goes on.
func (f *fleet) work(ctx context.Context, w writer) error {
	for !f.over.Load() {
		err := w.prepare(ctx)
		for err == nil && !f.over.Load() {
			err = w.step(ctx)
		}
		if err != nil && !errors.Is(err, errAway) {
			return err
		}
	}
	return nil
}

// conclude lets everything that is owed go out.
func (f *fleet) conclude(ctx context.Context, w writer) error {
	for {
		if err := w.conclude(ctx); !errors.Is(err, errAway) {
			return err
		}
	}
}

// strike deals blows until the time is over and all replicas are up again.
func (f *fleet) strike(ctx context.Context) error {
	d := &dealer{random: f.random(0, -1), replicas: len(f.replicas), private: f.cluster != nil}
	began, printed := time.Now(), time.Time{}
	for time.Since(began) < f.lasts {
		s := d.next()
		if err := f.deal(ctx, s); err != nil {
			return err
		}
		if err := f.pause(ctx, s.pause); err != nil {
			return err
		}
		if f.out.terminal || time.Since(printed) > f.lasts/10 {
			printed = time.Now()
			changes, requests := f.book.sofar()
			f.out.passing(time.Since(began), f.lasts, s.blow, changes, requests)
		}
	}
	f.blows.Wait()
	return f.life.trouble()
}

// pause waits, or returns what has gone wrong.
func (f *fleet) pause(ctx context.Context, d time.Duration) error {
	select {
	case <-time.After(d):
		return f.life.trouble()
	case err := <-f.life.broken:
		return err
	case <-ctx.Done():
		return ctx.Err()
	}
}

// deal begins a blow as soon as there is somebody who is not in trouble.
func (f *fleet) deal(ctx context.Context, s stroke) error {
	if s.blow.ofDatabase() {
		f.blows.Go(func() { f.broke(f.hitDatabase(ctx, s.blow)) })
		return nil
	}
	r, err := f.free(ctx, s.replica)
	if err != nil {
		return err
	}
	f.blows.Go(func() {
		defer r.busy.Store(false)
		f.broke(r.hit(ctx, s))
	})
	return nil
}

// free waits for a replica that is not in trouble, from a certain one on, and takes it.
func (f *fleet) free(ctx context.Context, from int) (*replica, error) {
	for {
		for i := range f.replicas {
			r := f.replicas[(from-1+i)%len(f.replicas)]
			if r.busy.CompareAndSwap(false, true) {
				return r, nil
			}
		}
		if err := f.pause(ctx, 10*time.Millisecond); err != nil {
			return nil, err
		}
	}
}

func (f *fleet) broke(err error) {
	if err == nil {
		return
	}
	select {
	case f.life.broken <- err:
	default: // one is enough
	}
}

// hitDatabase is a blow that all replicas have.
func (f *fleet) hitDatabase(ctx context.Context, b blow) error {
	f.atDatabase.Lock()
	defer f.atDatabase.Unlock()
	t := f.book.trouble(b, 0)
	defer f.book.over(t)
	switch b {
	case restarted:
		return f.cluster.Restart(ctx)
	case crashed:
		return f.cluster.Crash(ctx)
	}
	return f.endConnections(ctx, "")
}

// endConnections ends a replica's connections, or everybody's.
func (f *fleet) endConnections(ctx context.Context, application string) error {
	return f.ask(ctx, func(conn *pgx.Conn) error {
		_, err := conn.Exec(ctx, "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE datname = current_database() "+
			"AND pid <> pg_backend_pid() AND ($1 = '' OR application_name = $1)", application)
		return err
	})
}

// ask asks the database, on no replica's way.
func (f *fleet) ask(ctx context.Context, what func(*pgx.Conn) error) error {
	conn, err := pgx.Connect(ctx, f.url)
	if err != nil {
		return err
	}
	defer conn.Close(context.WithoutCancel(ctx))
	return what(conn)
}

// finish lets the replicas work in peace until all that is owed has arrived, and stops them in order.
func (f *fleet) finish(ctx context.Context) error {
	for _, r := range f.receivers {
		r.mood.calm()
	}
	f.over.Store(true)
	if err := f.idle(ctx); err != nil {
		return err
	}
	if err := f.load(ctx, f.conclude); err != nil {
		return err
	}
	if err := f.idle(ctx); err != nil {
		return err
	}
	f.complete.Store(true)
	if err := f.drain(ctx, f.life); err != nil {
		return err
	}
	err := f.all(func(r *replica) error { return r.stop() })
	for _, r := range f.replicas {
		r.complain()
	}
	return errors.Join(err, f.settle(ctx), f.verify(ctx, f.url), f.compareFeeds(ctx), f.findTimeouts(ctx))
}

// idle waits until no writer is at work.
func (f *fleet) idle(ctx context.Context) error {
	done := make(chan struct{})
	go func() {
		f.busy.Wait()
		close(done)
	}()
	select {
	case <-done:
		return f.life.trouble()
	case err := <-f.life.broken:
		return err
	case <-ctx.Done():
		return ctx.Err()
	}
}

// compareFeeds holds what followers saw against what is stored.
func (f *fleet) compareFeeds(ctx context.Context) error {
	var stored []int64
	err := f.ask(ctx, func(conn *pgx.Conn) error {
		rows, err := conn.Query(ctx, "SELECT id FROM status_changes WHERE client_id = $1 ORDER BY id", pbxClient)
		if err == nil {
			stored, err = pgx.CollectRows(rows, pgx.RowTo[int64])
		}
		return err
	})
	for _, w := range f.followers {
		w.compare(stored)
	}
	return err
}

// findTimeouts notes which attempts have failed since no answer came in time: receivers answer at once, or almost, but
// everything is on one machine.
func (f *fleet) findTimeouts(ctx context.Context) error {
	return f.ask(ctx, func(conn *pgx.Conn) error {
		rows, err := conn.Query(ctx, "SELECT d.webhook_id, a.number FROM attempts a JOIN deliveries d ON d.id = a.delivery_id "+
			"WHERE a.status = 0 AND a.error LIKE 'there was no complete answer within %'")
		if err != nil {
			return err
		}
		attempts, err := pgx.CollectRows(rows, pgx.RowToStructByPos[attempt])
		f.book.timedOut(attempts)
		return err
	})
}

// leaveLogs writes what has happened to where the store is left.
func (f *fleet) leaveLogs() error {
	err := os.WriteFile(filepath.Join(f.dir, "troubles.log"), []byte(f.book.story()), 0o600)
	for _, r := range f.replicas {
		for i, log := range r.logs {
			name := filepath.Join(f.dir, fmt.Sprintf("replica-%d-%d.log", r.number, i+1))
			err = errors.Join(err, os.WriteFile(name, []byte(log.String()), 0o600))
		}
	}
	return err
}

// rows tell what a run came to.
func (f *fleet) rows(t total) []row {
	rows := []row{{"replicas", len(f.replicas)}}
	for b, n := range f.book.struck() {
		rows = append(rows, row{blow(b).String(), n})
	}
	rows = append(append(rows, t.rows()...),
		row{"requests answered 503", t.refused},
		row{"changes that each follower of the feed saw", f.followers[0].saw()},
		row{"attempts that timed out", len(f.book.timeouts)},
		row{"duplicates, each over a trouble or a timeout", t.duplicates})
	return append(rows, t.last(lost, disorder, needless, mismatched, complaint)...)
}
