package sqlite

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"log/slog"
	"net/url"
	"os"
	"strings"
	"time"

	"github.com/gofrs/flock"
	"github.com/mattn/go-sqlite3"
	"gorm.io/gorm"
	"gorm.io/gorm/logger"

	"github.com/agentevents/agentevents/store/internal/schema"
)

const (
	busyTimeout = 5 * time.Second        // that a statement waits for a lock of another connection
	closeWait   = 500 * time.Millisecond // that the last checkpoint waits for readers
	maxReaders  = 4                      // connections
)

// Options are what a file is opened with. All are needed.
type Options struct {
	File      string           // as Path returned it
	Alongside bool             // another process may serve the file; then it must be there, and be up to date
	Log       *slog.Logger     // of what becomes of the file; it is written to with locks held, so it must not block
	Now       func() time.Time // of a clock that is never set
	ORMLog    logger.Interface // of statements that fail
}

// DB is an open file. Its methods are safe for concurrent use, but for those of the writer: Writer, TransactionEnded,
// AfterCommit and CloseWriter are for one goroutine at a time.
type DB struct {
	path  string
	lock  *flock.Flock // not locked if another process has the file
	inode *os.File     // holds the lock on the file itself; nil where there is none
	log   *slog.Logger

	writePool, readPool *sql.DB
	conn                *sql.Conn     // the one that writes
	prepared            gorm.ConnPool // of the statements that are prepared on it
	writer, reader      *gorm.DB

	watch       *watch // nil if another process has the file, as checkpoints is
	checkpoints *checkpoints
	shrinking   shrinking
}

// Open opens a file, and makes one that is not there. The process that serves the file has it alone and brings its
// schema up to date. It is told from one that works alongside by Options.Alongside: that takes the file if no other
// process has it, and else leaves locks, schema and checkpoints to the other.
func Open(ctx context.Context, o Options) (*DB, error) {
	if err := checkSingle(o.File); err != nil {
		return nil, err
	}
	take := lockFile
	if o.Alongside {
		take = lockIfFree
	}
	lock, err := take(o.File)
	if err != nil {
		return nil, err
	}
	db := &DB{path: o.File, lock: lock, log: o.Log}
	if err := db.open(ctx, o); err != nil {
		return nil, errors.Join(err, db.CloseWriter(), db.Close(), db.Unlock())
	}
	return db, nil
}

// open is Open for a file whose lock was taken.
func (db *DB) open(ctx context.Context, o Options) (err error) {
	if db.owned() {
		if err := db.takeInode(); err != nil {
			return err
		}
		if err := restrict(db.path, db.log); err != nil {
			return err
		}
	}
	if err := db.openWriter(ctx, o.ORMLog); err != nil {
		return err
	}
	if db.readPool, err = OpenReaders(db.path); err != nil {
		return err
	}
	if db.reader, err = ORM(db.readPool, o.ORMLog); err != nil || !db.owned() {
		return err
	}
	return db.startWatch(o.Now)
}

// owned says whether this process has the file.
func (db *DB) owned() bool { return db.lock.Locked() }

func (db *DB) takeInode() (err error) {
	if err := create(db.path); err != nil {
		return err
	}
	db.inode, err = lockInode(db.path)
	return err
}

func (db *DB) openWriter(ctx context.Context, log logger.Interface) (err error) {
	if db.writePool, err = openWritePool(db.path); err != nil {
		return err
	}
	prepare := schema.SQLite.Check
	if db.owned() {
		prepare = schema.SQLite.Migrate
	}
	if err := prepare(ctx, db.writePool); err != nil {
		return err
	}
	if db.conn, err = db.writePool.Conn(ctx); err != nil {
		return err
	}
	if err := tempInMemory(ctx, db.conn); err != nil {
		return err
	}
	if db.writer, err = ORM(db.conn, log); err != nil {
		return err
	}
	db.prepared = db.writer.ConnPool
	return nil
}

// tempInMemory keeps in memory what a statement of many rows may have to undo, instead of in a file of its own. It
// applies to the connection that writes, and only after the migrations: a statement of those may change a whole table.
func tempInMemory(ctx context.Context, conn *sql.Conn) error {
	_, err := conn.ExecContext(ctx, "PRAGMA temp_store = MEMORY")
	return err
}

// startWatch notes the files that are open by now, and has checkpoints be made by AfterCommit and Maintain alone: those
// that SQLite makes by itself do not say when they fail.
func (db *DB) startWatch(now func() time.Time) error {
	if _, err := db.conn.ExecContext(context.Background(), "PRAGMA wal_autocheckpoint = 0"); err != nil {
		return err
	}
	files, err := openFiles(db.path)
	if err != nil {
		return err
	}
	db.watch = &watch{path: db.path, files: files, log: db.log}
	db.checkpoints = &checkpoints{
		wal: db.path + walSuffix, readers: db.readPool, log: db.log, now: now, succeeded: now(),
	}
	return nil
}

// Writer is GORM on the connection that writes.
func (db *DB) Writer() *gorm.DB { return db.writer }

// Conn is the connection that writes.
func (db *DB) Conn() *sql.Conn { return db.conn }

// Reader is GORM on the connections that read.
func (db *DB) Reader() *gorm.DB { return db.reader }

// TransactionEnded says whether there is no transaction on the connection that writes any more: SQLite ends it by
// itself when, say, the disk is full. Another write must not begin one by its savepoint.
func (db *DB) TransactionEnded() (ended bool) {
	err := db.conn.Raw(func(conn any) error {
		ended = conn.(*sqlite3.SQLiteConn).AutoCommit()
		return nil
	})
	return ended || err != nil
}

// CloseWriter ends the use of the connection that writes. What is committed is in the file itself then, for a copy of
// that alone, unless a reader needs what was before: no reader is waited for.
func (db *DB) CloseWriter() error {
	if db.conn == nil {
		return nil
	}
	var errs []error
	if db.writer != nil {
		for _, pragma := range []string{busyTimeoutSQL(closeWait), "PRAGMA wal_checkpoint(TRUNCATE)"} {
			errs = append(errs, db.writer.Exec(pragma).Error)
		}
	}
	return errors.Join(append(errs, closeStatements(db.prepared), db.conn.Close())...)
}

// Close closes the connections, after CloseWriter.
func (db *DB) Close() error {
	var errs []error
	for _, pool := range []*sql.DB{db.readPool, db.writePool} { // the last to close tidies up, which readers cannot
		if pool != nil {
			errs = append(errs, pool.Close())
		}
	}
	return errors.Join(errs...)
}

// Unlock lets another process have the file. No connection may be in use any more: what it has locked would not be.
func (db *DB) Unlock() error {
	if db.inode == nil {
		return db.lock.Unlock()
	}
	return errors.Join(db.inode.Close(), db.lock.Unlock())
}

// dsn is the driver's name of a file, with what all connections have in common and the given pragmas.
func dsn(file string, pragmas ...string) string {
	common := fmt.Sprintf("_busy_timeout=%d&_foreign_keys=on&_synchronous=FULL&_mutex=no", busyTimeout.Milliseconds())
	return "file:" + (&url.URL{Path: file}).EscapedPath() + "?" + common + "&" + strings.Join(pragmas, "&")
}

// openWritePool returns a pool of one connection that writes, and makes a file that is not there.
func openWritePool(file string) (*sql.DB, error) {
	if err := create(file); err != nil {
		return nil, err
	}
	return openPool(dsn(file, "_auto_vacuum=incremental", "_journal_mode=WAL"), 1)
}

// OpenReaders returns a pool of connections that read. They do not make the file.
func OpenReaders(file string) (*sql.DB, error) {
	return openPool(dsn(file, "mode=rw", "_query_only=on"), maxReaders)
}

// Use opens a file that is there for a function, whether a process serves it or not.
func Use(file string, fn func(*sql.DB) error) error {
	db, err := openPool(dsn(file, "mode=rw"), 1)
	if err != nil {
		return err
	}
	return errors.Join(fn(db), db.Close())
}

// UseAlone is Use for a file that no process serves, nor may begin to before the function returns.
func UseAlone(file string, fn func(*sql.DB) error) error {
	if err := checkSingle(file); err != nil {
		return err
	}
	lock, err := lockFile(file)
	if err != nil {
		return err
	}
	return errors.Join(Use(file, fn), lock.Unlock())
}

func openPool(name string, connections int) (*sql.DB, error) {
	db, err := sql.Open("sqlite3", name)
	if err != nil {
		return nil, err
	}
	db.SetMaxOpenConns(connections)
	db.SetMaxIdleConns(connections)
	return db, nil
}
