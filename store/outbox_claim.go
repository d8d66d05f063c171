package store

import (
	"context"
	"slices"
	"sync"
	"time"

	"github.com/agentevents/agentevents/store/internal/sqldb"
	"github.com/agentevents/agentevents/webhook"
)

// receiversSQL names r, the receivers with lanes that are due now or later. It skips from receiver to receiver over
// the index, so that one with very many lanes costs no more than any other. It does not ask for a least one: PostgreSQL
// looks at all for that, if it believes that there are few.
const receiversSQL = `WITH RECURSIVE r (id) AS (
	SELECT (SELECT receiver_id FROM lanes WHERE due_at IS NOT NULL ORDER BY receiver_id LIMIT 1)
	UNION ALL
	SELECT (SELECT receiver_id FROM lanes WHERE due_at IS NOT NULL AND receiver_id > r.id ORDER BY receiver_id LIMIT 1)
	FROM r WHERE r.id IS NOT NULL
)`

// nextSQL finds when the next lane is due, or its receiver no longer waits.
const nextSQL = receiversSQL + `
SELECT min(CASE WHEN v.waits > ? THEN v.waits ELSE (
	SELECT x.due_at FROM lanes x WHERE x.receiver_id = r.id AND x.due_at > ? ORDER BY x.due_at LIMIT 1) END)
FROM r JOIN receivers v ON v.id = r.id`

// sqliteDueLanesSQL finds due lanes, fairly: of each receiver the longest due first, and no receiver's second before
// every receiver's first; of one whose breaker is open, one. A lane that a delivery still in flight elsewhere will
// follow to is not claimed before that is back.
var (
	sqliteDueLanesSQL = dueLanesQuery("JOIN receivers v ON v.id = r.id", "JOIN lanes l ON l.id IN (SELECT x.id", ")")
	// In these words PostgreSQL looks for the receivers that are there, however many it believes these to be, and at
	// the index of due lanes alone.
	postgresDueLanesSQL = dueLanesQuery("CROSS JOIN LATERAL (SELECT * FROM receivers w WHERE w.id = r.id LIMIT 1) v",
		"CROSS JOIN LATERAL (SELECT x.id, x.receiver_id, x.due_at", ") l")
)

// dueLanesQuery says how receivers v are joined to r, and between which words the lanes l of each are selected.
func dueLanesQuery(receivers, lanes, end string) string {
	return receiversSQL + `
SELECT l.id, l.receiver_id, v.failures, coalesce(v.failing_since, 0) AS failing_since,
	row_number() OVER (PARTITION BY l.receiver_id ORDER BY l.due_at, l.id) AS turn
FROM r ` + receivers + ` ` + lanes + `
	FROM lanes x WHERE x.receiver_id = r.id AND x.due_at <= ?
		AND NOT EXISTS (SELECT 1 FROM deliveries d WHERE d.moved_to = x.id)
	ORDER BY x.due_at, x.id` + sqldb.Limit + end + `
WHERE (v.waits IS NULL OR v.waits <= ?) AND r.id NOT IN ?
ORDER BY turn, l.due_at, l.id` + sqldb.Limit
}

// freshLanesSQL finds the due lanes of some changes, in the same order. A lane whose lease has run out is left to a
// claim that looks at all lanes: its delivery in flight may have to move first. That a time is written with + 0 keeps
// lanes that are named, here and elsewhere, from being looked for among all that are due, of which there were none when
// PostgreSQL made its plan.
const freshLanesSQL = `
SELECT l.id, l.receiver_id, v.failures,
	row_number() OVER (PARTITION BY l.receiver_id ORDER BY l.due_at, l.id) AS turn
FROM (SELECT DISTINCT d.lane_id FROM deliveries d WHERE d.change_id IN ? AND d.state || '' = 'pending') f
JOIN lanes l ON l.id = f.lane_id JOIN receivers v ON v.id = l.receiver_id
WHERE l.due_at + 0 <= ? AND l.lease_until IS NULL AND NOT EXISTS (SELECT 1 FROM deliveries d WHERE d.moved_to = l.id)
	AND (v.waits IS NULL OR v.waits <= ?) AND l.receiver_id NOT IN ?
ORDER BY turn, l.due_at, l.id` + sqldb.Limit

// freshChanges are the changes since the last claim, whose lanes the next one looks at.
type freshChanges struct {
	mu      sync.Mutex
	changes []int64
	all     bool
}

// maxFreshChanges is how many changes a claim looks at one by one. With more, it looks at all lanes.
const maxFreshChanges = 256

// add adds a change, or all lanes if that is 0.
func (f *freshChanges) add(change int64) {
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.all = f.all || change == 0 || len(f.changes) == maxFreshChanges; !f.all {
		f.changes = append(f.changes, change)
	}
}

// drain returns what was added since the last time; if it says all, the changes do not matter.
func (f *freshChanges) drain() (changes []int64, all bool) {
	f.mu.Lock()
	defer f.mu.Unlock()
	changes, all = f.changes, f.all
	f.changes, f.all = nil, false
	return changes, all
}

// retryContended is how long a dispatcher waits after a claim of which other processes leased the lanes first.
const retryContended = 50 * time.Millisecond

// Claim implements webhook.Outbox. If it fails or leaves lanes, the next one looks at all lanes.
func (s *Store) Claim(
	ctx context.Context, limits webhook.ClaimLimits,
) (claimed []webhook.Delivery, next time.Duration, err error) {
	if s.locked.Load() { // a process that can read the secrets must find the lanes free
		return nil, 0, ErrLocked
	}
	changes, all := s.freshChanges.drain()
	limits.Fresh = limits.Fresh && !all
	lease, contended := time.Now().Add(s.Lease), false // before the commit: the holder's view ends first
	err = s.write(ctx, func(tx *sqldb.Tx) (err error) {
		claimed, next, contended, err = s.claim(tx, limits, changes, lease)
		return err
	})
	if err != nil || next == 0 || contended {
		s.freshChanges.add(0)
	}
	if err != nil {
		return nil, 0, err
	}
	if next == 0 {
		s.peers.send(func(m *peerMessage) { m.Due = true })
	}
	return claimed, next, nil
}

// claim leases lanes until the end of a lease and returns their heads. It says when the next lane is due, and whether
// other processes have leased lanes that it found.
func (s *Store) claim(
	tx *sqldb.Tx, limits webhook.ClaimLimits, changes []int64, lease time.Time,
) (claimed []webhook.Delivery, next time.Duration, contended bool, err error) {
	lanes, more, err := s.findDueLanes(tx, limits, changes)
	if err != nil {
		return nil, 0, false, err
	}
	leased, err := s.leaseLanes(tx, lanes)
	if err != nil {
		return nil, 0, false, err
	}
	heads, err := s.takeHeads(tx, leased)
	if err != nil {
		return nil, 0, false, err
	}
	for _, h := range heads {
		if h, err = h.decrypted(s); err != nil {
			return nil, 0, false, err
		}
		claimed = append(claimed, s.leasedDelivery(h, lease))
	}
	next, err = s.untilNext(tx, limits.Fresh, more || len(heads) < len(leased))
	if contended = len(leased) < len(lanes); contended && (len(leased) == 0 || next != 0) {
		next = retryContended
	}
	return claimed, next, contended, err
}

// findDueLanes picks the lanes of a claim, among all or among those of some changes, and says whether it found more
// than there was room for.
func (s *Store) findDueLanes(tx *sqldb.Tx, limits webhook.ClaimLimits, changes []int64) ([]dueLane, bool, error) {
	switch {
	case limits.Fresh && len(changes) == 0:
		return nil, false, nil
	case limits.Fresh:
		now := s.now()
		return pickLanes(limits, tx, freshLanesSQL, sqldb.Padded(changes), now, now, fullReceivers(limits),
			limits.Lanes)
	}
	if err := s.followMoves(tx); err != nil {
		return nil, false, err
	}
	return s.dueAmongAll(tx, limits)
}

// followMoves moves deliveries to the lane that their event has moved to while they were in flight, once their lease
// has ended. This must not wait for a claim of their lane: that lane may itself wait for a delivery that moves into it.
func (s *Store) followMoves(tx *sqldb.Tx) error {
	now := s.now()
	rows, err := stragglers(tx, now)
	if err != nil || len(rows) == 0 {
		return err
	}
	if err := lockLanes(tx, append(each(rows, laneOf), each(rows, movedTo)...)...); err != nil {
		return err
	}
	before := rows
	rows, err = stragglers(tx, now)
	for i := 0; err == nil && i < len(rows); i++ {
		if slices.ContainsFunc(before, rows[i].sameMove) {
			err = changeLane(tx, rows[i].LaneID, *rows[i].MovedTo, now, byID, rows[i].ID)
		}
	}
	return err
}

func movedTo(r deliveryRow) int64 { return *r.MovedTo }

// sameMove says whether a straggler is still where it was before.
func (r deliveryRow) sameMove(before deliveryRow) bool {
	return r.ID == before.ID && r.LaneID == before.LaneID && *r.MovedTo == *before.MovedTo
}

// stragglers lists deliveries that are no longer in flight and must follow their event to another lane.
func stragglers(tx *sqldb.Tx, now int64) (rows []deliveryRow, err error) {
	return sqldb.Select[deliveryRow](tx,
		"SELECT d.id, d.lane_id, d.moved_to FROM deliveries d JOIN lanes l ON l.id = d.lane_id "+
			"WHERE d.moved_to IS NOT NULL AND (l.delivery_id IS DISTINCT FROM d.id OR l.lease_until IS NULL "+
			"OR l.lease_until <= ?)",
		now)
}

// maxFullNamed is how many full receivers a claim leaves out by name. The others are refused when their turn comes.
const maxFullNamed = 1000

// dueLane is a lane that may be claimed.
type dueLane struct {
	ID, ReceiverID int64
	Failures, Turn int
	FailingSince   int64 // of its receiver
}

func (l dueLane) open() bool { return l.Failures >= webhook.BreakerThreshold }

// dueAmongAll picks among all lanes.
func (s *Store) dueAmongAll(tx *sqldb.Tx, limits webhook.ClaimLimits) (lanes []dueLane, more bool, err error) {
	now := s.now()
	lanes, more, err = pickLanes(limits, tx, s.engine.dueLanesSQL(), now, limits.PerReceiver, now,
		fullReceivers(limits), limits.Lanes)
	for i := 0; err == nil && i < len(lanes); i++ {
		if lanes[i].open() {
			err = s.chooseProbe(tx, &lanes[i])
		}
	}
	return lanes, more, err
}

// fullReceivers are the receivers that a claim leaves out by name.
func fullReceivers(limits webhook.ClaimLimits) []int64 {
	return sqldb.Padded(append([]int64{0}, limits.Full[:min(len(limits.Full), maxFullNamed)]...))
}

// pickLanes picks among the lanes that a query finds those that there is room for.
func pickLanes(
	limits webhook.ClaimLimits, tx *sqldb.Tx, among string, args ...any,
) (lanes []dueLane, more bool, err error) {
	found, err := sqldb.Select[dueLane](tx, among, args...)
	if err != nil {
		return nil, false, err
	}
	for _, l := range found {
		if (!l.open() || l.Turn == 1) && limits.Take(l.ReceiverID) {
			lanes = append(lanes, l)
		}
	}
	return lanes, len(found) == limits.Lanes, nil
}

// takeHeads returns the heads of leased lanes that are to be sent. A head that is not due yet waits, one whose window
// is over fails, and both release their lane. Only a head that is sent can be a probe.
func (s *Store) takeHeads(tx *sqldb.Tx, due []dueLane) (heads []headRow, err error) {
	if len(due) == 0 {
		return nil, nil
	}
	now, lanes := s.now(), sqldb.Padded(each(due, laneID))
	found, err := sqldb.Select[headRow](tx, headSQL+"WHERE l.id IN ? ORDER BY d.change_id, d.id", lanes)
	if err != nil {
		return nil, err
	}
	if len(found) < len(due) { // the delivery of a lost lease was cancelled
		err := tx.Exec("UPDATE lanes SET "+setReleasedSQL+" WHERE id IN ? AND delivery_id IS NULL", lanes)
		if err != nil {
			return nil, err
		}
	}
	open := indexBy(due, laneID)
	for _, h := range found {
		expired := h.expired(now, open[h.LaneID].open())
		if h.DueAt <= now && !expired {
			heads = append(heads, h)
		} else if err := s.requeue(tx, h, expired); err != nil {
			return nil, err
		}
	}
	return heads, s.beginProbes(tx, due, heads)
}

func laneID(l dueLane) int64 { return l.ID }

// leaseLanes leases those lanes that no other process has leased since they were found, and returns them.
func (s *Store) leaseLanes(tx *sqldb.Tx, due []dueLane) ([]dueLane, error) {
	locked, err := tx.LockRows("lanes", each(due, laneID), false)
	if err != nil {
		return nil, err
	}
	due = slices.DeleteFunc(due, func(l dueLane) bool { return !slices.Contains(locked, l.ID) })
	if due, err = s.admitProbes(tx, due); err != nil || len(due) == 0 {
		return nil, err
	}
	now := s.now()
	until := now + s.Lease.Milliseconds()
	taken, err := sqldb.Select[int64](tx,
		"UPDATE lanes SET claim = claim + 1, "+setLeasedSQL+" WHERE id IN ? AND due_at + 0 <= ? "+
			"AND NOT EXISTS (SELECT 1 FROM deliveries d WHERE d.moved_to = lanes.id) RETURNING id",
		until, until, sqldb.Padded(each(due, laneID)), now)
	return slices.DeleteFunc(due, func(l dueLane) bool { return !slices.Contains(taken, l.ID) }), err
}

// requeue releases a lane whose head is not sent. It fails the head if its window is over.
func (s *Store) requeue(tx *sqldb.Tx, h headRow, expired bool) error {
	if expired {
		if err := s.removeFromLane(tx, h.LaneID, stateFailed, byID, h.ID); err != nil {
			return err
		}
		if err := s.logExpired(tx, h.ID); err != nil {
			return err
		}
	}
	_, err := releaseLane(tx, h.LaneID)
	return err
}

// untilNext is how long it is until the next lane is due, or negative if that is not known or no lane is.
func (s *Store) untilNext(tx *sqldb.Tx, fresh, more bool) (time.Duration, error) {
	switch {
	case more:
		return 0, nil
	case fresh:
		return -1, nil
	}
	now := s.now()
	due, _, err := sqldb.Get[*int64](tx, nextSQL, now, now)
	if err != nil || due == nil {
		return -1, err
	}
	return time.Duration(*due-now) * time.Millisecond, nil
}
