package store

import (
	"errors"
	"slices"
	"strconv"
	"time"

	"github.com/agentevents/agentevents/gen"
	"github.com/agentevents/agentevents/store/internal/sqldb"
	"github.com/agentevents/agentevents/webhook"
)

// The states of a delivery.
const (
	statePending   = "pending" // waits in its lane
	stateParked    = "parked"  // out of its lane, since its event is disabled
	stateDelivered = "delivered"
	stateFailed    = "failed"
	stateCancelled = "cancelled"
)

type deliveryRow struct {
	ID         int64             `gorm:"primaryKey" json:"id"`
	WebhookID  string            `json:"webhook_id"`
	ChangeID   int64             `json:"change_id"`
	EventID    int64             `json:"event_id"`
	LaneID     int64             `json:"lane_id"`
	MovedTo    *int64            `json:"-"`
	VersionID  int64             `json:"version_id"`
	URL        string            `gorm:"-" json:"-"` // of the version, as the log reads it
	Method     gen.RequestMethod `gorm:"-" json:"-"`
	State      string            `json:"state"`
	Attempts   int               `json:"-"`
	DueAt      int64             `json:"due_at"`
	ExpiresAt  int64             `json:"expires_at"`
	CreatedAt  int64             `gorm:"autoCreateTime:false" json:"created_at"`
	FinishedAt *int64            `json:"-"`
	ClientID   string            `json:"client_id"`
	Replays    int               `json:"-"`

	// Columns of the delivery's change, copied for the delivery log.
	Kind      gen.AgentType        `json:"kind"`
	AgentID   int64                `json:"agent_id"`
	NewStatus gen.AgentStatusValue `json:"new_status"`
	ChangedAt int64                `json:"changed_at"`

	LastAttempt *int64 `json:"-"` // nil if there is none

	Failures int   `json:"-"` // failures that count as the delivery's own
	Outage   int64 `json:"-"` // the receiver's outage in which the last attempt failed; 0 for none
}

func (deliveryRow) TableName() string { return "deliveries" }

// headRow is the head of a lane with everything that sending it needs.
type headRow struct {
	ID, LaneID, Claim, ReceiverID int64
	EventID, VersionID            int64
	WebhookID, URL                string
	Method                        gen.RequestMethod
	Attempts, Failures            int
	DueAt, ExpiresAt              int64
	RecoveredAt                   int64  // when the receiver's breaker last closed
	FailingSince                  *int64 // the receiver's FailingSince; nil if it is not failing
	ChangeID, ChangedAt, AgentID  int64
	Kind                          gen.AgentType
	Name                          string
	NewStatus                     gen.AgentStatusValue
	EventSource                   gen.EventSource
	CreatedAt                     int64 `gorm:"autoCreateTime:false"`
	Replays                       int
	Traceparent                   string
	Epoch                         string // the epoch of the database
	Pending                       int64  // number of pending deliveries in its lane
	Unswept                       bool   // it must follow its event first, and is not sent; see eventSweep

	clientSecrets
}

// headSQL selects heads; a condition on lanes l and deliveries d follows. The secret is that of the lane's client,
// since the id in the change may belong to another client by now.
const headSQL = "SELECT d.id, d.lane_id, l.claim, l.receiver_id, l.pending, d.event_id, d.webhook_id, " +
	"d.version_id, v.url, v.method, d.attempts, d.failures, r.recovered_at, r.failing_since, d.due_at, d.expires_at, " +
	"d.change_id, " +
	"c.changed_at, c.agent_id, c.kind, c.name, " +
	"c.new_status, c.event_source, c.created_at, d.replays, c.traceparent, " + clientSecretsSQL + ", " +
	unsweptSQL + " AS unswept, (SELECT epoch FROM epochs) AS epoch FROM lanes l " +
	"JOIN receivers r ON r.id = l.receiver_id JOIN deliveries d ON d.id = l.delivery_id " +
	"JOIN status_changes c ON c.id = d.change_id JOIN event_versions v ON v.id = d.version_id " +
	"JOIN secrets s ON s.client_id = r.client_id "

func (r headRow) delivery(lease time.Time, now int64) webhook.Delivery {
	return webhook.Delivery{
		ID: r.ID, WebhookID: r.WebhookID, Lane: r.LaneID, Claim: r.Claim, Lease: lease, Receiver: r.ReceiverID,
		Client: r.Owner,
		URL:    r.URL, Method: r.Method, Version: r.VersionID, EventType: eventType(r.NewStatus), Sequence: r.ChangeID,
		Epoch:     r.Epoch,
		ChangedAt: millis(r.ChangedAt), Attempt: r.Attempts + 1, Failures: r.Failures, Data: r.data(),
		Secrets: r.secrets(now), CreatedAt: millis(r.CreatedAt), Redelivery: r.Replays > 0, Redeliveries: r.Replays,
		Traceparent: r.Traceparent, HasSuccessor: r.Pending > 1,
	}
}

// leasedDelivery returns a delivery for a worker, with the end of its lease.
func (s *Store) leasedDelivery(r headRow, lease time.Time) webhook.Delivery {
	now := s.now()
	d := r.delivery(lease, now)
	if s.DeployWindow > 0 {
		since := min(s.deployingSince(r, now), now) // never in the future, after a wrong clock
		d.DeployingUntil = time.Now().Add(s.DeployWindow - time.Duration(now-since)*time.Millisecond)
	}
	return d
}

// deployingSince returns the time from which a receiver may be in the middle of a deployment: the change or the replay,
// or the end of its last outage if that is later. A receiver that comes up may not be complete at once. During an
// outage, that time is now.
func (s *Store) deployingSince(r headRow, now int64) (since int64) {
	since = max(r.CreatedAt, r.RecoveredAt)
	if r.Replays > 0 {
		since = max(since, r.ExpiresAt-s.Window.Milliseconds())
	}
	if r.FailingSince != nil {
		since = now
	}
	return since
}

func (r headRow) data() gen.AgentEventData {
	d := gen.AgentEventData{
		AgentStatus: r.NewStatus, AgentType: r.Kind, EventSource: r.EventSource,
		AgentID: strconv.FormatInt(r.AgentID, 10),
	}
	if r.Kind == gen.AgentTypeLocal {
		d.ExtensionName = r.Name
	} else {
		d.AgentNumber = r.Name
	}
	return d
}

// makeDue makes pending deliveries due at once, together with the earlier ones of their lanes, which must be locked. It
// ends the wait for the next attempt, but not a pause that the receiver asked for. If a breaker is open, the next probe
// is due now. Deliveries in flight stay in flight.
func (s *Store) makeDue(tx *sqldb.Tx, ids ...int64) error {
	pending, err := sqldb.Select[deliveryRow](tx,
		"SELECT DISTINCT d.lane_id, d.change_id, d.id FROM deliveries d WHERE d.id IN ? "+
			"AND d.state || '' = 'pending' ORDER BY d.lane_id, d.change_id, d.id", sqldb.Padded(ids))
	if err != nil || len(pending) == 0 {
		return err
	}
	for i := 0; err == nil && i < len(pending); i++ {
		if i+1 == len(pending) || pending[i+1].LaneID != pending[i].LaneID {
			err = s.makeLaneDue(tx, pending[i])
		}
	}
	if err != nil {
		return err
	}
	return s.makeProbeDue(tx, slices.Compact(each(pending, laneOf)))
}

// makeLaneDue makes the deliveries of a lane due, up to the last one given.
func (s *Store) makeLaneDue(tx *sqldb.Tx, last deliveryRow) error {
	now := s.now()
	return errors.Join(
		tx.Exec("UPDATE deliveries SET due_at = ? "+
			"WHERE lane_id = ? AND state = 'pending' AND (change_id, id) <= (?, ?) AND due_at > ?",
			now, last.LaneID, last.ChangeID, last.ID, now),
		adjustLane(tx, last.LaneID, 0, now),
	)
}

// makeProbeDue ends the waits of open breakers at the receivers of lanes, unless a probe is in flight.
func (s *Store) makeProbeDue(tx *sqldb.Tx, lanes []int64) error {
	now := s.now()
	open, err := sqldb.Select[int64](tx,
		"SELECT id FROM receivers WHERE id IN (SELECT receiver_id FROM lanes WHERE id IN ?) "+
			"AND failures >= ? AND waits > ? AND probe IS NULL ORDER BY id"+tx.ForUpdate(true),
		sqldb.Padded(lanes), webhook.BreakerThreshold, now)
	if err != nil || len(open) == 0 {
		return err
	}
	return tx.Exec("UPDATE receivers SET waits = CASE WHEN paused_until > ? THEN paused_until ELSE ? END WHERE id IN ?",
		now, now, sqldb.Padded(open))
}
