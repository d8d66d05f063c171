package store

import (
	"crypto/rand"
	"maps"
	"slices"

	"github.com/agentevents/agentevents/store/internal/sqldb"
	"github.com/agentevents/agentevents/webhook"
)

// findEvents finds the events of the changes' agents. It stores in each change which of them match its type.
func findEvents(tx *sqldb.Tx, changes []*statusChange) error {
	if len(changes) == 0 {
		return nil
	}
	agents := each(changes, func(c *statusChange) int64 { return c.agent.ID })
	events, err := sqldb.Select[eventRow](tx,
		"SELECT id, agent, url, method, event_type, version_id, lane_id, state FROM agent_events "+
			"WHERE agent IN ? ORDER BY lane_id, id", sqldb.Padded(agents))
	of := map[int64][]eventRow{}
	for _, e := range events {
		of[e.Agent] = append(of[e.Agent], e)
	}
	for _, c := range changes {
		matching, skipped := partition(of[c.agent.ID], func(e eventRow) bool {
			return e.EventType == eventType(c.status)
		})
		disabled, fired := partition(matching, eventRow.disabled)
		c.events = matching
		c.row = changeRow{Fired: idsOf(fired), Parked: idsOf(disabled), Skipped: idsOf(skipped)}
	}
	return err
}

// targetLane is a locked lane before a change adds a delivery to it.
type targetLane struct {
	ID, ReceiverID, Claim int64
	// the lane is empty and not leased, and no delivery must move to it; its receiver has a closed breaker, does not
	// wait, and has no other due lanes
	Free  bool
	Epoch string
	clientSecrets
}

type targetLanes map[int64]targetLane

// haveAll reports whether the map contains all lanes of a change.
func (l targetLanes) haveAll(c *statusChange) bool {
	return !slices.ContainsFunc(c.lanes(), func(id int64) bool { _, is := l[id]; return !is })
}

// lanes returns the lanes that a change adds a delivery to.
func (c *statusChange) lanes() (lanes []int64) {
	for _, e := range c.events {
		if e.deliveryState() == statePending {
			lanes = append(lanes, e.LaneID)
		}
	}
	return lanes
}

// targetLanesSQL reads lanes with everything that sending their first delivery needs. A lane is not free while another
// lane of its receiver is due, since that one has waited longer.
var targetLanesSQL = "SELECT l.id, l.receiver_id, l.claim, " + clientSecretsSQL +
	", (SELECT epoch FROM epochs) AS epoch, " +
	"l.pending = 0 AND l.lease_until IS NULL AND r.failures < ? AND (r.waits IS NULL OR r.waits <= ?) " +
	"AND " + freeOfMovesSQL("l.id") + " " +
	"AND NOT EXISTS (SELECT 1 FROM lanes x WHERE x.receiver_id = l.receiver_id AND x.due_at <= ?) AS free " +
	"FROM lanes l JOIN receivers r ON r.id = l.receiver_id LEFT JOIN secrets s ON s.client_id = r.client_id " +
	"WHERE l.id IN ? ORDER BY l.id"

// lockTargetLanes locks and returns the lanes of changes. With wait false, it skips lanes that another transaction has
// locked.
func (s *Store) lockTargetLanes(tx *sqldb.Tx, changes []*statusChange, wait bool) (targetLanes, error) {
	ids := map[int64]bool{}
	for _, c := range changes {
		for _, lane := range c.lanes() {
			ids[lane] = true
		}
	}
	if len(ids) == 0 {
		return nil, nil
	}
	rows, err := s.readTargetLanes(tx, slices.Sorted(maps.Keys(ids)), wait)
	return indexBy(rows, func(l targetLane) int64 { return l.ID }), err
}

func (s *Store) readTargetLanes(tx *sqldb.Tx, ids []int64, wait bool) (rows []targetLane, err error) {
	if s.handoff.Load() == nil { // without a dispatcher, the state of the lanes is not needed
		locked, err := tx.LockRows("lanes", ids, wait)
		return each(locked, func(id int64) targetLane { return targetLane{ID: id} }), err
	}
	now := s.now()
	return sqldb.Select[targetLane](tx, targetLanesSQL+tx.ForUpdateOf("l", wait), webhook.BreakerThreshold, now, now,
		sqldb.Padded(ids))
}

// newDelivery is a new delivery of a change.
type newDelivery struct {
	change *statusChange
	row    deliveryRow
}

// enqueue inserts one delivery for each event of the changes' types, enabled or disabled, and adds the pending ones to
// their lanes.
func (s *Store) enqueue(tx *sqldb.Tx, changes []*statusChange, lanes targetLanes) error {
	all := s.newDeliveries(changes)
	if len(all) == 0 {
		return nil
	}
	ids, err := sqldb.InsertAll(tx, "deliveries", each(all, func(n newDelivery) deliveryRow { return n.row }))
	if err != nil {
		return err
	}
	for i, id := range ids {
		all[i].row.ID = id
	}
	s.addPending(tx, all)
	return addToLanes(tx, s.laneAdditions(tx, all, lanes))
}

// addPending counts the pending deliveries of each client when the transaction is committed.
func (s *Store) addPending(tx *sqldb.Tx, all []newDelivery) {
	pending := map[string]int64{}
	for _, n := range all {
		if n.row.State == statePending {
			pending[n.row.ClientID]++
		}
	}
	tx.WriterOnCommit(func() {
		for client, n := range pending {
			s.pendingCounter.add(client, 0, n)
		}
	})
}

func (s *Store) newDeliveries(changes []*statusChange) (all []newDelivery) {
	for _, c := range changes {
		for _, e := range c.events {
			all = append(all, newDelivery{c, deliveryRow{
				WebhookID: "msg_" + rand.Text(), ChangeID: c.row.ID, EventID: e.ID, LaneID: e.LaneID,
				VersionID: e.VersionID, URL: e.URL, Method: e.Method, State: e.deliveryState(), DueAt: c.row.CreatedAt,
				ExpiresAt: c.row.CreatedAt + s.Window.Milliseconds(), CreatedAt: c.row.CreatedAt,
				ClientID: c.row.ClientID,
				Kind:     c.row.Kind, AgentID: c.row.AgentID, NewStatus: c.row.NewStatus, ChangedAt: c.row.ChangedAt,
			}})
		}
	}
	return all
}

// laneAdditions groups the new pending deliveries by lane. Only pending deliveries count in their lane.
func (s *Store) laneAdditions(tx *sqldb.Tx, all []newDelivery, lanes targetLanes) (additions []laneAddition) {
	of := map[int64][]newDelivery{}
	for _, n := range all {
		if n.row.State == statePending {
			of[n.row.LaneID] = append(of[n.row.LaneID], n)
		}
	}
	for _, lane := range slices.Sorted(maps.Keys(of)) {
		added := of[lane]
		addition := laneAddition{LaneID: lane, Count: int64(len(added)), Due: added[0].row.DueAt}
		if until, leased := s.handOff(tx, added[0], lanes[lane], addition.Count); leased {
			addition.First, addition.Until = &added[0].row.ID, &until
		} else if u := added[0].change.update; u != nil {
			u.due = true
		}
		additions = append(additions, addition)
	}
	return additions
}

// handOff leases a free lane (see targetLane) for its first delivery, if the dispatcher of this process has room for
// it. The dispatcher gets the delivery when the transaction is committed. handOff returns the end of the lease.
func (s *Store) handOff(tx *sqldb.Tx, first newDelivery, lane targetLane, pending int64) (until int64, leased bool) {
	handoff := s.handoff.Load()
	if handoff == nil || !lane.Free {
		return 0, false
	}
	head, err := first.head(lane).decrypted(s)
	if err != nil || !handoff.Take(lane.Owner, lane.ReceiverID) {
		return 0, false
	}
	lease, now := tx.Begun.Add(s.Lease), s.now() // counted from before the commit: for the holder, the lease ends first
	head.Pending = pending
	delivery := s.leasedDelivery(head, lease)
	tx.WriterOnEnd(func(err error) {
		if err == nil {
			handoff.Deliver(delivery)
		} else {
			handoff.ReleaseSlot(lane.ReceiverID)
		}
	})
	return now + s.Lease.Milliseconds(), true
}

// head returns a new delivery as headSQL selects it once its lane is leased.
func (n newDelivery) head(lane targetLane) headRow {
	d, c := n.row, n.change.row
	return headRow{
		ID: d.ID, LaneID: lane.ID, Claim: lane.Claim + 1, ReceiverID: lane.ReceiverID, EventID: d.EventID,
		clientSecrets: lane.clientSecrets, WebhookID: d.WebhookID, URL: d.URL, Method: d.Method,
		VersionID: d.VersionID, DueAt: d.DueAt,
		ExpiresAt: d.ExpiresAt, ChangeID: c.ID, ChangedAt: c.ChangedAt, AgentID: c.AgentID,
		Kind: c.Kind, Name: c.Name, NewStatus: c.NewStatus, EventSource: c.EventSource, CreatedAt: c.CreatedAt,
		Traceparent: c.Traceparent, Epoch: lane.Epoch,
	}
}
