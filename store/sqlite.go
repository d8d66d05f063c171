package store

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"math"
	"net/url"
	"os"
	"strings"
	"time"

	"github.com/gofrs/flock"
	"github.com/mattn/go-sqlite3"
	"gorm.io/driver/sqlite"
	"gorm.io/gorm"

	"github.com/agentevents/agentevents/store/internal/schema"
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

// errServed is returned for a file that another process has taken.
var errServed = errors.New("another process serves this database")

// own takes the file for this process alone. Two processes would each drop the other's leases.
func own(file string) (*flock.Flock, error) {
	lock := flock.New(file + lockPart)
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
		return flock.New(file + lockPart), nil
	}
	return lock, err
}

func (s *Store) openSQLite(ctx context.Context, own func(file string) (*flock.Flock, error)) error {
	file, err := path(s.URL)
	if err != nil {
		return err
	}
	if err := single(file); err != nil {
		return err
	}
	if s.lock, err = own(file); err != nil {
		return err
	}
	if s.lock.Locked() {
		if s.keeper, err = s.keep(file); err != nil {
			return err
		}
	}
	if err := s.openWriter(ctx, file); err != nil {
		return err
	}
	pool, err := openReaders(file)
	if err != nil {
		return err
	}
	s.pools = append(s.pools, pool)
	if s.keeper != nil {
		s.keeper.readers = pool
	}
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
	if s.keeper != nil {
		err = errors.Join(carryBySelf(ctx, conn), s.keeper.watch())
	}
	s.writes = newWriter(db, conn, s.keeper)
	return err
}

// keep takes a file for this process, and from other users.
func (s *Store) keep(file string) (*keeper, error) {
	if err := create(file); err != nil {
		return nil, err
	}
	inode, err := lockInode(file)
	if err != nil {
		return nil, err
	}
	return &keeper{path: file, inode: inode, log: slog.New(s.aside), now: func() time.Time { return s.monotonic() }}, private(file, s.Log)
}

// carryBySelf has the connection that writes carry nothing over to the file by itself: it would not say when it cannot.
func carryBySelf(ctx context.Context, conn *sql.Conn) error {
	_, err := conn.ExecContext(ctx, "PRAGMA wal_autocheckpoint = 0")
	return err
}

// migrate leaves the schema alone when another process has the file.
func (s *Store) migrate(ctx context.Context, pool *sql.DB) error {
	if s.lock.Locked() {
		return schema.SQLite.Migrate(ctx, pool)
	}
	return schema.SQLite.Check(ctx, pool)
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

// create makes a file unless it is there. It does not open one that is: to close that would end the locks that this
// process has on it.
func create(file string) error {
	f, err := os.OpenFile(file, os.O_CREATE|os.O_EXCL|os.O_RDWR, ownersAlone)
	if errors.Is(err, fs.ErrExist) {
		return nil
	}
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
