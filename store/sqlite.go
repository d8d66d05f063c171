package store

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"log/slog"
	"net/url"
	"os"
	"path/filepath"
	"strings"
	"time"

	"github.com/gofrs/flock"
	"github.com/mattn/go-sqlite3"
	"gorm.io/driver/sqlite"
	"gorm.io/gorm"
	"gorm.io/gorm/logger"
)

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

// dsn is the driver's name of a file, with what every connection has in common and the given pragmas.
func dsn(file string, pragmas ...string) string {
	common := fmt.Sprintf("_busy_timeout=%d&_foreign_keys=on&_synchronous=FULL", busyTimeout.Milliseconds())
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

// orm puts GORM on top of a connection. It begins no transactions by itself.
func orm(pool gorm.ConnPool, log *slog.Logger) (*gorm.DB, error) {
	return gorm.Open(sqlite.New(sqlite.Config{Conn: pool}), &gorm.Config{
		DisableAutomaticPing:   true,
		SkipDefaultTransaction: true,
		PrepareStmt:            true,
		PrepareStmtMaxSize:     statements,
		PrepareStmtTTL:         10 * 365 * 24 * time.Hour, // it is not meant to close one that may be in use
		TranslateError:         true,
		Logger: &troubleLog{logger.NewSlogLogger(log, logger.Config{
			LogLevel:                  logger.Error,
			IgnoreRecordNotFoundError: true,
		})},
	})
}

// troubleLog logs statements that failed, but not those that nobody waits for any longer.
type troubleLog struct{ logger.Interface }

// LogMode implements logger.Interface.
func (l *troubleLog) LogMode(level logger.LogLevel) logger.Interface {
	return &troubleLog{l.Interface.LogMode(level)}
}

// Trace implements logger.Interface. The logger beneath would format each statement, also those that it does not log.
func (l *troubleLog) Trace(ctx context.Context, begin time.Time, fc func() (string, int64), err error) {
	if err != nil && !errors.Is(err, context.Canceled) {
		l.Interface.Trace(ctx, begin, fc, err)
	}
}

// ParamsFilter implements gorm.ParamsFilter, which the logger beneath cannot through its interface: values, among which
// are secrets, are not logged.
func (*troubleLog) ParamsFilter(_ context.Context, sql string, _ ...any) (string, []any) {
	return sql, nil
}

// unavailable says whether a database error is about the database and not about the statement, so that the same
// request may succeed later.
func unavailable(err error) bool {
	if errors.Is(err, sql.ErrConnDone) || errors.Is(err, errClosed) || errors.Is(err, context.DeadlineExceeded) {
		return true
	}
	if strings.HasSuffix(err.Error(), "sql: database is closed") { // database/sql does not export it
		return true
	}
	var lite sqlite3.Error
	if !errors.As(err, &lite) {
		return false
	}
	switch lite.Code {
	case sqlite3.ErrBusy, sqlite3.ErrLocked, sqlite3.ErrFull, sqlite3.ErrIoErr, sqlite3.ErrReadonly,
		sqlite3.ErrCantOpen, sqlite3.ErrNomem, sqlite3.ErrInterrupt, sqlite3.ErrCorrupt, sqlite3.ErrNotADB:
		return true
	}
	return false
}
