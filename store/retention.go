package store

import (
	"context"
	"maps"
	"slices"
	"sync"
	"time"

	"github.com/agentevents/agentevents/store/internal/sqldb"
)

const (
	pruneEvery     = time.Second // so that each run has little to delete
	fullPruneEvery = time.Hour   // the interval of full prunes, which include rows that had to stay
	pruneRows      = 200         // rows that one commit deletes, so that no request waits long for the writer; and
	pruneAttempts  = 2000        // the approximate maximum of attempts with them
)

// pruner is the progress of pruning.
type pruner struct {
	next, nextFull      time.Time
	deliveries, changes int64 // the last ids of the previous run
}

// prune deletes finished rows that are older than Keep or more than KeepRows, a few at a time: deliveries with their
// attempts, and then the changes that no row refers to. Pending and parked deliveries stay, and so does the last change
// of each agent. Readers find the rows; the writer only deletes them.
func (s *Store) prune(ctx context.Context) error {
	now := s.Now()
	if !reached(now, s.pruner.next, pruneEvery) {
		return nil
	}
	s.pruner.next = now.Add(pruneEvery)
	steps := []func(context.Context) error{
		s.pruneDeliveries, s.pruneChanges, s.pruneReplays, s.pruneTestDeliveries, s.pruneTokens, s.pruneKeys,
		s.engine.shrink,
	}
	if reached(now, s.pruner.nextFull, fullPruneEvery) {
		s.pruner.nextFull, s.pruner.deliveries, s.pruner.changes = now.Add(fullPruneEvery), 0, 0
		steps = append(steps, s.pruneClients)
	}
	for _, step := range steps {
		if err := step(ctx); err != nil || ctx.Err() != nil {
			return publicError(err)
		}
	}
	return nil
}

// reached reports whether a time is reached, or was set by a clock that has been put back since.
func reached(now, at time.Time, delay time.Duration) bool {
	return !now.Before(at) || at.Sub(now) > delay
}

// skippedRows are rows that pruning passed because they had to stay, and that may be prunable by now: a delivery has
// ended, a change has lost its last delivery, or an agent has a later change. Without this list, they would stay until
// the next full prune.
type skippedRows struct {
	mu  sync.Mutex
	to  int64 // the last row that pruning passed
	ids []int64
}

// noteIn adds a row when a transaction is committed. Before the commit, pruning would still see the old row.
func (p *skippedRows) noteIn(tx *sqldb.Tx, id int64) { tx.WriterOnCommit(func() { p.note(id) }) }

func (p *skippedRows) note(id int64) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if id > 0 && id <= p.to {
		p.ids = append(p.ids, id)
	}
}

// drain returns and removes the added rows. From then on, note adds rows up to an id.
func (p *skippedRows) drain(to int64) (ids []int64) {
	p.mu.Lock()
	defer p.mu.Unlock()
	ids, p.ids, p.to = p.ids, nil, to
	return ids
}

// oldest is the time before which finished rows are old.
func (s *Store) oldest() int64 { return s.now() - s.Keep.Milliseconds() }

// span is the range of ids that may be prunable in a table.
type span struct {
	surplus int64 // the last row beyond KeepRows
	end     int64 // the last row that is beyond KeepRows or old
	oldest  int64 // the time before which rows are old
}

// deliverySpan also includes the deliveries of changes beyond KeepRows.
func (s *Store) deliverySpan(q sqldb.Querier) (p span, err error) {
	changes, err := s.surplus(q, "status_changes")
	if err != nil {
		return p, err
	}
	kept, err := sqldb.Value[int64](q,
		"SELECT coalesce((SELECT id FROM deliveries WHERE change_id > ? ORDER BY change_id, id LIMIT 1), "+
			"(SELECT max(id) + 1 FROM deliveries), 1)", changes)
	if err != nil {
		return p, err
	}
	return s.span(q, "deliveries", kept-1)
}

func (s *Store) changeSpan(q sqldb.Querier) (span, error) { return s.span(q, "status_changes", 0) }

func (s *Store) span(q sqldb.Querier, table string, surplus int64) (p span, err error) {
	p = span{surplus: surplus, oldest: s.oldest()}
	tooMany, err := s.surplus(q, table)
	if err != nil {
		return p, err
	}
	kept, err := firstIn(q, table, millis(p.oldest))
	p.surplus = max(p.surplus, tooMany)
	p.end = max(p.surplus, kept-1)
	return p, err
}

// surplus returns the newest row beyond KeepRows. Ids have gaps only where rows were deleted.
func (s *Store) surplus(q sqldb.Querier, table string) (id int64, err error) {
	return sqldb.Value[int64](q, "SELECT coalesce(max(id), 0) - ? FROM "+table, s.KeepRows)
}

// prunableRow is a row to delete.
type prunableRow struct {
	ID       int64
	ClientID string
	Attempts int   // of a delivery
	ChangeID int64 // of a delivery
}

// prunableTable describes how the prunable rows of a table are found and deleted.
type prunableTable struct {
	span      func(q sqldb.Querier) (span, error)
	rows      string // selects rows t that may be prunable
	condition string // the condition that they are
	remove    func(tx *sqldb.Tx, gone []prunableRow) error
	skipped   *skippedRows
}

// prune deletes prunable rows after the last row of the previous run, and advances that row. Then it looks again at the
// skipped rows that have changed since.
func (t prunableTable) prune(ctx context.Context, s *Store, last *int64) error {
	var p span
	err := s.snapshot(ctx, func(tx *sqldb.ReadTx) (err error) {
		p, err = t.span(tx)
		return err
	})
	for err == nil && *last < p.end && ctx.Err() == nil {
		var gone []prunableRow
		gone, err = t.find(ctx, s, p, "t.id > @from AND t.id <= @end AND "+t.condition+" ORDER BY t.id LIMIT @rows",
			*last)
		gone, all := firstBatch(gone)
		if err == nil {
			err = t.removeAll(ctx, s, gone)
		}
		if all && err == nil {
			*last = p.end
		} else if err == nil {
			*last = gone[len(gone)-1].ID
		}
	}
	for ids := range slices.Chunk(t.skipped.drain(*last), pruneRows) {
		var gone []prunableRow
		if err == nil && ctx.Err() == nil {
			gone, err = t.find(ctx, s, p, "t.id IN @from AND "+t.condition, sqldb.Padded(ids))
		}
		if err == nil {
			err = t.removeAll(ctx, s, gone)
		}
	}
	return err
}

// find lists prunable rows after a row, or among ids.
func (t prunableTable) find(
	ctx context.Context, s *Store, p span, where string, from any,
) (found []prunableRow, err error) {
	found, err = sqldb.Select[prunableRow](s.read(ctx), t.rows+" WHERE "+where, map[string]any{
		"from": from, "end": p.end, "surplus": p.surplus, "oldest": p.oldest, "rows": pruneRows,
	})
	return found, err
}

func (t prunableTable) removeAll(ctx context.Context, s *Store, gone []prunableRow) error {
	if len(gone) == 0 {
		return nil
	}
	return s.write(context.WithoutCancel(ctx), func(tx *sqldb.Tx) error { return t.remove(tx, gone) })
}

// firstBatch returns the rows that one commit deletes, and reports whether no further rows can follow.
func firstBatch(found []prunableRow) (gone []prunableRow, all bool) {
	attempts := 0
	for i, r := range found {
		if attempts += r.Attempts; i > 0 && attempts > pruneAttempts {
			return found[:i], false
		}
	}
	return found, len(found) < pruneRows
}

func prunableIDs(rows []prunableRow) []int64 {
	return each(rows, func(r prunableRow) int64 { return r.ID })
}

func (s *Store) pruneDeliveries(ctx context.Context) error {
	return prunableTable{
		span: s.deliverySpan,
		rows: "SELECT t.id, t.change_id, " +
			"(SELECT count(*) FROM attempts a WHERE a.delivery_id = t.id) AS attempts FROM deliveries t",
		condition: "t.state NOT IN ('pending', 'parked') AND " +
			"(t.id <= @surplus OR (t.created_at < @oldest AND t.finished_at < @oldest))",
		remove: s.removeDeliveries, skipped: &s.skipped.deliveries,
	}.prune(ctx, s, &s.pruner.deliveries)
}

// removeDeliveries deletes deliveries, unless they were redelivered meanwhile.
func (s *Store) removeDeliveries(tx *sqldb.Tx, gone []prunableRow) error {
	ids, err := sqldb.Select[int64](
		tx, "SELECT id FROM deliveries WHERE id IN ? AND state NOT IN ('pending', 'parked')"+tx.SkipLocked("id"),
		sqldb.Padded(prunableIDs(gone)),
	)
	if err != nil || len(ids) == 0 {
		return err
	}
	if err := tx.Exec("DELETE FROM attempts WHERE delivery_id IN ?", sqldb.Padded(ids)); err != nil {
		return err
	}
	for _, d := range gone {
		s.skipped.changes.noteIn(tx, d.ChangeID)
	}
	return tx.Exec("DELETE FROM deliveries WHERE id IN ?", sqldb.Padded(ids))
}

func (s *Store) pruneChanges(ctx context.Context) error {
	return prunableTable{
		span: s.changeSpan,
		rows: "SELECT t.id, t.client_id FROM status_changes t",
		condition: "(t.id <= @surplus OR t.created_at < @oldest) " +
			"AND NOT EXISTS (SELECT 1 FROM deliveries d WHERE d.change_id = t.id) " +
			"AND NOT EXISTS (SELECT 1 FROM agents a WHERE a.client_id = t.client_id AND a.kind = t.kind " +
			"AND a.agent_id = t.agent_id AND a.sequence = t.id)",
		remove: removeChanges, skipped: &s.skipped.changes,
	}.prune(ctx, s, &s.pruner.changes)
}

// removeChanges deletes changes, and stores for each client the number up to which its changes are deleted.
func removeChanges(tx *sqldb.Tx, gone []prunableRow) error {
	upTo := map[string]int64{}
	for _, r := range gone {
		upTo[r.ClientID] = max(upTo[r.ClientID], r.ID)
	}
	for _, client := range slices.Sorted(maps.Keys(upTo)) {
		err := tx.Exec("INSERT INTO truncated (client_id, sequence) VALUES (?, ?) ON CONFLICT (client_id) "+
			"DO UPDATE SET sequence = excluded.sequence WHERE truncated.sequence < excluded.sequence", client,
			upTo[client])
		if err != nil {
			return err
		}
	}
	return tx.Exec("DELETE FROM status_changes WHERE id IN ?", sqldb.Padded(prunableIDs(gone)))
}

func (s *Store) pruneReplays(ctx context.Context) error {
	return s.pruneOld(ctx, "replays", "finished_at")
}

func (s *Store) pruneTestDeliveries(ctx context.Context) error {
	return s.pruneOld(ctx, "samples", "started_at")
}

// pruneOld deletes old rows of a table by a time column with an index.
func (s *Store) pruneOld(ctx context.Context, table, column string) error {
	for more := true; more && ctx.Err() == nil; {
		ids, err := sqldb.Select[int64](s.read(ctx),
			"SELECT id FROM "+table+" WHERE "+column+" < ? ORDER BY "+column+" LIMIT ?", s.oldest(), pruneRows)
		if err != nil || len(ids) == 0 {
			return err
		}
		err = s.write(context.WithoutCancel(ctx), func(tx *sqldb.Tx) error {
			return tx.Exec("DELETE FROM "+table+" WHERE id IN ?", sqldb.Padded(ids))
		})
		if err != nil {
			return err
		}
		more = len(ids) == pruneRows
	}
	return nil
}

// pruneClients deletes rows of deleted clients that are no longer needed: a secret after the last delivery, an open
// breaker after that, and the row of truncated after the last change. Lanes and receivers stay, since no index finds
// the deliveries of a lane. A new client with the same id takes them over.
func (s *Store) pruneClients(ctx context.Context) error {
	err := s.pruneOrphans(ctx, "secrets", noBusyReceiverSQL)
	if err == nil {
		err = s.pruneOrphans(ctx, "truncated",
			"NOT EXISTS (SELECT 1 FROM status_changes x WHERE x.client_id = t.client_id)")
	}
	if err == nil {
		err = s.closeBreakers(ctx)
	}
	return err
}

// pruneOrphans deletes the rows t of a table whose client does not exist and that fulfil a condition. It locks the rows
// before it checks the condition again, since a client that was created meanwhile owns them.
func (s *Store) pruneOrphans(ctx context.Context, table, condition string) error {
	left := "NOT EXISTS (SELECT 1 FROM clients c WHERE c.id = t.client_id) AND " + condition
	found, err := sqldb.Select[string](s.read(ctx), "SELECT client_id FROM "+table+" AS t WHERE "+left+" LIMIT ?",
		pruneRows)
	if err != nil || len(found) == 0 {
		return err
	}
	return s.write(context.WithoutCancel(ctx), func(tx *sqldb.Tx) error {
		locked, err := sqldb.Select[string](tx,
			"SELECT client_id FROM "+table+" WHERE client_id IN ?"+tx.SkipLocked("client_id"), found)
		if err != nil || len(locked) == 0 {
			return err
		}
		return tx.Exec("DELETE FROM "+table+" AS t WHERE t.client_id IN ? AND "+left, locked)
	})
}
