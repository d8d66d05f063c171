package store

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"time"

	"github.com/agentevents/agentevents/store/internal/sqlite"
)

// progress is how far a log is carried over to its file.
type progress struct {
	Busy         bool  // something was in the way
	Log          int64 // pages that it has; -1 without a log
	Checkpointed int64 // of these are in the file
}

// asker is a connection, or a pool of them.
type asker interface {
	QueryRowContext(ctx context.Context, query string, args ...any) *sql.Row
}

// checkpoint carries a log over as far as a mode does, on a connection that has no transaction. It cannot be
// interrupted.
func checkpoint(db asker, mode string) (p progress, err error) {
	row := db.QueryRowContext(context.Background(), "PRAGMA wal_checkpoint("+mode+")")
	err = row.Scan(&p.Busy, &p.Log, &p.Checkpointed)
	return p, err
}

// carry carries over what no reader needs any more. It does not wait.
func (k *keeper) carry(db asker) (progress, error) {
	var before progress
	if k.failing() {
		before, _ = checkpoint(db, "NOOP") // without it, what was carried over before counts, too
	}
	p, err := checkpoint(db, "PASSIVE")
	k.carriedOver(before, p, err)
	return p, err
}

// failing says whether the last checkpoint failed.
func (k *keeper) failing() bool {
	k.mu.Lock()
	defer k.mu.Unlock()
	return k.failed != nil
}

// carriedOver notes how a checkpoint ended, and logs when that changes. One that has written nothing because a reader
// needs all says nothing of the file.
func (k *keeper) carriedOver(before, p progress, err error) {
	k.mu.Lock()
	defer k.mu.Unlock()
	switch {
	case err != nil:
		if k.failed == nil {
			k.log.Error("checkpoint failed, the write-ahead log grows", "error", err)
		}
		k.failures++
		k.row++
		k.failed = err
	case p.Busy || k.failed != nil && p.Checkpointed < p.Log && p.Checkpointed <= before.Checkpointed:
	default:
		if k.failed != nil {
			k.log.Info("checkpoint succeeded again", "failed", k.row)
		}
		k.failed, k.row, k.carried = nil, 0, k.now()
	}
}

// due says whether it is time to carry a log over.
func (k *keeper) due(p progress) bool {
	k.mu.Lock()
	defer k.mu.Unlock()
	return k.failed != nil || p.Checkpointed < p.Log && (p.Log >= carryPages || k.now().Sub(k.carried) >= carryEvery)
}

// tend looks after SQLite's file and its log.
func (s *Store) tend(ctx context.Context) error {
	k := s.keeper
	if k == nil {
		return nil
	}
	if k.look(s.reader.WithContext(ctx)) != nil {
		return nil
	}
	p, err := checkpoint(k.readers, "NOOP")
	if err == nil && k.due(p) {
		p, err = k.carry(k.readers)
	}
	if err != nil {
		return nil //nolint:nilerr // it is noted
	}
	if k.walBytes() > walKept && p.Log-p.Checkpointed < carryPages {
		err = s.truncateLog(ctx)
	}
	k.warn()
	return failure(err)
}

// truncateLog gives what the log takes back to the file system, between two transactions.
func (s *Store) truncateLog(ctx context.Context) error {
	w, is := s.writes.(*sqlite.Writer)
	if !is {
		return nil
	}
	return w.Between(ctx, func(conn *sql.Conn) error {
		err := patience(conn, readerWait)
		if err == nil {
			_, err = checkpoint(conn, "TRUNCATE")
		}
		return errors.Join(err, patience(conn, busyTimeout))
	})
}

// patience sets how long a connection waits for others.
func patience(conn asker, d time.Duration) error {
	var set int
	return conn.QueryRowContext(context.Background(), fmt.Sprintf("PRAGMA busy_timeout = %d", d.Milliseconds())).Scan(&set)
}

// warn logs now and then how large the log is that a reader holds up, and once that it is not any more.
func (k *keeper) warn() {
	k.mu.Lock()
	defer k.mu.Unlock()
	switch bytes := k.walBytes(); {
	case bytes > walBound && k.failed == nil && (k.warned.IsZero() || k.now().Sub(k.warned) >= warnEvery):
		k.warned = k.now()
		k.log.Warn("write-ahead log grows, as long as a transaction of another process, or one that takes long, reads", "bytes", bytes)
	case bytes <= walKept && !k.warned.IsZero():
		k.warned = time.Time{}
		k.log.Info("write-ahead log truncated", "bytes", bytes)
	}
}
