package main

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"strings"

	_ "github.com/jackc/pgx/v5/stdlib" // the driver pgx
	_ "github.com/mattn/go-sqlite3"    // the driver sqlite3
)

// maxBatch is how many entries of a ledger share a commit at most.
const maxBatch = 256

const ledgerTable = "CREATE TABLE ledger (sequence INTEGER PRIMARY KEY, client TEXT NOT NULL, agent BIGINT NOT NULL, " +
	"status TEXT NOT NULL, sent INTEGER NOT NULL DEFAULT 0)"

// ledger is the least that keeps what a relay has taken: a row per form, with one column that says whether it was sent,
// and no index. Entries that wait at the same time share a commit.
type ledger struct {
	db    *sql.DB
	queue chan entry
}

// entry is a form that was taken or, without a channel, one that was sent.
type entry struct {
	change
	durable chan error
}

// openLedger makes a ledger in an empty database.
func openLedger(url string) (*ledger, error) {
	driver, name := "pgx", url+"&default_query_exec_mode=simple_protocol" // which takes several statements at once
	if file, isFile := strings.CutPrefix(url, "sqlite:"); isFile {
		driver, name = "sqlite3", "file:"+file+"?_journal_mode=WAL&_synchronous=FULL"
	}
	db, err := sql.Open(driver, name)
	if err != nil {
		return nil, err
	}
	db.SetMaxOpenConns(1)
	if _, err := db.ExecContext(context.Background(), ledgerTable); err != nil {
		return nil, errors.Join(err, db.Close())
	}
	l := &ledger{db: db, queue: make(chan entry, relayWorkers*relayQueue)}
	go l.run()
	return l, nil
}

// take returns when a form is durable. Without a ledger it does nothing.
func (l *ledger) take(c change) error {
	if l == nil {
		return nil
	}
	durable := make(chan error, 1)
	l.queue <- entry{c, durable}
	return <-durable
}

// sent notes that a form was sent, and does not wait until that is durable.
func (l *ledger) sent(c change) {
	if l != nil {
		l.queue <- entry{change: c}
	}
}

// run commits what waits, batch by batch.
func (l *ledger) run() {
	for e := range l.queue {
		batch := []entry{e}
		for n := min(len(l.queue), maxBatch-1); n > 0; n-- {
			batch = append(batch, <-l.queue)
		}
		_, err := l.db.ExecContext(context.Background(), batchSQL(batch))
		for _, e := range batch {
			if e.durable != nil {
				e.durable <- err
			}
		}
	}
}

// batchSQL writes a batch in one transaction.
func batchSQL(batch []entry) string {
	var taken, sent []string
	for _, e := range batch {
		if e.durable == nil {
			sent = append(sent, fmt.Sprint(e.sequence))
		} else {
			taken = append(taken, fmt.Sprintf("(%d, '%s', %d, '%s')", e.sequence, e.client, e.id, e.status))
		}
	}
	text := "BEGIN;"
	if len(taken) > 0 {
		text += "INSERT INTO ledger (sequence, client, agent, status) VALUES " + strings.Join(taken, ", ") + ";"
	}
	if len(sent) > 0 {
		text += "UPDATE ledger SET sent = 1 WHERE sequence IN (" + strings.Join(sent, ", ") + ");"
	}
	return text + "COMMIT"
}
