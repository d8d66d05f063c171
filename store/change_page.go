package store

import (
	"context"
	"math"

	"github.com/agentevents/agentevents/gen"
	"github.com/agentevents/agentevents/store/internal/sqldb"
)

const (
	// MaxOutcomes is the number of outcomes that a page of an agent's status changes may have in all. They are about
	// 400 KiB of JSON. A page with one change may have more: one for each event that the agent had then.
	MaxOutcomes = 2000
	// changesPerRead is the number of changes that one query reads for a page. The default page needs one query.
	changesPerRead = 101
)

// AgentStatusChanges lists an agent's status changes with their outcome for each event, the newest first, and whether
// there are older ones. The list has the changes before a sequence number (0 means all), at most limit of them and at
// most MaxOutcomes outcomes.
func (s *Store) AgentStatusChanges(
	ctx context.Context, k AgentKey, before int64, limit int,
) (m []gen.AgentStatusChange, more bool, err error) {
	err = s.snapshot(ctx, func(tx *sqldb.ReadTx) error {
		if _, err := findAgent(tx, k); err != nil {
			return err
		}
		c, err := findClient(tx, k.Client)
		if err != nil {
			return err
		}
		if before == 0 {
			before = math.MaxInt64
		}
		var rows []changeRow
		if rows, more, err = changesPage(tx, k, c.ChangesBefore, before-1, limit); err != nil {
			return err
		}
		kept, err := deliveriesOf(tx, k, rows)
		m = each(rows, func(r changeRow) gen.AgentStatusChange { return s.explain(r, kept[r.ID]) })
		return err
	})
	return m, more, err
}

// changesPage reads the changes of a page, and whether there are older ones. It reads few more than the page has: each
// of them may have a long list of events.
func changesPage(
	q sqldb.Querier, k AgentKey, after, upTo int64, limit int,
) (page []changeRow, more bool, err error) {
	scan := indexScan{columns: []string{"client_id", "kind", "agent_id"}, values: []any{k.Client, k.Type, k.ID}}
	for outcomes := 0; ; {
		rows, err := changesBy(q, scan, after, upTo, " DESC", changesPerRead)
		for _, r := range rows {
			outcomes += r.outcomes()
			if len(page) == limit || len(page) > 0 && outcomes > MaxOutcomes {
				return page, true, err
			}
			page = append(page, r)
		}
		if err != nil || len(rows) < changesPerRead {
			return page, false, err
		}
		upTo = rows[len(rows)-1].ID - 1
	}
}

// deliveriesOf returns the deliveries of an agent's changes that are still kept, by change. The newest change must be
// first.
func deliveriesOf(q sqldb.Querier, k AgentKey, changes []changeRow) (map[int64][]deliveryRow, error) {
	if len(changes) == 0 {
		return nil, nil
	}
	rows, err := sqldb.Select[deliveryRow](q, deliveriesOfSQL,
		k.Client, string(k.Type), k.ID, changes[len(changes)-1].ID, changes[0].ID)
	of := map[int64][]deliveryRow{}
	for _, r := range rows {
		of[r.ChangeID] = append(of[r.ChangeID], r)
	}
	return of, err
}

const deliveriesOfSQL = "SELECT id, change_id, event_id, state, attempts FROM deliveries " +
	"WHERE client_id = ? AND kind = ? AND agent_id = ? AND change_id BETWEEN ? AND ?"
