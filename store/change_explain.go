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

// AgentStatusChanges lists an agent's status changes, the newest first, with what came of each: those older than a
// sequence number (0 means all), at most limit of them.
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
		w := walk{columns: []string{"client_id", "kind", "agent_id"}, values: []any{k.Client, k.Type, k.ID}}
		rows, err := changesBy(tx, w, c.ChangesBefore, before-1, " DESC", limit)
		if err != nil {
			return err
		}
		fired, err := firedBy(tx, k, rows)
		m = each(rows, func(r changeRow) gen.AgentStatusChange { return s.explain(r, fired[r.ID]) })
		return err
	})
	return m, err
}

// firedBy returns the deliveries that changes of an agent, of which the newest come first, have made and that are still
// kept.
func firedBy(q sqldb.Querier, k AgentKey, changes []changeRow) (map[int64][]deliveryRow, error) {
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

// explain says what a change meant to each event, by what its row notes and by its deliveries that are still kept.
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

// unkeptIDs are the event ids of a row's list that have no kept delivery.
func unkeptIDs(list string, kept []deliveryRow) (ids []int64) {
	for text := range strings.SplitSeq(list, ",") {
		id, err := strconv.ParseInt(text, 10, 64)
		if err == nil && !slices.ContainsFunc(kept, func(d deliveryRow) bool { return d.EventID == id }) {
			ids = append(ids, id)
		}
	}
	return ids
}

// What a change meant to an event, by openapi.yaml.
const (
	outcomeFired    = "fired"
	outcomeParked   = "parked"
	outcomeNotFired = "not_fired"
)

// outcome is what a change meant to an event of its type.
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

// unkeptOutcome is the outcome of a delivery that has ended and is no longer kept.
func unkeptOutcome(event int64, typ gen.EventType, more string) gen.EventOutcome {
	return gen.EventOutcome{
		EventID: event, Outcome: outcomeFired,
		Reason: fmt.Sprintf("the event is for this type, %s%s; its delivery is no longer kept", typ, more),
	}
}

// repeatCounter counts how often a status was set that an agent had already, by the sequence number of the change that
// led to it. It answers why nothing was sent, and is not worth a commit of its own: it is written every second.
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
		return // the agent is as it was made
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.counts == nil {
		r.counts = map[int64]repeat{}
	}
	r.counts[sequence] = repeat{r.counts[sequence].times + 1, at}
}

// of adds what is not written yet to what is.
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

// forget subtracts what is written by now.
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

// repeatsPerCommit is how many rows one commit updates, so that no request waits long for the writer.
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
