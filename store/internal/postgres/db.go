package postgres

import (
	"context"
	"database/sql"
	"errors"
	"maps"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/stdlib"

	"github.com/agentevents/agentevents/store/internal/schema"
)

const (
	// MaxWriters is how many connections write.
	MaxWriters = 8
	// TransactionTimeout is how long a transaction may take.
	TransactionTimeout = 10 * time.Second
)

const (
	maxReaders     = 8               // connections that read; one more listens
	lockTimeout    = 3 * time.Second // that a statement waits for a lock: longer than its holder may be idle
	idleTimeout    = 2 * time.Second // that a transaction may do nothing: its process is suspended or cut off
	writeTimeout   = 8 * time.Second // for a statement that writes, and
	readTimeout    = 20 * time.Second
	connectTimeout = 5 * time.Second
)

// Options are what a database is opened with.
type Options struct {
	URL       string
	Alongside bool // another process may serve the database; then its schema must be up to date
}

// DB is an open database. Its methods are safe for concurrent use.
type DB struct {
	url              string
	writers, readers *sql.DB
}

// Open opens a database of a server that writes. Unless it is opened alongside the processes that serve it, its schema
// is brought up to date.
func Open(ctx context.Context, o Options) (*DB, error) {
	db := &DB{url: o.URL}
	if err := db.open(ctx, o.Alongside); err != nil {
		return nil, errors.Join(err, db.Close())
	}
	return db, nil
}

func (db *DB) open(ctx context.Context, alongside bool) (err error) {
	if db.writers, err = openWriters(db.url); err != nil {
		return err
	}
	if db.readers, err = openReaders(db.url); err != nil {
		return err
	}
	if alongside {
		err = CheckSchema(ctx, db.writers)
	} else if err = ping(ctx, db.writers); err == nil {
		err = Migrate(ctx, db.url)
	}
	if err != nil {
		return err
	}
	return checkWritable(ctx, db.writers)
}

// Writers are the connections that write.
func (db *DB) Writers() *sql.DB { return db.writers }

// Readers are the connections that read.
func (db *DB) Readers() *sql.DB { return db.readers }

// Close closes the connections.
func (db *DB) Close() error {
	var errs []error
	for _, pool := range []*sql.DB{db.readers, db.writers} {
		if pool != nil {
			errs = append(errs, pool.Close())
		}
	}
	return errors.Join(errs...)
}

// CheckSchema returns nil if a server is reached and its schema is up to date.
func CheckSchema(ctx context.Context, db *sql.DB) error {
	if err := ping(ctx, db); err != nil {
		return err
	}
	return schema.Postgres.Check(ctx, db)
}

// Migrate brings the schema of a database up to date, on connections of its own: a migration may take long.
func Migrate(ctx context.Context, databaseURL string) error {
	c, err := writerConfig(databaseURL, map[string]string{idleSetting: "0"})
	if err != nil {
		return err
	}
	db := openPool(c, 2)
	return errors.Join(schema.Postgres.Migrate(ctx, db), db.Close())
}

// Connect opens one connection to a server that writes, on which a transaction may be idle for any time.
func Connect(ctx context.Context, databaseURL string) (*pgx.Conn, error) {
	c, err := writerConfig(databaseURL, map[string]string{idleSetting: "0"})
	if err != nil {
		return nil, err
	}
	conn, err := pgx.ConnectConfig(ctx, c)
	if err != nil {
		return nil, unreachable(err)
	}
	return conn, nil
}

// OpenVerifier opens a database for reading, for as long as that takes, also on a standby.
func OpenVerifier(databaseURL string) (*sql.DB, error) {
	c, err := config(databaseURL, map[string]string{idleSetting: "0"}, readOnlySQL)
	if err != nil {
		return nil, err
	}
	return openPool(c, 2), nil
}

func openWriters(databaseURL string) (*sql.DB, error) {
	settings := PlanSettings()
	settings[statementSetting] = milliseconds(writeTimeout)
	c, err := writerConfig(databaseURL, settings)
	if err != nil {
		return nil, err
	}
	return openPool(c, MaxWriters), nil
}

func openReaders(databaseURL string) (*sql.DB, error) {
	c, err := config(databaseURL, map[string]string{statementSetting: milliseconds(readTimeout)}, readOnlySQL)
	if err != nil {
		return nil, err
	}
	addCheck(c, isPrimary)
	c.DialFunc = withReadDeadline(c.DialFunc)
	return openPool(c, maxReaders), nil
}

func openPool(c *pgx.ConnConfig, connections int) *sql.DB {
	db := stdlib.OpenDB(*c)
	db.SetMaxOpenConns(connections)
	db.SetMaxIdleConns(connections)
	return db
}

// writerConfig is what connections to a server that writes are made with.
func writerConfig(databaseURL string, settings map[string]string) (*pgx.ConnConfig, error) {
	c, err := config(databaseURL, settings, "")
	if err == nil {
		addCheck(c, isPrimary)
	}
	return c, err
}

// config is what connections to a server are made with, which may be a standby. Their sessions begin with settings, and
// then with statements.
func config(databaseURL string, settings map[string]string, statements string) (*pgx.ConnConfig, error) {
	c, err := pgx.ParseConfig(databaseURL)
	if err != nil {
		return nil, CheckURL(databaseURL)
	}
	c.ConnectTimeout = connectTimeout
	prepareSessions(c, settings, statements)
	addCheck(c, encodesAll)
	return c, nil
}

// PlanSettings have statements look rows up by indexes and in the order in which they join tables, whatever the server
// believes of how many rows there are: of a table that grows it knows by the minute, and of one that is new that it is
// empty. Plans are made once.
func PlanSettings() map[string]string { return maps.Clone(planSettings) }

var planSettings = map[string]string{
	"enable_seqscan": "off", "enable_hashjoin": "off", "enable_mergejoin": "off", "enable_bitmapscan": "off",
	"plan_cache_mode": "force_generic_plan", "jit": "off", "join_collapse_limit": "1",
}
