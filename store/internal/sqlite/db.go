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

// MaxReaders is the number of connections that read.
const MaxReaders = 4

const (
	busyTimeout = 5 * time.Second        // of a statement that waits for the lock of another connection
	closeWait   = 500 * time.Millisecond // of the last checkpoint that waits for readers
)

// Options configure Open. All fields are required.
type Options struct {
	File      string           // the result of Path
	Alongside bool             // another process may serve the file; if one does, its schema must be up to date
	Log       *slog.Logger     // for the state of the file; it is written with locks held, so it must not block
	Now       func() time.Time // a monotonic clock: it never steps
	ORMLog    logger.Interface // for failed statements
}

// DB is an open file. Its methods are safe for concurrent use, except for those of the writer. WriteORM,
// TransactionEnded, CheckpointIfDue and CloseWriter are for one goroutine at a time.
type DB struct {
	path  string
	lock  *flock.Flock // not locked if another process serves the file
	inode *os.File     // has the lock on the file itself; nil on systems without such locks
	log   *slog.Logger

	writePool, readPool *sql.DB
	conn                *sql.Conn     // the connection that writes
	prepared            gorm.ConnPool // the prepared statements of conn
	writer, reader      *gorm.DB

	watch       *watch // nil if another process serves the file; so is checkpoints
	checkpoints *checkpoints
	shrinking   shrinking
}

// Open opens a file, which it creates if there is none. The process that serves the file locks it and migrates its
// schema. With Options.Alongside, Open locks the file only if no other process has locked it. Otherwise it leaves
// locks, schema and checkpoints to the other process.
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

// open is Open after the lock.
func (db *DB) open(ctx context.Context, o Options) (err error) {
	if db.owned() {
		if err := db.lockOpenFile(); err != nil {
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

// owned reports whether this process has locked the file.
func (db *DB) owned() bool { return db.lock.Locked() }

func (db *DB) lockOpenFile() (err error) {
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

// tempInMemory makes SQLite keep the undo data of large statements in memory instead of a temporary file. It applies to
// the connection that writes, after the migrations, whose statements may change whole tables.
func tempInMemory(ctx context.Context, conn *sql.Conn) error {
	_, err := conn.ExecContext(ctx, "PRAGMA temp_store = MEMORY")
	return err
}

// startWatch records the open files, and disables SQLite's automatic checkpoints, which do not report failures. From
// then on, CheckpointIfDue and Maintain make the checkpoints.
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

// WriteORM returns GORM on the connection that writes.
func (db *DB) WriteORM() *gorm.DB { return db.writer }

// Conn returns the connection that writes.
func (db *DB) Conn() *sql.Conn { return db.conn }

// ReadORM returns GORM on the connections that read.
func (db *DB) ReadORM() *gorm.DB { return db.reader }

// TransactionEnded reports whether the connection that writes has no transaction any more. SQLite itself ends a
// transaction if, for example, the disk is full. A savepoint would then begin a new transaction.
func (db *DB) TransactionEnded() (ended bool) {
	err := db.conn.Raw(func(conn any) error {
		ended = conn.(*sqlite3.SQLiteConn).AutoCommit()
		return nil
	})
	return ended || err != nil
}

// CloseWriter closes the connection that writes, after a checkpoint. The checkpoint moves all commits to the file
// itself, unless a reader needs old pages for longer than half a second.
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
	// The last connection to close removes the log, which a reader cannot.
	for _, pool := range []*sql.DB{db.readPool, db.writePool} {
		if pool != nil {
			errs = append(errs, pool.Close())
		}
	}
	return errors.Join(errs...)
}

// Unlock permits another process to serve the file. All connections must be closed, since it ends their locks.
func (db *DB) Unlock() error {
	if db.inode == nil {
		return db.lock.Unlock()
	}
	return errors.Join(db.inode.Close(), db.lock.Unlock())
}

// dsn returns the driver's name of a file, with the common parameters and further ones.
func dsn(file string, pragmas ...string) string {
	common := fmt.Sprintf("_busy_timeout=%d&_foreign_keys=on&_synchronous=FULL&_mutex=no", busyTimeout.Milliseconds())
	return "file:" + (&url.URL{Path: file}).EscapedPath() + "?" + common + "&" + strings.Join(pragmas, "&")
}

// openWritePool returns a pool of one connection that writes. It creates a file that does not exist.
func openWritePool(file string) (*sql.DB, error) {
	if err := create(file); err != nil {
		return nil, err
	}
	return openPool(dsn(file, "_auto_vacuum=incremental", "_journal_mode=WAL", "_secure_delete=fast"), 1)
}

// OpenReaders returns a pool of connections that read. They do not create the file.
func OpenReaders(file string) (*sql.DB, error) {
	return openPool(dsn(file, "mode=rw", "_query_only=on"), MaxReaders)
}

// Use opens an existing file for a function. A process may serve the file meanwhile.
func Use(file string, fn func(*sql.DB) error) error {
	db, err := openPool(dsn(file, "mode=rw"), 1)
	if err != nil {
		return err
	}
	return errors.Join(fn(db), db.Close())
}

// UseAlone is Use for a file that no process serves or may begin to serve before the function returns.
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
