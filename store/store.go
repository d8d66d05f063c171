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

// Options configure a store. Only URL is required.
type Options struct {
	// URL is sqlite:PATH, or a libpq URL such as postgres://user@host:5432/database.
	URL string
	// Now is the clock of all due times. Nil means time.Now on SQLite, and the database's clock on PostgreSQL.
	Now func() time.Time
	// Lease is the duration of a lane's lease; 0 means 15 s. It must be longer than an attempt takes.
	Lease time.Duration
	// Window is the time, from its change, in which a delivery is tried; 0 means 24 h.
	Window time.Duration
	// DeployWindow is the time in which an answer such as 404 is retried, since its receiver may be in the middle of a
	// deployment; 0 means none.
	DeployWindow time.Duration
	// Longest is the longest delay until a retry or a probe; 0 means that of webhook.DefaultSchedule.
	Longest time.Duration
	// Keep is the retention time of finished rows, from their end; 0 means 30 days.
	Keep time.Duration
	// KeepRows is the maximum number of deliveries, and of status changes, of all clients together; 0 means 1,000,000.
	// Beyond it, the oldest rows of the clients that have the most are deleted.
	KeepRows int
	// Key encrypts signing secrets and has KeySize bytes. With nil, secrets are stored in plain text.
	Key []byte
	// Log is the logger; nil means slog.Default.
	Log *slog.Logger
	// Trace begins the span of a status change; nil means no tracing.
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
	peers        *peers // the other processes that share the database; nil on SQLite
	dueSoon      chan struct{}
	repeats      repeatCounter
	feeds        feeds
	replays      chan struct{}
	sweeps       chan struct{}
	pruner       pruner // used only by the goroutine of Work's pruning job
	clock        clockWatch
	skipped      struct{ deliveries, changes skippedRows }
	freshChanges freshChanges

	monotonic func() time.Time // a clock that never steps; the tests replace it
	downtimes *downtimes
	asyncLog  asyncHandler // the log of maintenance, which may be written with a lock held
	readiness readinessCheck
	closed    atomic.Bool

	requestCounter clientCounter // of requests, per hour
	pendingCounter clientCounter // of pending deliveries, without a period
	atLimit        atLimit
	handoff        atomic.Pointer[webhook.HandoffFuncs]
	keyMissing     atomic.Bool // another process encrypted a secret with a key that this process lacks
	unreadableLog  sync.Mutex
	unreadableAt   map[string]time.Time // when an unreadable secret of a client was logged; under unreadableLog
	statusUpdates  *sqldb.Batcher[*statusUpdate]
	results        *sqldb.Batcher[*result]
	gone           *sqldb.Batcher[*result] // results of answers of 410
	counts         totalCounts
}

// Open opens the database and migrates its schema.
//
// It creates an SQLite file that does not exist. One process owns the file: Open refuses a second one, and drops the
// leases of the previous process, so that deliveries that were in flight are due at once. Any number of processes may
// open a PostgreSQL database.
func Open(ctx context.Context, o Options) (*Store, error) {
	s := &Store{Options: o}
	if err := s.openAs(ctx); err != nil {
		return nil, err
	}
	if err := errors.Join(s.dropLeases(ctx), s.compareClock(ctx), s.firstEpoch(ctx), s.encryptSecrets(ctx),
		s.shareRequests(ctx)); err != nil {
		return nil, errors.Join(err, s.Close())
	}
	s.freshChanges.add(0) // only a claim over all lanes finds deliveries of the previous process
	return s, nil
}

// OpenAlongside opens an existing database for a short command of an operator. Another process may serve the database
// meanwhile, and keeps its leases.
func OpenAlongside(ctx context.Context, o Options) (*Store, error) {
	s := &Store{Options: o, alongside: true}
	if err := s.openAs(ctx); err != nil {
		return nil, err
	}
	return s, nil
}

// openAs opens the database without the steps of a start.
func (s *Store) openAs(ctx context.Context) (err error) {
	s.setDefaults()
	s.monotonic = time.Now
	s.asyncLog = newAsyncHandler(s.Log)
	s.downtimes = newDowntimes(slog.New(s.asyncLog), func() time.Time { return s.monotonic() })
	s.dueSoon = make(chan struct{}, 1)
	s.replays, s.sweeps = make(chan struct{}, 1), make(chan struct{}, 1)
	if s.cipher, err = newSecretCipher(s.Key); err != nil {
		return err
	}
	s.engine = engineOf(s.URL)
	if err := s.engine.open(ctx, s); err != nil {
		return errors.Join(fmt.Errorf("open %s: %w", Redacted(s.URL), err), s.Close())
	}
	s.reader.Logger = s.downtimes.observe(s.reader.Logger)
	s.statusUpdates = batcher(s, s.setBatch)
	s.results, s.gone = batcher(s, s.recordBatch), batcher(s, s.recordFirstGone)
	return nil
}

// Close finishes the transaction in progress and closes the database.
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

// now is the time as rows have it, in milliseconds since 1970.
func (s *Store) now() int64 { return s.clock.use(s.Now().UnixMilli()) }

// read returns the pool of readers for the queries of one request.
func (s *Store) read(ctx context.Context) *sqldb.Reader { return sqldb.Read(ctx, s.reader) }

// Readers returns the number of connections that read. A read holds one of them until it has its rows.
func (s *Store) Readers() int { return s.engine.readers() }

// write runs a function in a transaction and returns when it is durable. A domain error of the function rolls the
// transaction back and is returned unchanged. A database failure is returned as *Error of kind Unavailable.
func (s *Store) write(ctx context.Context, fn sqldb.Work) error {
	return s.noteWrite(ctx, s.writes.Do(ctx, fn))
}

// noteWrite records the result of a write for Ready and the log, and returns the error for the caller.
func (s *Store) noteWrite(ctx context.Context, err error) error {
	s.downtimes.note(ctx, err)
	return publicError(err)
}

// batcher returns a Batcher that processes tasks in transactions of the store.
func batcher[T sqldb.Task](
	s *Store, process func(tx *sqldb.Tx, tasks []T, wait bool) (sqldb.Skipped[T], error),
) *sqldb.Batcher[T] {
	return sqldb.NewBatcher(sqldb.BatcherOptions[T]{
		Writer: s.writes, Process: process, MapError: s.noteWrite, Unavailable: isDatabaseFailure,
		MaxContended: postgres.MaxWriters / 4,
	})
}

// millis converts the time of a row.
func millis(ms int64) time.Time { return time.UnixMilli(ms).UTC() }

// Work runs the store's background jobs until ctx ends. Each job has its own goroutine. A new replay and a new
// sweep start at once; the other jobs run every second.
func (s *Store) Work(ctx context.Context) {
	var jobs sync.WaitGroup
	jobs.Go(func() { s.runEvery(ctx, s.replays, s.replay) })
	jobs.Go(func() { s.runEvery(ctx, s.sweeps, s.runSweeps) })
	jobs.Go(func() { s.runEvery(ctx, nil, s.prune) })
	jobs.Go(func() { s.runEvery(ctx, nil, s.writeCounts) })
	jobs.Go(func() { s.runEvery(ctx, nil, s.countPending) })
	jobs.Go(func() { s.runEvery(ctx, nil, s.maintain) })
	jobs.Go(func() { s.runEvery(ctx, nil, s.watchClock) })
	if s.peers != nil {
		jobs.Go(func() { s.runEvery(ctx, nil, s.pollChanges) })
	}
	jobs.Wait()
	s.runJob(context.WithoutCancel(ctx), s.writeCounts)
}

// maintain runs the engine's maintenance of its files.
func (s *Store) maintain(ctx context.Context) error { return publicError(s.engine.maintain(ctx)) }

// writeCounts writes the counters that are kept in memory.
func (s *Store) writeCounts(ctx context.Context) error {
	return errors.Join(s.writeRepeats(ctx), s.shareRequests(ctx))
}

// runEvery runs a job at once, then every second and on each signal, until ctx ends.
func (s *Store) runEvery(ctx context.Context, signals <-chan struct{}, job func(context.Context) error) {
	tick := time.NewTicker(time.Second)
	defer tick.Stop()
	for {
		s.runJob(ctx, job)
		select {
		case <-ctx.Done():
			return
		case <-signals:
		case <-tick.C:
		}
	}
}

// runJob runs a job and logs its error.
func (s *Store) runJob(ctx context.Context, job func(context.Context) error) {
	if err := job(ctx); err != nil && ctx.Err() == nil {
		s.Log.Warn("background job failed", "error", err)
	}
}

// signal wakes the goroutine that receives from a channel with a buffer of one.
func signal(c chan struct{}) {
	select {
	case c <- struct{}{}:
	default:
	}
}
