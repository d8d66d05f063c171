package sqlite

import (
	"context"
	"fmt"
	"math"

	"github.com/agentevents/agentevents/store/internal/sqldb"
)

const (
	keptPages   = 1000 // at least so many pages stay free for reuse,
	keptPart    = 10   // and at least one page in so many
	vacuumPages = 100
)

// shrinking is the state of Shrink.
type shrinking struct {
	warned     bool // the warning that the file cannot shrink was logged
	unfinished bool // pages were freed, and the file is not smaller yet
}

// Shrink returns pages to the file system if many are free. It is for one goroutine at a time. write runs a function in
// a transaction of the writer. Each transaction frees a few pages, so that no other write waits long.
func (db *DB) Shrink(ctx context.Context, write func(context.Context, sqldb.Work) error) error {
	for before := int64(math.MaxInt64); ctx.Err() == nil; {
		pages, err := db.countPages(ctx)
		if err != nil {
			return err
		}
		if pages.Unused <= max(keptPages, pages.Total/keptPart) || pages.Unused >= before || db.cannotShrink(ctx) {
			return db.finishShrinking()
		}
		before, db.shrinking.unfinished = pages.Unused, true
		if err := write(context.WithoutCancel(ctx), vacuum); err != nil {
			return err
		}
	}
	return nil
}

// ReleasePages returns all free pages to the file system, so that no deleted row is left in them. A file that cannot
// shrink keeps them.
func (db *DB) ReleasePages(ctx context.Context, write func(context.Context, sqldb.Work) error) error {
	pages, err := db.countPages(ctx)
	for left := pages.Unused; err == nil && left > 0 && pages.Unused > 0; left -= vacuumPages {
		if err = write(ctx, vacuum); err == nil {
			pages, err = db.countPages(ctx)
		}
	}
	return err
}

// pageCounts are the numbers of pages of a file.
type pageCounts struct{ Unused, Total int64 }

func (db *DB) countPages(ctx context.Context) (p pageCounts, err error) {
	err = db.reader.WithContext(ctx).Raw("SELECT freelist_count AS unused, page_count AS total " +
		"FROM pragma_freelist_count, pragma_page_count").Scan(&p).Error
	return p, err
}

// vacuum frees a few pages. The pragma returns a row without a column for each.
func vacuum(tx *sqldb.Tx) error {
	_, err := sqldb.Select[int](tx, fmt.Sprintf("PRAGMA incremental_vacuum(%d)", vacuumPages))
	return err
}

// finishShrinking makes a checkpoint, without which the file does not become smaller. If another checkpoint or a reader
// of old pages is in the way, the next call tries again.
func (db *DB) finishShrinking() error {
	if !db.shrinking.unfinished {
		return nil
	}
	complete, err := db.Checkpoint()
	db.shrinking.unfinished = !complete
	return err
}

// cannotShrink reports whether the file cannot become smaller, and logs that once. Such a file was made from a dump, or
// by a VACUUM without that setting.
func (db *DB) cannotShrink(ctx context.Context) bool {
	const incremental = 2
	var mode int
	err := db.reader.WithContext(ctx).Raw("PRAGMA auto_vacuum").Scan(&mode).Error
	if err == nil && mode != incremental && !db.shrinking.warned {
		db.shrinking.warned = true
		db.log.Warn("database file cannot shrink, another program made it: stop the server and run " +
			"`PRAGMA auto_vacuum = 2; VACUUM`")
	}
	return err != nil || mode != incremental
}
