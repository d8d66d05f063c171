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
	pruneEvery = time.Second // so that there is never much to do at once
	pruneAgain = time.Hour   // then rows are looked at that had to stay before
	pruneRows  = 200         // that one commit removes, so that no request waits long for the writer; and
	pruneTries = 2000        // about as many attempts at them
)

// pruner remembers how far it has looked.
type pruner struct {
	next, again         time.Time
	deliveries, changes int64 // the last that was looked at
}

// prune removes what has ended and is older than Keep or more than KeepRows, little by little: deliveries with their
// attempts, and then the changes that nothing refers to. What is pending or parked stays, and of each agent the last
// change. What is to go is found by readers; the writer only removes it.
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
	if reached(now, s.pruner.again, pruneAgain) {
		s.pruner.again, s.pruner.deliveries, s.pruner.changes = now.Add(pruneAgain), 0, 0
		steps = append(steps, s.pruneClients)
	}
	for _, step := range steps {
		if err := step(ctx); err != nil || ctx.Err() != nil {
			return publicError(err)
		}
	}
	return nil
}

// reached says whether a time is reached, or was set by a clock that has been put back since.
func reached(now, at time.Time, delay time.Duration) bool {
	return !now.Before(at) || at.Sub(now) > delay
}

// skippedRows are rows that pruning has passed since they had to stay, and that may be prunable by now: a delivery has
// ended, the deliveries of a change are gone, or its agent has a later change. Else they would stay until pruning looks
// at all rows again.
type skippedRows struct {
	mu  sync.Mutex
	to  int64 // the last row that was looked at
	ids []int64
}

// noteIn notes a row when a transaction is committed: before, a look would still find it as it was.
func (p *skippedRows) noteIn(tx *sqldb.Tx, id int64) { tx.OnCommit(func() { p.note(id) }) }

func (p *skippedRows) note(id int64) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if id > 0 && id <= p.to {
		p.ids = append(p.ids, id)
	}
}

// drain returns the noted rows. From now on rows up to an id are noted.
func (p *skippedRows) drain(to int64) (ids []int64) {
	p.mu.Lock()
	defer p.mu.Unlock()
	ids, p.ids, p.to = p.ids, nil, to
	return ids
}

func (s *Store) oldest() int64 { return s.now() - s.Keep.Milliseconds() }

// span is the rows of a table that may have to go, by their ids.
type span struct {
	surplus int64 // up to this there are too many
	end     int64 // up to this there are too many, or they are old
	oldest  int64 // what is older than this time may go
}

// deliverySpan counts as too many also those of changes that are.
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

// surplus is the newest row of a table that is one too many, as ids have no gaps but where rows were removed.
func (s *Store) surplus(q sqldb.Querier, table string) (id int64, err error) {
	return sqldb.Value[int64](q, "SELECT coalesce(max(id), 0) - ? FROM "+table, s.KeepRows)
}

// prunableRow is a row that is to go.
type prunableRow struct {
	ID       int64
	ClientID string
	Attempts int   // of a delivery
	ChangeID int64 // of a delivery
}

// prunableTable is how the rows of a table are found that are to go, and removed.
type prunableTable struct {
	span      func(q sqldb.Querier) (span, error)
	rows      string // selects rows t that may have to go
	condition string // and says which of them do
	remove    func(tx *sqldb.Tx, gone []prunableRow) error
	skipped   *skippedRows
}

// prune removes rows of a table after the last that was looked at, and moves that on. Then it looks again at those that
// it went past before, and that have changed since.
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

// find lists rows from a last one on, or of some ids.
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

// firstBatch are the first of the rows that were found, as many as one commit removes, and whether these are all that
// there are.
func firstBatch(found []prunableRow) (gone []prunableRow, all bool) {
	attempts := 0
	for i, r := range found {
		if attempts += r.Attempts; i > 0 && attempts > pruneTries {
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

// removeDeliveries leaves those that are sent again by now.
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

// removeChanges notes for each client up to where its changes are gone.
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

// pruneOld removes rows of a table that are old by a column that has an index.
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

// pruneClients removes what is left of deleted clients and no longer needed: secrets when the last delivery has
// ended, the state of breakers after that, and up to where changes are gone when the last of them is. Lanes and
// receivers stay, since no index tells whether a delivery refers to a lane: a client that is created under the same
// id takes them.
func (s *Store) pruneClients(ctx context.Context) error {
	err := s.pruneLeft(ctx, "secrets", noneBusySQL)
	if err == nil {
		err = s.pruneLeft(ctx, "truncated",
			"NOT EXISTS (SELECT 1 FROM status_changes x WHERE x.client_id = t.client_id)")
	}
	if err == nil {
		err = s.closeBreakers(ctx)
	}
	return err
}

// pruneLeft removes rows t of a table that no client has, and of which a condition is so. The rows are locked before
// the condition is checked for the last time: a client that was created meanwhile owns them.
func (s *Store) pruneLeft(ctx context.Context, table, condition string) error {
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
