package store

import (
	"context"
	"fmt"
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
	deliveries, changes pruneProgress
	versions            map[int64]bool // versions of events that nothing referred to at the last full prune
}

// pruneProgress is the last id of the previous run, of old rows and of each client's surplus rows.
type pruneProgress struct {
	old     int64
	surplus map[string]int64
}

// prune deletes finished rows that are older than Keep or beyond KeepRows, a few at a time: deliveries with their
// attempts, and then the changes that no row refers to. Pending and parked deliveries stay, and so does the last change
// of each agent. Readers find the rows; the writer only deletes them.
func (s *Store) prune(ctx context.Context) error {
	now := s.Now()
	if !reached(now, s.pruner.next, pruneEvery) {
		return nil
	}
	s.pruner.next = now.Add(pruneEvery)
	steps := []func(context.Context) error{
		s.countRetained, s.pruneFinished, s.pruneReplays, s.pruneTestDeliveries, s.pruneTokens, s.pruneKeys,
		s.engine.shrink,
	}
	if reached(now, s.pruner.nextFull, fullPruneEvery) {
		s.pruner.nextFull = now.Add(fullPruneEvery)
		s.pruner.deliveries, s.pruner.changes = newPruneProgress(), newPruneProgress()
		steps = slices.Concat(steps[:1], []func(context.Context) error{s.recountRetained}, steps[1:],
			[]func(context.Context) error{s.pruneVersions, s.pruneClients})
	}
	for _, step := range steps {
		if err := step(ctx); err != nil || ctx.Err() != nil {
			return publicError(err)
		}
	}
	return nil
}

func newPruneProgress() pruneProgress { return pruneProgress{0, map[string]int64{}} }

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

// pruneFinished prunes deliveries and changes.
func (s *Store) pruneFinished(ctx context.Context) error {
	surplus, err := s.findSurplus(ctx)
	if err != nil {
		return err
	}
	deliveries := pruning{s, s.prunableDeliveries(), surplus.counted, surplus.deliveries, &s.pruner.deliveries}
	if err := deliveries.run(ctx); err != nil || ctx.Err() != nil {
		return err
	}
	return pruning{s, s.prunableChanges(), surplus.counted, surplus.changes, &s.pruner.changes}.run(ctx)
}

// prunableRow is a row to delete.
type prunableRow struct {
	ID       int64
	ClientID string
	Old      int   // 1 if the row is older than Keep
	Attempts int   // of a delivery
	ChangeID int64 // of a delivery
}

// prunableTable describes how the prunable rows of a table are found and deleted. In free, "+ 0" keeps PostgreSQL from
// scanning all counted rows by the index of that column, instead of the few between two ids.
type prunableTable struct {
	name    string
	columns string // further columns of rows t
	old     string // the condition that a row is old
	free    string // the condition that it is counted, and ended (a delivery) or needed by no other row (a change)
	remove  func(tx *sqldb.Tx, gone []prunableRow) error
	skipped *skippedRows
}

// pruning is a run over a table.
type pruning struct {
	store *Store
	prunableTable
	counted  int64            // the last change that is counted
	surplus  map[string]int64 // the last row of each client that is beyond its share
	progress *pruneProgress
}

// run prunes the surplus rows, and then the old ones, after the last rows of the previous run. Then it looks again at
// the skipped rows that have changed since.
func (p pruning) run(ctx context.Context) error {
	err := p.pruneSurplus(ctx)
	if err != nil {
		clear(p.progress.surplus) // rows that were found may not be deleted
	} else {
		err = p.pruneOld(ctx)
	}
	last := p.progress.old
	for _, id := range p.progress.surplus {
		last = max(last, id)
	}
	for ids := range slices.Chunk(p.skipped.drain(last), pruneRows) {
		if err == nil && ctx.Err() == nil {
			err = p.pruneSkipped(ctx, ids)
		}
	}
	return err
}

// pruneSurplus deletes surplus rows. The rows of several clients share a commit.
func (p pruning) pruneSurplus(ctx context.Context) error {
	var gone []prunableRow
	for _, client := range slices.Sorted(maps.Keys(p.surplus)) {
		for p.progress.surplus[client] < p.surplus[client] && ctx.Err() == nil {
			found, err := p.find(ctx, surplusSQL[p.store.read(ctx).Dialect()], map[string]any{
				"client": client, "after": p.progress.surplus[client], "to": p.surplus[client],
			})
			if err != nil {
				return err
			}
			p.progress.surplus[client] = lastOf(found, p.surplus[client])
			if gone, err = p.removeBatches(ctx, append(gone, found...), pruneRows); err != nil {
				return err
			}
		}
	}
	_, err := p.removeBatches(ctx, gone, 1)
	return err
}

// surplusSQL finds the rows of a client between two ids. See indexScan for the reason why it depends on the engine.
var surplusSQL = map[sqldb.Dialect]string{
	sqldb.SQLite: "t.client_id = @client AND t.id > @after AND t.id <= @to AND %s ORDER BY t.id LIMIT @rows",
	sqldb.Postgres: "(t.client_id, t.id) > (@client, @after) AND (t.client_id, t.id) <= (@client, @to) " +
		"AND %s ORDER BY t.client_id, t.id LIMIT @rows",
}

// pruneOld deletes rows that are older than Keep.
func (p pruning) pruneOld(ctx context.Context) error {
	next, err := firstIn(p.store.read(ctx), p.name, millis(p.store.oldest()))
	for err == nil && p.progress.old < next-1 && ctx.Err() == nil {
		var found []prunableRow
		found, err = p.find(ctx, "t.id > @after AND t.id <= @to AND "+p.old+" AND %s ORDER BY t.id LIMIT @rows",
			map[string]any{"after": p.progress.old, "to": next - 1})
		if err == nil {
			_, err = p.removeBatches(ctx, found, 1)
		}
		if err == nil {
			p.progress.old = lastOf(found, next-1)
		}
	}
	return err
}

// pruneSkipped deletes those of the rows that are prunable by now.
func (p pruning) pruneSkipped(ctx context.Context, ids []int64) error {
	found, err := p.find(ctx, "t.id IN @ids AND %s", map[string]any{"ids": sqldb.Padded(ids)})
	found = slices.DeleteFunc(found, func(r prunableRow) bool {
		return r.Old == 0 && r.ID > p.progress.surplus[r.ClientID]
	})
	if err == nil {
		_, err = p.removeBatches(ctx, found, 1)
	}
	return err
}

// find lists free rows by a condition, in which %s stands for the condition that they are free.
func (p pruning) find(ctx context.Context, where string, values map[string]any) ([]prunableRow, error) {
	maps.Copy(values, map[string]any{"counted": p.counted, "oldest": p.store.oldest(), "rows": pruneRows})
	return sqldb.Select[prunableRow](p.store.read(ctx), "SELECT t.id, t.client_id, CASE WHEN "+p.old+
		" THEN 1 ELSE 0 END AS old"+p.columns+" FROM "+p.name+" t WHERE "+fmt.Sprintf(where, p.free), values)
}

// lastOf returns the id up to which a query has found all rows: the id that bounds it, unless it has ended earlier, at
// pruneRows rows.
func lastOf(found []prunableRow, to int64) int64 {
	if len(found) < pruneRows {
		return to
	}
	return found[len(found)-1].ID
}

// removeBatches deletes rows while there are at least a number of them, and returns the other rows.
func (p pruning) removeBatches(ctx context.Context, found []prunableRow, least int) ([]prunableRow, error) {
	for len(found) >= least {
		n := firstBatch(found)
		err := p.store.write(context.WithoutCancel(ctx), func(tx *sqldb.Tx) error { return p.remove(tx, found[:n]) })
		if err != nil {
			return nil, err
		}
		found = found[n:]
	}
	return found, nil
}

// firstBatch returns the number of rows that one commit deletes.
func firstBatch(found []prunableRow) (n int) {
	attempts := 0
	for i, r := range found {
		if attempts += r.Attempts; i > 0 && attempts > pruneAttempts {
			return i
		}
	}
	return min(len(found), pruneRows)
}

func prunableIDs(rows []prunableRow) []int64 {
	return each(rows, func(r prunableRow) int64 { return r.ID })
}

func (s *Store) prunableDeliveries() prunableTable {
	return prunableTable{
		name: "deliveries",
		columns: ", t.change_id, " +
			"(SELECT count(*) FROM attempts a WHERE a.delivery_id = t.id) AS attempts",
		old:    "t.created_at < @oldest AND t.finished_at < @oldest",
		free:   "t.state NOT IN ('pending', 'parked') AND t.change_id + 0 <= @counted",
		remove: s.removeDeliveries, skipped: &s.skipped.deliveries,
	}
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
	deleted, err := sqldb.Select[string](tx, "DELETE FROM deliveries WHERE id IN ? RETURNING client_id",
		sqldb.Padded(ids))
	if err != nil {
		return err
	}
	return subtractRetained(tx, deleted, retainedRow{Deliveries: 1})
}

func (s *Store) prunableChanges() prunableTable {
	return prunableTable{
		name: "status_changes",
		old:  "t.created_at < @oldest",
		free: "t.id + 0 <= @counted AND NOT EXISTS (SELECT 1 FROM deliveries d WHERE d.change_id = t.id) " +
			"AND NOT EXISTS (SELECT 1 FROM agents a WHERE a.client_id = t.client_id AND a.kind = t.kind " +
			"AND a.agent_id = t.agent_id AND a.sequence = t.id)",
		remove: removeChanges, skipped: &s.skipped.changes,
	}
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
	deleted, err := sqldb.Select[string](tx, "DELETE FROM status_changes WHERE id IN ? RETURNING client_id",
		sqldb.Padded(prunableIDs(gone)))
	if err != nil {
		return err
	}
	return subtractRetained(tx, deleted, retainedRow{Changes: 1})
}

func (s *Store) pruneReplays(ctx context.Context) error {
	return s.pruneOldRows(ctx, "replays", "finished_at")
}

func (s *Store) pruneTestDeliveries(ctx context.Context) error {
	return s.pruneOldRows(ctx, "samples", "started_at")
}

// pruneOldRows deletes old rows of a table by a time column with an index.
func (s *Store) pruneOldRows(ctx context.Context, table, column string) error {
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
