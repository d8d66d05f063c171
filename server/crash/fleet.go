package main

import (
	"context"
	"errors"
	"net/http"
	"os"
	"path/filepath"
	"sync"
	"sync/atomic"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"

	"github.com/agentevents/agentevents/gen"
	"github.com/agentevents/agentevents/gen/client"
	"github.com/agentevents/agentevents/store/pgtest"
)

// followers is how many read the feed.
const followers = 2

// fleet is a run: some replicas on one PostgreSQL database, and their troubles.
type fleet struct {
	*scene
	life       *life // of all the goroutines, and of no server
	dir        string
	cluster    *pgtest.Cluster // nil for a server that somebody else runs
	url        string          // of the database
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

func (f *fleet) rules() rules {
	return rules{excused: f.book.excused, counted: true, times: f.book.times, hits: f.book.hits}
}

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
		server := pgtest.At(f.postgres)
		f.url, err = server.Create(ctx)
		return func() error { return server.Drop(context.WithoutCancel(ctx), f.url) }, err
	}
	if err := os.Chmod(f.dir, 0o755); err != nil { //nolint:gosec // the server may run as another user
		return nil, err
	}
	f.cluster, err = pgtest.Start(ctx, pgtest.Options{
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
	f.beginOutages(ctx)
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
	return f.all(func(r *replica) error {
		defer f.book.times.server(r.number, true)
		return r.start(ctx)
	})
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

// finish lets the replicas work in peace until all that is owed has arrived, and stops them in order.
func (f *fleet) finish(ctx context.Context) error {
	if err := f.calm(); err != nil {
		return err
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
