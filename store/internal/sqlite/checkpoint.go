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

// ErrCheckpoint is why no write can be relied on when what is committed does not get from the log into the file.
var ErrCheckpoint = errors.New("the write-ahead log cannot be carried over to the database's file")

const (
	checkpointPages  = 1000                // of the log, from which on there is a checkpoint, as SQLite has it
	checkpointEvery  = 10 * time.Second    // in which there is one of all, however little it is
	writerPages      = 4 * checkpointPages // that the writer checkpoints at most, since all writes wait for it
	writerLooksEvery = 8                   // commits after which the writer looks how many there are
	maxIdleWAL       = 16 << 20            // bytes of a log whose pages are all in the file; a larger one is truncated
	largeWAL         = 64 << 20            // bytes from which on there is a warning,
	warnEvery        = time.Minute         // so often
	readerWait       = 20 * time.Millisecond
)

// checkpoints writes the pages of the log to the file, and knows how that went. SQLite itself does not say when it
// fails.
type checkpoints struct {
	wal     string // its path
	readers *sql.DB
	log     *slog.Logger
	now     func() time.Time // of a clock that is never set
	commits int              // since the writer looked at the log; of the writer alone

	mu        sync.Mutex
	failures  int64
	inARow    int64 // of these, since the last one that succeeded
	failed    error // the last one's; nil if it succeeded
	succeeded time.Time
	warned    time.Time // zero while the log is no larger than it should be
}

// Stats are what is measured of a file. They are zero for a file that another process has.
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

// AfterCommit makes a checkpoint on the connection that writes when the log has grown. Much of it, as after a long
// read, it leaves to Maintain, which works on another connection: writes need not wait for that.
func (db *DB) AfterCommit() {
	c := db.checkpoints
	if c == nil {
		return
	}
	if c.commits++; c.commits < writerLooksEvery {
		return
	}
	c.commits = 0
	p, err := checkpoint(db.conn, noCheckpoint)
	if left := p.Log - p.Checkpointed; err == nil && p.Log >= checkpointPages && left > 0 && left <= writerPages {
		_, _ = c.run(db.conn) // which notes an error
	}
}

// Checkpoint makes one now, and returns whether all of the log is in the file.
func (db *DB) Checkpoint() (complete bool, err error) {
	p, err := db.checkpoints.run(db.readPool)
	return err == nil && !p.Busy && p.Checkpointed >= p.Log, err
}

// Maintain looks after the file and its log. It is called every second. What fails is known to CheckWritable. between
// runs a function on the connection that writes, between two transactions.
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
		return nil //nolint:nilerr // it is noted
	}
	if c.walBytes() > maxIdleWAL && p.Log-p.Checkpointed < checkpointPages {
		err = between(ctx, truncateWAL)
	}
	c.warn()
	return err
}

// truncateWAL gives what the log takes back to the file system. It hardly waits for readers: all writes wait with it.
func truncateWAL(conn *sql.Conn) error {
	err := setBusyTimeout(conn, readerWait)
	if err == nil {
		_, err = checkpoint(conn, "TRUNCATE")
	}
	return errors.Join(err, setBusyTimeout(conn, busyTimeout))
}

// The modes of checkpoints that do not wait: one writes what no reader needs any more, the other only says how far the
// last one came.
const (
	passive      = "PASSIVE"
	noCheckpoint = "NOOP"
)

// progress is how far the pages of a log are in the file.
type progress struct {
	Busy         bool  // another connection was in the way
	Log          int64 // pages that the log has; -1 without one
	Checkpointed int64 // of these are in the file
}

// queryer is a connection, or a pool of them.
type queryer interface {
	QueryRowContext(ctx context.Context, query string, args ...any) *sql.Row
}

// checkpoint makes a checkpoint of a mode, on a connection that has no transaction. It cannot be interrupted.
func checkpoint(db queryer, mode string) (p progress, err error) {
	row := db.QueryRowContext(context.Background(), "PRAGMA wal_checkpoint("+mode+")")
	err = row.Scan(&p.Busy, &p.Log, &p.Checkpointed)
	return p, err
}

// setBusyTimeout sets how long a connection waits for others.
func setBusyTimeout(conn queryer, d time.Duration) error {
	var milliseconds int
	return conn.QueryRowContext(context.Background(), busyTimeoutSQL(d)).Scan(&milliseconds)
}

func busyTimeoutSQL(d time.Duration) string {
	return fmt.Sprintf("PRAGMA busy_timeout = %d", d.Milliseconds())
}

// run makes a checkpoint of what no reader needs any more. It does not wait.
func (c *checkpoints) run(db queryer) (progress, error) {
	var before progress
	if c.failure() != nil {
		before, _ = checkpoint(db, noCheckpoint) // without it, what was in the file before counts, too
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

// note notes how a checkpoint ended, and logs when that changes. One that has written nothing because a reader needs
// all says nothing of the file.
func (c *checkpoints) note(before, p progress, err error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	switch {
	case err != nil:
		if c.failed == nil {
			c.log.Error("checkpoint failed, the write-ahead log grows", "error", err)
		}
		c.failures++
		c.inARow++
		c.failed = err
	case p.Busy || c.failed != nil && p.Checkpointed < p.Log && p.Checkpointed <= before.Checkpointed:
	default:
		if c.failed != nil {
			c.log.Info("checkpoint succeeded again", "failed", c.inARow)
		}
		c.failed, c.inARow, c.succeeded = nil, 0, c.now()
	}
}

// due says whether it is time for a checkpoint.
func (c *checkpoints) due(p progress) bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	left := p.Checkpointed < p.Log
	return c.failed != nil || left && (p.Log >= checkpointPages || c.now().Sub(c.succeeded) >= checkpointEvery)
}

// walBytes is the size of the log, 0 if it is gone.
func (c *checkpoints) walBytes() int64 {
	info, err := os.Stat(c.wal)
	if err != nil {
		return 0
	}
	return info.Size()
}

// warn logs now and then how large a log is whose pages a reader needs, and once that it is not any more.
func (c *checkpoints) warn() {
	c.mu.Lock()
	defer c.mu.Unlock()
	switch bytes := c.walBytes(); {
	case bytes > largeWAL && c.failed == nil && (c.warned.IsZero() || c.now().Sub(c.warned) >= warnEvery):
		c.warned = c.now()
		c.log.Warn("write-ahead log grows, as long as a transaction of another process, or one that takes long, reads",
			"bytes", bytes)
	case bytes <= maxIdleWAL && !c.warned.IsZero():
		c.warned = time.Time{}
		c.log.Info("write-ahead log truncated", "bytes", bytes)
	}
}
