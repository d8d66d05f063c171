package store

import (
	"context"
	"errors"
	"fmt"

	"gorm.io/gorm"

	"github.com/agentevents/agentevents/gen"
)

// batch is how many deliveries of a replay one commit sends again.
const batch = 100

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

func (r replayRow) model() gen.Replay {
	m := gen.Replay{
		ID: r.ID, State: gen.ReplayStateWorking, Total: r.Total, Done: r.Redelivered, Redelivered: r.Redelivered,
		Filter: gen.ReplayFilter{
			State: gen.ReplayFilterState(r.State), AgentType: r.Kind, AgentID: r.AgentID, EventID: r.EventID,
			Since: wireOf(r.Since), Until: wireOf(r.Until),
		},
		CreatedAt: wire(r.CreatedAt), FinishedAt: wireOf(r.FinishedAt),
	}
	if r.FinishedAt != nil {
		m.State, m.Done, m.Skipped = gen.ReplayStateFinished, r.Total, r.Total-r.Redelivered
	}
	return m
}

// condition is one on deliveries that are still to be sent again: those that had ended when it was asked for.
func (r replayRow) condition(tx *gorm.DB) (*condition, error) {
	c, err := r.filter().condition(tx, r.ClientID)
	if err != nil {
		return nil, err
	}
	c.add("d.finished_at <= ?", r.CreatedAt)
	c.after = max(c.after, r.Position)
	return c, nil
}

// Redeliver sends a delivery again that has ended.
func (s *Store) Redeliver(ctx context.Context, client string, id int64) (d gen.Delivery, err error) {
	defer s.wake()
	err = s.write(ctx, func(tx *gorm.DB) error {
		if d, err = findLogged(tx, client, id); err != nil {
			return err
		}
		if d.FinishedAt == nil {
			return &Error{
				Kind: Conflict, Message: fmt.Sprintf("delivery %d is %s and goes out by itself", id, d.State), Status: "not_ended",
			}
		}
		if err := s.redeliver(tx, id); err != nil {
			return err
		}
		d, err = findLogged(tx, client, id)
		return err
	})
	return d, err
}

// redeliver brings a delivery back that has ended: to its event's place or, if that is gone, to where it was sent.
func (s *Store) redeliver(tx *gorm.DB, id int64) error {
	d, err := gorm.G[deliveryRow](tx).Where("id = ?", id).Take(tx.Statement.Context)
	if err != nil {
		return err
	}
	e, err := gorm.G[eventRow](tx).Where("id = ?", d.EventID).Take(tx.Statement.Context)
	switch {
	case errors.Is(err, gorm.ErrRecordNotFound):
		e = eventRow{LaneID: d.LaneID, URL: d.URL, Method: d.Method}
	case err != nil:
		return err
	}
	if err := rememberURL(tx, "id = ? AND (url <> ? OR method <> ?)", id, e.URL, e.Method); err != nil {
		return err
	}
	now := s.now()
	err = tx.Exec("UPDATE deliveries SET state = 'parked', url = ?, method = ?, attempts = 0, expires_at = ?, "+
		"finished_at = NULL, replays = replays + 1 WHERE id = ?", e.URL, e.Method, now+s.Window.Milliseconds(), id).Error
	if err != nil || e.deliveryState() == parked {
		return err
	}
	return unpark(tx, e.LaneID, d.LaneID, now, "id = ?", id)
}

// CreateReplay takes note of what is to be sent again. Work does it.
func (s *Store) CreateReplay(ctx context.Context, client string, f DeliveryFilter) (m gen.Replay, err error) {
	r := replayRow{ClientID: client, State: f.State, Kind: f.AgentType, AgentID: f.AgentID, EventID: f.EventID}
	if !f.Since.IsZero() {
		r.Since = new(f.Since.UnixMilli())
	}
	if !f.Until.IsZero() {
		r.Until = new(f.Until.UnixMilli())
	}
	err = s.write(ctx, func(tx *gorm.DB) error {
		_, err := findClient(tx, client)
		r.CreatedAt = s.now()
		return err
	})
	if err != nil {
		return m, err
	}
	if r.Total, err = s.count(ctx, r); err != nil {
		return m, err
	}
	err = s.write(ctx, func(tx *gorm.DB) error { return gorm.G[replayRow](tx).Create(tx.Statement.Context, &r) })
	signal(s.replays)
	return r.model(), err
}

// count is how many deliveries a replay is of. They may be very many, and are not counted at the writer's cost; the
// write before it lets nothing come later that had ended when it was asked for.
func (s *Store) count(ctx context.Context, r replayRow) (total int, err error) {
	err = s.snapshot(ctx, func(tx *gorm.DB) error {
		c, err := r.condition(tx)
		if err != nil {
			return err
		}
		where, args := c.where()
		return tx.Raw("SELECT count(*) FROM deliveries d JOIN status_changes c ON c.id = d.change_id WHERE "+where, args...).
			Scan(&total).Error
	})
	return total, err
}

// Replays lists a client's replays, the newest first, those older than the one of an id (0 means all).
func (s *Store) Replays(ctx context.Context, client string, before int64, limit int) ([]gen.Replay, error) {
	tx := s.read(ctx)
	if _, err := findClient(tx, client); err != nil {
		return nil, err
	}
	q := gorm.G[replayRow](tx).Where("client_id = ?", client)
	if before > 0 {
		q = q.Where("id < ?", before)
	}
	rows, err := q.Order("id DESC").Limit(limit).Find(ctx)
	return each(rows, replayRow.model), failure(err)
}

// Replay returns a client's replay.
func (s *Store) Replay(ctx context.Context, client string, id int64) (gen.Replay, error) {
	tx := s.read(ctx)
	if _, err := findClient(tx, client); err != nil {
		return gen.Replay{}, err
	}
	r, err := gorm.G[replayRow](tx).Where("client_id = ? AND id = ?", client, id).Take(ctx)
	if errors.Is(err, gorm.ErrRecordNotFound) {
		err = &Error{
			Kind: NotFound, Message: fmt.Sprintf("there is no replay %d of client %s", id, client), Status: "replay_not_found",
		}
	}
	return r.model(), failure(err)
}

// replay works all replays, a batch of each in turn, until none is left.
func (s *Store) replay(ctx context.Context) error {
	work := context.WithoutCancel(ctx) // what has begun is worth finishing
	for ctx.Err() == nil {
		var open []int64
		err := s.read(work).Raw("SELECT id FROM replays WHERE finished_at IS NULL ORDER BY id").Scan(&open).Error
		if err != nil || len(open) == 0 {
			return failure(err)
		}
		for _, id := range open {
			if err := s.write(work, func(tx *gorm.DB) error { return s.replayBatch(tx, id) }); err != nil {
				return err
			}
			s.wake()
		}
	}
	return nil
}

func (s *Store) replayBatch(tx *gorm.DB, id int64) error {
	r, err := gorm.G[replayRow](tx).Where("id = ?", id).Take(tx.Statement.Context)
	if err != nil {
		return err
	}
	c, err := r.condition(tx)
	if err != nil {
		return err
	}
	where, args := c.where()
	var found []int64
	err = tx.Raw("SELECT d.id FROM deliveries d JOIN status_changes c ON c.id = d.change_id WHERE "+where+c.order("")+
		" LIMIT ?", append(args, batch)...).Scan(&found).Error
	for i := 0; err == nil && i < len(found); i++ {
		err = s.redeliver(tx, found[i])
		r.Position = found[i]
	}
	if err != nil {
		return err
	}
	if r.Redelivered += len(found); len(found) < batch {
		r.FinishedAt = new(s.now())
	}
	return tx.Exec("UPDATE replays SET position = ?, redelivered = ?, finished_at = ? WHERE id = ?",
		r.Position, r.Redelivered, r.FinishedAt, r.ID).Error
}
