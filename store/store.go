package store

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"slices"
	"time"

	"github.com/gofrs/flock"
	"gorm.io/gorm"

	"github.com/agentevents/agentevents/webhook"
)

// Options are what a store is opened with.
type Options struct {
	URL      string           // sqlite:PATH
	Now      func() time.Time // the one clock of all due times; nil means time.Now
	Lease    time.Duration    // how long a claim holds a lane; 0 means 15 s; must be longer than an attempt takes
	Window   time.Duration    // how long a delivery is tried, from its change on; 0 means 24 h
	Longest  time.Duration    // the longest that anything waits until it is due again; 0 means what webhook.DefaultSchedule has
	Keep     time.Duration    // how long what has ended is kept, from its end on; 0 means 30 days
	KeepRows int              // how many deliveries, and how many changes, of all clients are kept at most; 0 means 1,000,000
	Key      []byte           // KeySize bytes that signing secrets are encrypted with; nil leaves them as they are
	Log      *slog.Logger     // nil means slog.Default
	Trace    Tracer           // of each status change; nil means none
}

func (o *Options) setDefaults() {
	if o.Now == nil {
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
	lock    *flock.Flock
	seal    *seal
	pools   []*sql.DB
	reader  *gorm.DB
	writes  *writer
	dueSoon chan struct{}
	repeats repeats
	feeds   feeds
	replays chan struct{}
	pruner  pruner // of Work alone
	passed  struct{ deliveries, changes passed }
	fresh   fresh

	requests requests
}

// Open opens the database, makes it if there is none, and brings its schema up to date. One process owns the file:
// a second one is refused. Leases of the process before are dropped, so that what was in flight goes out at once.
func Open(ctx context.Context, o Options) (*Store, error) {
	s, err := open(ctx, o, own)
	if err != nil {
		return nil, err
	}
	if err := errors.Join(s.write(ctx, s.dropLeases), s.sealSecrets(ctx), s.shareRequests(ctx)); err != nil {
		return nil, errors.Join(err, s.Close())
	}
	s.fresh.add(0) // what was under way before is found by a look at all lanes alone
	return s, nil
}

// OpenBeside opens a database that is there, also while another process serves it, whose leases it leaves alone. It is
// for short work of an operator.
func OpenBeside(ctx context.Context, o Options) (*Store, error) {
	file, err := path(o.URL)
	if err != nil {
		return nil, err
	}
	if _, err := os.Stat(file); err != nil {
		return nil, fmt.Errorf("there is no database yet, `agentevents serve` makes it: %w", err)
	}
	return open(ctx, o, func(file string) (*flock.Flock, error) {
		lock, err := own(file)
		if errors.Is(err, errServed) {
			return flock.New(file + ".lock"), nil
		}
		return lock, err
	})
}

func open(ctx context.Context, o Options, own func(file string) (*flock.Flock, error)) (*Store, error) {
	o.setDefaults()
	file, err := path(o.URL)
	if err != nil {
		return nil, err
	}
	seal, err := newSeal(o.Key)
	if err != nil {
		return nil, err
	}
	lock, err := own(file)
	if err != nil {
		return nil, err
	}
	s := &Store{Options: o, lock: lock, seal: seal, dueSoon: make(chan struct{}, 1), replays: make(chan struct{}, 1)}
	if err := s.open(ctx, file); err != nil {
		return nil, errors.Join(fmt.Errorf("open %s: %w", file, err), s.Close())
	}
	return s, nil
}

func (s *Store) open(ctx context.Context, file string) error {
	if err := s.openWriter(ctx, file); err != nil {
		return err
	}
	pool, err := openReaders(file)
	if err != nil {
		return err
	}
	s.pools = append(s.pools, pool)
	s.reader, err = orm(pool, s.Log)
	return err
}

func (s *Store) openWriter(ctx context.Context, file string) error {
	pool, err := openWriter(file)
	if err != nil {
		return err
	}
	s.pools = append(s.pools, pool)
	if err := s.migrate(ctx, pool); err != nil {
		return err
	}
	conn, err := pool.Conn(ctx)
	if err != nil {
		return err
	}
	db, err := orm(conn, s.Log)
	if err != nil {
		return errors.Join(err, conn.Close())
	}
	s.writes = newWriter(db, conn)
	return nil
}

// migrate leaves the schema alone when another process has the file.
func (s *Store) migrate(ctx context.Context, pool *sql.DB) error {
	if s.lock.Locked() {
		return migrate(ctx, pool)
	}
	return checkSchema(ctx, pool)
}

// Close ends the writer after what it is at, and closes the database.
func (s *Store) Close() error {
	var errs []error
	if s.writes != nil {
		errs = append(errs, s.writes.close())
	}
	for _, pool := range slices.Backward(s.pools) { // the last to close tidies up, which readers cannot
		errs = append(errs, pool.Close())
	}
	return errors.Join(append(errs, s.lock.Unlock())...)
}

// Ready returns nil when the database takes a write, and an error when it has not done so before ctx ends.
func (s *Store) Ready(ctx context.Context) error {
	return failure(s.writes.try(ctx, func(tx *gorm.DB) error {
		return tx.Exec("UPDATE probes SET at = ? WHERE id = 1", s.now()).Error
	}))
}

// now is the time as rows have it: milliseconds since 1970.
func (s *Store) now() int64 { return s.Now().UnixMilli() }

// read is the pool of readers, for one request.
func (s *Store) read(ctx context.Context) *gorm.DB { return s.reader.WithContext(ctx) }

// write runs a function in a transaction and returns when it is durable. A domain error of the function undoes what
// it did and comes back as it is; trouble of the database comes back as *Error of kind Unavailable.
func (s *Store) write(ctx context.Context, fn func(tx *gorm.DB) error) error {
	return failure(s.writes.do(ctx, fn))
}

// failure makes an error of the database fit to leave the package.
func failure(err error) error {
	var known *Error
	if err == nil || errors.As(err, &known) || !unavailable(err) {
		return err
	}
	return &Error{Kind: Unavailable, Message: "the store is not available, try again", cause: err}
}

// millis is a row's time as Go has it.
func millis(ms int64) time.Time { return time.UnixMilli(ms).UTC() }
