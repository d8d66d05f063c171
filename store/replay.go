package store

import (
	"context"
	"errors"
	"fmt"
	"slices"

	"gorm.io/gorm"

	"github.com/agentevents/agentevents/gen"
	"github.com/agentevents/agentevents/store/internal/sqldb"
)

const (
	redeliveriesPerCommit = 10   // deliveries of a replay in one commit
	replayLookAhead       = 1000 // deliveries of a replay that one query finds
	maxReplays            = 10   // unfinished replays of a client
)

type replayRow struct {
	ID           int64 `gorm:"primaryKey"`
	ClientID     string
	State        gen.DeliveryState
	Kind         gen.AgentType
	AgentID      int64
	EventID      int64
	Since, Until *int64
	Total        int
	Redelivered  int
	Position     int64
	CreatedAt    int64 `gorm:"autoCreateTime:false"`
	FinishedAt   *int64
}

func (replayRow) TableName() string { return "replays" }

func (r replayRow) filter() DeliveryFilter {
	f := DeliveryFilter{State: r.State, AgentType: r.Kind, AgentID: r.AgentID, EventID: r.EventID}
	if r.Since != nil {
		f.Since = millis(*r.Since)
	}
	if r.Until != nil {
		f.Until = millis(*r.Until)
	}
	return f
}

// The states of a replay, by openapi.yaml.
const (
	replayWorking  = "working"
	replayFinished = "finished"
)

func (r replayRow) model() gen.Replay {
	m := gen.Replay{
		ID: r.ID, State: replayWorking, Total: r.Total, Done: r.Redelivered, Redelivered: r.Redelivered,
		Filter: gen.ReplayFilter{
			State: gen.ReplayFilterState(r.State), AgentType: r.Kind, AgentID: r.AgentID, EventID: r.EventID,
			Since: apiTimeOrNil(r.Since), Until: apiTimeOrNil(r.Until),
		},
		CreatedAt: apiTime(r.CreatedAt), FinishedAt: apiTimeOrNil(r.FinishedAt),
	}
	if r.FinishedAt != nil {
		m.State, m.Done, m.Skipped = replayFinished, r.Total, r.Total-r.Redelivered
	}
	return m
}

// asOf returns the condition that a delivery was as wanted when the replay was created: it had ended, or it was
// pending.
func (r replayRow) asOf() string {
	if r.State == statePending {
		return "created_at <= ?"
	}
	return "finished_at <= ?"
}

// condition selects the deliveries that the replay has not processed yet.
func (r replayRow) condition(q sqldb.Querier) (*deliveryCondition, error) {
	c, err := r.filter().condition(q, r.ClientID)
	if err != nil {
		return nil, err
	}
	c.add("d."+r.asOf(), r.CreatedAt)
	c.after = max(c.after, r.Position)
	return c, nil
}

// Redeliver resends a finished delivery, or makes a pending one due at once.
func (s *Store) Redeliver(ctx context.Context, client string, id int64) (d gen.Delivery, err error) {
	defer s.wake()
	err = s.write(ctx, func(tx *sqldb.Tx) error {
		if err := lockForRedelivery(tx, client, id); err != nil {
			return err
		}
		if d, err = findDelivery(tx, client, id); err != nil {
			return err
		}
		if err := s.redeliverByState(tx, d); err != nil {
			return err
		}
		d, err = findDelivery(tx, client, id)
		return err
	})
	return d, err
}

func (s *Store) redeliverByState(tx *sqldb.Tx, d gen.Delivery) error {
	switch d.State {
	case statePending:
		return s.makeDue(tx, d.ID)
	case stateParked:
		return &Error{Kind: Conflict, Status: "not_ended", Message: fmt.Sprintf(
			"delivery %d is parked: it waits until its event is enabled, or fails when its time is over", d.ID)}
	}
	swept, err := sqldb.Value[bool](tx, "SELECT EXISTS (SELECT 1 FROM deliveries d WHERE d.id = ? AND "+
		orphanSweepSQL+")", d.ID)
	switch {
	case err != nil:
		return err
	case swept:
		return &Error{Kind: Conflict, Status: "conflict", Message: fmt.Sprintf(
			"event %d was deleted a moment ago, and its deliveries still follow its last change; try again", d.EventID)}
	}
	return s.redeliver(tx, d.ID)
}

// lockForRedelivery is lockForReplay for one delivery. It prevents the deletion of the client until the transaction
// ends.
func lockForRedelivery(tx *sqldb.Tx, client string, id int64) error {
	ids := []int64{id}
	if err := lockAgentsOf(tx, ids); err != nil {
		return err
	}
	if err := lockClientKey(tx, client); err != nil {
		return err
	}
	return lockReplayLanes(tx, ids)
}

// lockForReplay locks the rows that redeliveries change. The replay itself, which is locked after that, prevents the
// deletion of the client.
func lockForReplay(tx *sqldb.Tx, ids []int64) error {
	if err := lockAgentsOf(tx, ids); err != nil {
		return err
	}
	return lockReplayLanes(tx, ids)
}

func lockReplayLanes(tx *sqldb.Tx, ids []int64) error {
	if tx.Dialect() == sqldb.SQLite {
		return nil
	}
	var lanes []int64
	ids = sqldb.Padded(ids)
	lanes, err := sqldb.Select[int64](tx, "SELECT lane_id FROM deliveries WHERE id IN ? UNION "+
		"SELECT e.lane_id FROM deliveries d JOIN agent_events e ON e.id = d.event_id WHERE d.id IN ?", ids, ids)
	if err != nil {
		return err
	}
	return lockLanes(tx, lanes...)
}

// redeliver makes a finished delivery pending again. It enters the lane of its event or, if that is deleted, the lane
// of its own URL.
func (s *Store) redeliver(tx *sqldb.Tx, id int64) error {
	d, err := gorm.G[deliveryRow](tx.GORM()).Where("id = ?", id).Take(tx.Context())
	if err != nil {
		return err
	}
	e, err := destination(tx, d)
	if err != nil {
		return err
	}
	now := s.now()
	err = tx.Exec("UPDATE deliveries SET state = 'parked', version_id = ?, attempts = 0, failures = 0, "+
		"outage = 0, expires_at = ?, finished_at = NULL, replays = replays + 1 WHERE id = ?", e.VersionID,
		now+s.Window.Milliseconds(), id)
	if err != nil || e.deliveryState() == stateParked {
		return err
	}
	return unpark(tx, d.LaneID, e.LaneID, now, byID, id)
}

// destination returns a delivery's event. For a deleted event, it returns an event with the delivery's version and a
// lane for it, which may not be the delivery's last lane: the delivery may have been cancelled before it could follow
// its event.
func destination(tx *sqldb.Tx, d deliveryRow) (eventRow, error) {
	e, err := gorm.G[eventRow](tx.GORM()).Where("id = ?", d.EventID).Take(tx.Context())
	if !errors.Is(err, gorm.ErrRecordNotFound) {
		return e, err
	}
	v, err := gorm.G[eventVersion](tx.GORM()).Where("id = ?", d.VersionID).Take(tx.Context())
	if err != nil {
		return e, err
	}
	e = eventRow{VersionID: v.ID}
	e.LaneID, err = ensureLane(tx, AgentKey{Client: d.ClientID, Type: d.Kind, ID: d.AgentID}, v.URL)
	return e, err
}

// CreateReplay stores a replay, which Work executes. It counts the deliveries on a reader's connection, since that may
// take long. If the count fails, a repeated Idempotency-Key still gets its first answer. created is false for such a
// repeated request.
func (s *Store) CreateReplay(
	ctx context.Context, client string, f DeliveryFilter,
) (m gen.Replay, created bool, err error) {
	r := replayRow{
		ClientID: client, State: f.State, Kind: f.AgentType, AgentID: f.AgentID, EventID: f.EventID, CreatedAt: s.now(),
	}
	if !f.Since.IsZero() {
		r.Since = new(f.Since.UnixMilli())
	}
	if !f.Until.IsZero() {
		r.Until = new(f.Until.UnixMilli())
	}
	counted := s.snapshot(ctx, r.count)
	defer signal(s.replays)
	m, err = createOnce(ctx, s, func(tx *sqldb.Tx) (m gen.Replay, err error) {
		if counted != nil {
			return m, counted
		}
		if _, err := lockClient(tx, client); err != nil {
			return m, err
		}
		if err := r.admit(tx); err != nil {
			return m, err
		}
		err = gorm.G[replayRow](tx.GORM()).Create(tx.Context(), &r)
		return r.model(), err
	})
	return m, err == nil && m.ID == r.ID, err
}

// count counts the deliveries of the replay, if the replay is allowed.
func (r *replayRow) count(tx *sqldb.Reader) error {
	if err := r.admit(tx); err != nil {
		return err
	}
	c, err := r.condition(tx)
	if err != nil {
		return err
	}
	found, args := c.fromWhere()
	r.Total, err = sqldb.Value[int](tx, "SELECT count(*) "+found, args...)
	return err
}

// admit refuses a replay if its client does not exist or has too many unfinished ones. It makes the replay begin after
// the deliveries of an earlier client with the same id.
func (r *replayRow) admit(q sqldb.Querier) error {
	c, err := findClient(q, r.ClientID)
	if err != nil {
		return err
	}
	r.Position = c.DeliveriesBefore
	n, err := sqldb.Value[int](q, "SELECT count(*) FROM replays WHERE finished_at IS NULL AND client_id || '' = ?",
		c.ID)
	if err != nil || n < maxReplays {
		return err
	}
	return &Error{Kind: Conflict, Status: "too_many_replays", Message: fmt.Sprintf(
		"%d replays of client %s are at work; ask again when one of them has finished", n, c.ID)}
}

// Replays lists a client's replays before an id (0 means all), the newest first.
func (s *Store) Replays(ctx context.Context, client string, before int64, limit int) ([]gen.Replay, error) {
	tx := s.read(ctx)
	if _, err := findClient(tx, client); err != nil {
		return nil, err
	}
	q := gorm.G[replayRow](tx.GORM()).Where("client_id = ?", client)
	if before > 0 {
		q = q.Where("id < ?", before)
	}
	rows, err := q.Order("id DESC").Limit(limit).Find(ctx)
	return each(rows, replayRow.model), publicError(err)
}

// Replay returns a client's replay.
func (s *Store) Replay(ctx context.Context, client string, id int64) (gen.Replay, error) {
	tx := s.read(ctx)
	if _, err := findClient(tx, client); err != nil {
		return gen.Replay{}, err
	}
	r, err := gorm.G[replayRow](tx.GORM()).Where("client_id = ? AND id = ?", client, id).Take(ctx)
	if errors.Is(err, gorm.ErrRecordNotFound) {
		err = &Error{
			Kind: NotFound, Message: fmt.Sprintf("there is no replay %d of client %s", id, client),
			Status: "replay_not_found",
		}
	}
	return r.model(), publicError(err)
}

// replay executes all replays, a part of each in turn, until none is left. A failed replay does not block the others.
func (s *Store) replay(ctx context.Context) error {
	for ctx.Err() == nil {
		open, err := gorm.G[replayRow](s.read(ctx).GORM()).Where("finished_at IS NULL").Order("id").Find(ctx)
		if err != nil || len(open) == 0 {
			return publicError(err)
		}
		for _, r := range open {
			err = errors.Join(err, s.replayPart(ctx, r))
		}
		if err != nil {
			return err
		}
	}
	return nil
}

// replayPart finds the next deliveries of a replay and redelivers them. It finds them on a reader's connection, since
// that may take long. It finishes the sweeps before, since that of a deleted event would change redelivered deliveries,
// too.
func (s *Store) replayPart(ctx context.Context, r replayRow) error {
	if err := s.runSweeps(ctx); err != nil {
		return err
	}
	var found []int64
	err := s.snapshot(ctx, func(tx *sqldb.Reader) (err error) {
		found, err = r.next(tx)
		return err
	})
	finishing := context.WithoutCancel(ctx) // a stop does not interrupt a commit
	for part := range slices.Chunk(found, redeliveriesPerCommit) {
		if err != nil || ctx.Err() != nil {
			return err
		}
		err = s.write(finishing, func(tx *sqldb.Tx) error { return s.redeliverPart(tx, r, part) })
		s.wake()
	}
	if err != nil || len(found) == replayLookAhead {
		return err
	}
	return s.write(finishing, func(tx *sqldb.Tx) error {
		return tx.Exec("UPDATE replays SET finished_at = ? WHERE id = ? AND finished_at IS NULL", s.now(), r.ID)
	})
}

// next lists the next deliveries of the replay, at most replayLookAhead.
func (r replayRow) next(q sqldb.Querier) (found []int64, err error) {
	c, err := r.condition(q)
	if err != nil {
		return nil, err
	}
	where, args := c.fromWhere()
	return sqldb.Select[int64](q, "SELECT d.id "+where+c.order("")+" LIMIT ?", append(args, replayLookAhead)...)
}

// unprocessed locks a replay, and returns the ids of a part that no other process has redelivered.
func (r replayRow) unprocessed(tx *sqldb.Tx, part []int64) ([]int64, error) {
	now, err := gorm.G[replayRow](tx.GORM(), sqldb.Locking(tx)...).Where("id = ?", r.ID).Take(tx.Context())
	if errors.Is(err, gorm.ErrRecordNotFound) {
		return nil, nil
	}
	return slices.DeleteFunc(slices.Clone(part), func(id int64) bool { return id <= now.Position }), err
}

// redeliverPart redelivers those deliveries of a part that still have the wanted state. It does nothing if the replay
// was deleted with its client.
func (s *Store) redeliverPart(tx *sqldb.Tx, r replayRow, part []int64) error {
	if err := lockForReplay(tx, part); err != nil {
		return err
	}
	part, err := r.unprocessed(tx, part)
	if err != nil || len(part) == 0 {
		return err
	}
	still, err := sqldb.Select[int64](tx, "SELECT d.id FROM deliveries d WHERE d.id IN ? AND d.state = ? "+
		"AND d."+r.asOf()+" AND EXISTS (SELECT 1 FROM replays WHERE id = ?) AND NOT "+orphanSweepSQL+" ORDER BY d.id",
		sqldb.Padded(part), r.State, r.CreatedAt, r.ID)
	if err == nil {
		err = s.redeliverAll(tx, r.State, still)
	}
	if err != nil {
		return err
	}
	// A delivery that ended in the millisecond of the replay's creation may be missing in the total.
	return tx.Exec("UPDATE replays SET position = ?, redelivered = redelivered + ?, "+
		"total = CASE WHEN total < redelivered + ? THEN redelivered + ? ELSE total END WHERE id = ?",
		part[len(part)-1], len(still), len(still), len(still), r.ID)
}

func (s *Store) redeliverAll(tx *sqldb.Tx, state gen.DeliveryState, ids []int64) (err error) {
	if len(ids) > 0 && state == statePending {
		return s.makeDue(tx, ids...)
	}
	for i := 0; err == nil && i < len(ids); i++ {
		err = s.redeliver(tx, ids[i])
	}
	return err
}
