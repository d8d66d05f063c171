package benchfill

import (
	"context"
	"database/sql"
	"errors"
	"time"
)

// CountRows returns the number of deliveries and status changes in a store, by its URL. A server may have it open.
func CountRows(ctx context.Context, url string) (deliveries, changes int, err error) {
	db, _, err := connect(url, reading)
	if err != nil {
		return 0, 0, err
	}
	defer func() { err = errors.Join(err, db.Close()) }()
	err = db.QueryRowContext(ctx, "SELECT (SELECT count(*) FROM deliveries), (SELECT count(*) FROM status_changes)").
		Scan(&deliveries, &changes)
	return deliveries, changes, err
}

// ChangeIDs returns the ids of all status changes in a store, in order.
func ChangeIDs(ctx context.Context, db *sql.DB) (ids []int64, err error) {
	err = eachRow(ctx, db, "SELECT id FROM status_changes ORDER BY id", func(rows *sql.Rows) error {
		var id int64
		err := rows.Scan(&id)
		ids = append(ids, id)
		return err
	})
	return ids, err
}

// Attempt is an attempt at a delivery.
type Attempt struct {
	WebhookID string
	Number    int // from 1 on
}

// Exchange is the URL and the period of an attempt.
type Exchange struct {
	URL      string
	From, To time.Time
}

// TimedOut returns the attempts without a complete answer in time. They include attempts that sent nothing, because the
// server was suspended.
func TimedOut(ctx context.Context, db *sql.DB) (map[Attempt]Exchange, error) {
	all := map[Attempt]Exchange{}
	err := eachRow(ctx, db, "SELECT d.webhook_id, a.number, v.url, "+
		"a.started_at, a.duration FROM attempts a JOIN deliveries d ON d.id = a.delivery_id "+
		"JOIN event_versions v ON v.id = a.version_id WHERE a.status = 0 AND "+
		"(a.error LIKE 'there was no complete answer within %' OR a.error LIKE 'the server was suspended %')",
		func(rows *sql.Rows) error {
			var a Attempt
			var x Exchange
			var milliseconds, microseconds int64
			err := rows.Scan(&a.WebhookID, &a.Number, &x.URL, &milliseconds, &microseconds)
			x.From = time.UnixMilli(milliseconds)
			x.To = x.From.Add(time.Duration(microseconds) * time.Microsecond)
			all[a] = x
			return err
		})
	return all, err
}

// DamageLane makes a lane inconsistent: it counts one delivery too many, and is never due.
func DamageLane(ctx context.Context, db *sql.DB) error {
	_, err := db.ExecContext(ctx, "UPDATE lanes SET pending = pending + 1, due_at = NULL WHERE id = "+
		"(SELECT id FROM lanes ORDER BY pending DESC, id LIMIT 1)")
	return err
}

// eachRow calls a function for each row of a query.
func eachRow(ctx context.Context, db *sql.DB, query string, scan func(*sql.Rows) error) error {
	rows, err := db.QueryContext(ctx, query)
	if err != nil {
		return err
	}
	defer rows.Close()
	for rows.Next() {
		if err := scan(rows); err != nil {
			return err
		}
	}
	return rows.Err()
}
