package store

import (
	"log/slog"

	"github.com/agentevents/agentevents/store/internal/sqldb"
)

// A delivery has failed when its window is over. But one that was never tried, since the server was off or the clock
// was wrong, has one attempt first, unless its receiver is down or has asked for a pause, or its event is disabled:
// then the window counts as ever.

// over says whether a head has failed because its window is over; open is whether its receiver's breaker is.
func (h headRow) over(now int64, open bool) bool {
	return h.ExpiresAt <= now && (h.Attempts > 0 || open)
}

// overSQL is the same for deliveries d that are not in flight; the time, webhook.Failures and the time go in.
const overSQL = "d.expires_at <= ? AND (d.state = 'parked' OR d.attempts > 0 OR EXISTS (SELECT 1 FROM lanes l " +
	"JOIN receivers r ON r.id = l.receiver_id WHERE l.id = d.lane_id AND (r.failures >= ? OR r.paused_until > ?)))"

// logExpired counts deliveries that have failed because their window is over, and has a line be logged for each.
func (s *Store) logExpired(tx *sqldb.Tx, deliveries ...int64) error {
	if len(deliveries) == 0 {
		return nil
	}
	s.count(tx, func(c *Counts) { c.Expired += int64(len(deliveries)) })
	found, err := subjects(tx, deliveries...)
	for _, d := range found {
		s.logCommitted(tx, slog.LevelWarn, "delivery expired", d.attrs(slog.Int("attempts", d.Attempts))...)
	}
	return err
}

// expireParked fails what is parked of an event and is over.
func (s *Store) expireParked(tx *sqldb.Tx, event int64) error {
	now := s.now()
	over, err := sqldb.Select[int64](tx, "UPDATE deliveries SET state = 'failed', finished_at = ? WHERE "+byEvent+
		" AND state || '' = 'parked' AND expires_at <= ? RETURNING id", now, event, now)
	if err != nil {
		return err
	}
	s.countEnded(tx, failed, int64(len(over)))
	return s.logExpired(tx, over...)
}
