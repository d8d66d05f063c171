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

// ErrFile means that the file is not the one that was opened, or only a part of it, so that no write is possible.
var ErrFile = errors.New("the database file is not the one that was opened")

var errTruncated = errors.New("was truncated")

// watch compares the files of a database with those that were opened. SQLite does not notice that a file was removed or
// truncated: it would continue to write, and a restart would lose those writes.
type watch struct {
	path  string
	files []openFile
	log   *slog.Logger

	lost atomic.Pointer[error] // the reason why the file takes no writes; nil if it takes them

	mu   sync.Mutex
	size int64 // the size at the last successful check
}

// LostFile returns the known reason why the file takes no writes. It returns nil if the file takes writes, or if
// another process serves it.
func (db *DB) LostFile() error {
	if db.watch == nil {
		return nil
	}
	return db.watch.lostFile()
}

// CheckCommit returns an error if a commit did not go to the files that other processes see. It must run before the
// commit is confirmed.
func (db *DB) CheckCommit() error {
	w := db.watch
	if w == nil || w.files[0].lost() == nil && w.files[1].lost() == nil { // commits are in one of these two
		return nil
	}
	return w.check(nil)
}

// CheckFiles compares the files with those that were opened, and looks for missing pages.
func (db *DB) CheckFiles(ctx context.Context) error {
	if db.watch == nil {
		return nil
	}
	return db.watch.check(db.reader.WithContext(ctx))
}

// CheckWritable returns the reason why no write is reliable, or nil. It asks the file system, and not SQLite.
func (db *DB) CheckWritable() error {
	if db.watch == nil {
		return nil
	}
	if err := db.watch.check(nil); err != nil {
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

// check compares the files with those that were opened, and logs a change. With a reader, it also checks the size of
// the database file. The reader must not be in a transaction that writes: its uncommitted pages are in neither file.
func (w *watch) check(reader *gorm.DB) error {
	var err error
	for i := 0; err == nil && i < len(w.files); i++ {
		err = w.files[i].lost()
	}
	if err == nil {
		err = w.checkSize(reader)
	}
	if err == nil || errors.Is(err, ErrFile) {
		w.note(err)
	}
	return err
}

// note logs that the file is lost or is back.
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

// checkSize returns an error if the file has become smaller and lacks a page that its log does not have either. Without
// a reader, it repeats its last result.
func (w *watch) checkSize(reader *gorm.DB) error {
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

// measure returns the size of the file, and reports whether pages are missing. It reads in one transaction, during
// which neither the log nor the pages in it can disappear.
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

// openFile is a file at the time when it was opened.
type openFile struct {
	name string
	info fs.FileInfo
}

// openFiles returns the files of an open database, in the order of suffixes.
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

// lost returns the reason why the file is not in its place, or nil.
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
