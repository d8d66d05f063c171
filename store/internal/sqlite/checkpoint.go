package sqlite

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"sync"
	"time"
)

// ErrCheckpoint means that committed pages cannot be written from the write-ahead log into the file, so that no write
// is reliable.
var ErrCheckpoint = errors.New("the write-ahead log cannot be written to the database file")

const (
	checkpointPages  = 1000                // pages of the log that make a checkpoint due, as in SQLite
	checkpointEvery  = 10 * time.Second    // the interval after which a checkpoint is due for any number of pages
	writerPages      = 4 * checkpointPages // the writer's maximum, since all writes wait for it
	writerCheckEvery = 8                   // commits between two looks of the writer at the log
	maxIdleWAL       = 16 << 20            // bytes up to which a log without unwritten pages is not truncated
	largeWAL         = 64 << 20            // bytes of a log that cause a warning
	warnEvery        = time.Minute         // the interval between two warnings
	readerWait       = 20 * time.Millisecond
	truncateTries    = 50 // of TruncateWAL, each with a wait for readers
)

// checkpoints writes the pages of the log to the file, and records failures. SQLite's own checkpoints do not report
// them.
type checkpoints struct {
	wal     string // the path of the log
	readers *sql.DB
	log     *slog.Logger
	now     func() time.Time // a monotonic clock: it never steps
	commits int              // since the writer last looked at the log; only for the writer

	mu          sync.Mutex
	failures    int64
	consecutive int64 // failures since the last success
	failed      error // the error of the last checkpoint; nil if it succeeded
	succeeded   time.Time
	warned      time.Time // the last warning; zero while the log is small
}

// Stats are measurements of a file. They are zero if another process serves it.
type Stats struct {
	WALBytes           int64
	CheckpointFailures int64 // since the file was opened
}

// Stats measures the file.
func (db *DB) Stats() Stats {
	c := db.checkpoints
	if c == nil {
		return Stats{}
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	return Stats{c.walBytes(), c.failures}
}

// CheckpointIfDue makes a checkpoint on the connection that writes if the log has grown; it is called after each
// commit. If many pages are due, as after a long read, Maintain writes them on another connection, so that no write
// waits.
func (db *DB) CheckpointIfDue() {
	c := db.checkpoints
	if c == nil {
		return
	}
	if c.commits++; c.commits < writerCheckEvery {
		return
	}
	c.commits = 0
	p, err := checkpoint(db.conn, noCheckpoint)
	if left := p.Log - p.Checkpointed; err == nil && p.Log >= checkpointPages && left > 0 && left <= writerPages {
		_, _ = c.run(db.conn) // it records an error
	}
}

// Checkpoint makes a checkpoint now, and reports whether the whole log is in the file.
func (db *DB) Checkpoint() (complete bool, err error) {
	p, err := db.checkpoints.run(db.readPool)
	return err == nil && !p.Busy && p.Checkpointed >= p.Log, err
}

// Maintain makes due checkpoints and truncates the log; it is called every second. CheckWritable reports its failures.
// between runs a function on the connection that writes, between two transactions.
func (db *DB) Maintain(ctx context.Context, between func(context.Context, func(*sql.Conn) error) error) error {
	c := db.checkpoints
	if c == nil || db.CheckFiles(ctx) != nil {
		return nil
	}
	p, err := checkpoint(c.readers, noCheckpoint)
	if err == nil && c.due(p) {
		p, err = c.run(c.readers)
	}
	if err != nil {
		return nil //nolint:nilerr // it is recorded
	}
	if c.walBytes() > maxIdleWAL && p.Log-p.Checkpointed < checkpointPages {
		err = between(ctx, func(conn *sql.Conn) error {
			_, err := truncateWAL(conn)
			return err
		})
	}
	c.warn()
	return err
}

// TruncateWAL writes the log to the file and empties it, so that no committed page is left in it. It reports false if a
// reader still needs the log. between runs a function on the connection that writes, between two transactions.
func (db *DB) TruncateWAL(
	ctx context.Context, between func(context.Context, func(*sql.Conn) error) error,
) (empty bool, err error) {
	for i := 0; i < truncateTries && err == nil && !empty; i++ {
		if _, err = checkpoint(db.readPool, passive); err != nil { // so that the writer has little to write
			return false, err
		}
		err = between(ctx, func(conn *sql.Conn) error {
			p, err := truncateWAL(conn)
			empty = err == nil && !p.Busy
			return err
		})
	}
	return empty, err
}

// truncateWAL returns the space of the log to the file system. It hardly waits for readers, since all writes wait for
// it.
func truncateWAL(conn *sql.Conn) (p progress, err error) {
	if err = setBusyTimeout(conn, readerWait); err == nil {
		p, err = checkpoint(conn, "TRUNCATE")
	}
	return p, errors.Join(err, setBusyTimeout(conn, busyTimeout))
}

// The modes of checkpoints that do not wait: passive writes the pages that no reader needs, noCheckpoint only reports
// the state.
const (
	passive      = "PASSIVE"
	noCheckpoint = "NOOP"
)

// progress is the part of a log that is in the file.
type progress struct {
	Busy         bool  // another connection was in the way
	Log          int64 // pages in the log; -1 without a log
	Checkpointed int64 // pages of the log that are in the file
}

// queryer is a connection or a pool.
type queryer interface {
	QueryRowContext(ctx context.Context, query string, args ...any) *sql.Row
}

// checkpoint makes a checkpoint of a mode, on a connection without a transaction. It cannot be interrupted.
func checkpoint(db queryer, mode string) (p progress, err error) {
	row := db.QueryRowContext(context.Background(), "PRAGMA wal_checkpoint("+mode+")")
	err = row.Scan(&p.Busy, &p.Log, &p.Checkpointed)
	return p, err
}

// setBusyTimeout sets the time for which a connection waits for locks.
func setBusyTimeout(conn queryer, d time.Duration) error {
	var milliseconds int
	return conn.QueryRowContext(context.Background(), busyTimeoutSQL(d)).Scan(&milliseconds)
}

func busyTimeoutSQL(d time.Duration) string {
	return fmt.Sprintf("PRAGMA busy_timeout = %d", d.Milliseconds())
}

// run makes a passive checkpoint, which does not wait.
func (c *checkpoints) run(db queryer) (progress, error) {
	var before progress
	if c.failure() != nil {
		before, _ = checkpoint(db, noCheckpoint) // the pages that were written before are no success
	}
	p, err := checkpoint(db, passive)
	c.note(before, p, err)
	return p, err
}

// failure returns an error if the last checkpoint failed.
func (c *checkpoints) failure() error {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.failed == nil {
		return nil
	}
	return fmt.Errorf("%w: %w", ErrCheckpoint, c.failed)
}

// note records the result of a checkpoint, and logs a change. A checkpoint that wrote nothing because a reader needs
// all pages says nothing about the file.
func (c *checkpoints) note(before, p progress, err error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	switch {
	case err != nil:
		if c.failed == nil {
			c.log.Error("checkpoint failed, the write-ahead log grows", "error", err)
		}
		c.failures++
		c.consecutive++
		c.failed = err
	case p.Busy || c.failed != nil && p.Checkpointed < p.Log && p.Checkpointed <= before.Checkpointed:
	default:
		if c.failed != nil {
			c.log.Info("checkpoint succeeded again", "failed", c.consecutive)
		}
		c.failed, c.consecutive, c.succeeded = nil, 0, c.now()
	}
}

// due reports whether a checkpoint is due.
func (c *checkpoints) due(p progress) bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	left := p.Checkpointed < p.Log
	return c.failed != nil || left && (p.Log >= checkpointPages || c.now().Sub(c.succeeded) >= checkpointEvery)
}

// walBytes returns the size of the log, 0 if there is none.
func (c *checkpoints) walBytes() int64 {
	info, err := os.Stat(c.wal)
	if err != nil {
		return 0
	}
	return info.Size()
}

// warn logs a large log whose pages a reader needs, at most once in warnEvery, and logs once that it is small again.
func (c *checkpoints) warn() {
	c.mu.Lock()
	defer c.mu.Unlock()
	switch bytes := c.walBytes(); {
	case bytes > largeWAL && c.failed == nil && (c.warned.IsZero() || c.now().Sub(c.warned) >= warnEvery):
		c.warned = c.now()
		c.log.Warn("write-ahead log large, kept by a read transaction", "bytes", bytes)
	case bytes <= maxIdleWAL && !c.warned.IsZero():
		c.warned = time.Time{}
		c.log.Info("write-ahead log truncated", "bytes", bytes)
	}
}
