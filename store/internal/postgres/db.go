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
	// MaxReaders is the number of connections that read. Another one listens.
	MaxReaders = 8
	// MaxWriters is the number of connections that write.
	MaxWriters = 8
	// TransactionTimeout is the time limit of a transaction.
	TransactionTimeout = 10 * time.Second
)

const (
	lockTimeout    = 3 * time.Second // of a statement that waits for a lock: longer than the lock's holder may be idle
	idleTimeout    = 2 * time.Second // of a transaction that sends nothing: its process is suspended or cut off
	writeTimeout   = 8 * time.Second // of a statement that writes
	readTimeout    = 20 * time.Second
	connectTimeout = 5 * time.Second
)

// Options configure Open.
type Options struct {
	URL       string
	Alongside bool // another process may serve the database, whose schema must then be up to date
}

// DB is an open database. Its methods are safe for concurrent use.
type DB struct {
	url              string
	writers, readers *sql.DB
}

// Open opens a database on a primary server. It migrates the schema, unless it opens the database alongside the
// processes that serve it.
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

// Writers returns the pool of connections that write.
func (db *DB) Writers() *sql.DB { return db.writers }

// Readers returns the pool of connections that read.
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

// CheckSchema returns nil if the server answers and the schema is up to date.
func CheckSchema(ctx context.Context, db *sql.DB) error {
	if err := ping(ctx, db); err != nil {
		return err
	}
	return schema.Postgres.Check(ctx, db)
}

// Migrate migrates the schema of a database. It uses connections without an idle timeout, since a migration may take
// long.
func Migrate(ctx context.Context, databaseURL string) error {
	c, err := writerConfig(databaseURL, map[string]string{idleSetting: "0"})
	if err != nil {
		return err
	}
	db := openPool(c, 2)
	return errors.Join(schema.Postgres.Migrate(ctx, db), db.Close())
}

// Connect opens one connection to a primary server. Its transactions may be idle for any time.
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

// OpenVerifier opens a database for reading without a time limit. The server may be a standby.
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
	addCheck(c, checkPrimary)
	c.DialFunc = withReadDeadline(c.DialFunc)
	return openPool(c, MaxReaders), nil
}

func openPool(c *pgx.ConnConfig, connections int) *sql.DB {
	db := stdlib.OpenDB(*c)
	db.SetMaxOpenConns(connections)
	db.SetMaxIdleConns(connections)
	return db
}

// writerConfig returns the configuration of connections to a primary server.
func writerConfig(databaseURL string, settings map[string]string) (*pgx.ConnConfig, error) {
	c, err := config(databaseURL, settings, "")
	if err == nil {
		addCheck(c, checkPrimary)
	}
	return c, err
}

// config returns the configuration of connections to a server, which may be a standby. Each session begins with the
// settings, and then executes the statements.
func config(databaseURL string, settings map[string]string, statements string) (*pgx.ConnConfig, error) {
	c, err := pgx.ParseConfig(databaseURL)
	if err != nil {
		return nil, CheckURL(databaseURL)
	}
	c.ConnectTimeout = connectTimeout
	prepareSessions(c, settings, statements)
	addCheck(c, checkEncoding)
	return c, nil
}

// PlanSettings make statements use indexes, and join tables in the order of the statement. The server's row estimates
// do not matter then: they lag behind a growing table by minutes, and say that a new table is empty. Each plan is made
// once.
func PlanSettings() map[string]string { return maps.Clone(planSettings) }

var planSettings = map[string]string{
	"enable_seqscan": "off", "enable_hashjoin": "off", "enable_mergejoin": "off", "enable_bitmapscan": "off",
	"plan_cache_mode": "force_generic_plan", "jit": "off", "join_collapse_limit": "1",
}
