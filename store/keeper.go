package store

import (
	"database/sql"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"sync"
	"sync/atomic"
	"time"

	"gorm.io/gorm"
)

// ErrCheckpoint is the reason of Unavailable when what is committed does not get from SQLite's log into its file.
var ErrCheckpoint = errors.New("the write-ahead log cannot be carried over to the database's file")

const (
	carryPages  = 1000             // of the log, from which on it is carried over to the file, as SQLite has it
	writerPages = 4 * carryPages   // that the writer carries over at most, while all changes wait
	carryLook   = 8                // commits after which the writer looks how many there are
	carryEvery  = 10 * time.Second // in which all is carried over, however little it is
	walKept     = 16 << 20         // bytes that a log may keep to be written again
	walBound    = 64 << 20         // bytes from which on there is a warning
	warnEvery   = time.Minute
	readerWait  = 20 * time.Millisecond // that the writer waits for readers to have the log truncated
)

// keeper looks after the file that SQLite writes, for the process that owns it. SQLite does not notice that a file was
// removed, and does not say that a checkpoint failed: the keeper carries the log over itself.
type keeper struct {
	path    string
	parts   []part
	readers *sql.DB
	inode   *os.File // keeps the lock of the file itself; nil where there is none
	log     *slog.Logger
	now     func() time.Time // of a clock that is never set

	gone atomic.Pointer[error] // why the file takes no writes; nil if it does

	mu       sync.Mutex
	size     int64 // of the file, when it was last as it should be
	failures int64 // checkpoints that failed
	row      int64 // of these, since the last that succeeded
	failed   error // the last one's
	carried  time.Time
	warned   time.Time // zero while the log is no larger than it should be
}

// FileStats is what is measured of SQLite's file.
type FileStats struct {
	WALBytes           int64
	CheckpointFailures int64 // since the store was opened
}

// FileStats measures SQLite's file. With PostgreSQL there is nothing to measure.
func (s *Store) FileStats() FileStats {
	if s.keeper == nil {
		return FileStats{}
	}
	s.keeper.mu.Lock()
	defer s.keeper.mu.Unlock()
	return FileStats{s.keeper.walBytes(), s.keeper.failures}
}

// walBytes is the size of the log, 0 if it is gone.
func (k *keeper) walBytes() int64 {
	info, err := os.Stat(k.path + walPart)
	if err != nil {
		return 0
	}
	return info.Size()
}

// watch notes what is open by now.
func (k *keeper) watch() (err error) {
	k.parts, err = partsOf(k.path)
	k.carried = k.now()
	return err
}

// trouble returns why no write can be relied on, nil if it can.
func (k *keeper) trouble() error {
	if k == nil {
		return nil
	}
	if err := k.look(nil); err != nil {
		return err
	}
	k.mu.Lock()
	defer k.mu.Unlock()
	if k.failed != nil {
		return fmt.Errorf("%w: %w", ErrCheckpoint, k.failed)
	}
	return nil
}

// lost returns why the file takes no writes, as far as it is known.
func (k *keeper) lost() error {
	if k == nil {
		return nil
	}
	if gone := k.gone.Load(); gone != nil {
		return *gone
	}
	return nil
}

// confirm looks, after a commit and before it is answered, whether that went to the file that others see.
func (k *keeper) confirm() error {
	if k == nil || k.parts[0].lost() == nil && k.parts[1].lost() == nil {
		return nil
	}
	return k.look(nil)
}

// look compares the files with those that were opened and, on a connection that has no transaction, the size of the
// first: what a transaction has written is in neither file yet. It logs when that changes.
func (k *keeper) look(db *gorm.DB) error {
	var err error
	for i := 0; err == nil && i < len(k.parts); i++ {
		err = k.parts[i].lost()
	}
	if err == nil {
		err = k.whole(db)
	}
	if err == nil || errors.Is(err, ErrFile) {
		k.note(err)
	}
	return err
}

// note logs when the file is lost, and when it is back.
func (k *keeper) note(err error) {
	k.mu.Lock()
	defer k.mu.Unlock()
	was := k.lost()
	switch {
	case err == nil && was != nil:
		k.gone.Store(nil)
		k.log.Info("database file is back")
	case err != nil && (was == nil || was.Error() != err.Error()):
		k.gone.Store(&err)
		k.log.Error("database file lost, writes are refused until it is back", "error", err)
	}
}

// whole returns an error when the file is smaller than it was, and lacks a page that its log does not have either.
// What it said the last time holds when there is no connection to ask.
func (k *keeper) whole(db *gorm.DB) error {
	if db == nil {
		if was := k.lost(); errors.Is(was, errTruncated) {
			return was
		}
		return nil
	}
	size, short, err := k.measure(db)
	k.mu.Lock()
	defer k.mu.Unlock()
	if size < k.size && (short || damaged(err)) {
		return fmt.Errorf("%w: %s %w", ErrFile, k.path, errTruncated)
	}
	if err == nil {
		k.size = size
	}
	return err
}

// measure returns the size of the file, and whether pages are missing. It reads in one transaction, in which neither
// the log nor what it stands for can go.
func (k *keeper) measure(db *gorm.DB) (size int64, short bool, err error) {
	err = db.Transaction(func(tx *gorm.DB) error {
		var now struct{ Pages, Bytes int64 }
		err := tx.Raw("SELECT page_count AS pages, page_size AS bytes FROM pragma_page_count, pragma_page_size").Scan(&now).Error
		info, gone := os.Stat(k.path)
		if gone != nil {
			return fmt.Errorf("%w: %w", ErrFile, gone)
		}
		size = info.Size()
		if err == nil && size < now.Pages*now.Bytes && size < k.known() {
			short, err = lacks(k.path+walPart, size/now.Bytes, now.Pages, now.Bytes)
		}
		return err
	})
	return size, short, err
}

// known is the size that the file had when it was last as it should be.
func (k *keeper) known() int64 {
	k.mu.Lock()
	defer k.mu.Unlock()
	return k.size
}

var errTruncated = errors.New("was truncated")

// close gives up the lock of the file itself, after SQLite has closed it.
func (k *keeper) close() error {
	if k.inode == nil {
		return nil
	}
	return k.inode.Close()
}
