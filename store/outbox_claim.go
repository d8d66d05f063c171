package store

import (
	"context"
	"slices"
	"sync"
	"time"

	"github.com/agentevents/agentevents/store/internal/sqldb"
	"github.com/agentevents/agentevents/webhook"
)

// receiversSQL defines r, the receivers with lanes that are due now or later. It jumps from receiver to receiver in the
// index, so that a receiver with many lanes costs no more than any other. It avoids min(), for which PostgreSQL scans
// all lanes if it expects few.
const receiversSQL = `WITH RECURSIVE r (id) AS (
	SELECT (SELECT receiver_id FROM lanes WHERE due_at IS NOT NULL ORDER BY receiver_id LIMIT 1)
	UNION ALL
	SELECT (SELECT receiver_id FROM lanes WHERE due_at IS NOT NULL AND receiver_id > r.id ORDER BY receiver_id LIMIT 1)
	FROM r WHERE r.id IS NOT NULL
)`

// nextSQL finds the time when the next lane is due or its receiver stops waiting.
const nextSQL = receiversSQL + `
SELECT min(CASE WHEN v.waits > ? THEN v.waits ELSE (
	SELECT x.due_at FROM lanes x WHERE x.receiver_id = r.id AND x.due_at > ? ORDER BY x.due_at LIMIT 1) END)
FROM r JOIN receivers v ON v.id = r.id`

// These queries find due lanes, fairly among clients, and among the receivers of each. Each receiver's lanes are in the
// order of their due times, and no receiver gets a second lane before every receiver of its client has a first one.
// pickLanes keeps only the first lane of a receiver with an open breaker. A query skips a lane while a delivery in
// another lane must move to it.
var (
	sqliteDueLanesSQL = dueLanesQuery("JOIN receivers v ON v.id = r.id", "JOIN lanes l ON l.id IN (SELECT x.id", ")")
	// This form makes PostgreSQL look up each receiver by its id, and use only the index of due lanes, whatever its row
	// estimates are.
	postgresDueLanesSQL = dueLanesQuery("CROSS JOIN LATERAL (SELECT * FROM receivers w WHERE w.id = r.id LIMIT 1) v",
		"CROSS JOIN LATERAL (SELECT x.id, x.receiver_id, x.due_at", ") l")
)

// dueLanesQuery builds the query of an engine: from its join of receivers v to r, and from both ends of its join of
// lanes l.
func dueLanesQuery(receivers, lanes, end string) string {
	return receiversSQL + `
SELECT id, receiver_id, client_id, failures, failing_since, turn FROM (
SELECT f.*, row_number() OVER (PARTITION BY client_id ORDER BY turn, due_at, id) AS client_turn FROM (
SELECT l.id, l.receiver_id, l.due_at, v.client_id, v.failures, coalesce(v.failing_since, 0) AS failing_since,
	row_number() OVER (PARTITION BY l.receiver_id ORDER BY l.due_at, l.id) AS turn
FROM r ` + receivers + ` ` + lanes + `
	FROM lanes x WHERE x.receiver_id = r.id AND x.due_at <= ?
		AND ` + freeOfMovesSQL("x.id") + `
	ORDER BY x.due_at, x.id` + sqldb.Limit + end + `
WHERE (v.waits IS NULL OR v.waits <= ?) AND r.id NOT IN ? AND v.client_id NOT IN ?
) f) g ORDER BY client_turn, turn, due_at, id` + sqldb.Limit
}

// freshLanesSQL finds the due lanes of some changes, in the same order. It skips a lane whose lease has expired,
// because the delivery in flight may have to move first: a claim over all lanes finds it.
//
// The term due_at + 0 is for PostgreSQL, whose plan may be of a time without due lanes. It would then scan the index of
// due lanes instead of looking up the named ones.
var freshLanesSQL = `
SELECT l.id, l.receiver_id, v.client_id, v.failures,
	row_number() OVER (PARTITION BY l.receiver_id ORDER BY l.due_at, l.id) AS turn
FROM (SELECT DISTINCT d.lane_id FROM deliveries d WHERE d.change_id IN ? AND d.state || '' = 'pending') f
JOIN lanes l ON l.id = f.lane_id JOIN receivers v ON v.id = l.receiver_id
WHERE l.due_at + 0 <= ? AND l.lease_until IS NULL AND ` + freeOfMovesSQL("l.id") + `
	AND (v.waits IS NULL OR v.waits <= ?) AND l.receiver_id NOT IN ? AND v.client_id NOT IN ?
ORDER BY turn, l.due_at, l.id` + sqldb.Limit

// freshChanges are the changes since the last claim. The next claim may look at their lanes only.
type freshChanges struct {
	mu      sync.Mutex
	changes []int64
	all     bool
}

// maxFreshChanges is the number of changes above which a claim looks at all lanes.
const maxFreshChanges = 256

// add adds a change; 0 means all lanes.
func (f *freshChanges) add(change int64) {
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.all = f.all || change == 0 || len(f.changes) == maxFreshChanges; !f.all {
		f.changes = append(f.changes, change)
	}
}

// drain returns and removes the changes. If all is true, the changes do not matter.
func (f *freshChanges) drain() (changes []int64, all bool) {
	f.mu.Lock()
	defer f.mu.Unlock()
	changes, all = f.changes, f.all
	f.changes, f.all = nil, false
	return changes, all
}

// retryLost is the time until the next claim after one that lost lanes to other transactions. A claim that leased some
// lanes and may find more is followed immediately.
const retryLost = 50 * time.Millisecond

// Claim implements webhook.Outbox. The next claim looks at all lanes if this one failed, lost lanes to other
// transactions, or returns 0 for next. Lanes that Take refused do not matter: the dispatcher claims again for them.
func (s *Store) Claim(
	ctx context.Context, limits webhook.ClaimLimits,
) (claimed []webhook.Delivery, next time.Duration, err error) {
	if s.keyMissing.Load() { // a process with the key must find the lanes free
		return nil, 0, ErrKeyMissing
	}
	changes, all := s.freshChanges.drain()
	limits.Fresh = limits.Fresh && !all
	lease, lost := time.Now().Add(s.Lease), false // counted from before the commit: it ends before the time in the row
	err = s.write(ctx, func(tx *sqldb.Tx) (err error) {
		claimed, next, lost, err = s.claim(tx, limits, changes, lease)
		return err
	})
	if err != nil || next == 0 || lost {
		s.freshChanges.add(0)
	}
	if err != nil {
		return nil, 0, err
	}
	if next == 0 {
		s.peers.send(func(m *peerMessage) { m.Due = true }) // other processes may have room for the rest
	}
	return claimed, next, nil
}

// claim leases lanes until the end of a lease and returns their heads. It also returns the time until the next claim,
// and whether it lost lanes that it found, because other transactions had locked, leased or changed them, or a sweep
// has yet to change their heads.
func (s *Store) claim(
	tx *sqldb.Tx, limits webhook.ClaimLimits, changes []int64, lease time.Time,
) (claimed []webhook.Delivery, next time.Duration, lost bool, err error) {
	lanes, more, err := s.findDueLanes(tx, limits, changes)
	if err != nil {
		return nil, 0, false, err
	}
	leased, err := s.leaseLanes(tx, lanes)
	if err != nil {
		return nil, 0, false, err
	}
	heads, unswept, err := s.takeHeads(tx, leased)
	if err != nil {
		return nil, 0, false, err
	}
	readable, err := s.decryptHeads(tx, heads)
	if err != nil {
		return nil, 0, false, err
	}
	claimed = each(readable, func(h headRow) webhook.Delivery { return s.leasedDelivery(h, lease) })
	next, err = s.untilNext(tx, limits.Fresh, more || len(heads)+unswept < len(leased))
	if lost = len(leased)-unswept < len(lanes); lost && (len(leased) == unswept || next != 0) {
		next = retryLost
	}
	return claimed, next, lost, err
}

// findDueLanes chooses the lanes of a claim, among all lanes or among those of some changes. It reports whether there
// may be more lanes than it has room for.
func (s *Store) findDueLanes(tx *sqldb.Tx, limits webhook.ClaimLimits, changes []int64) ([]dueLane, bool, error) {
	switch {
	case limits.Fresh && len(changes) == 0:
		return nil, false, nil
	case limits.Fresh:
		now := s.now()
		return pickLanes(limits, tx, freshLanesSQL, sqldb.Padded(changes), now, now, fullReceivers(limits),
			fullClients(limits), limits.Lanes)
	}
	if err := s.followMoves(tx); err != nil {
		return nil, false, err
	}
	return s.dueAmongAll(tx, limits)
}

// followMoves moves deliveries whose event moved to another lane during their flight, once their lease has ended.
// Waiting for a claim of their lane could deadlock: that lane may itself wait for a move.
func (s *Store) followMoves(tx *sqldb.Tx) error {
	now := s.now()
	rows, err := pendingMoves(tx, now)
	if err != nil || len(rows) == 0 {
		return err
	}
	if err := lockLanes(tx, append(each(rows, laneOf), each(rows, movedTo)...)...); err != nil {
		return err
	}
	before := rows
	rows, err = pendingMoves(tx, now)
	for i := 0; err == nil && i < len(rows); i++ {
		if slices.ContainsFunc(before, rows[i].sameMove) {
			err = changeLane(tx, rows[i].LaneID, *rows[i].MovedTo, now, byID, rows[i].ID)
		}
	}
	return err
}

func movedTo(r deliveryRow) int64 { return *r.MovedTo }

// sameMove reports whether a delivery still has to make the same move.
func (r deliveryRow) sameMove(before deliveryRow) bool {
	return r.ID == before.ID && r.LaneID == before.LaneID && *r.MovedTo == *before.MovedTo
}

// pendingMoves lists deliveries that are no longer in flight and must move to another lane.
func pendingMoves(tx *sqldb.Tx, now int64) (rows []deliveryRow, err error) {
	return sqldb.Select[deliveryRow](tx,
		"SELECT d.id, d.lane_id, d.moved_to FROM deliveries d JOIN lanes l ON l.id = d.lane_id "+
			"WHERE d.moved_to IS NOT NULL AND (l.delivery_id IS DISTINCT FROM d.id OR l.lease_until IS NULL "+
			"OR l.lease_until <= ?)",
		now)
}

// maxFullNamed is the maximum number of full receivers that the query excludes. limits.Take refuses the others.
const maxFullNamed = 1000

// dueLane is a lane that may be claimed.
type dueLane struct {
	ID, ReceiverID int64
	ClientID       string
	Failures       int   // of the receiver
	Turn           int   // place among the lanes of the receiver that the query found, from 1
	FailingSince   int64 // start of the receiver's outage; 0 for none, and in a fresh claim
}

func (l dueLane) open() bool { return l.Failures >= webhook.BreakerThreshold }

// dueAmongAll chooses among all lanes.
func (s *Store) dueAmongAll(tx *sqldb.Tx, limits webhook.ClaimLimits) (lanes []dueLane, more bool, err error) {
	now := s.now()
	lanes, more, err = pickLanes(limits, tx, s.engine.dueLanesSQL(), now, limits.PerReceiver, now,
		fullReceivers(limits), fullClients(limits), limits.Lanes)
	for i := 0; err == nil && i < len(lanes); i++ {
		if lanes[i].open() {
			err = s.chooseProbe(tx, &lanes[i])
		}
	}
	return lanes, more, err
}

// fullReceivers returns the receivers that the query excludes.
func fullReceivers(limits webhook.ClaimLimits) []int64 {
	return sqldb.Padded(append([]int64{0}, limits.Full[:min(len(limits.Full), maxFullNamed)]...))
}

// fullClients returns the clients that the query excludes, of which there are 1, 2, 4, 8 … No client has an empty id.
func fullClients(limits webhook.ClaimLimits) []string {
	clients := append([]string{""}, limits.FullClients...)
	for len(clients)&(len(clients)-1) != 0 {
		clients = append(clients, "")
	}
	return clients
}

// pickLanes chooses the lanes that there is room for, among those that a query finds.
func pickLanes(
	limits webhook.ClaimLimits, tx *sqldb.Tx, among string, args ...any,
) (lanes []dueLane, more bool, err error) {
	found, err := sqldb.Select[dueLane](tx, among, args...)
	if err != nil {
		return nil, false, err
	}
	for _, l := range found {
		if (!l.open() || l.Turn == 1) && limits.Take(l.ClientID, l.ReceiverID) {
			lanes = append(lanes, l)
		}
	}
	return lanes, len(found) == limits.Lanes, nil
}

// takeHeads returns the heads of leased lanes that must be sent now, and the number of heads that a sweep has yet to
// change. It releases their lanes, the lanes whose heads are not due yet, and those whose heads have expired, which
// fail. Only a head that is sent can be a probe.
func (s *Store) takeHeads(tx *sqldb.Tx, due []dueLane) (heads []headRow, unswept int, err error) {
	if len(due) == 0 {
		return nil, 0, nil
	}
	now, lanes := s.now(), sqldb.Padded(each(due, laneID))
	found, err := sqldb.Select[headRow](tx, headSQL+"WHERE l.id IN ? ORDER BY d.change_id, d.id", lanes)
	if err != nil {
		return nil, 0, err
	}
	if len(found) < len(due) { // after an expired lease, the delivery was cancelled
		err := tx.Exec("UPDATE lanes SET "+setReleasedSQL+" WHERE id IN ? AND delivery_id IS NULL", lanes)
		if err != nil {
			return nil, 0, err
		}
	}
	byLane := indexBy(due, laneID)
	for _, h := range found {
		expired := h.expired(now, byLane[h.LaneID].open())
		if h.DueAt <= now && !expired && !h.Unswept {
			heads = append(heads, h)
		} else if err := s.releaseUnsent(tx, h, expired); err != nil {
			return nil, 0, err
		} else if h.Unswept {
			unswept++
		}
	}
	return heads, unswept, s.beginProbes(tx, due, heads)
}

func laneID(l dueLane) int64 { return l.ID }

// leaseLanes leases the lanes that no other process has leased meanwhile, and returns them.
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
			"AND "+freeOfMovesSQL("lanes.id")+" RETURNING id",
		until, until, sqldb.Padded(each(due, laneID)), now)
	return slices.DeleteFunc(due, func(l dueLane) bool { return !slices.Contains(taken, l.ID) }), err
}

// releaseUnsent releases a lane whose head is not sent now. It fails the head if that has expired.
func (s *Store) releaseUnsent(tx *sqldb.Tx, h headRow, expired bool) error {
	if expired {
		if err := s.removeFromLane(tx, h.LaneID, stateFailed, byID, h.ID); err != nil {
			return err
		}
		if err := s.noteExpired(tx, h.ID); err != nil {
			return err
		}
	}
	_, err := releaseLane(tx, h.LaneID)
	return err
}

// untilNext returns the time until the next lane is due. It is negative if no lane is due, or if the time is not known.
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
