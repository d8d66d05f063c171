package store

import (
	"context"
	"fmt"
	"maps"
	"slices"

	"github.com/agentevents/agentevents/gen"
	"github.com/agentevents/agentevents/store/internal/sqldb"
)

// erasedPerCommit is the number of rows that one commit of an erasure deletes, so that no request waits long for the
// writer.
const erasedPerCommit = pruneRows

// eventsPerStatement is the number of events that one statement names. Changes may name more than it has parameters.
const eventsPerStatement = 1024

// erasure is the progress of EraseAgent.
type erasure struct {
	store *Store
	agent AgentKey
	gen.AgentErasure
}

// EraseAgent deletes all rows of a deleted agent: its status changes, and its deliveries with their attempts. It also
// deletes the replays of the agent and the test deliveries of its events. The agent's lanes stay under a number that no
// agent has: a lane is never deleted. On SQLite, the deleted rows are overwritten in the file and removed from its log.
//
// Deliveries that have not ended are cancelled first. It is an error of kind Conflict if the agent exists, or if one of
// its deliveries is in flight. Without any row, it is one of kind NotFound.
//
// It takes several transactions. After an error, some rows may be deleted: a further call deletes the others.
func (s *Store) EraseAgent(ctx context.Context, k AgentKey) (gen.AgentErasure, error) {
	e := &erasure{store: s, agent: k}
	if err := e.checkDeleted(s.read(ctx)); err != nil {
		return gen.AgentErasure{}, err
	}
	steps := []func(context.Context) error{e.eraseRest, e.eraseFiles}
	switch more, err := e.hasRows(s.read(ctx)); {
	case err != nil:
		return gen.AgentErasure{}, publicError(err)
	case more:
		steps = slices.Concat([]func(context.Context) error{
			s.countRetained, // only counted rows are deleted, as by retention
			e.untilNone(e.eraseDeliveries), e.untilNone(e.eraseChanges),
		}, steps)
	}
	for _, step := range steps {
		if err := step(ctx); err != nil {
			return gen.AgentErasure{}, publicError(err)
		}
	}
	if e.AgentErasure == (gen.AgentErasure{}) {
		return gen.AgentErasure{}, missing(s.read(ctx), k)
	}
	return e.AgentErasure, nil
}

// checkDeleted returns an error if the agent exists, or if its client does not. In a transaction that writes, the agent
// cannot be created until the end of the transaction.
func (e *erasure) checkDeleted(q sqldb.Querier) error {
	if _, err := readClient(q, e.agent.Client, q.ForUpdate(true)); err != nil {
		return err
	}
	switch _, exists, err := sqldb.Get[agentRow](q, agentSQL, e.agent.Client, string(e.agent.Type), e.agent.ID); {
	case err != nil:
		return publicError(err)
	case exists:
		return &Error{
			Kind: Conflict, Message: fmt.Sprintf("%v exists; delete it first", e.agent), Status: "agent_exists",
		}
	}
	return nil
}

// write runs a transaction of the erasure, which leaves no deleted row in the file.
func (e *erasure) write(ctx context.Context, fn sqldb.Work) error {
	return e.store.write(context.WithoutCancel(ctx), func(tx *sqldb.Tx) error {
		if err := e.checkDeleted(tx); err != nil {
			return err
		}
		return e.store.engine.overwrite(tx, func() error { return fn(tx) })
	})
}

// untilNone returns a step that repeats a transaction until it has found no row.
func (e *erasure) untilNone(part func(tx *sqldb.Tx) (found int, err error)) func(context.Context) error {
	return func(ctx context.Context) error {
		for {
			if err := ctx.Err(); err != nil {
				return err
			}
			found := 0
			err := e.write(ctx, func(tx *sqldb.Tx) (err error) {
				found, err = part(tx)
				return err
			})
			if err != nil || found == 0 {
				return err
			}
		}
	}
}

const (
	// ofAgentSQL is the condition that a row belongs to the agent, with the values of key.
	ofAgentSQL = "client_id = ? AND kind = ? AND agent_id = ?"
	// ofErasedSQL selects counted rows t of the agent, with the values of key and the number of rows.
	ofErasedSQL = ofAgentSQL + " AND t.%s <= " +
		"(SELECT counted FROM retention WHERE id = 1) ORDER BY t.%[1]s, t.id" + sqldb.Limit
	hasRowsSQL = "SELECT EXISTS (SELECT 1 FROM deliveries WHERE " + ofAgentSQL + ") OR " +
		"EXISTS (SELECT 1 FROM status_changes WHERE " + ofAgentSQL + ")"
)

func (e *erasure) key() []any { return []any{e.agent.Client, string(e.agent.Type), e.agent.ID} }

// hasRows reports whether the agent has deliveries or changes.
func (e *erasure) hasRows(q sqldb.Querier) (bool, error) {
	return sqldb.Value[bool](q, hasRowsSQL, slices.Concat(e.key(), e.key())...)
}

// erasable is a delivery of the agent.
type erasable struct {
	prunableRow
	State  string
	LaneID int64
}

var erasableSQL = "SELECT t.id, t.client_id, t.change_id, t.state, t.lane_id, " +
	"(SELECT count(*) FROM attempts a WHERE a.delivery_id = t.id) AS attempts FROM deliveries t WHERE " +
	fmt.Sprintf(ofErasedSQL, "change_id")

func (e *erasure) findDeliveries(tx *sqldb.Tx) ([]erasable, error) {
	return sqldb.Select[erasable](tx, erasableSQL, append(e.key(), erasedPerCommit)...)
}

// eraseDeliveries deletes the first deliveries of the agent. It cancels those that have not ended.
func (e *erasure) eraseDeliveries(tx *sqldb.Tx) (found int, err error) {
	rows, err := e.findDeliveries(tx)
	if err != nil || len(rows) == 0 {
		return 0, err
	}
	lanes := each(rows, func(r erasable) int64 { return r.LaneID })
	if err := lockLanes(tx, lanes...); err != nil {
		return 0, err
	}
	if rows, err = e.findDeliveries(tx); err != nil { // some may have moved, ended or gone meanwhile
		return 0, err
	}
	rows = slices.DeleteFunc(rows, func(r erasable) bool { return !slices.Contains(lanes, r.LaneID) })
	if len(rows) == 0 {
		return 1, nil // the next transaction locks their lanes
	}
	if err := e.cancel(tx, rows); err != nil {
		return 0, err
	}
	inFlight, err := sqldb.Select[int64](tx, "SELECT delivery_id FROM lanes WHERE id IN ? AND lease_until > ?",
		sqldb.Padded(lanes), e.store.now())
	if err != nil {
		return 0, err
	}
	gone := slices.DeleteFunc(each(rows, func(r erasable) prunableRow { return r.prunableRow }),
		func(r prunableRow) bool { return slices.Contains(inFlight, r.ID) })
	if len(gone) == 0 {
		return 0, e.notEnded()
	}
	gone = gone[:firstBatch(gone)]
	tx.WriterOnCommit(func() { e.Deliveries += int64(len(gone)) })
	return len(gone), e.store.removeDeliveries(tx, gone)
}

// notEnded is the error for a delivery in flight. A claim of another process can have such a delivery only before the
// erasure cancels it, so it ends with its lease.
func (e *erasure) notEnded() error {
	return &Error{Kind: Conflict, Status: "not_ended", Message: fmt.Sprintf(
		"a delivery of %v is under way; repeat the request when it has ended, within %v", e.agent, e.store.Lease)}
}

// cancel cancels those of the deliveries that have not ended. Their lanes must be locked.
func (e *erasure) cancel(tx *sqldb.Tx, rows []erasable) error {
	byLane := map[int64][]int64{}
	for _, r := range rows {
		if r.State == statePending || r.State == stateParked {
			byLane[r.LaneID] = append(byLane[r.LaneID], r.ID)
		}
	}
	for _, lane := range slices.Sorted(maps.Keys(byLane)) {
		ids := sqldb.Padded(byLane[lane])
		if err := e.store.removeFromLane(tx, lane, stateCancelled, byIDs, ids); err != nil {
			return err
		}
		if err := e.store.cancelParked(tx, ids); err != nil {
			return err
		}
	}
	return nil
}

var erasedChangesSQL = "SELECT " + sqldb.Columns[changeRow]() + " FROM status_changes t WHERE " +
	fmt.Sprintf(ofErasedSQL, "id")

// eraseChanges deletes the first changes of the agent, after the test deliveries and the URLs of the events that they
// name: no other row names these events any more.
func (e *erasure) eraseChanges(tx *sqldb.Tx) (found int, err error) {
	rows, err := sqldb.Select[changeRow](tx, erasedChangesSQL, append(e.key(), erasedPerCommit)...)
	if err != nil || len(rows) == 0 {
		return 0, err
	}
	events := map[int64]bool{}
	for _, r := range rows {
		for _, list := range []string{r.Fired, r.Parked, r.Skipped} {
			maps.Copy(events, idsIn(list))
		}
	}
	for some := range slices.Chunk(slices.Sorted(maps.Keys(events)), eventsPerStatement) {
		if more, err := eraseEvents(tx, some); err != nil || more {
			return 1, err
		}
	}
	tx.WriterOnCommit(func() { e.StatusChanges += int64(len(rows)) })
	deleted, err := sqldb.Select[string](tx, "DELETE FROM status_changes WHERE id IN ? RETURNING client_id",
		sqldb.Padded(each(rows, func(r changeRow) int64 { return r.ID })))
	if err != nil {
		return 0, err
	}
	return len(rows), subtractRetained(tx, deleted, retainedRow{Changes: 1})
}

// eraseEvents deletes some test deliveries and URLs of deleted events, and reports whether there were any.
func eraseEvents(tx *sqldb.Tx, events []int64) (found bool, err error) {
	events = sqldb.Padded(events)
	tests, err := tx.ExecCount("DELETE FROM samples WHERE id IN (SELECT id FROM samples WHERE event_id IN ?"+
		sqldb.Limit+")", events, erasedPerCommit)
	if err != nil || tests > 0 {
		return true, err
	}
	if err := tx.Exec("DELETE FROM event_sweeps WHERE event_id IN ?", events); err != nil {
		return false, err
	}
	urls, err := tx.ExecCount("DELETE FROM event_versions WHERE id IN (SELECT v.id FROM event_versions v "+
		"WHERE v.event_id IN ? AND "+unusedVersionSQL+sqldb.Limit+")", events, events, events, erasedPerCommit)
	return urls > 0, err
}

// eraseRest deletes the replays of the agent, and gives its lanes another number. A result that is recorded after that
// is too late to count. It fails if there are deliveries or changes that could not be deleted yet.
func (e *erasure) eraseRest(ctx context.Context) error {
	return e.write(ctx, func(tx *sqldb.Tx) error {
		switch more, err := e.hasRows(tx); {
		case err != nil:
			return err
		case more:
			return &Error{Kind: Unavailable, Message: fmt.Sprintf("rows of %v are in use, try again", e.agent)}
		}
		if err := tx.Exec("DELETE FROM replays WHERE "+ofAgentSQL, e.key()...); err != nil {
			return err
		}
		lanes, err := sqldb.Select[int64](tx, erasedLanesSQL, e.key()...)
		if err != nil {
			return err
		}
		if err := lockLanes(tx, lanes...); err != nil {
			return err
		}
		return tx.Exec("UPDATE lanes SET agent_id = -id, claim = claim + 1, lease_until = NULL, delivery_id = NULL, "+
			"due_at = NULL WHERE id IN ?", sqldb.Padded(append(lanes, 0)))
	})
}

// eraseFiles removes deleted rows from unused pages and from the engine's log.
func (e *erasure) eraseFiles(ctx context.Context) error {
	erased, err := e.store.engine.eraseDeleted(ctx)
	if err == nil && !erased {
		err = &Error{Kind: Unavailable, Message: "the store is read by a long transaction, such as a backup; try again"}
	}
	return err
}

// erasedLanesSQL lists the lanes of an agent. They include those of an earlier client with the same id: see
// renameEarlierClient.
const erasedLanesSQL = "SELECT l.id FROM (SELECT CAST(? AS TEXT) AS client_id) c JOIN receivers r " +
	"ON r.client_id = c.client_id OR NOT (" + notOfEarlierSQL + ") " +
	"JOIN lanes l ON l.receiver_id = r.id WHERE l.kind = ? AND l.agent_id = ?"
