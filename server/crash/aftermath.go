package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"

	"github.com/jackc/pgx/v5"
)

// ask asks the database, on no replica's way.
func (f *fleet) ask(ctx context.Context, what func(*pgx.Conn) error) error {
	conn, err := pgx.Connect(ctx, f.url)
	if err != nil {
		return err
	}
	defer conn.Close(context.WithoutCancel(ctx))
	return what(conn)
}

// compareFeeds holds what followers saw against what is stored.
func (f *fleet) compareFeeds(ctx context.Context) error {
	var stored []int64
	err := f.ask(ctx, func(conn *pgx.Conn) error {
		rows, err := conn.Query(ctx, "SELECT id FROM status_changes WHERE client_id = $1 ORDER BY id", pbxClient)
		if err == nil {
			stored, err = pgx.CollectRows(rows, pgx.RowTo[int64])
		}
		return err
	})
	for _, w := range f.followers {
		w.compare(stored)
	}
	return err
}

// findTimeouts notes which attempts have failed since no answer came in time: receivers answer at once, or almost, but
// everything is on one machine.
func (f *fleet) findTimeouts(ctx context.Context) error {
	return f.ask(ctx, func(conn *pgx.Conn) error {
		rows, err := conn.Query(ctx, "SELECT d.webhook_id, a.number FROM attempts a JOIN deliveries d ON d.id = a.delivery_id "+
			"WHERE a.status = 0 AND a.error LIKE 'there was no complete answer within %'")
		if err != nil {
			return err
		}
		attempts, err := pgx.CollectRows(rows, pgx.RowToStructByPos[attempt])
		f.book.timedOut(attempts)
		return err
	})
}

// leaveLogs writes what has happened to where the store is left.
func (f *fleet) leaveLogs() error {
	err := os.WriteFile(filepath.Join(f.dir, "troubles.log"), []byte(f.book.story()+f.book.times.story()), 0o600)
	for _, r := range f.replicas {
		for i, log := range r.logs {
			name := filepath.Join(f.dir, fmt.Sprintf("replica-%d-%d.log", r.number, i+1))
			err = errors.Join(err, os.WriteFile(name, []byte(log.String()), 0o600))
		}
	}
	return err
}

// rows tell what a run came to.
func (f *fleet) rows(t total) []row {
	rows := []row{{"replicas", len(f.replicas)}}
	for b, n := range f.book.struck() {
		rows = append(rows, row{blow(b).String(), n})
	}
	rows = append(append(append(rows, t.rows()...), t.outageRows()...),
		row{"requests answered 503", t.refused},
		row{"changes that each follower of the feed saw", f.followers[0].saw()},
		row{"attempts that timed out", len(f.book.timeouts)},
		row{"duplicates, each over a trouble or a timeout", t.duplicates})
	return append(rows, t.last(lost, disorder, needless, mismatched, overdue, complaint)...)
}
