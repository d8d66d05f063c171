package benchfill

import (
	"context"
	"database/sql"
	"errors"
)

// CountRows returns how many deliveries and status changes a store keeps. A server may have it open.
func CountRows(ctx context.Context, url string) (deliveries, changes int, err error) {
	err = query(ctx, url, func(rows *sql.Rows) error { return rows.Scan(&deliveries, &changes) },
		"SELECT (SELECT count(*) FROM deliveries), (SELECT count(*) FROM status_changes)")
	return deliveries, changes, err
}

// query calls a function for each row of an answer.
func query(ctx context.Context, url string, scan func(*sql.Rows) error, statement string, values ...any) (err error) {
	db, _, err := connect(url, reading)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, db.Close()) }()
	rows, err := db.QueryContext(ctx, statement, values...)
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
