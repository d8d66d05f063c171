package main

import (
	"context"
	"database/sql"
	"fmt"
	"strings"

	"github.com/jackc/pgx/v5"
	_ "github.com/mattn/go-sqlite3" // the driver sqlite3
)

// mostEntries is how many entries of a ledger share a commit.
const mostEntries = 256

// ledger is the least that keeps what a relay has taken: a row for each form, which has one column that says whether it
// was sent, and no index. What is written at the same time shares a commit.
type ledger struct {
	write func([]entry) error
	queue chan entry
}

// entry is a form that was taken or, with nobody who waits for it, one that was sent.
type entry struct {
	told
	durable chan error
}

// openLedger makes a ledger in an empty database.
func openLedger(url string) (l *ledger, err error) {
	l = &ledger{queue: make(chan entry, relayWorkers*relayQueue)}
	if file, is := strings.CutPrefix(url, "sqlite:"); is {
		l.write, err = sqliteLedger(file)
	} else {
		l.write, err = postgresLedger(url)
	}
	go l.run()
	return l, err
}

// take returns when a form is durable.
func (l *ledger) take(t told) error {
	if l == nil {
		return nil
	}
	durable := make(chan error, 1)
	l.queue <- entry{t, durable}
	return <-durable
}

// sent notes that a form was sent, some time.
func (l *ledger) sent(t told) {
	if l != nil {
		l.queue <- entry{told: t}
	}
}

func (l *ledger) run() {
	for e := range l.queue {
		batch := []entry{e}
		for n := min(len(l.queue), mostEntries-1); n > 0; n-- {
			batch = append(batch, <-l.queue)
		}
		err := l.write(batch)
		for _, e := range batch {
			if e.durable != nil {
				e.durable <- err
			}
		}
	}
}

const (
	ledgerTable = "CREATE TABLE ledger (sequence %s PRIMARY KEY, client TEXT NOT NULL, agent BIGINT NOT NULL, " +
		"status TEXT NOT NULL, sent INTEGER NOT NULL DEFAULT 0)"
	ledgerTaken = "INSERT INTO ledger (sequence, client, agent, status) VALUES ($1, $2, $3, $4)"
	ledgerSent  = "UPDATE ledger SET sent = 1 WHERE sequence = $1"
)

func sqliteLedger(file string) (write func([]entry) error, err error) {
	ctx := context.Background()
	db, err := sql.Open("sqlite3", "file:"+file+"?_journal_mode=WAL&_synchronous=FULL&_stmt_cache_size=2")
	if err != nil {
		return nil, err
	}
	db.SetMaxOpenConns(1)
	_, err = db.ExecContext(ctx, fmt.Sprintf(ledgerTable, "INTEGER"))
	if err != nil {
		return nil, err
	}
	return func(batch []entry) error {
		tx, err := db.BeginTx(ctx, nil)
		for i := 0; err == nil && i < len(batch); i++ {
			statement, values := batch[i].statement()
			_, err = tx.ExecContext(ctx, statement, values...)
		}
		if err == nil {
			err = tx.Commit()
		}
		return err
	}, nil
}

// statement is what an entry is written by.
func (e entry) statement() (string, []any) {
	if e.durable == nil {
		return ledgerSent, []any{e.sequence}
	}
	return ledgerTaken, []any{e.sequence, e.client, e.agent, string(e.status)}
}

func postgresLedger(url string) (write func([]entry) error, err error) {
	ctx := context.Background()
	conn, err := pgx.Connect(ctx, url)
	if err != nil {
		return nil, err
	}
	_, err = conn.Exec(ctx, fmt.Sprintf(ledgerTable, "BIGINT"))
	return func(batch []entry) error {
		var b pgx.Batch
		for _, e := range batch {
			statement, values := e.statement()
			b.Queue(statement, values...)
		}
		return conn.SendBatch(ctx, &b).Close()
	}, err
}
