package benchfill

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"strconv"
	"strings"
	"time"

	_ "github.com/jackc/pgx/v5/stdlib" // the driver of PostgreSQL
	_ "github.com/mattn/go-sqlite3"    // the driver of SQLite

	"github.com/agentevents/agentevents/store"
	"github.com/agentevents/agentevents/webhook"
)

const (
	agentsPerClient = 1000
	changesPerAgent = 100 // of an agent with changes; the last one logs it out
	rowsPerCommit   = 20_000
	history         = 20 * 24 * time.Hour // the period of the changes
)

// Size is the number of rows in a store.
type Size struct {
	Agents     int // 1,000 per client; each client has one receiver
	Events     int // the first Events/2 agents have an event for their login and one for their logout
	Deliveries int // and of changes: 100 for each of the first Deliveries/100 agents
}

// Clients is the number of clients. Their ids are those of Client.
func (s Size) Clients() int { return max(s.Agents/agentsPerClient, 1) }

// Pairs is the number of agents with events.
func (s Size) Pairs() int { return s.Events / 2 }

// Busy is the number of agents with changes and deliveries.
func (s Size) Busy() int { return s.Deliveries / changesPerAgent }

// Client returns the id of the n-th client, from 0.
func Client(n int) string { return strconv.Itoa(firstClient + n) }

const firstClient = 100_000

// Agent returns the n-th agent, from 0: the ids of its client, of itself, and of its events for login and logout. The
// clients take turns.
func (s Size) Agent(n int) (client string, agent, login, logout int64) {
	return Client(n % s.Clients()), int64(n/s.Clients()) + 1, int64(2*n) + 1, int64(2*n) + 2
}

func (s Size) check() error {
	if s.Agents <= 0 || s.Pairs() > s.Agents || s.Busy() > s.Pairs() || s.Busy() == 0 {
		return fmt.Errorf("%d agents cannot have %d events and %d deliveries: an agent must have at most 2 events, "+
			"and an agent with events at most %d deliveries", s.Agents, s.Events, s.Deliveries, changesPerAgent)
	}
	return nil
}

// Fill fills an empty store, by the URL of its database. An SQLite file need not exist yet.
//
// The store then has a history of 20 days until a time, in which the busy agents took turns. No delivery is pending,
// and every tenth has failed at its only attempt. Fill reports its progress in deliveries. After an error, the store
// must not be used.
func Fill(ctx context.Context, url string, size Size, until time.Time, progress func(done, of int)) (err error) {
	if err := size.check(); err != nil {
		return err
	}
	if err := migrate(ctx, url); err != nil {
		return err
	}
	db, postgres, err := connect(url, filling)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, db.Close()) }()
	var restoring []string
	if postgres {
		if restoring, err = dropSlow(ctx, db); err != nil {
			return err
		}
	}
	f := filler{ctx: ctx, db: db, numbers: size.numbers(until), progress: progress}
	if err := f.all(size); err != nil {
		return err
	}
	return run(ctx, db, append(restoring, finishing(postgres)...))
}

// migrate creates the tables.
func migrate(ctx context.Context, url string) error {
	s, err := store.Open(ctx, store.Options{URL: url})
	if err != nil {
		return err
	}
	return s.Close()
}

// numbers returns a replacer of the names in the statements by their values.
func (s Size) numbers(until time.Time) *strings.Replacer {
	n := strconv.Itoa
	return strings.NewReplacer(
		":clients", n(s.Clients()), ":agents", n(s.Agents), ":pairs", n(s.Pairs()), ":busy", n(s.Busy()),
		":deliveries", n(s.Busy()*changesPerAgent), ":first", n(firstClient), ":secret", webhook.NewSecret(),
		":begin", n(int(until.Add(-history).UnixMilli())), ":span", n(int(history.Milliseconds())),
	)
}

// filler fills a store.
type filler struct {
	ctx      context.Context
	db       *sql.DB
	numbers  *strings.Replacer
	progress func(done, of int)
}

func (f filler) all(size Size) error {
	for _, t := range []struct {
		rows int
		sql  string
	}{
		{size.Clients(), clientsSQL},
		{size.Clients(), secretsSQL},
		{size.Clients(), receiversSQL},
		{size.Agents, agentsSQL},
		{size.Pairs(), lanesSQL},
		{2 * size.Pairs(), eventsSQL},
		{2 * size.Pairs(), versionsSQL},
	} {
		if err := f.rows(t.rows, func(int) {}, t.sql); err != nil {
			return err
		}
	}
	n := size.Busy() * changesPerAgent
	return f.rows(n, func(done int) { f.progress(done, n) }, changesSQL, deliveriesSQL, attemptsSQL)
}

// rows makes each statement insert n rows, a few of every table in a commit, so that the file has the order of a real
// history.
func (f filler) rows(n int, progress func(done int), statements ...string) error {
	for from := 0; from < n; from += rowsPerCommit {
		to := min(from+rowsPerCommit, n)
		if err := f.part(from, to, statements); err != nil {
			return err
		}
		progress(to)
	}
	return nil
}

func (f filler) part(from, to int, statements []string) error {
	tx, err := f.db.BeginTx(f.ctx, nil)
	if err != nil {
		return err
	}
	for _, s := range statements {
		if _, err := tx.ExecContext(f.ctx, fmt.Sprintf(countSQL, from, to-1)+f.numbers.Replace(s)); err != nil {
			return errors.Join(fmt.Errorf("fill: %w", err), tx.Rollback())
		}
	}
	return tx.Commit()
}
