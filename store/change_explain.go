package store

import (
	"cmp"
	"context"
	"fmt"
	"maps"
	"math"
	"slices"
	"strconv"
	"strings"
	"sync"

	"github.com/agentevents/agentevents/gen"
	"github.com/agentevents/agentevents/store/internal/sqldb"
)

const (
	// MaxOutcomes is the number of outcomes that a page of an agent's status changes may have in all. An outcome says
	// what one change did for one event (gen.EventOutcome). So many are about 400 KiB of JSON. A page with one change
	// may have more: one for each event that the agent had then.
	MaxOutcomes = 2000
	// changesPerRead is the most changes that one query reads for a page. The default page needs one query.
	changesPerRead = 101
)

// AgentStatusChanges lists an agent's status changes with their outcome for each event, the newest first, and whether
// there are older ones. The list has the changes before a sequence number (0 means all), at most limit of them and at
// most MaxOutcomes outcomes.
func (s *Store) AgentStatusChanges(
	ctx context.Context, k AgentKey, before int64, limit int,
) (m []gen.AgentStatusChange, more bool, err error) {
	err = s.snapshot(ctx, func(tx *sqldb.Reader) error {
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

// changesPage reads the changes of a page, and whether there are older ones. A query reads at most one change more than
// the page may still have: each change may have a long list of events.
func changesPage(
	q sqldb.Querier, k AgentKey, after, upTo int64, limit int,
) (page []changeRow, more bool, err error) {
	scan := indexScan{columns: []string{"client_id", "kind", "agent_id"}, values: []any{k.Client, k.Type, k.ID}}
	for outcomes := 0; ; {
		n := min(limit-len(page)+1, changesPerRead)
		rows, err := changesBy(q, scan, after, upTo, " DESC", n)
		for _, r := range rows {
			outcomes += r.outcomes()
			if len(page) == limit || len(page) > 0 && outcomes > MaxOutcomes {
				return page, true, err
			}
			page = append(page, r)
		}
		if err != nil || len(rows) < n {
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

// explain returns the outcome of a change for each event, from the change's row and the deliveries that are still kept.
func (s *Store) explain(c changeRow, kept []deliveryRow) gen.AgentStatusChange {
	typ, parked := eventType(c.NewStatus), idsIn(c.Parked)
	events := make([]gen.EventOutcome, 0, c.outcomes())
	withDelivery := map[int64]bool{}
	for _, d := range kept {
		withDelivery[d.EventID] = true
		events = append(events, outcomeOf(d, typ, parked[d.EventID]))
	}
	for id := range idsIn(c.Fired) {
		if !withDelivery[id] {
			events = append(events, unkeptOutcome(id, typ, ""))
		}
	}
	for id := range parked {
		if !withDelivery[id] {
			events = append(events, unkeptOutcome(id, typ, ", but was disabled then"))
		}
	}
	fired := len(events)
	for id := range idsIn(c.Skipped) {
		events = append(events, gen.EventOutcome{
			EventID: id, Outcome: outcomeNotFired,
			Reason: fmt.Sprintf("the event is for the other type, %s", eventType(c.OldStatus)),
		})
	}
	for _, part := range [][]gen.EventOutcome{events[:fired], events[fired:]} {
		slices.SortFunc(part, func(a, b gen.EventOutcome) int { return cmp.Compare(a.EventID, b.EventID) })
	}
	return gen.AgentStatusChange{Change: c.model(), Events: events, Repeated: s.repeats.of(c)}
}

// outcomes is the number of events that the change has an outcome for, from the lists of its row.
func (r changeRow) outcomes() (n int) {
	for _, list := range []string{r.Fired, r.Parked, r.Skipped} {
		if list != "" {
			n += strings.Count(list, ",") + 1
		}
	}
	return n
}

// idsIn returns the event ids of a row's list.
func idsIn(list string) map[int64]bool {
	ids := map[int64]bool{}
	for text := range strings.SplitSeq(list, ",") {
		if id, err := strconv.ParseInt(text, 10, 64); err == nil {
			ids[id] = true
		}
	}
	return ids
}

// The outcomes of a change for an event, by openapi.yaml.
const (
	outcomeFired    = "fired"
	outcomeParked   = "parked"
	outcomeNotFired = "not_fired"
)

// outcomeOf returns the outcome of a change for an event of its type, from the delivery of the change for the event.
func outcomeOf(d deliveryRow, typ gen.EventType, wasParked bool) gen.EventOutcome {
	m := gen.EventOutcome{
		EventID: d.EventID, Outcome: outcomeFired, Reason: fmt.Sprintf("the event is for this type, %s", typ),
		DeliveryID: d.ID, DeliveryState: gen.DeliveryState(d.State),
	}
	switch {
	case d.State == stateParked:
		m.Outcome = outcomeParked
		m.Reason += ", but disabled: the delivery waits until it is enabled"
	case wasParked:
		m.Reason += ", but was disabled then"
	}
	if ended := d.reason(nil); ended != "" {
		m.Reason += "; " + ended
	}
	return m
}

// unkeptOutcome returns the outcome for an event whose delivery has ended and is no longer kept.
func unkeptOutcome(event int64, typ gen.EventType, more string) gen.EventOutcome {
	return gen.EventOutcome{
		EventID: event, Outcome: outcomeFired,
		Reason: fmt.Sprintf("the event is for this type, %s%s; its delivery is no longer kept", typ, more),
	}
}

// repeatCounter counts repetitions of a status, by the sequence number of the change to that status. The counts explain
// why no delivery was sent. They are written every second, since none is worth a commit of its own.
type repeatCounter struct {
	mu     sync.Mutex
	counts map[int64]repeat
}

type repeat struct {
	times int
	last  int64
}

func (r *repeatCounter) note(sequence, at int64) {
	if sequence == 0 {
		return // the agent never had a change
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.counts == nil {
		r.counts = map[int64]repeat{}
	}
	r.counts[sequence] = repeat{r.counts[sequence].times + 1, at}
}

// of returns the count of a change: the stored part and the part in memory.
func (r *repeatCounter) of(c changeRow) *gen.Repeated {
	r.mu.Lock()
	defer r.mu.Unlock()
	unwritten := r.counts[c.ID]
	if unwritten.times > 0 {
		c.RepeatedAt = &unwritten.last
	}
	if c.RepeatedAt == nil {
		return nil
	}
	return &gen.Repeated{Times: c.Repeated + unwritten.times, LastAt: apiTime(*c.RepeatedAt)}
}

func (r *repeatCounter) snapshot() map[int64]repeat {
	r.mu.Lock()
	defer r.mu.Unlock()
	return maps.Clone(r.counts)
}

// forget subtracts the counts that are stored.
func (r *repeatCounter) forget(sequences []int64, written map[int64]repeat) {
	r.mu.Lock()
	defer r.mu.Unlock()
	for _, sequence := range sequences {
		if left := r.counts[sequence].times - written[sequence].times; left > 0 {
			r.counts[sequence] = repeat{left, r.counts[sequence].last}
		} else {
			delete(r.counts, sequence)
		}
	}
}

func (s *Store) writeRepeats(ctx context.Context) error {
	seen := s.repeats.snapshot()
	for part := range slices.Chunk(slices.Sorted(maps.Keys(seen)), repeatsPerCommit) {
		err := s.write(context.WithoutCancel(ctx), func(tx *sqldb.Tx) error { return writeRepeatsOf(tx, part, seen) })
		if err != nil {
			return err
		}
		s.repeats.forget(part, seen)
	}
	return nil
}

// repeatsPerCommit is the number of rows that one commit updates, so that no request waits long for the writer.
const repeatsPerCommit = 100

func writeRepeatsOf(tx *sqldb.Tx, sequences []int64, seen map[int64]repeat) error {
	for _, sequence := range sequences {
		err := tx.Exec("UPDATE status_changes SET repeated = repeated + ?, repeated_at = ? WHERE id = ?",
			seen[sequence].times, seen[sequence].last, sequence)
		if err != nil {
			return err
		}
	}
	return nil
}
