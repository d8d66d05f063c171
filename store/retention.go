package store

import (
	"context"
	"time"

	"gorm.io/gorm"
)

const (
	pruneEvery = time.Second // so that there is never much to do at once
	pruneAgain = time.Hour   // then rows are looked at that had to stay before
	pruneRows  = 200         // that one commit looks at, so that nobody waits long for the writer
	freePages  = 1000        // that are left to be used again; and
	freePart   = 10          // a tenth of all
)

// pruner remembers how far it has looked.
type pruner struct {
	next, again         time.Time
	deliveries, changes int64 // the last that was looked at
	shrunk              bool  // and the file does not show it yet
}

// prune removes what has ended and is older than Keep or more than KeepRows, little by little: deliveries with their
// attempts, and then the changes that nothing refers to. What is pending or parked stays, and of each agent the last
// change.
func (s *Store) prune(ctx context.Context) error {
	now := s.Now()
	if now.Before(s.pruner.next) {
		return nil
	}
	s.pruner.next = now.Add(pruneEvery)
	steps := []func(context.Context) (bool, error){s.pruneDeliveries, s.pruneChanges, s.shrink}
	if !now.Before(s.pruner.again) {
		s.pruner = pruner{next: s.pruner.next, again: now.Add(pruneAgain), shrunk: s.pruner.shrunk}
		steps = append(steps, s.pruneRest)
	}
	for _, step := range steps {
		for more := true; more && ctx.Err() == nil; {
			var err error
			if more, err = step(context.WithoutCancel(ctx)); err != nil {
				return err
			}
		}
	}
	return nil
}

// prunable says of a table what may go: what is older than Keep, up to the row aged, and what is too much, up to the row
// many. Ids have no gaps but those that pruning leaves, and grow with time, so that nothing is to be counted.
func (s *Store) prunable(ctx context.Context, table string) (aged, many int64, err error) {
	err = s.snapshot(ctx, func(tx *gorm.DB) error {
		var ends struct{ Low, High int64 }
		err := tx.Raw("SELECT coalesce((SELECT min(id) FROM " + table + "), 1) AS low, " +
			"coalesce((SELECT max(id) FROM " + table + "), 0) AS high").Scan(&ends).Error
		many = ends.High - int64(s.KeepRows)
		for err == nil && ends.Low <= ends.High {
			middle := ends.Low + (ends.High-ends.Low)/2
			var at struct{ ID, CreatedAt int64 }
			err = tx.Raw("SELECT id, created_at FROM "+table+" WHERE id >= ? ORDER BY id LIMIT 1", middle).Scan(&at).Error
			if at.CreatedAt < s.oldest() {
				ends.Low, aged = at.ID+1, at.ID
			} else {
				ends.High = middle - 1
			}
		}
		return err
	})
	return aged, many, err
}

func (s *Store) oldest() int64 { return s.now() - s.Keep.Milliseconds() }

// old is a row that is old enough to go, and whether it may.
type old struct {
	ID       int64
	ClientID string
	ChangeID int64
	Stays    bool
}

// parts are the rows that go and the last that was looked at.
func parts(rows []old, at int64) (gone []old, last int64) {
	last = at
	for _, r := range rows {
		if last = r.ID; !r.Stays {
			gone = append(gone, r)
		}
	}
	return gone, last
}

func (s *Store) pruneDeliveries(ctx context.Context) (more bool, err error) {
	aged, many, err := s.prunable(ctx, "deliveries")
	if err != nil || s.pruner.deliveries >= max(aged, many) {
		return false, err
	}
	last := s.pruner.deliveries
	err = s.write(ctx, func(tx *gorm.DB) error {
		var rows []old
		err := tx.Raw("SELECT id, change_id, state IN ('pending', 'parked') AS stays FROM deliveries "+
			"WHERE id > ? AND id <= ? AND (id <= ? OR created_at < ?) ORDER BY id LIMIT ?",
			last, max(aged, many), many, s.oldest(), pruneRows).Scan(&rows).Error
		if err != nil {
			return err
		}
		var gone []old
		gone, last = parts(rows, last)
		more = len(rows) == pruneRows
		ids := padded(append([]int64{0}, each(gone, func(r old) int64 { return r.ID })...))
		if err := tx.Exec("DELETE FROM attempts WHERE delivery_id IN ?", ids).Error; err != nil {
			return err
		}
		if err := tx.Exec("DELETE FROM deliveries WHERE id IN ?", ids).Error; err != nil {
			return err
		}
		return s.pruneChangesOf(tx, gone)
	})
	if err == nil {
		s.pruner.deliveries = last
	}
	return more, err
}

// needed says of a change c that something refers to it.
const needed = "(EXISTS (SELECT 1 FROM deliveries d WHERE d.change_id = c.id) OR EXISTS (SELECT 1 FROM agents a " +
	"WHERE a.client_id = c.client_id AND a.kind = c.kind AND a.agent_id = c.agent_id AND a.sequence = c.id))"

// pruneChangesOf removes changes that were looked at before and had to stay for deliveries that are gone now.
func (s *Store) pruneChangesOf(tx *gorm.DB, gone []old) error {
	ids := padded(append([]int64{0}, each(gone, func(r old) int64 { return r.ChangeID })...))
	var rows []old
	err := tx.Raw("SELECT c.id, c.client_id FROM status_changes c WHERE c.id IN ? AND c.id <= ? AND NOT "+needed,
		ids, s.pruner.changes).Scan(&rows).Error
	if err != nil || len(rows) == 0 {
		return err
	}
	return truncate(tx, rows)
}

func (s *Store) pruneChanges(ctx context.Context) (more bool, err error) {
	aged, many, err := s.prunable(ctx, "status_changes")
	if err != nil || s.pruner.changes >= max(aged, many) {
		return false, err
	}
	last := s.pruner.changes
	err = s.write(ctx, func(tx *gorm.DB) error {
		var rows []old
		err := tx.Raw("SELECT c.id, c.client_id, "+needed+" AS stays FROM status_changes c "+
			"WHERE c.id > ? AND c.id <= ? AND (c.id <= ? OR c.created_at < ?) ORDER BY c.id LIMIT ?",
			last, max(aged, many), many, s.oldest(), pruneRows).Scan(&rows).Error
		if err != nil {
			return err
		}
		var gone []old
		gone, last = parts(rows, last)
		more = len(rows) == pruneRows
		return truncate(tx, gone)
	})
	if err == nil {
		s.pruner.changes = last
	}
	return more, err
}

// truncate deletes changes and notes for each client up to where they are gone.
func truncate(tx *gorm.DB, gone []old) error {
	upTo := map[string]int64{}
	for _, r := range gone {
		upTo[r.ClientID] = max(upTo[r.ClientID], r.ID)
	}
	for client, sequence := range upTo {
		err := tx.Exec("INSERT INTO truncated (client_id, sequence) VALUES (?, ?) ON CONFLICT (client_id) "+
			"DO UPDATE SET sequence = max(sequence, excluded.sequence)", client, sequence).Error
		if err != nil {
			return err
		}
	}
	ids := padded(append([]int64{0}, each(gone, func(r old) int64 { return r.ID })...))
	return tx.Exec("DELETE FROM status_changes WHERE id IN ?", ids).Error
}

// pruneRest removes replays and tests that are too old; there are few.
func (s *Store) pruneRest(ctx context.Context) (more bool, err error) {
	return false, s.write(ctx, func(tx *gorm.DB) error {
		if err := tx.Exec("DELETE FROM replays WHERE finished_at < ?", s.oldest()).Error; err != nil {
			return err
		}
		return tx.Exec("DELETE FROM samples WHERE started_at < ?", s.oldest()).Error
	})
}

// shrink gives pages back to the file system when many are free. The file is smaller only when the write-ahead log is
// carried over to it, which nobody else would do as long as nothing is written.
func (s *Store) shrink(ctx context.Context) (more bool, err error) {
	var pages struct{ Unused, Total int64 }
	err = s.read(ctx).Raw("SELECT freelist_count AS unused, page_count AS total FROM pragma_freelist_count, pragma_page_count").
		Scan(&pages).Error
	if err != nil {
		return false, failure(err)
	}
	if more = pages.Unused > freePages && pages.Unused > pages.Total/freePart; more {
		s.pruner.shrunk = true
		return true, s.write(ctx, func(tx *gorm.DB) error {
			var none []int // each page that goes is a row without a column
			return tx.Raw("PRAGMA incremental_vacuum(100)").Scan(&none).Error
		})
	}
	if !s.pruner.shrunk {
		return false, nil
	}
	var wal struct{ Log, Checkpointed int64 }
	err = s.read(ctx).Raw("PRAGMA wal_checkpoint(PASSIVE)").Scan(&wal).Error
	s.pruner.shrunk = err != nil || wal.Checkpointed < wal.Log // while somebody reads what was before
	return false, failure(err)
}
