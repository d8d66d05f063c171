package store

import (
	"cmp"
	"context"
	"fmt"
	"time"

	"github.com/agentevents/agentevents/gen"
	"github.com/agentevents/agentevents/store/internal/sqldb"
	"github.com/agentevents/agentevents/webhook"
)

// versionSQL selects the URL and the method of a delivery d.
const versionSQL = "(SELECT v.url FROM event_versions v WHERE v.id = d.version_id) AS url, " +
	"(SELECT v.method FROM event_versions v WHERE v.id = d.version_id) AS method"

// deliveriesSQL selects deliveries as the log shows them; a FROM clause follows.
const deliveriesSQL = "SELECT d.id, d.webhook_id, d.change_id, d.event_id, d.lane_id, " + versionSQL + ", d.state, " +
	"d.attempts, d.due_at, d.expires_at, d.created_at, d.finished_at, d.replays, d.agent_id, d.kind, " +
	"d.new_status, d.changed_at, d.last_attempt, d.version_id "

// model returns a delivery as the log shows it, with its last attempt.
func (r deliveryRow) model(last *attemptRow) gen.Delivery {
	d := gen.Delivery{
		ID: r.ID, State: gen.DeliveryState(r.State), AgentType: r.Kind, AgentID: r.AgentID, EventID: r.EventID,
		EventType: eventType(r.NewStatus), Sequence: r.ChangeID, WebhookID: r.WebhookID, Method: r.Method, URL: r.URL,
		Attempts: r.Attempts, Replays: r.Replays, CreatedAt: apiTime(r.CreatedAt), ChangedAt: apiTime(r.ChangedAt),
		ExpiresAt: apiTime(r.ExpiresAt), FinishedAt: apiTimeOrNil(r.FinishedAt),
	}
	if r.State == statePending {
		d.NextAttemptAt = apiTimeOrNil(&r.DueAt)
	}
	if last != nil {
		a := last.model()
		d.LastAttempt = &a
	}
	d.Reason = r.reason(last)
	return d
}

// The reasons of an end that the last attempt does not explain.
const (
	eventDeleted   = "its event was deleted"
	neverSent      = "its window ended before its first attempt"
	neverConfirmed = "its window ended before an attempt succeeded"
)

// reason returns the reason why a delivery ended. It is empty if the last attempt explains it, or if it has not ended.
func (r deliveryRow) reason(last *attemptRow) string {
	switch {
	case r.State == stateCancelled:
		return eventDeleted
	case r.State == stateFailed && r.Attempts == 0:
		return neverSent
	case r.State == stateFailed && last != nil && webhook.Verdict(last.Verdict) == webhook.Retry:
		return neverConfirmed
	}
	return ""
}

// apiTime converts the time of a row for the API.
func apiTime(ms int64) gen.Time { return gen.Time{Time: millis(ms)} }

func apiTimeOrNil(ms *int64) *gen.Time {
	if ms == nil {
		return nil
	}
	t := apiTime(*ms)
	return &t
}

// Deliveries lists a client's deliveries, the newest first. The list has the deliveries before an id (0 means all), at
// most limit of them.
func (s *Store) Deliveries(
	ctx context.Context, client string, f DeliveryFilter, before int64, limit int,
) ([]gen.Delivery, error) {
	tx := s.read(ctx)
	owner, err := findClient(tx, client)
	if err != nil {
		return nil, err
	}
	c, err := f.condition(tx, client)
	if err != nil {
		return nil, publicError(err)
	}
	c.after = max(c.after, owner.DeliveriesBefore)
	if before > 0 {
		c.before = min(c.before, before)
	}
	found, args := c.fromWhere()
	rows, err := readDeliveries(tx, found+c.order(" DESC")+sqldb.Limit, append(args, limit)...)
	return rows, publicError(err)
}

// readDeliveries reads deliveries with their last attempts.
func readDeliveries(q sqldb.Querier, found string, args ...any) ([]gen.Delivery, error) {
	rows, err := sqldb.Select[deliveryRow](q, deliveriesSQL+found, args...)
	if err != nil {
		return nil, err
	}
	ids := []int64{0}
	for _, r := range rows {
		if r.LastAttempt != nil {
			ids = append(ids, *r.LastAttempt)
		}
	}
	last, err := sqldb.Select[attemptRow](q, attemptsSQL+"a.id IN ?", sqldb.Padded(ids))
	of := map[int64]*attemptRow{}
	for i := range last {
		of[last[i].DeliveryID] = &last[i]
	}
	return each(rows, func(r deliveryRow) gen.Delivery { return r.model(of[r.ID]) }), err
}

// DeliveryLog is a delivery with its attempts, and the reason why it waits.
type DeliveryLog struct {
	gen.Delivery
	Attempts []gen.Attempt    // in the order in which they were made
	Waiting  *gen.Waiting     // nil if it has ended
	Sent     webhook.Delivery // the last content, or the content of the next attempt if it has not ended
	SentAt   time.Time        // zero if it has not ended
	Signed   string           // the signature of the last attempt; empty if it has not ended
}

// Delivery returns a client's delivery with its log.
func (s *Store) Delivery(ctx context.Context, client string, id int64) (l DeliveryLog, err error) {
	err = s.snapshot(ctx, func(tx *sqldb.Reader) error {
		l, err = s.deliveryLog(tx, client, id)
		return err
	})
	return l, err
}

func (s *Store) deliveryLog(q sqldb.Querier, client string, id int64) (l DeliveryLog, err error) {
	if l.Delivery, err = findDelivery(q, client, id); err != nil {
		return l, err
	}
	attempts, err := sqldb.Select[attemptRow](q, attemptsSQL+"a.delivery_id = ? ORDER BY a.id", id)
	if err != nil {
		return l, err
	}
	l.Attempts = each(attempts, attemptRow.model)
	h, _, err := sqldb.Get[headRow](q, sentSQL, id)
	if err != nil {
		return l, err
	}
	if h, err = h.decrypted(s); err != nil {
		return l, err
	}
	l.Sent = h.delivery(time.Time{}, s.now())
	if n := len(attempts); l.FinishedAt != nil && n > 0 {
		l.setSent(attempts[n-1], h)
		return l, nil
	}
	if l.FinishedAt == nil {
		l.Waiting, err = s.waiting(q, id)
	}
	return l, err
}

// setSent sets Sent to the content of the last attempt: with the URL of the event at that time. It is marked as a
// redelivery only if an attempt followed the redelivery.
func (l *DeliveryLog) setSent(last attemptRow, h headRow) {
	l.Sent.URL, l.Sent.Method = cmp.Or(last.URL, h.URL), cmp.Or(last.Method, h.Method)
	l.Sent.Attempt, l.SentAt, l.Signed = last.Number, millis(last.StartedAt), last.Signature
	l.Sent.Traceparent = last.Traceparent
	l.Sent.Redelivery = h.Replays > 1 || h.Replays == 1 && h.Attempts > 0
}

// sentSQL is headSQL for any delivery, without the traceparent: each attempt has its own.
const sentSQL = "SELECT d.id, d.lane_id, d.event_id, d.webhook_id, v.url, v.method, d.attempts, d.due_at, " +
	"d.expires_at, d.change_id, d.replays, c.changed_at, c.agent_id, c.kind, c.name, c.new_status, " +
	"c.event_source, c.created_at, " +
	clientSecretsSQL +
	", (SELECT epoch FROM epochs) AS epoch FROM deliveries d JOIN status_changes c ON c.id = d.change_id " +
	"JOIN event_versions v ON v.id = d.version_id " +
	"JOIN lanes l ON l.id = d.lane_id JOIN receivers r ON r.id = l.receiver_id " +
	"JOIN secrets s ON s.client_id = r.client_id WHERE d.id = ?"

// findDelivery returns a client's delivery, or an error for the missing delivery or client.
func findDelivery(q sqldb.Querier, client string, id int64) (gen.Delivery, error) {
	c, err := findClient(q, client)
	if err != nil {
		return gen.Delivery{}, err
	}
	found, err := readDeliveries(q, "FROM deliveries d WHERE d.id = ? AND d.client_id = ? AND d.id > ?", id, client,
		c.DeliveriesBefore)
	switch {
	case err != nil:
		return gen.Delivery{}, err
	case len(found) == 1:
		return found[0], nil
	}
	return gen.Delivery{}, &Error{
		Kind: NotFound, Message: fmt.Sprintf("there is no delivery %d of client %s", id, client),
		Status: "delivery_not_found",
	}
}

// waitRow has everything that a delivery can wait for.
type waitRow struct {
	ID, DueAt, ExpiresAt int64
	Attempts, Failures   int
	State                string
	MovedTo              *int64
	LeaseUntil, InFlight *int64 // the lease of its lane
	Head, Moving         *int64 // the head of its lane; a delivery in flight elsewhere that moves into its lane
	Waits, PausedUntil   *int64 // the waits of its receiver
	Reason               *string
	Unswept, Blocked     bool // it, or a delivery that moves into its lane, must follow a change of the event first
}

const waitSQL = "SELECT d.id, d.state, d.due_at, d.expires_at, d.attempts, d.moved_to, l.lease_until, " +
	"l.delivery_id AS in_flight, r.waits, r.paused_until, r.failures, e.reason, " +
	"(SELECT h.id FROM deliveries h " +
	"WHERE h.lane_id = d.lane_id AND h.state = 'pending' ORDER BY h.change_id, h.id LIMIT 1) AS head, " +
	"(SELECT m.id FROM deliveries m WHERE m.moved_to = d.lane_id LIMIT 1) AS moving, " +
	unsweptSQL + " AS unswept, EXISTS (SELECT 1 FROM event_sweeps w WHERE w.lane_id = d.lane_id) AS blocked " +
	"FROM deliveries d JOIN lanes l ON l.id = d.lane_id JOIN receivers r ON r.id = l.receiver_id " +
	"LEFT JOIN agent_events e ON e.id = d.event_id WHERE d.id = ?"

// waiting returns the reason why an unfinished delivery is not in flight, or says that it is.
func (s *Store) waiting(q sqldb.Querier, id int64) (*gen.Waiting, error) {
	r, err := sqldb.Value[waitRow](q, waitSQL, id)
	if err != nil {
		return nil, err
	}
	w := r.waiting(s.now())
	return &w, nil
}

func (r waitRow) waiting(now int64) gen.Waiting {
	leased := r.LeaseUntil != nil && *r.LeaseUntil > now
	switch {
	case r.State == stateParked && r.Reason == nil:
		return gen.Waiting{
			Reason: "its event was disabled and is gone; it will fail", Until: apiTimeOrNil(&r.ExpiresAt),
		}
	case r.State == stateParked:
		return gen.Waiting{Reason: "its event is disabled: " + *r.Reason, Until: apiTimeOrNil(&r.ExpiresAt)}
	case leased && r.InFlight != nil && *r.InFlight == r.ID:
		return gen.Waiting{Reason: "it is under way"}
	case r.Unswept:
		return gen.Waiting{Reason: "its event has just been changed, and the deliveries follow in turn"}
	case r.Blocked:
		return gen.Waiting{
			Reason: "an event of this agent and receiver has just been changed, and its deliveries come here first",
		}
	case r.Moving != nil && *r.Moving != r.ID:
		return gen.Waiting{
			Reason: "one that was moved here is under way to where it was sent before", DeliveryID: *r.Moving,
		}
	case r.Head != nil && *r.Head != r.ID:
		return gen.Waiting{Reason: "an earlier one for the same agent and receiver goes first", DeliveryID: *r.Head}
	case leased && r.InFlight != nil:
		return gen.Waiting{Reason: "another one for the same agent and receiver is under way", DeliveryID: *r.InFlight}
	}
	return r.waitingFirst(now)
}

// waitingFirst returns the reason why the head of a lane waits.
func (r waitRow) waitingFirst(now int64) gen.Waiting {
	receiver := r.Waits != nil && *r.Waits > now && *r.Waits >= r.DueAt
	switch {
	case receiver && r.Failures >= webhook.BreakerThreshold && !equalInt64(r.Waits, r.PausedUntil):
		return gen.Waiting{
			Reason: "the receiver has failed too often in a row and is tried again then", Until: apiTimeOrNil(r.Waits),
		}
	case receiver:
		return gen.Waiting{Reason: "the receiver has asked for a pause (429)", Until: apiTimeOrNil(r.Waits)}
	case r.DueAt > now:
		return gen.Waiting{
			Reason: "the attempt before has failed, and the next one is due then", Until: apiTimeOrNil(&r.DueAt),
		}
	}
	return gen.Waiting{Reason: "it is due, and is sent as soon as there is room"}
}

// snapshot runs several queries at one moment of the database.
func (s *Store) snapshot(ctx context.Context, fn func(tx *sqldb.Reader) error) error {
	err := sqldb.Snapshot(ctx, s.reader, fn)
	s.downtimes.noteRead(ctx, err)
	return publicError(err)
}

type attemptRow struct {
	ID         int64             `gorm:"primaryKey" json:"id"`
	DeliveryID int64             `json:"delivery_id"`
	Number     int               `json:"number"`
	StartedAt  int64             `json:"started_at"`
	Duration   int64             `json:"duration"`
	Status     int               `json:"status"`
	Error      string            `json:"error"`
	Excerpt    string            `json:"excerpt"`
	Verdict    string            `json:"verdict"`
	VersionID  int64             `json:"version_id"`
	URL        string            `json:"-"` // of the version, if it is another than the delivery's; else empty
	Method     gen.RequestMethod `json:"-"` // likewise
	Signature  string            `json:"signature"`

	Traceparent string `json:"traceparent"` // of the request
}

func (attemptRow) TableName() string { return "attempts" }

// attemptsSQL selects attempts a; a condition follows.
const attemptsSQL = "SELECT a.id, a.delivery_id, a.number, a.started_at, a.duration, a.status, a.error, a.excerpt, " +
	"a.verdict, a.version_id, " +
	"CASE a.version_id WHEN d.version_id THEN '' " +
	"ELSE (SELECT v.url FROM event_versions v WHERE v.id = a.version_id) END AS url, " +
	"CASE a.version_id WHEN d.version_id THEN '' " +
	"ELSE (SELECT v.method FROM event_versions v WHERE v.id = a.version_id) END AS method, " +
	"a.signature, a.traceparent FROM attempts a JOIN deliveries d ON d.id = a.delivery_id WHERE "

func (r attemptRow) model() gen.Attempt {
	return gen.Attempt{
		Number: r.Number, StartedAt: apiTime(r.StartedAt), DurationMs: float64(r.Duration) / 1000, Status: r.Status,
		Verdict: r.Verdict, Error: r.Error, Answer: r.Excerpt, Method: r.Method, URL: r.URL,
		Traceparent: r.Traceparent,
	}
}
