package store

import (
	"context"
	"crypto/rand"
	"time"

	"gorm.io/gorm"

	"github.com/agentevents/agentevents/gen"
	"github.com/agentevents/agentevents/store/internal/sqldb"
	"github.com/agentevents/agentevents/webhook"
)

// maxTestDeliveries is the number of test deliveries of an event that are kept.
const maxTestDeliveries = 100

// TestDelivery is a test delivery of an event, with its only attempt. It is in no lane.
type TestDelivery struct {
	ID      int64
	Sent    webhook.Delivery
	Attempt webhook.Attempt
}

type testDeliveryRow struct {
	ID        int64 `gorm:"primaryKey"`
	EventID   int64
	WebhookID string
	URL       string
	Method    gen.RequestMethod
	EventType gen.EventType
	Kind      gen.AgentType
	StartedAt int64
	Duration  int64
	Status    int
	Error     string
	Excerpt   string
	Verdict   string
	Signature string

	Traceparent string // of the request
}

func (testDeliveryRow) TableName() string { return "samples" }

// NewTestDelivery returns the content of a test delivery of an event.
func (s *Store) NewTestDelivery(ctx context.Context, k AgentKey, event int64) (d webhook.Delivery, err error) {
	err = s.snapshot(ctx, func(tx *sqldb.ReadTx) error {
		e, err := findEvent(tx, k, event)
		if err != nil {
			return err
		}
		secret, err := s.readSecrets(tx, k.Client)
		d = testDelivery(testDeliveryRow{
			WebhookID: "msg_" + rand.Text(), URL: e.URL, Method: e.Method, EventType: e.EventType, Kind: k.Type,
			StartedAt: s.now(),
		})
		d.Secrets = secret.secrets(s.now())
		return err
	})
	return d, err
}

// testDelivery returns the delivery of a row, without its id and secrets.
func testDelivery(r testDeliveryRow) webhook.Delivery {
	h := headRow{Kind: r.Kind, Name: "test", EventSource: gen.EventSourceAPI, NewStatus: gen.AgentStatusValueAvailable}
	if r.EventType == gen.EventTypeAgentLogout {
		h.NewStatus = gen.AgentStatusValueLoggedOut
	}
	return webhook.Delivery{
		WebhookID: r.WebhookID, URL: r.URL, Method: r.Method, EventType: r.EventType, ChangedAt: millis(r.StartedAt),
		CreatedAt: millis(r.StartedAt), Attempt: 1, Test: true, Data: h.data(),
		Traceparent: r.Traceparent,
	}
}

// SaveTestDelivery stores a test delivery of an event, and deletes the oldest ones. A delivered one is a success of its
// receiver.
func (s *Store) SaveTestDelivery(
	ctx context.Context, event int64, kind gen.AgentType, d webhook.Delivery, a webhook.Attempt,
) (TestDelivery, error) {
	r := testDeliveryRow{
		EventID: event, WebhookID: d.WebhookID, URL: d.URL, Method: d.Method, EventType: d.EventType, Kind: kind,
		StartedAt: a.StartedAt.UnixMilli(), Duration: a.Duration.Microseconds(), Status: a.Status, Error: a.Error,
		Excerpt: a.Excerpt, Verdict: string(a.Verdict), Signature: a.Signature,
		Traceparent: d.Traceparent,
	}
	err := s.write(ctx, func(tx *sqldb.Tx) error {
		if err := gorm.G[testDeliveryRow](tx.GORM()).Create(tx.Context(), &r); err != nil {
			return err
		}
		err := deleteOldTestDeliveries(tx, event)
		if err == nil && a.Verdict == webhook.Delivered {
			err = s.noteTestSuccess(tx, event, d.URL)
		}
		return err
	})
	s.wake()
	return TestDelivery{ID: r.ID, Sent: d, Attempt: a}, err
}

// deleteOldTestDeliveries deletes all test deliveries of an event except the newest.
func deleteOldTestDeliveries(tx *sqldb.Tx, event int64) error {
	return tx.Exec("DELETE FROM samples WHERE event_id = ? AND id <= (SELECT id FROM samples WHERE event_id = ? "+
		"ORDER BY id DESC LIMIT 1 OFFSET ?)", event, event, maxTestDeliveries)
}

// noteTestSuccess records a delivered test delivery as a success of the event's receiver, unless the event has another
// URL by now.
func (s *Store) noteTestSuccess(tx *sqldb.Tx, event int64, sentTo string) error {
	r, is, err := sqldb.Get[receiverRow](tx,
		"SELECT "+sqldb.Columns[receiverRow]()+" FROM receivers WHERE id = (SELECT l.receiver_id "+
			"FROM agent_events e JOIN lanes l ON l.id = e.lane_id WHERE e.id = ? AND e.url = ?)"+tx.ForUpdate(true),
		event, sentTo)
	after := r.afterSuccess(s.now())
	if err != nil || !is || after.equal(r) {
		return err
	}
	if err := s.logBreaker(tx, r, after, webhook.Attempt{}); err != nil {
		return err
	}
	return after.save(tx)
}

// TestDeliveries lists the test deliveries of an event that are kept, the newest first.
func (s *Store) TestDeliveries(ctx context.Context, k AgentKey, event int64) (m []TestDelivery, err error) {
	err = s.snapshot(ctx, func(tx *sqldb.ReadTx) error {
		if _, err := findEvent(tx, k, event); err != nil {
			return err
		}
		rows, err := gorm.G[testDeliveryRow](tx.GORM()).Where("event_id = ?", event).Order("id DESC").Limit(
			maxTestDeliveries,
		).Find(ctx)
		m = each(rows, testDeliveryRow.model)
		return err
	})
	return m, err
}

func (r testDeliveryRow) model() TestDelivery {
	return TestDelivery{ID: r.ID, Sent: testDelivery(r), Attempt: webhook.Attempt{
		StartedAt: millis(r.StartedAt), Duration: time.Duration(r.Duration) * time.Microsecond, Status: r.Status,
		Error: r.Error, Excerpt: r.Excerpt, Verdict: webhook.Verdict(r.Verdict), Signature: r.Signature,
	}}
}
