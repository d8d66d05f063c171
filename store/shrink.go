package store

import (
	"context"
	"math"

	"github.com/agentevents/agentevents/store/internal/sqldb"
)

const (
	freePages = 1000 // that are left to be used again; and
	freePart  = 10   // a tenth of all
)

// shrink gives pages back to the file system when many are free.
func (s *Store) shrink(ctx context.Context) error {
	if isPostgres(s.URL) {
		return nil // it does so itself
	}
	for before := int64(math.MaxInt64); ctx.Err() == nil; {
		pages, err := sqldb.Value[struct {
			Unused int64
			Total  int64
		}](s.read(ctx), "SELECT freelist_count AS unused, page_count AS total FROM pragma_freelist_count, pragma_page_count")
		if err != nil {
			return err
		}
		if pages.Unused <= freePages || pages.Unused <= pages.Total/freePart || pages.Unused >= before || s.rigid(ctx) {
			return s.checkpoint()
		}
		before, s.pruner.shrunk = pages.Unused, true
		err = s.write(context.WithoutCancel(ctx), func(tx *sqldb.Tx) error {
			_, err := sqldb.Select[int](tx, "PRAGMA incremental_vacuum(100)") // each page that goes is a row without a column
			return err
		})
		if err != nil {
			return err
		}
	}
	return nil
}

// checkpoint carries the write-ahead log over to the file, which is smaller only then: as long as nothing is written nobody
// else would.
func (s *Store) checkpoint() error {
	if !s.pruner.shrunk {
		return nil
	}
	wal, err := s.keeper.carry(s.keeper.readers)
	// while somebody else does the same, or reads what was before
	s.pruner.shrunk = err != nil || wal.Busy || wal.Checkpointed < wal.Log
	return err
}

// rigid says whether the file cannot become smaller, and the first time to the log too: one that was made from a dump,
// or without vacuum by somebody else.
func (s *Store) rigid(ctx context.Context) bool {
	const incremental = 2
	mode, err := sqldb.Value[int](s.read(ctx), "PRAGMA auto_vacuum")
	if err == nil && mode != incremental && !s.pruner.warned {
		s.pruner.warned = true
		s.Log.Warn("the file of the database does not become smaller, as it was not made by this program; " +
			"`PRAGMA auto_vacuum = 2; VACUUM` mends that while nobody serves it")
	}
	return err != nil || mode != incremental
}
