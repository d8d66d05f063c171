package store

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"sync"
	"sync/atomic"
	"time"

	"gorm.io/gorm"

	"github.com/agentevents/agentevents/store/internal/postgres"
	"github.com/agentevents/agentevents/store/internal/sqldb"
	"github.com/agentevents/agentevents/webhook"
)

// Options are what a store is opened with.
type Options struct {
	// URL is sqlite:PATH, or postgres://… as libpq has it.
	URL string
	// Now is the one clock of all due times; nil means time.Now with SQLite, else the database's.
	Now func() time.Time
	// Lease is how long a claim holds a lane; 0 means 15 s. It must be longer than an attempt takes.
	Lease time.Duration
	// Window is how long a delivery is tried, from its change on; 0 means 24 h.
	Window time.Duration
	// DeployWindow is how long answers of a receiver that is being deployed are tried again; 0 means not at all.
	DeployWindow time.Duration
	// Longest is the longest wait until anything is due again; 0 means that of webhook.DefaultSchedule.
	Longest time.Duration
	// Keep is how long what has ended is kept, from its end on; 0 means 30 days.
	Keep time.Duration
	// KeepRows is how many deliveries, and how many changes, of all clients are kept at most; 0 means 1,000,000.
	KeepRows int
	// Key is KeySize bytes that signing secrets are encrypted with; nil leaves them as they are.
	Key []byte
	// Log gets what happens; nil means slog.Default.
	Log *slog.Logger
	// Trace begins the part of a trace that is a status change; nil means none.
	Trace Tracer
}

func (o *Options) setDefaults() {
	if o.Now == nil && !postgres.IsURL(o.URL) {
		o.Now = time.Now
	}
	if o.Lease == 0 {
		o.Lease = 15 * time.Second
	}
	if o.Window == 0 {
		o.Window = 24 * time.Hour
	}
	if o.Longest == 0 {
		o.Longest = webhook.DefaultSchedule().Longest()
	}
	if o.Keep == 0 {
		o.Keep = 30 * 24 * time.Hour
	}
	if o.KeepRows == 0 {
		o.KeepRows = 1_000_000
	}
	if o.Log == nil {
		o.Log = slog.Default()
	}
	if o.Trace == nil {
		o.Trace = untraced
	}
}

// Store is an open database. Its methods are safe for concurrent use.
type Store struct {
	Options
	alongside    bool // another process may serve the database
	copying      bool // it is a copy that is not complete yet
	engine       engine
	cipher       *secretCipher
	reader       *gorm.DB
	writes       sqldb.Writer
	peers        *peers // that share the database; nil with SQLite
	dueSoon      chan struct{}
	repeats      repeatCounter
	feeds        feeds
	replays      chan struct{}
	pruner       pruner // of Work alone
	clock        clockWatch
	skipped      struct{ deliveries, changes skippedRows }
	freshChanges freshChanges

	monotonic func() time.Time // the time for what must not depend on a clock that is set
	downtimes *downtimes
	asyncLog  asyncHandler // the log of what looks after the database
	readiness readinessProbe
	closed    atomic.Bool

	requestCounter requestCounter
	handoff        atomic.Pointer[webhook.Handoff]
	locked         atomic.Bool // a secret was encrypted by another process, with a key that this one lacks
	settings       *sqldb.Batcher[*setting]
	results        *sqldb.Batcher[*result]
	counts         totalCounts
}

// Open opens the database and brings its schema up to date. An SQLite file is made if there is none, and one process
// owns it: a second one is refused, and leases of the process before are dropped, so that what was in flight goes out
// at once. A PostgreSQL database is shared by any number of processes.
func Open(ctx context.Context, o Options) (*Store, error) {
	s := &Store{Options: o}
	if err := s.openAs(ctx); err != nil {
		return nil, err
	}
	if err := errors.Join(s.dropLeases(ctx), s.compareClock(ctx), s.firstEpoch(ctx), s.encryptSecrets(ctx),
		s.shareRequests(ctx)); err != nil {
		return nil, errors.Join(err, s.Close())
	}
	s.freshChanges.add(0) // what was under way before is found by a look at all lanes alone
	return s, nil
}

// OpenAlongside opens a database that is there, also while another process serves it, whose leases it leaves alone. It
// is for short work of an operator.
func OpenAlongside(ctx context.Context, o Options) (*Store, error) {
	s := &Store{Options: o, alongside: true}
	if err := s.openAs(ctx); err != nil {
		return nil, err
	}
	return s, nil
}

// openAs opens either database.
func (s *Store) openAs(ctx context.Context) (err error) {
	s.setDefaults()
	s.monotonic = time.Now
	s.asyncLog = newAsyncHandler(s.Log)
	s.downtimes = newDowntimes(slog.New(s.asyncLog), func() time.Time { return s.monotonic() })
	s.dueSoon, s.replays = make(chan struct{}, 1), make(chan struct{}, 1)
	if s.cipher, err = newSecretCipher(s.Key); err != nil {
		return err
	}
	s.engine = engineOf(s.URL)
	if err := s.engine.open(ctx, s); err != nil {
		return errors.Join(fmt.Errorf("open %s: %w", Redacted(s.URL), err), s.Close())
	}
	s.reader.Logger = s.downtimes.observe(s.reader.Logger)
	s.settings, s.results = batcher(s, s.setBatch), batcher(s, s.recordBatch)
	return nil
}

// Close ends the writer after what it is at, and closes the database.
func (s *Store) Close() error {
	var errs []error
	s.closed.Store(true)
	if s.peers != nil {
		s.peers.close()
	}
	if s.writes != nil {
		errs = append(errs, s.writes.Close())
	}
	errs = append(errs, s.engine.close())
	s.readiness.wait()
	if s.asyncLog.queue != nil {
		s.asyncLog.queue.wait(closeWait)
	}
	return errors.Join(append(errs, s.engine.unlock())...)
}

// now is the time as rows have it: milliseconds since 1970.
func (s *Store) now() int64 { return s.clock.use(s.Now().UnixMilli()) }

// read is the pool of readers, for one request.
func (s *Store) read(ctx context.Context) *sqldb.ReadTx { return sqldb.Read(ctx, s.reader) }

// write runs a function in a transaction and returns when it is durable. A domain error of the function undoes what
// it did and comes back as it is; trouble of the database comes back as *Error of kind Unavailable.
func (s *Store) write(ctx context.Context, fn sqldb.Work) error {
	return s.outcome(ctx, s.writes.Do(ctx, fn))
}

// outcome notes what a transaction that writes came to, and makes it fit to leave the package.
func (s *Store) outcome(ctx context.Context, err error) error {
	s.downtimes.note(ctx, err)
	return publicError(err)
}

// batcher runs a function on batches of tasks.
func batcher[T sqldb.Task](s *Store, work func(tx *sqldb.Tx, tasks []T, wait bool) ([]T, error)) *sqldb.Batcher[T] {
	return sqldb.NewBatcher(sqldb.BatcherOptions[T]{
		Writer: s.writes, Work: work, Outcome: s.outcome, Unavailable: isDatabaseFailure,
		Contended: postgres.MaxWriters / 4,
	})
}

// millis is a row's time as Go has it.
func millis(ms int64) time.Time { return time.UnixMilli(ms).UTC() }

// Work runs the store's background jobs until ctx ends: replays at once, the others every second. No job waits for
// another.
func (s *Store) Work(ctx context.Context) {
	var jobs sync.WaitGroup
	jobs.Go(func() { s.runEvery(ctx, s.replays, s.replay) })
	jobs.Go(func() { s.runEvery(ctx, nil, s.prune) })
	jobs.Go(func() { s.runEvery(ctx, nil, s.writeCounts) })
	jobs.Go(func() { s.runEvery(ctx, nil, s.maintain) })
	jobs.Go(func() { s.runEvery(ctx, nil, s.watchClock) })
	if s.peers != nil {
		jobs.Go(func() { s.runEvery(ctx, nil, s.lookForChanges) })
	}
	jobs.Wait()
	s.runJob(context.WithoutCancel(ctx), s.writeCounts)
}

// maintain looks after SQLite's file.
func (s *Store) maintain(ctx context.Context) error { return publicError(s.engine.maintain(ctx)) }

// writeCounts writes what is counted in memory.
func (s *Store) writeCounts(ctx context.Context) error {
	return errors.Join(s.writeRepeats(ctx), s.shareRequests(ctx))
}

// runEvery runs a job at once, every second and when it is asked to, until ctx ends.
func (s *Store) runEvery(ctx context.Context, asked <-chan struct{}, job func(context.Context) error) {
	tick := time.NewTicker(time.Second)
	defer tick.Stop()
	for {
		s.runJob(ctx, job)
		select {
		case <-ctx.Done():
			return
		case <-asked:
		case <-tick.C:
		}
	}
}

// runJob runs a job and logs its error.
func (s *Store) runJob(ctx context.Context, job func(context.Context) error) {
	if err := job(ctx); err != nil && ctx.Err() == nil {
		s.Log.Warn("work of the store", "error", err)
	}
}

// signal wakes the receiver of a channel with a buffer of one.
func signal(c chan struct{}) {
	select {
	case c <- struct{}{}:
	default:
	}
}
