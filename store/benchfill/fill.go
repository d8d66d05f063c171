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
	_ "github.com/mattn/go-sqlite3"    // and that of SQLite

	"github.com/agentevents/agentevents/store"
	"github.com/agentevents/agentevents/webhook"
)

const (
	perClient = 1000   // agents
	turns     = 100    // changes of an agent that has any, the last of which logs it out
	together  = 20_000 // rows of a table that one commit has
	span      = 20 * 24 * time.Hour
)

// Size is how much of everything a store has.
type Size struct {
	Agents     int // by a thousand for each client, which has one receiver
	Events     int // every agent has one for its login and one for its logout as long as there are some
	Deliveries int // and so many changes, by a hundred for each of the first agents
}

// Clients is how many clients there are. Their ids are those of Client.
func (s Size) Clients() int { return max(s.Agents/perClient, 1) }

// Pairs is how many agents have events.
func (s Size) Pairs() int { return s.Events / 2 }

// Busy is how many agents have changes and deliveries.
func (s Size) Busy() int { return s.Deliveries / turns }

// Client is the id of a client, by its number from 0.
func Client(n int) string { return strconv.Itoa(firstClient + n) }

const firstClient = 100_000

// Agent is an agent by its number from 0, which go round the clients: the id of its client, its own, and those of its
// events for its login and its logout.
func (s Size) Agent(n int) (client string, agent, login, logout int64) {
	return Client(n % s.Clients()), int64(n/s.Clients()) + 1, int64(2*n) + 1, int64(2*n) + 2
}

func (s Size) check() error {
	if s.Agents <= 0 || s.Pairs() > s.Agents || s.Busy() > s.Pairs() || s.Busy() == 0 {
		return fmt.Errorf("there cannot be %d agents with %d events and %d deliveries: at most 2 events are of an agent, "+
			"and %d deliveries of one with events", s.Agents, s.Events, s.Deliveries, turns)
	}
	return nil
}

// Fill fills a store that is empty, by the URL of its database, which on SQLite need not be there. What it holds then is
// what 20 days until a time have left, in which all agents with changes took turns: nothing is pending, each tenth
// delivery has failed at its one attempt. The progress is told in deliveries. After an error the store is of no use.
func Fill(ctx context.Context, url string, size Size, until time.Time, progress func(done, of int)) (err error) {
	if err := size.check(); err != nil {
		return err
	}
	s, err := store.Open(ctx, store.Options{URL: url}) // which makes its schema
	if err == nil {
		err = s.Close()
	}
	if err != nil {
		return err
	}
	db, postgres, err := connect(url)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, db.Close()) }()
	var back []string
	if postgres {
		back, err = aside(ctx, db)
	}
	if err == nil {
		f := filling{ctx: ctx, db: db, numbers: size.numbers(until), progress: progress}
		err = f.all(size)
	}
	if err == nil {
		err = run(ctx, db, append(back, settled(postgres)...))
	}
	return err
}

// numbers are what the statements have names for.
func (s Size) numbers(until time.Time) *strings.Replacer {
	n := strconv.Itoa
	return strings.NewReplacer(
		":clients", n(s.Clients()), ":agents", n(s.Agents), ":pairs", n(s.Pairs()), ":busy", n(s.Busy()),
		":deliveries", n(s.Busy()*turns), ":first", n(firstClient), ":secret", webhook.NewSecret(),
		":begin", n(int(until.Add(-span).UnixMilli())), ":span", n(int(span.Milliseconds())),
	)
}

// filling is a store that is being filled.
type filling struct {
	ctx      context.Context
	db       *sql.DB
	numbers  *strings.Replacer
	progress func(done, of int)
}

func (f filling) all(size Size) error {
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
	} {
		if err := f.rows(t.rows, func(int) {}, t.sql); err != nil {
			return err
		}
	}
	n := size.Busy() * turns
	return f.rows(n, func(done int) { f.progress(done, n) }, changesSQL, deliveriesSQL, attemptsSQL)
}

// rows has statements insert so many rows each, few in a commit, as time would have done.
func (f filling) rows(n int, progress func(done int), statements ...string) error {
	for from := 0; from < n; from += together {
		to := min(from+together, n)
		if err := f.part(from, to, statements); err != nil {
			return err
		}
		progress(to)
	}
	return nil
}

func (f filling) part(from, to int, statements []string) error {
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
