package store

import (
	"context"
	"time"

	"gorm.io/gorm"
)

const (
	pruneEvery = time.Minute
	pruneAgain = time.Hour // then rows are looked at that had to stay before
	pruneRows  = 200       // that one commit looks at, so that nobody waits long for the writer
	freePages  = 1000      // that are left to be used again; and
	freePart   = 10        // a tenth of all
)

// pruner remembers how far it has looked.
type pruner struct {
	next, again         time.Time
	deliveries, changes int64 // the last that was looked at
}

// prune removes what has ended and is older than Keep or more than KeepRows, little by little: deliveries with their
// attempts, and then the changes that nothing refers to. What is pending or parked stays, and of each agent the last
// change.
func (s *Store) prune(ctx context.Context) error {
	if now := s.Now(); now.Before(s.pruner.next) {
		return nil
	} else if s.pruner.next = now.Add(pruneEvery); !now.Before(s.pruner.again) {
		s.pruner = pruner{next: s.pruner.next, again: now.Add(pruneAgain)}
	}
	steps := []func(context.Context) (bool, error){s.pruneDeliveries, s.pruneChanges, s.pruneRest, s.shrink}
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

// bound is the newest row of a table that is one too many.
func (s *Store) bound(ctx context.Context, table string) (id int64, err error) {
	err = s.read(ctx).Raw("SELECT coalesce((SELECT id FROM "+table+" ORDER BY id DESC LIMIT 1 OFFSET ?), 0)", s.KeepRows).
		Scan(&id).Error
	return id, failure(err)
}

func (s *Store) oldest() int64 { return s.now() - s.Keep.Milliseconds() }

// old is a row that is old enough to go, and whether it may.
type old struct {
	ID       int64
	ClientID string
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
	bound, err := s.bound(ctx, "deliveries")
	if err != nil {
		return false, err
	}
	last := s.pruner.deliveries
	err = s.write(ctx, func(tx *gorm.DB) error {
		var rows []old
		err := tx.Raw("SELECT id, state IN ('pending', 'parked') AS stays FROM deliveries "+
			"WHERE id > ? AND (id <= ? OR created_at < ?) ORDER BY id LIMIT ?",
			last, bound, s.oldest(), pruneRows).Scan(&rows).Error
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
		return tx.Exec("DELETE FROM deliveries WHERE id IN ?", ids).Error
	})
	if err == nil {
		s.pruner.deliveries = last
	}
	return more, err
}

func (s *Store) pruneChanges(ctx context.Context) (more bool, err error) {
	bound, err := s.bound(ctx, "status_changes")
	if err != nil {
		return false, err
	}
	last := s.pruner.changes
	err = s.write(ctx, func(tx *gorm.DB) error {
		var rows []old
		err := tx.Raw("SELECT c.id, c.client_id, EXISTS (SELECT 1 FROM deliveries d WHERE d.change_id = c.id) OR EXISTS ("+
			"SELECT 1 FROM agents a WHERE a.client_id = c.client_id AND a.kind = c.kind AND a.agent_id = c.agent_id "+
			"AND a.sequence = c.id) AS stays FROM status_changes c "+
			"WHERE c.id > ? AND (c.id <= ? OR c.created_at < ?) ORDER BY c.id LIMIT ?",
			last, bound, s.oldest(), pruneRows).Scan(&rows).Error
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

// shrink gives pages back to the file system when many are free.
func (s *Store) shrink(ctx context.Context) (more bool, err error) {
	err = s.write(ctx, func(tx *gorm.DB) error {
		var free, all int64
		if err := tx.Raw("PRAGMA freelist_count").Scan(&free).Error; err != nil {
			return err
		}
		if err := tx.Raw("PRAGMA page_count").Scan(&all).Error; err != nil {
			return err
		}
		if more = free > freePages && free > all/freePart; !more {
			return nil
		}
		var none []int // each page that goes is a row without a column
		return tx.Raw("PRAGMA incremental_vacuum(500)").Scan(&none).Error
	})
	return more, err
}
