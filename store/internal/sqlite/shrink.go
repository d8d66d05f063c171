package sqlite

import (
	"context"
	"math"

	"github.com/agentevents/agentevents/store/internal/sqldb"
)

const (
	keptPages   = 1000 // that are left to be used again, and
	keptPart    = 10   // a tenth of all
	vacuumPages = "100"
)

// shrinking is what Shrink remembers.
type shrinking struct {
	warned     bool // that the file cannot become smaller
	unfinished bool // pages were given back, and the file does not show it yet
}

// Shrink gives pages back to the file system when many are free. It is for one goroutine at a time. write runs a
// function in a transaction of the writer; each gives back a few pages, so that no other write waits long.
func (db *DB) Shrink(ctx context.Context, write func(context.Context, sqldb.Work) error) error {
	const pagesSQL = "SELECT freelist_count AS unused, page_count AS total " +
		"FROM pragma_freelist_count, pragma_page_count"
	for before := int64(math.MaxInt64); ctx.Err() == nil; {
		var pages struct{ Unused, Total int64 }
		if err := db.reader.WithContext(ctx).Raw(pagesSQL).Scan(&pages).Error; err != nil {
			return err
		}
		if pages.Unused <= max(keptPages, pages.Total/keptPart) || pages.Unused >= before || db.rigid(ctx) {
			return db.finishShrinking()
		}
		before, db.shrinking.unfinished = pages.Unused, true
		err := write(context.WithoutCancel(ctx), func(tx *sqldb.Tx) error {
			// Each page that goes is a row without a column.
			_, err := sqldb.Select[int](tx, "PRAGMA incremental_vacuum("+vacuumPages+")")
			return err
		})
		if err != nil {
			return err
		}
	}
	return nil
}

// finishShrinking makes a checkpoint, since the file is smaller only after one, and without writes there is no other.
// It does so the next time again if another checkpoint, or a reader of what was before, was in the way.
func (db *DB) finishShrinking() error {
	if !db.shrinking.unfinished {
		return nil
	}
	complete, err := db.Checkpoint()
	db.shrinking.unfinished = !complete
	return err
}

// rigid says whether the file cannot become smaller, and the first time to the log too: a file that was made from a
// dump, or by a VACUUM without that setting.
func (db *DB) rigid(ctx context.Context) bool {
	const incremental = 2
	var mode int
	err := db.reader.WithContext(ctx).Raw("PRAGMA auto_vacuum").Scan(&mode).Error
	if err == nil && mode != incremental && !db.shrinking.warned {
		db.shrinking.warned = true
		db.log.Warn("the file of the database does not become smaller, as it was not made by this program; " +
			"`PRAGMA auto_vacuum = 2; VACUUM` mends that while nobody serves it")
	}
	return err != nil || mode != incremental
}
