package store

import (
	"context"
	"database/sql"
	"database/sql/driver"
	"errors"
	"fmt"
	"io"
	"maps"
	"net"
	"strconv"
	"strings"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"
	"github.com/jackc/pgx/v5/stdlib"
	"gorm.io/driver/postgres"
	"gorm.io/gorm"
	"gorm.io/gorm/logger"

	"github.com/agentevents/agentevents/store/internal/schema"
)

const (
	pgWriters     = 8                // connections that write, and
	pgReaders     = 8                // that read; one more listens
	pgLock        = 3 * time.Second  // that a statement waits for a lock: longer than who holds it may do nothing
	pgIdle        = 2 * time.Second  // that a transaction may do nothing: its process is frozen or cut off
	pgPatience    = 10 * time.Second // for one transaction
	pgStatement   = 8 * time.Second  // for a statement that writes, and
	pgQuery       = 20 * time.Second // for one that reads
	pgDialTimeout = 5 * time.Second
)

func isPostgres(databaseURL string) bool {
	return strings.HasPrefix(databaseURL, "postgres://") || strings.HasPrefix(databaseURL, "postgresql://")
}

// CheckURL says what is wrong with the URL of a PostgreSQL database, without repeating it: it may hold a password.
func CheckURL(databaseURL string) error {
	if _, err := pgx.ParseConfig(databaseURL); err != nil {
		return errors.New("must be the URL of a PostgreSQL database, such as postgres://user@host:5432/database")
	}
	return nil
}

// Redacted is a database URL without its password and its settings.
func Redacted(databaseURL string) string {
	if !isPostgres(databaseURL) {
		return databaseURL
	}
	c, err := pgx.ParseConfig(databaseURL)
	if err != nil {
		return "postgres:"
	}
	return fmt.Sprintf("postgres://%s@%s/%s", c.User, net.JoinHostPort(c.Host, strconv.Itoa(int(c.Port))), c.Database)
}

// connect returns what connections to a PostgreSQL server that writes are made with.
func connect(databaseURL string, settings map[string]string) (*pgx.ConnConfig, error) {
	c, err := connectToAny(databaseURL, settings, "")
	if err == nil {
		fits(c, isPrimary)
	}
	return c, err
}

// connectToAny is connect for a server that may be a standby, and runs further statements when it has connected.
func connectToAny(databaseURL string, settings map[string]string, then string) (*pgx.ConnConfig, error) {
	c, err := pgx.ParseConfig(databaseURL)
	if err != nil {
		return nil, CheckURL(databaseURL)
	}
	c.ConnectTimeout = pgDialTimeout
	begins(c, settings, then)
	fits(c, holdsAll)
	return c, nil
}

func milliseconds(d time.Duration) string { return strconv.FormatInt(d.Milliseconds(), 10) }

func openPool(databaseURL string, connections int, settings map[string]string) (*sql.DB, error) {
	c, err := connect(databaseURL, settings)
	if err != nil {
		return nil, err
	}
	return pool(c, connections), nil
}

func pool(c *pgx.ConnConfig, connections int) *sql.DB {
	db := stdlib.OpenDB(*c)
	db.SetMaxOpenConns(connections)
	db.SetMaxIdleConns(connections)
	return db
}

// byIndex has statements look rows up by indexes and in the order in which they join tables, whatever the server believes
// of how many there are: of a table that grows it knows by the minute, and of one that is new that it is empty. Plans are
// made once.
var byIndex = map[string]string{
	"plan_cache_mode": "force_generic_plan", "enable_seqscan": "off", "enable_hashjoin": "off", "enable_mergejoin": "off",
	"jit": "off", "enable_bitmapscan": "off", "join_collapse_limit": "1",
}

func openPgWriters(databaseURL string) (*sql.DB, error) {
	settings := maps.Clone(byIndex)
	settings["statement_timeout"] = milliseconds(pgStatement)
	return openPool(databaseURL, pgWriters, settings)
}

func openPgReaders(databaseURL string) (*sql.DB, error) {
	c, err := connectToAny(databaseURL, map[string]string{"statement_timeout": milliseconds(pgQuery)}, readOnly)
	if err != nil {
		return nil, err
	}
	fits(c, isPrimary)
	c.DialFunc = listening(c.DialFunc)
	return pool(c, pgReaders), nil
}

// openPgVerifier opens a database for reading, for as long as that takes, also on a standby.
func openPgVerifier(databaseURL string) (*sql.DB, error) {
	c, err := connectToAny(databaseURL, map[string]string{"idle_in_transaction_session_timeout": "0"}, readOnly)
	if err != nil {
		return nil, err
	}
	return pool(c, 2), nil
}

// discreetPostgres is discreetSQLite for PostgreSQL.
type discreetPostgres struct{ *postgres.Dialector }

// Explain implements gorm.Dialector.
func (discreetPostgres) Explain(sql string, _ ...any) string { return sql }

// pgORM puts GORM on top of a pool. It names the columns that it reads, so that one that a later version of the program
// adds is no trouble for the statements that are prepared.
func pgORM(pool gorm.ConnPool, log logger.Interface) (*gorm.DB, error) {
	return gorm.Open(discreetPostgres{&postgres.Dialector{Config: &postgres.Config{Conn: pool}}}, &gorm.Config{
		DisableAutomaticPing:   true,
		SkipDefaultTransaction: true,
		QueryFields:            true,
		TranslateError:         true,
		Logger:                 log,
	})
}

// migratePostgres brings the schema up to date on connections of its own, since a migration may take long.
func migratePostgres(ctx context.Context, databaseURL string) error {
	db, err := openPool(databaseURL, 2, map[string]string{"idle_in_transaction_session_timeout": "0"})
	if err != nil {
		return err
	}
	return errors.Join(schema.Postgres.Migrate(ctx, db), db.Close())
}

// databaseClock has all times come from the database's clock, unless the store was given one.
func (s *Store) databaseClock() *databaseClock {
	if s.Now != nil {
		return nil
	}
	c := &databaseClock{}
	s.Now = c.now
	return c
}

// The classes of PostgreSQL's error codes that are about the server and not about the statement.
var pgTrouble = []string{
	"08",    // the connection
	"25P03", // the transaction did nothing for too long
	"25006", // the server only reads: it is a standby
	"40",    // a deadlock, or the transactions cannot be put in an order
	"53",    // no memory, disk or connection is left
	"55P03", // a lock was not to be had in time
	"57",    // the server stops, or the statement took too long
	"58",    // the system
	"XX",    // broken data
}

// pgUnavailable is unavailable for PostgreSQL.
func pgUnavailable(err error) bool {
	var said *pgconn.PgError
	if errors.As(err, &said) {
		for _, class := range pgTrouble {
			if strings.HasPrefix(said.Code, class) {
				return true
			}
		}
		return false
	}
	var network net.Error
	var refused *pgconn.ConnectError
	return errors.As(err, &network) || errors.As(err, &refused) || errors.Is(err, io.EOF) || errors.Is(err, net.ErrClosed) ||
		errors.Is(err, io.ErrUnexpectedEOF) || errors.Is(err, driver.ErrBadConn) || pgconn.SafeToRetry(err)
}

// inTheWay says whether an error is that somebody held what a statement needed.
func inTheWay(err error) bool {
	var said *pgconn.PgError
	return errors.As(err, &said) && said.Code == "55P03"
}

// again says whether a transaction that was rolled back for an error may succeed when it is begun anew at once.
func again(err error) bool {
	var said *pgconn.PgError
	if !errors.As(err, &said) {
		return pgconn.SafeToRetry(err) || errors.Is(err, driver.ErrBadConn)
	}
	switch said.Code {
	case "40001", "40P01", // it could not be put in an order with others, or they waited for each other
		"0A000", // a table has another column since the statement was prepared
		"23503": // what a row refers to went away meanwhile
		return true
	}
	return false
}
