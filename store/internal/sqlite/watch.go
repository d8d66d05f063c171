package sqlite

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"os"
	"sync"
	"sync/atomic"

	"gorm.io/gorm"
)

// ErrFile is why nothing can be written when the file is not the one that was opened, or only a part of it.
var ErrFile = errors.New("the database's file is not as it was opened")

var errTruncated = errors.New("was truncated")

// watch compares the files of a database with those that were opened. SQLite does not notice that one was removed or
// truncated: it would write on, and after a restart nothing of that would be there.
type watch struct {
	path  string
	files []openFile
	log   *slog.Logger

	lost atomic.Pointer[error] // why the file takes no writes; nil if it does

	mu   sync.Mutex
	size int64 // of the file, when it was last as it should be
}

// LostFile returns why the file takes no writes, as far as it is known by now; nil if it does, or if another process
// has it.
func (db *DB) LostFile() error {
	if db.watch == nil {
		return nil
	}
	return db.watch.lostFile()
}

// CheckCommit returns an error if a commit did not go to the files that other processes see. It is called before the
// commit is answered.
func (db *DB) CheckCommit() error {
	w := db.watch
	if w == nil || w.files[0].lost() == nil && w.files[1].lost() == nil { // what is committed is in one of these
		return nil
	}
	return w.look(nil)
}

// CheckFiles compares the files with those that were opened, and looks for pages that are missing.
func (db *DB) CheckFiles(ctx context.Context) error {
	if db.watch == nil {
		return nil
	}
	return db.watch.look(db.reader.WithContext(ctx))
}

// CheckWritable returns why no write can be relied on, nil if it can. It asks the file system, and not SQLite.
func (db *DB) CheckWritable() error {
	if db.watch == nil {
		return nil
	}
	if err := db.watch.look(nil); err != nil {
		return err
	}
	return db.checkpoints.failure()
}

func (w *watch) lostFile() error {
	if lost := w.lost.Load(); lost != nil {
		return *lost
	}
	return nil
}

// look compares the files with those that were opened and, on a connection that has no transaction, the size of the
// first: what a transaction has written is in neither file yet. It logs when that changes.
func (w *watch) look(reader *gorm.DB) error {
	var err error
	for i := 0; err == nil && i < len(w.files); i++ {
		err = w.files[i].lost()
	}
	if err == nil {
		err = w.complete(reader)
	}
	if err == nil || errors.Is(err, ErrFile) {
		w.note(err)
	}
	return err
}

// note logs when the file is lost, and when it is back.
func (w *watch) note(err error) {
	w.mu.Lock()
	defer w.mu.Unlock()
	before := w.lostFile()
	switch {
	case err == nil && before != nil:
		w.lost.Store(nil)
		w.log.Info("database file is back")
	case err != nil && (before == nil || before.Error() != err.Error()):
		w.lost.Store(&err)
		w.log.Error("database file lost, writes are refused until it is back", "error", err)
	}
}

// complete returns an error when the file is smaller than it was, and lacks a page that its log does not have either.
// Without a connection to ask, what it found the last time holds.
func (w *watch) complete(reader *gorm.DB) error {
	if reader == nil {
		if before := w.lostFile(); errors.Is(before, errTruncated) {
			return before
		}
		return nil
	}
	size, short, err := w.measure(reader)
	w.mu.Lock()
	defer w.mu.Unlock()
	if size < w.size && (short || isDamaged(err)) {
		return fmt.Errorf("%w: %s %w", ErrFile, w.path, errTruncated)
	}
	if err == nil {
		w.size = size
	}
	return err
}

// measure returns the size of the file, and whether pages are missing. It reads in one transaction, in which neither
// the log nor what it stands for can go.
func (w *watch) measure(reader *gorm.DB) (size int64, short bool, err error) {
	const pagesSQL = "SELECT page_count AS pages, page_size AS bytes FROM pragma_page_count, pragma_page_size"
	err = reader.Transaction(func(tx *gorm.DB) error {
		var now struct{ Pages, Bytes int64 }
		err := tx.Raw(pagesSQL).Scan(&now).Error
		info, statErr := os.Stat(w.path)
		if statErr != nil {
			return fmt.Errorf("%w: %w", ErrFile, statErr)
		}
		size = info.Size()
		if err == nil && size < now.Pages*now.Bytes && size < w.knownSize() {
			short, err = walLacks(w.path+walSuffix, size/now.Bytes, now.Pages, now.Bytes)
		}
		return err
	})
	return size, short, err
}

func (w *watch) knownSize() int64 {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.size
}

// openFile is a file as it was opened.
type openFile struct {
	name string
	info fs.FileInfo
}

// openFiles are the files of a database that is open, in the order of suffixes.
func openFiles(file string) (files []openFile, err error) {
	for _, suffix := range suffixes() {
		info, err := os.Stat(file + suffix)
		if err != nil {
			return nil, err
		}
		files = append(files, openFile{file + suffix, info})
	}
	return files, nil
}

// lost returns why the file is not where it was, nil if it is.
func (f openFile) lost() error {
	now, err := os.Stat(f.name)
	switch {
	case errors.Is(err, fs.ErrNotExist):
		return fmt.Errorf("%w: %s was removed", ErrFile, f.name)
	case err != nil:
		return fmt.Errorf("%w: %w", ErrFile, err)
	case !os.SameFile(f.info, now):
		return fmt.Errorf("%w: %s was replaced", ErrFile, f.name)
	}
	return nil
}
