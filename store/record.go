package store

import (
	"cmp"
	"slices"

	"gorm.io/gorm"

	"github.com/agentevents/agentevents/webhook"
)

// recordTogether records results: those of one lane in turn, and else all together. Unless it is to wait, it returns those
// whose lanes or receivers somebody else holds.
func (s *Store) recordTogether(tx *gorm.DB, results []*result, wait bool) (held []*result, err error) {
	for _, round := range rounds(results, (*result).lane) {
		more, err := s.recordRound(tx, round, wait)
		if err != nil {
			return nil, err
		}
		held = append(held, more...)
	}
	return held, nil
}

// recordRound records results of different lanes. Nearly all are plain, and take as many statements together as one
// takes alone.
func (s *Store) recordRound(tx *gorm.DB, results []*result, wait bool) (held []*result, err error) {
	at, err := s.standing(tx, results, wait)
	if err != nil {
		return nil, err
	}
	held, results = split(results, func(r *result) bool { _, is := at.lanes[r.Lane]; return !is })
	news, plain := split(results, at.isNews(s, results))
	more, news, err := at.holdReceivers(tx, news, wait)
	for i := 0; err == nil && i < len(news); i++ {
		err = s.record(tx, news[i], at.lanes[news[i].Lane])
	}
	if err != nil || len(plain) == 0 {
		return append(held, more...), err
	}
	return append(held, more...), s.recordPlain(tx, at, plain)
}

// standing is how things stand when results are recorded.
type standing struct {
	lanes      map[int64]laneRow
	deliveries map[int64]deliveryRow
	receivers  map[int64]receiverRow
}

// standing holds the lanes of results, and reads what they are about. Results are put in the order of their receivers.
func (s *Store) standing(tx *gorm.DB, results []*result, wait bool) (at standing, err error) {
	lanes, err := gorm.G[laneRow](tx, holdingOr(tx, wait)...).Where("id IN ?", padded(each(results, (*result).lane))).
		Order("id").Find(tx.Statement.Context)
	if err != nil {
		return at, err
	}
	deliveries, err := gorm.G[deliveryRow](tx).Where("id IN ?", padded(each(results, func(r *result) int64 { return r.ID }))).
		Find(tx.Statement.Context)
	if err != nil {
		return at, err
	}
	at.lanes = index(lanes, func(r laneRow) int64 { return r.ID })
	at.deliveries = index(deliveries, func(r deliveryRow) int64 { return r.ID })
	ids := each(lanes, func(r laneRow) int64 { return r.ReceiverID })
	slices.Sort(ids)
	receivers, err := gorm.G[receiverRow](tx).Where("id IN ?", padded(append(slices.Compact(ids), 0))).Find(tx.Statement.Context)
	at.receivers = index(receivers, func(r receiverRow) int64 { return r.ID })
	slices.SortStableFunc(results, func(a, b *result) int {
		return cmp.Compare(at.lanes[a.Lane].ReceiverID, at.lanes[b.Lane].ReceiverID)
	})
	return at, err
}

// isNews says which results are of receivers of which not all results are plain: what one changes counts for those after
// it.
func (at standing) isNews(s *Store, results []*result) func(*result) bool {
	news := map[int64]bool{}
	for _, r := range results {
		if !at.plain(s, r) {
			news[at.receiver(r).ID] = true
		}
	}
	return func(r *result) bool { return news[at.receiver(r).ID] }
}

// holdReceivers parts results of receivers that somebody else holds from the others, unless it is to wait for them.
func (at standing) holdReceivers(tx *gorm.DB, results []*result, wait bool) (held, free []*result, err error) {
	if wait || len(results) == 0 {
		return nil, results, nil
	}
	got, err := hold(tx, "receivers", each(results, func(r *result) int64 { return at.receiver(r).ID }), false)
	held, free = split(results, func(r *result) bool { return !slices.Contains(got, at.receiver(r).ID) })
	return held, free, err
}

func index[R any](rows []R, id func(R) int64) map[int64]R {
	of := make(map[int64]R, len(rows))
	for _, r := range rows {
		of[id(r)] = r
	}
	return of
}

// receiver is the one of a result.
func (at standing) receiver(r *result) receiverRow { return at.receivers[at.lanes[r.Lane].ReceiverID] }

// plain says whether a result is one of a delivery to which nothing has happened since it was claimed, and says nothing
// new of its receiver.
func (at standing) plain(s *Store, r *result) bool {
	lane, d, receiver := at.lanes[r.Lane], at.deliveries[r.ID], at.receiver(r)
	return lane.Claim == r.Claim && d.LaneID == r.Lane && d.State == pending && d.Attempts == r.Attempt-1 && d.MovedTo == nil && d.URL == r.URL &&
		d.Method == r.Method && d.Replays == 0 && r.Attempt <= mostAttempts && s.after(receiver, lane, r.outcome).same(receiver)
}

func (s *Store) recordPlain(tx *gorm.DB, at standing, results []*result) error {
	attempts, err := insertAll(tx, "attempts", each(results, (*result).attempt))
	if err != nil {
		return err
	}
	if err := s.settlePlain(tx, results, attempts); err != nil {
		return err
	}
	return s.letGoPlain(tx, at, results)
}

// settlement is what a delivery is after a plain result.
type settlement struct {
	ID       int64  `json:"id"`
	State    string `json:"state"`
	Attempts int    `json:"attempts"`
	Last     int64  `json:"last"`
	Due      int64  `json:"due"`
	Finished *int64 `json:"finished"`
}

// settlePlain notes what deliveries are after attempts with these ids.
func (s *Store) settlePlain(tx *gorm.DB, results []*result, attempts []int64) error {
	now := s.now()
	rows := make([]settlement, len(results))
	for i, r := range results {
		row := settlement{
			ID: r.ID, State: pending, Attempts: r.Attempt, Last: attempts[i], Due: now + r.outcome.Delay.Milliseconds(),
		}
		if r.ends() {
			row.State, row.Finished = ended(r.outcome.Verdict), &now
			counts(tx).ended(row.State, 1)
			s.passed.deliveries.note(r.ID)
		}
		rows[i] = row
	}
	return tx.Exec("UPDATE deliveries SET state = x.state, attempts = x.attempts, last_attempt = x.last, finished_at = x.finished, due_at = "+
		"CASE WHEN x.due < expires_at THEN x.due ELSE expires_at END FROM ? AS x WHERE deliveries.id = x.id", tableOf(tx, rows)).Error
}

// ends says whether a result is the last of its delivery.
func (r *result) ends() bool { return r.outcome.Verdict != webhook.Retry }

// letGoPlain lets lanes go, and goes on in those that are to go on and have something due.
func (s *Store) letGoPlain(tx *gorm.DB, at standing, results []*result) error {
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
	var lanes []struct {
		ID    int64
		DueAt *int64
	}
	err := tx.Raw("UPDATE lanes SET pending = pending - x.ended, "+released+" FROM ? AS x WHERE lanes.id = x.id "+
		"RETURNING lanes.id, lanes.due_at", tableOf(tx, rows)).Scan(&lanes).Error
	if err != nil {
		return err
	}
	due := map[int64]bool{}
	for _, l := range lanes {
		due[l.ID] = l.DueAt != nil
	}
	var on []*result
	for _, r := range results {
		r.next, r.more, r.elsewhere = nil, due[r.Lane], false
		if due[r.Lane] && r.goOn && r.ends() && at.receiver(r).free(s.now()) {
			on = append(on, r)
		}
	}
	if len(on) == 0 {
		return nil
	}
	return s.renew(tx, on)
}
