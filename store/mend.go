package store

import (
	"context"

	"gorm.io/gorm"

	"github.com/agentevents/agentevents/webhook"
)

// Mend implements webhook.Outbox: it finds lanes whose row does not say what their deliveries are, which no rule
// should ever allow, and puts them right.
func (s *Store) Mend(ctx context.Context) (int, error) {
	strays, err := s.strayLanes(s.read(ctx))
	if err != nil || len(strays) == 0 {
		return 0, failure(err)
	}
	mended := 0
	err = s.write(ctx, func(tx *gorm.DB) error {
		lanes, err := s.strayLanes(tx) // what was read outside may have been put right by itself
		if err != nil || len(lanes) == 0 {
			return err
		}
		mended = len(lanes)
		return s.mend(tx, lanes)
	})
	if mended > 0 {
		s.Log.Error("lanes mended", "lanes", mended)
		s.wake()
	}
	return mended, err
}

// strayLanes lists lanes with pending deliveries that are not due or are due further away than any delay is long (by a
// clock that was wrong), and those that count wrong.
func (s *Store) strayLanes(tx *gorm.DB) (lanes []int64, err error) {
	err = tx.Raw("SELECT p.lane_id FROM (SELECT lane_id, count(*) AS n FROM deliveries WHERE state = 'pending' "+
		"GROUP BY lane_id) p JOIN lanes l ON l.id = p.lane_id WHERE l.due_at IS NULL OR l.due_at > ? OR l.pending <> p.n "+
		"UNION SELECT l.id FROM lanes l WHERE l.due_at IS NOT NULL AND NOT EXISTS ("+
		"SELECT 1 FROM deliveries d WHERE d.lane_id = l.id AND d.state = 'pending') "+
		"AND coalesce(l.lease_until, 0) <= ?", s.farOff(), s.now()).Scan(&lanes).Error
	return lanes, err
}

// farOff is the first time that is further away than any delay is long.
func (s *Store) farOff() int64 {
	return s.now() + max(webhook.DefaultSchedule().Longest(), s.Lease).Milliseconds() + 1
}

func (s *Store) mend(tx *gorm.DB, lanes []int64) error {
	now := s.now()
	err := tx.Exec("UPDATE deliveries SET due_at = ? WHERE lane_id IN ? AND state = 'pending' AND due_at > ?",
		now, lanes, s.farOff()).Error
	if err != nil {
		return err
	}
	err = tx.Exec("UPDATE lanes SET pending = (SELECT count(*) FROM deliveries d "+
		"WHERE d.lane_id = lanes.id AND d.state = 'pending') WHERE id IN ?", lanes).Error
	for i := 0; err == nil && i < len(lanes); i++ {
		err = shift(tx, lanes[i], 0, now)
	}
	return err
}
