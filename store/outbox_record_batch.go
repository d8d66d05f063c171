package store

import (
	"cmp"
	"slices"

	"github.com/agentevents/agentevents/store/internal/sqldb"
	"github.com/agentevents/agentevents/webhook"
)

// recordBatch records results other than Gone, in waves with one result of each lane. With wait false, it returns the
// results whose lanes or receivers another transaction has locked.
func (s *Store) recordBatch(tx *sqldb.Tx, results []*result, wait bool) (skipped sqldb.Skipped[*result], err error) {
	for _, wave := range sqldb.Waves(results, (*result).lane) {
		ofWave, err := s.recordWave(tx, wave, wait)
		if err != nil {
			return skipped, err
		}
		skipped.Locked = append(skipped.Locked, ofWave...)
	}
	return skipped, nil
}

// recordWave records results of different lanes. Nearly all results are plain, and are recorded together by as many
// statements as one.
func (s *Store) recordWave(tx *sqldb.Tx, results []*result, wait bool) (locked []*result, err error) {
	lanes, err := tx.LockRows("lanes", each(results, (*result).lane), wait)
	if err != nil {
		return nil, err
	}
	locked, results = partition(results, func(r *result) bool { return !slices.Contains(lanes, r.Lane) })
	states, err := readLaneStates(tx, results)
	if err != nil {
		return nil, err
	}
	changing, plain := partition(results, states.sharesReceiverWithUnplain(s, results))
	atReceivers, changing, err := states.lockReceivers(tx, changing, wait)
	for i := 0; err == nil && i < len(changing); i++ {
		err = s.record(tx, changing[i], states.lane(changing[i]))
	}
	if err != nil || len(plain) == 0 {
		return append(locked, atReceivers...), err
	}
	return append(locked, atReceivers...), s.recordPlain(tx, states, plain)
}

// laneStates maps the ids of lanes to their states. Each state includes the receiver of the lane and the delivery of
// the result.
type laneStates map[int64]laneState

type laneState struct {
	LaneID, ReceiverID, Claim int64
	LeaseUntil                *int64
	Failures, Probes          int
	Waits, Probe              *int64
	FailingSince, PausedUntil *int64
	Outages, RecoveredAt      int64
	DeliveryUnchanged         bool // the delivery is unchanged since its claim, and was never redelivered
	DeliveryFailures          int  // failures of the delivery
	DeliveryOutage            int64
}

const laneStatesSQL = "SELECT l.id AS lane_id, l.receiver_id, l.claim, l.lease_until, r.failures, r.probes, " +
	"r.waits, r.probe, r.outages, r.failing_since, r.paused_until, r.recovered_at, " +
	"coalesce(d.failures, 0) AS delivery_failures, coalesce(d.outage, 0) AS delivery_outage, " +
	"coalesce(d.lane_id = l.id AND d.state = 'pending' AND d.attempts = x.attempts AND d.moved_to IS NULL " +
	"AND d.version_id = x.version AND d.replays = 0 AND NOT " + unsweptSQL + ", FALSE) " +
	"AS delivery_unchanged FROM ? AS x " +
	"JOIN lanes l ON l.id = x.lane JOIN receivers r ON r.id = l.receiver_id LEFT JOIN deliveries d ON d.id = x.id"

// readLaneStates reads the states of the results' lanes, which must be locked. It sorts the results by receiver.
func readLaneStates(tx *sqldb.Tx, results []*result) (laneStates, error) {
	if len(results) == 0 {
		return nil, nil
	}
	type sent struct {
		ID       int64 `json:"id"`
		Lane     int64 `json:"lane"`
		Attempts int   `json:"attempts"`
		Version  int64 `json:"version"`
	}
	rows, err := sqldb.Select[laneState](tx, laneStatesSQL, sqldb.Table(tx, each(results, func(r *result) sent {
		return sent{r.ID, r.Lane, r.Attempt - 1, r.Version}
	})))
	states := laneStates(indexBy(rows, func(r laneState) int64 { return r.LaneID }))
	slices.SortStableFunc(results, func(a, b *result) int {
		return cmp.Compare(states[a.Lane].ReceiverID, states[b.Lane].ReceiverID)
	})
	return states, err
}

// sharesReceiverWithUnplain returns a function that reports whether any result of the same receiver in this wave is not
// plain. Such a result may change the receiver, so all results of the receiver are then recorded one by one.
func (states laneStates) sharesReceiverWithUnplain(s *Store, results []*result) func(*result) bool {
	changing := map[int64]bool{}
	for _, r := range results {
		if !states.plain(s, r) {
			changing[states[r.Lane].ReceiverID] = true
		}
	}
	return func(r *result) bool { return changing[states[r.Lane].ReceiverID] }
}

// lockReceivers locks the receivers of results, and separates the results whose receivers another transaction has
// locked. With wait true, it does nothing: each result locks its own receiver later.
func (states laneStates) lockReceivers(
	tx *sqldb.Tx, results []*result, wait bool,
) (locked, free []*result, err error) {
	if wait || len(results) == 0 {
		return nil, results, nil
	}
	available, err := tx.LockRows("receivers", each(results, func(r *result) int64 {
		return states[r.Lane].ReceiverID
	}), false)
	locked, free = partition(results, func(r *result) bool {
		return !slices.Contains(available, states[r.Lane].ReceiverID)
	})
	return locked, free, err
}

func indexBy[R any](rows []R, id func(R) int64) map[int64]R {
	of := make(map[int64]R, len(rows))
	for _, r := range rows {
		of[id(r)] = r
	}
	return of
}

// lane returns the lane of a result.
func (states laneStates) lane(r *result) laneRow {
	of := states[r.Lane]
	return laneRow{ID: r.Lane, ReceiverID: of.ReceiverID, LeaseUntil: of.LeaseUntil, Claim: of.Claim}
}

// receiver returns the receiver of a result.
func (states laneStates) receiver(r *result) receiverRow {
	of := states[r.Lane]
	return receiverRow{
		ID: of.ReceiverID, Failures: of.Failures, Probes: of.Probes, Waits: of.Waits, Probe: of.Probe,
		Outages: of.Outages, FailingSince: of.FailingSince, PausedUntil: of.PausedUntil, RecoveredAt: of.RecoveredAt,
	}
}

// plain reports whether a result is plain: its claim is valid, its delivery is unchanged since the claim and was never
// redelivered, no old attempt must be deleted, and its receiver stays as it is.
func (states laneStates) plain(s *Store, r *result) bool {
	lane, receiver := states.lane(r), states.receiver(r)
	return states[r.Lane].DeliveryUnchanged && lane.Claim == r.Claim && r.Attempt <= maxKeptAttempts &&
		s.afterAttempt(receiver, lane, r.outcome).equal(receiver)
}

// recordPlain records plain results.
func (s *Store) recordPlain(tx *sqldb.Tx, states laneStates, results []*result) error {
	attempts, err := sqldb.InsertAll(tx, "attempts", each(results, (*result).attempt))
	if err != nil {
		return err
	}
	if err := s.updatePlain(tx, states, results, attempts); err != nil {
		return err
	}
	if err := s.logFailures(tx, results...); err != nil {
		return err
	}
	return s.releasePlain(tx, states, results)
}

// deliveryUpdate is the state of a delivery after a plain result.
type deliveryUpdate struct {
	ID       int64  `json:"id"`
	State    string `json:"state"`
	Attempts int    `json:"attempts"`
	Last     int64  `json:"last"`
	Due      int64  `json:"due"`
	Finished *int64 `json:"finished"`
	Failures int    `json:"failures"`
	Outage   int64  `json:"outage"`
}

// updatePlain updates the deliveries of plain results. attempts are the ids of their new attempts.
func (s *Store) updatePlain(tx *sqldb.Tx, states laneStates, results []*result, attempts []int64) error {
	now := s.now()
	rows := make([]deliveryUpdate, len(results))
	for i, r := range results {
		next := states.receiver(r).backoff(r.outcome, states[r.Lane].DeliveryFailures, states[r.Lane].DeliveryOutage)
		row := deliveryUpdate{
			ID: r.ID, State: statePending, Attempts: r.Attempt, Last: attempts[i], Due: now + next.Delay,
			Failures: next.Failures, Outage: next.Outage,
		}
		if r.ends() {
			row.State, row.Finished = finalState(r.outcome.Verdict), &now
			s.countEnded(tx, row.State, 1)
			s.skipped.deliveries.noteIn(tx, r.ID) // retention may delete the row from now on
		}
		rows[i] = row
	}
	return tx.Queue("UPDATE deliveries SET state = x.state, attempts = x.attempts, last_attempt = "+lastAttemptSQL+", "+
		"finished_at = x.finished, failures = x.failures, outage = x.outage, due_at = "+
		"CASE WHEN x.due < expires_at THEN x.due ELSE expires_at END FROM ? AS x WHERE deliveries.id = x.id",
		sqldb.Table(tx, rows))
}

// lastAttemptSQL keeps the greater attempt id, since a later attempt may be recorded first.
const lastAttemptSQL = "CASE WHEN coalesce(last_attempt, 0) < x.last THEN x.last ELSE last_attempt END"

// ends reports whether a result is the last of its delivery.
func (r *result) ends() bool { return r.outcome.Verdict != webhook.Retry }

// laneDue is the due time of a lane.
type laneDue struct {
	ID    int64
	DueAt *int64
}

// releasePlain releases the lanes of plain results, and renews those that a worker keeps for another due delivery.
func (s *Store) releasePlain(tx *sqldb.Tx, states laneStates, results []*result) error {
	type taken struct {
		ID    int64 `json:"id"`
		Ended int64 `json:"ended"`
	}
	rows := each(results, func(r *result) taken {
		if r.ends() {
			return taken{r.Lane, 1}
		}
		return taken{r.Lane, 0}
	})
	lanes, err := sqldb.Select[laneDue](tx,
		"UPDATE lanes SET pending = pending - x.ended, "+setReleasedSQL+" FROM ? AS x WHERE lanes.id = x.id "+
			"RETURNING lanes.id, lanes.due_at", sqldb.Table(tx, rows))
	if err != nil {
		return err
	}
	due := map[int64]bool{}
	for _, l := range lanes {
		due[l.ID] = l.DueAt != nil
	}
	var kept []*result
	for _, r := range results {
		r.next, r.laneDue, r.otherLanesDue = nil, due[r.Lane], false
		if due[r.Lane] && r.keepLane && r.ends() && states.receiver(r).accepts(s.now()) {
			kept = append(kept, r)
		}
	}
	if len(kept) == 0 {
		return nil
	}
	return s.renew(tx, kept)
}
