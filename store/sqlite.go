package store

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"log/slog"
	"math"
	"net/url"
	"os"
	"path/filepath"
	"strings"
	"time"

	"github.com/gofrs/flock"
	"github.com/mattn/go-sqlite3"
	"gorm.io/driver/sqlite"
	"gorm.io/gorm"

	"github.com/agentevents/agentevents/store/vfs" // which SQLite reads and writes by
)

// unmapped has no file be read through memory until the function that it returns is called: who is to find out what cannot
// be read must not end by it.
func unmapped() (done func()) {
	before := vfs.MapFrom(math.MaxInt64)
	return func() { vfs.MapFrom(before) }
}

const (
	busyTimeout = 5 * time.Second
	readers     = 4
	statements  = 256 // that a connection keeps prepared
)

// path returns the file that a database URL names.
func path(databaseURL string) (string, error) {
	file, ok := strings.CutPrefix(databaseURL, "sqlite:")
	if !ok || file == "" || strings.HasPrefix(file, ":memory:") {
		return "", errors.New("the database URL must be sqlite:PATH, with the path of a file")
	}
	return resolve(file)
}

// resolve follows links, so that a file has one name, and one lock. It need not exist yet, but its directory must.
func resolve(file string) (string, error) {
	if real, err := filepath.EvalSymlinks(file); err == nil {
		return real, nil
	}
	dir, err := filepath.EvalSymlinks(filepath.Dir(file))
	if err != nil {
		return "", fmt.Errorf("open %s: %w", file, err)
	}
	return filepath.Join(dir, filepath.Base(file)), nil
}

// errServed is returned for a file that another process has taken.
var errServed = errors.New("another process serves this database")

// own takes the file for this process alone. Two processes would each drop the other's leases.
func own(file string) (*flock.Flock, error) {
	lock := flock.New(file + ".lock")
	ok, err := lock.TryLock()
	if err != nil {
		return nil, fmt.Errorf("open %s: %w", file, err)
	}
	if !ok {
		return nil, fmt.Errorf("open %s: %w", file, errServed)
	}
	return lock, nil
}

// ownOrNot is own, but lets another process have the file.
func ownOrNot(file string) (*flock.Flock, error) {
	if _, err := os.Stat(file); err != nil {
		return nil, fmt.Errorf("there is no database yet, `agentevents serve` makes it: %w", err)
	}
	lock, err := own(file)
	if errors.Is(err, errServed) {
		return flock.New(file + ".lock"), nil
	}
	return lock, err
}

func (s *Store) openSQLite(ctx context.Context, own func(file string) (*flock.Flock, error)) error {
	file, err := path(s.URL)
	if err != nil {
		return err
	}
	if s.lock, err = own(file); err != nil {
		return err
	}
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
	return checkSchema(ctx, pool, sqliteSchema)
}

// dsn is the driver's name of a file, with what every connection has in common and the given pragmas.
func dsn(file string, pragmas ...string) string {
	common := fmt.Sprintf("_busy_timeout=%d&_foreign_keys=on&_synchronous=FULL&_mutex=no", busyTimeout.Milliseconds())
	return "file:" + (&url.URL{Path: file}).EscapedPath() + "?" + common + "&" + strings.Join(pragmas, "&")
}

// openWriter returns the one connection that writes. A file that is new is its owner's alone, since it holds secrets.
func openWriter(file string) (*sql.DB, error) {
	if err := create(file); err != nil {
		return nil, err
	}
	db, err := sql.Open("sqlite3", dsn(file, "_auto_vacuum=incremental", "_journal_mode=WAL"))
	if err != nil {
		return nil, err
	}
	db.SetMaxOpenConns(1)
	db.SetMaxIdleConns(1)
	return db, nil
}

// ended says whether there is no transaction any more: the database ends it by itself when, say, the disk is full. Another
// write must not begin one by its savepoint.
func (w *writer) ended() (ended bool) {
	err := w.conn.Raw(func(conn any) error {
		ended = conn.(*sqlite3.SQLiteConn).AutoCommit()
		return nil
	})
	return ended || err != nil
}

func create(file string) error {
	f, err := os.OpenFile(file, os.O_CREATE|os.O_RDWR, 0o600)
	if err != nil {
		return err
	}
	return f.Close()
}

// openReaders returns the connections that read. They do not make the file, but tidy up beside it if they are the last.
func openReaders(file string) (*sql.DB, error) {
	db, err := sql.Open("sqlite3", dsn(file, "mode=rw", "_query_only=on"))
	if err != nil {
		return nil, err
	}
	db.SetMaxOpenConns(readers)
	db.SetMaxIdleConns(readers)
	return db, nil
}

// discreetSQLite does not write values into statements for the log: secrets are among them.
type discreetSQLite struct{ *sqlite.Dialector }

// Explain implements gorm.Dialector.
func (discreetSQLite) Explain(sql string, _ ...any) string { return sql }

// orm puts GORM on top of a connection. It begins no transactions by itself.
func orm(pool gorm.ConnPool, log *slog.Logger) (*gorm.DB, error) {
	return gorm.Open(discreetSQLite{&sqlite.Dialector{Conn: pool}}, &gorm.Config{
		DisableAutomaticPing:   true,
		SkipDefaultTransaction: true,
		PrepareStmt:            true,
		PrepareStmtMaxSize:     statements,
		PrepareStmtTTL:         10 * 365 * 24 * time.Hour, // it is not meant to close one that may be in use
		TranslateError:         true,
		Logger:                 newTroubleLog(log),
	})
}
