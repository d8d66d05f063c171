package store

import (
	"github.com/agentevents/agentevents/gen"
	"github.com/agentevents/agentevents/store/internal/sqldb"
	"github.com/agentevents/agentevents/webhook"
)

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
	URL        string            `json:"-"`
	Method     gen.RequestMethod `json:"-"`
	Signature  string            `json:"signature"`

	Traceparent string `json:"traceparent"` // as it was sent
}

func (attemptRow) TableName() string { return "attempts" }

var attemptsSQL = "SELECT " + sqldb.Columns[attemptRow]() + " FROM attempts WHERE "

func (r attemptRow) model() gen.Attempt {
	return gen.Attempt{
		Number: r.Number, StartedAt: wire(r.StartedAt), DurationMs: float64(r.Duration) / 1000, Status: r.Status,
		Verdict: r.Verdict, Error: r.Error, Answer: r.Excerpt, Method: r.Method, URL: r.URL,
		Traceparent: r.Traceparent,
	}
}

// mostAttempts is how many attempts at a delivery are kept: a receiver may ask for one each second.
const mostAttempts = 100

// attempt is the row of a result. How it was sent is what its delivery says.
func (r *result) attempt() attemptRow {
	o := r.outcome
	return attemptRow{
		DeliveryID: r.ID, Number: r.Attempt, StartedAt: o.StartedAt.UnixMilli(), Duration: o.Duration.Microseconds(), Status: o.Status,
		Error: o.Error, Excerpt: o.Excerpt, Verdict: string(o.Verdict), Signature: o.Signature, Traceparent: r.Traceparent,
	}
}

// recordAttempt notes how it was sent only where that is not what its delivery says by now. What is kept no longer is
// removed, as far as there can be any.
func recordAttempt(tx *sqldb.Tx, d webhook.Delivery, o webhook.Outcome) error {
	id, err := sqldb.Value[int64](tx, "INSERT INTO attempts (delivery_id, number, started_at, duration, status, error, excerpt, verdict, "+
		"signature, traceparent, url, method) SELECT id, ?, ?, ?, ?, ?, ?, ?, ?, ?, CASE WHEN url = ? AND method = ? THEN '' ELSE ? END, "+
		"CASE WHEN url = ? AND method = ? THEN '' ELSE ? END FROM deliveries WHERE id = ? RETURNING id", d.Attempt, o.StartedAt.UnixMilli(), o.Duration.Microseconds(), o.Status, o.Error, o.Excerpt, o.Verdict, o.Signature, d.Traceparent, d.URL, d.Method, d.URL, d.URL, d.Method, d.Method, d.ID)
	if err == nil {
		// One that comes too late may be recorded beside one of who has the lane by now.
		err = tx.Exec("UPDATE deliveries SET last_attempt = ? WHERE id = ? AND coalesce(last_attempt, 0) < ?", id, d.ID, id)
	}
	if err != nil || d.Attempt <= mostAttempts && !d.Replay {
		return err
	}
	return tx.Exec("DELETE FROM attempts WHERE id IN (SELECT id FROM attempts WHERE delivery_id = ? ORDER BY id DESC "+
		"LIMIT ? OFFSET ?)", d.ID, mostAttempts, mostAttempts)
}

// recorded says whether an attempt is recorded already, by a commit whose answer was lost.
func recorded(tx *sqldb.Tx, d webhook.Delivery) (bool, error) {
	n, err := sqldb.Value[int](tx, "SELECT count(*) FROM deliveries WHERE id = ? AND replays = ? AND attempts >= ?", d.ID, d.Replays, d.Attempt)
	return n > 0, err
}
