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

// AgentStatusChanges lists an agent's status changes with their outcome for each event, the newest first. The list has
// the changes before a sequence number (0 means all), at most limit of them.
func (s *Store) AgentStatusChanges(
	ctx context.Context, k AgentKey, before int64, limit int,
) (m []gen.AgentStatusChange, err error) {
	err = s.snapshot(ctx, func(tx *sqldb.ReadTx) error {
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
		scan := indexScan{columns: []string{"client_id", "kind", "agent_id"}, values: []any{k.Client, k.Type, k.ID}}
		rows, err := changesBy(tx, scan, c.ChangesBefore, before-1, " DESC", limit)
		if err != nil {
			return err
		}
		kept, err := deliveriesOf(tx, k, rows)
		m = each(rows, func(r changeRow) gen.AgentStatusChange { return s.explain(r, kept[r.ID]) })
		return err
	})
	return m, err
}

// deliveriesOf returns the deliveries of an agent's changes that are still kept, by change. The newest change must be
// first.
func deliveriesOf(q sqldb.Querier, k AgentKey, changes []changeRow) (map[int64][]deliveryRow, error) {
	if len(changes) == 0 {
		return nil, nil
	}
	rows, err := sqldb.Select[deliveryRow](q, "SELECT id, change_id, event_id, state, attempts FROM deliveries "+
		"WHERE client_id = ? AND kind = ? AND agent_id = ? AND change_id BETWEEN ? AND ?",
		k.Client, string(k.Type), k.ID, changes[len(changes)-1].ID, changes[0].ID)
	of := map[int64][]deliveryRow{}
	for _, r := range rows {
		of[r.ChangeID] = append(of[r.ChangeID], r)
	}
	return of, err
}

// explain returns the outcome of a change for each event, from the change's row and the deliveries that are still kept.
func (s *Store) explain(c changeRow, kept []deliveryRow) gen.AgentStatusChange {
	typ := eventType(c.NewStatus)
	events := each(kept, func(d deliveryRow) gen.EventOutcome { return c.outcome(d, typ) })
	for _, id := range unkeptIDs(c.Fired, kept) {
		events = append(events, unkeptOutcome(id, typ, ""))
	}
	for _, id := range unkeptIDs(c.Parked, kept) {
		events = append(events, unkeptOutcome(id, typ, ", but was disabled then"))
	}
	slices.SortFunc(events, func(a, b gen.EventOutcome) int { return cmp.Compare(a.EventID, b.EventID) })
	for _, id := range unkeptIDs(c.Skipped, nil) {
		events = append(events, gen.EventOutcome{
			EventID: id, Outcome: outcomeNotFired,
			Reason: fmt.Sprintf("the event is for the other type, %s", eventType(c.OldStatus)),
		})
	}
	return gen.AgentStatusChange{Change: c.model(), Events: events, Repeated: s.repeats.of(c)}
}

// unkeptIDs returns the event ids of a row's list without a kept delivery.
func unkeptIDs(list string, kept []deliveryRow) (ids []int64) {
	for text := range strings.SplitSeq(list, ",") {
		id, err := strconv.ParseInt(text, 10, 64)
		if err == nil && !slices.ContainsFunc(kept, func(d deliveryRow) bool { return d.EventID == id }) {
			ids = append(ids, id)
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

// outcome returns the outcome of a change for an event of its type.
func (r changeRow) outcome(d deliveryRow, typ gen.EventType) gen.EventOutcome {
	m := gen.EventOutcome{
		EventID: d.EventID, Outcome: outcomeFired, Reason: fmt.Sprintf("the event is for this type, %s", typ),
		DeliveryID: d.ID, DeliveryState: gen.DeliveryState(d.State),
	}
	switch wasParked := slices.Contains(strings.Split(r.Parked, ","), strconv.FormatInt(d.EventID, 10)); {
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

// repeatCounter counts repeated settings of a status, by the sequence number of the change to that status. The counts
// explain why no delivery was sent. They are written every second, since none is worth a commit of its own.
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
