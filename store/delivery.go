package store

import (
	"fmt"
	"strconv"
	"time"

	"github.com/agentevents/agentevents/gen"
	"github.com/agentevents/agentevents/store/internal/sqldb"
	"github.com/agentevents/agentevents/webhook"
)

// The states of a delivery.
const (
	pending   = "pending" // in its lane
	parked    = "parked"  // out of its lane while its registration is disabled
	delivered = "delivered"
	failed    = "failed"
	cancelled = "cancelled"
)

type changeRow struct {
	ID          int64                `gorm:"primaryKey" json:"id"`
	ClientID    string               `json:"client_id"`
	Kind        gen.AgentType        `json:"kind"`
	AgentID     int64                `json:"agent_id"`
	Name        string               `json:"name"`
	OldStatus   gen.AgentStatusValue `json:"old_status"`
	NewStatus   gen.AgentStatusValue `json:"new_status"`
	EventSource gen.EventSource      `json:"event_source"`
	ChangedAt   int64                `json:"changed_at"`
	CreatedAt   int64                `gorm:"autoCreateTime:false" json:"created_at"`
	Fired       string               `json:"fired"`       // ids of the agent's events of its type then, but for disabled ones, separated by commas
	Parked      string               `json:"parked"`      // those of the disabled ones
	Skipped     string               `json:"skipped"`     // those of the events of the other type
	Repeated    int                  `json:"-"`           // how often the same status was set again
	RepeatedAt  *int64               `json:"-"`           // and when last
	Traceparent string               `json:"traceparent"` // what it is known by in a trace
}

func (changeRow) TableName() string { return "status_changes" }

type deliveryRow struct {
	ID         int64             `gorm:"primaryKey" json:"id"`
	WebhookID  string            `json:"webhook_id"`
	ChangeID   int64             `json:"change_id"`
	EventID    int64             `json:"event_id"`
	LaneID     int64             `json:"lane_id"`
	MovedTo    *int64            `json:"-"`
	URL        string            `json:"url"`
	Method     gen.RequestMethod `json:"method"`
	State      string            `json:"state"`
	Attempts   int               `json:"-"`
	DueAt      int64             `json:"due_at"`
	ExpiresAt  int64             `json:"expires_at"`
	CreatedAt  int64             `gorm:"autoCreateTime:false" json:"created_at"`
	FinishedAt *int64            `json:"-"`
	ClientID   string            `json:"client_id"`
	Replays    int               `json:"-"`

	// What the log shows of its change, as that is.
	Kind      gen.AgentType        `json:"kind"`
	AgentID   int64                `json:"agent_id"`
	NewStatus gen.AgentStatusValue `json:"new_status"`
	ChangedAt int64                `json:"changed_at"`

	LastAttempt *int64 `json:"-"` // nil without any

	Failures int   `json:"-"` // of its own, among its attempts
	Outage   int64 `json:"-"` // of its receiver, in which its last attempt failed; 0 for none
}

func (deliveryRow) TableName() string { return "deliveries" }

// headRow is the first delivery of a lane with all that sending it takes.
type headRow struct {
	ID, LaneID, Claim, ReceiverID int64
	EventID                       int64
	WebhookID, URL                string
	Method                        gen.RequestMethod
	Attempts, Failures            int
	DueAt, ExpiresAt              int64
	RecoveredAt                   int64  // when the breaker of its receiver closed last
	FailingSince                  *int64 // of its receiver; nil when it is not failing
	ChangeID, ChangedAt, AgentID  int64
	Kind                          gen.AgentType
	Name                          string
	NewStatus                     gen.AgentStatusValue
	EventSource                   gen.EventSource
	CreatedAt                     int64 `gorm:"autoCreateTime:false"`
	Replays                       int
	Traceparent                   string
	Epoch                         string // of the database
	Pending                       int64  // in its lane

	keys
}

// headSQL selects heads; a condition on lanes l and deliveries d follows. The secret is that of the lane's client:
// the id in the change may be another client's by now.
const headSQL = "SELECT d.id, d.lane_id, l.claim, l.receiver_id, l.pending, d.event_id, d.webhook_id, d.url, " +
	"d.method, d.attempts, d.failures, r.recovered_at, r.failing_since, d.due_at, d.expires_at, d.change_id, " +
	"c.changed_at, c.agent_id, c.kind, c.name, " +
	"c.new_status, c.event_source, c.created_at, d.replays, c.traceparent, " + keysSQL + ", " +
	"(SELECT epoch FROM epochs) AS epoch FROM lanes l " +
	"JOIN receivers r ON r.id = l.receiver_id JOIN deliveries d ON d.id = l.delivery_id " +
	"JOIN status_changes c ON c.id = d.change_id " +
	"JOIN secrets s ON s.client_id = r.client_id "

func (r headRow) delivery(lease time.Time, now int64) webhook.Delivery {
	return webhook.Delivery{
		ID: r.ID, WebhookID: r.WebhookID, Lane: r.LaneID, Claim: r.Claim, Lease: lease, Receiver: r.ReceiverID,
		URL: r.URL, Method: r.Method, EventType: eventType(r.NewStatus), Sequence: r.ChangeID, Epoch: r.Epoch,
		ChangedAt: millis(r.ChangedAt), Attempt: r.Attempts + 1, Failures: r.Failures, Data: r.data(),
		Secrets: r.secrets(now), CreatedAt: millis(r.CreatedAt), Replay: r.Replays > 0, Replays: r.Replays,
		Traceparent: r.Traceparent, More: r.Pending > 1,
	}
}

// handed is a delivery as it is handed out, until the end of a lease.
func (s *Store) handed(r headRow, lease time.Time) webhook.Delivery {
	now := s.now()
	d := r.delivery(lease, now)
	if s.DeployWindow > 0 {
		since := min(s.deploying(r, now), now) // not from a clock that was ahead
		d.DeployingUntil = time.Now().Add(s.DeployWindow - time.Duration(now-since)*time.Millisecond)
	}
	return d
}

// deploying is since when a receiver may be one that is being deployed: since the change or the replay or, because
// what comes up again may not be complete at once, since the end of its last outage, which may be this attempt.
func (s *Store) deploying(r headRow, now int64) (since int64) {
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
		AgentStatus: r.NewStatus, AgentType: r.Kind, EventSource: r.EventSource, AgentID: strconv.FormatInt(r.AgentID, 10),
	}
	if r.Kind == gen.AgentTypeLocal {
		d.ExtensionName = r.Name
	} else {
		d.AgentNumber = r.Name
	}
	return d
}

// What conditions on deliveries of a lane name: one of them, or all that an event is owed. Each is found by an index of its
// own; the states beside them are written so that no other index seems to fit, which may have very many entries.
const (
	byID    = "id = ?"
	byEvent = "event_id = ? AND state IN ('pending', 'parked')"
)

// takeOut takes pending deliveries out of a lane, those that a condition names, and tells the lane.
func (s *Store) takeOut(tx *sqldb.Tx, lane int64, state, where string, args ...any) error {
	now := s.now()
	finished := &now
	if state == parked {
		finished = nil
	}
	done, err := tx.ExecCount("UPDATE deliveries SET state = ?, finished_at = ?, moved_to = NULL "+
		"WHERE lane_id = ? AND state || '' = 'pending' AND "+where, append([]any{state, finished, lane}, args...)...)
	if err != nil || done == 0 {
		return err
	}
	s.countEnded(tx, state, done)
	return shift(tx, lane, -int(done), now)
}

// cancel ends all that is pending or parked of an event.
func (s *Store) cancel(tx *sqldb.Tx, event int64) error {
	if err := lockLanesOf(tx, event); err != nil {
		return err
	}
	away, err := tx.ExecCount("UPDATE deliveries SET state = 'cancelled', finished_at = ? WHERE "+byEvent+" AND state || '' = 'parked'",
		s.now(), event)
	if err != nil {
		return err
	}
	s.countEnded(tx, cancelled, away)
	lanes, err := lanesOf(tx, event)
	for i := 0; err == nil && i < len(lanes); i++ {
		err = s.takeOut(tx, lanes[i], cancelled, byEvent, event)
	}
	return err
}

// lanesOf lists the lanes that an event has pending deliveries in: its own and, for what is in flight, earlier ones.
func lanesOf(tx *sqldb.Tx, event int64) (lanes []int64, err error) {
	return sqldb.Select[int64](tx, "SELECT DISTINCT lane_id FROM deliveries WHERE "+byEvent+" AND state || '' = 'pending' ORDER BY lane_id", event)
}

// lockLanesOf holds all lanes that an event's deliveries which have not ended are in or move to, and some more.
func lockLanesOf(tx *sqldb.Tx, event int64, more ...int64) error {
	if tx.Dialect() == sqldb.SQLite {
		return nil
	}
	lanes, err := sqldb.Select[int64](tx, "SELECT lane_id FROM deliveries WHERE event_id = ? AND state IN ('pending', 'parked') UNION "+
		"SELECT moved_to FROM deliveries WHERE event_id = ? AND moved_to IS NOT NULL AND state IN ('pending', 'parked') UNION "+
		"SELECT lane_id FROM agent_events WHERE id = ?", event, event, event)
	if err != nil {
		return err
	}
	return lockLanes(tx, append(lanes, more...)...)
}

// redirect gives an event's pending deliveries its new URL, method and lane, and makes them due. Parked ones get
// their lane when the event is enabled.
func (s *Store) redirect(tx *sqldb.Tx, e eventRow) error {
	now := s.now()
	if err := lockLanesOf(tx, e.ID, e.LaneID); err != nil {
		return err
	}
	if err := rememberURL(tx, "event_id = ? AND state IN ('pending', 'parked')", e.ID); err != nil {
		return err
	}
	err := tx.Exec("UPDATE deliveries SET url = ?, method = ?, due_at = ?, failures = 0, outage = 0 "+
		"WHERE event_id = ? AND state IN ('pending', 'parked')", e.URL, e.Method, now, e.ID)
	if err != nil {
		return err
	}
	lanes, err := lanesOf(tx, e.ID)
	for i := 0; err == nil && i < len(lanes); i++ {
		err = s.move(tx, e, lanes[i], now)
	}
	return err
}

// rememberURL notes with the attempts at deliveries, those that a condition names, how they were sent, before that is
// corrected.
func rememberURL(tx *sqldb.Tx, where string, args ...any) error {
	const of = "(SELECT d.%s FROM deliveries d WHERE d.id = attempts.delivery_id)"
	return tx.Exec("UPDATE attempts SET url = "+fmt.Sprintf(of, "url")+", method = "+fmt.Sprintf(of, "method")+
		" WHERE url = '' AND delivery_id IN (SELECT id FROM deliveries WHERE "+where+")", args...)
}

// move takes an event's pending deliveries from a lane to the event's own. One in flight stays until its result; the
// other lane is not claimed until then, and if it comes back unsent it follows.
func (s *Store) move(tx *sqldb.Tx, e eventRow, from, now int64) error {
	lane, err := findLane(tx, from)
	if err != nil {
		return err
	}
	if from == e.LaneID {
		err := tx.Exec("UPDATE deliveries SET moved_to = NULL WHERE lane_id = ? AND state || '' = 'pending' AND "+byEvent, from, e.ID)
		if err != nil {
			return err
		}
		return shift(tx, from, 0, now)
	}
	flying := lane.inFlight(now)
	err = tx.Exec("UPDATE deliveries SET moved_to = ? WHERE id = ? AND event_id + 0 = ? AND lane_id = ? AND state || '' = 'pending'",
		e.LaneID, flying, e.ID, from)
	if err != nil {
		return err
	}
	return carry(tx, from, e.LaneID, now, byEvent+" AND id <> ?", e.ID, flying)
}

// carry puts pending deliveries of a lane, those that a condition names, into another lane.
func carry(tx *sqldb.Tx, from, to, now int64, where string, args ...any) error {
	done, err := tx.ExecCount("UPDATE deliveries SET lane_id = ?, moved_to = NULL WHERE lane_id = ? AND state || '' = 'pending' AND "+where,
		append([]any{to, from}, args...)...)
	if err != nil || done == 0 {
		return err
	}
	if err := shift(tx, from, -int(done), now); err != nil {
		return err
	}
	return shift(tx, to, int(done), now)
}
