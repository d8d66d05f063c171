package store

import (
	"context"
	"crypto/rand"
	"database/sql"
	"errors"
	"fmt"
	"strings"

	"github.com/jackc/pgx/v5"

	"github.com/agentevents/agentevents/store/internal/sqldb"

	"github.com/agentevents/agentevents/store/internal/postgres"
	"github.com/agentevents/agentevents/store/internal/schema"
	"github.com/agentevents/agentevents/store/internal/sqlite"
)

// copyRows is the number of rows in one commit of a copy.
const copyRows = 10_000

// Copied is the progress of the copy of a table.
type Copied struct {
	Restarted   bool   // the rows of an earlier copy are deleted first; reported once, before any table
	Table       string // empty when Restarted is reported
	Done, Total int64  // rows
}

// CopyTo copies an SQLite database into a PostgreSQL database. No process may serve the source meanwhile. The target
// must be empty or hold an interrupted copy.
//
// CopyTo continues an interrupted copy, unless the source was served since: then it begins again. The target cannot be
// served before all rows are copied and counted. CopyTo calls progress repeatedly.
func CopyTo(ctx context.Context, from, to string, progress func(Copied)) error {
	if postgres.IsURL(from) || !postgres.IsURL(to) {
		return errors.New("a copy must be from sqlite:PATH to postgres://USER@HOST:PORT/DATABASE")
	}
	file, err := sqlite.ExistingPath(from)
	if err != nil {
		return err
	}
	return sqlite.UseAlone(file, func(source *sql.DB) error {
		if err := schema.SQLite.Check(ctx, source); err != nil {
			return err
		}
		if err := postgres.Migrate(ctx, to); err != nil {
			return fmt.Errorf("open %s: %w", Redacted(to), err)
		}
		return copyInto(ctx, source, to, progress)
	})
}

func copyInto(ctx context.Context, source *sql.DB, to string, progress func(Copied)) error {
	target, err := postgres.Connect(ctx, to)
	if err != nil {
		return fmt.Errorf("open %s: %w", Redacted(to), err)
	}
	defer target.Close(context.WithoutCancel(ctx))
	c := copier{source, target, progress}
	if err := c.claim(ctx, Redacted(to)); err != nil {
		return err
	}
	// these rows may have been revoked since the interruption
	if _, err := target.Exec(ctx, "TRUNCATE applications, tokens, idempotency_keys"); err != nil {
		return err
	}
	for _, t := range copiedTables {
		if err := c.table(ctx, t); err != nil {
			return fmt.Errorf("copy %s: %w", t.name, err)
		}
	}
	return c.finish(ctx, to)
}

// copier copies from one database to the other.
type copier struct {
	source   *sql.DB
	target   *pgx.Conn
	progress func(Copied)
}

// copiedTable is a table to copy. If its key only grows, an interrupted copy continues after the last row. The other
// tables are small, and are copied again.
type copiedTable struct{ name, key string }

// copiedTables are the tables, each after the tables that its rows refer to.
var copiedTables = []copiedTable{
	{"clients", "id"},
	{"agents", "id"},
	{"receivers", "id"},
	{"lanes", "id"},
	{"agent_events", "id"},
	{"event_versions", "id"},
	{"event_sweeps", ""},
	{"secrets", ""},
	{"status_changes", "id"},
	{"deliveries", "id"},
	{"attempts", "id"},
	{"replays", "id"},
	{"samples", "id"},
	{"truncated", ""},
	{"applications", "number"},
	{"tokens", ""},
	{"idempotency_keys", ""},
	{"requests", ""},
	{"retained", ""},
	{"retention", ""},
	{"epochs", ""},
}

// claim ensures that no process serves the target, and that its rows are a copy of the source's current state.
func (c copier) claim(ctx context.Context, name string) error {
	locked, err := postgres.LockUnserved(ctx, c.target)
	if err != nil {
		return err
	}
	if !locked {
		return fmt.Errorf("%s: another process serves this database or copies into it", name)
	}
	const marked = "SELECT coalesce((SELECT mark FROM copies), '')"
	var here, there string
	err = errors.Join(c.source.QueryRowContext(ctx, marked).Scan(&here), c.target.QueryRow(ctx, marked).Scan(&there))
	if err != nil || here != "" && here == there {
		return err
	}
	return c.begin(ctx, name, there != "")
}

// begin marks both databases, and deletes the rows of an earlier copy.
func (c copier) begin(ctx context.Context, name string, restart bool) error {
	var empty bool
	err := c.target.QueryRow(ctx,
		"SELECT NOT EXISTS (SELECT FROM clients) AND NOT EXISTS (SELECT FROM applications)").Scan(&empty)
	if err != nil {
		return err
	}
	if !restart && !empty {
		return fmt.Errorf("%s: the database must have no client and no application; if an earlier copy was complete, "+
			"nothing is left to do", name)
	}
	mark := rand.Text()
	_, err = c.source.ExecContext(ctx,
		"INSERT INTO copies (id, mark) VALUES (1, ?) ON CONFLICT (id) DO UPDATE SET mark = excluded.mark", mark)
	if err != nil {
		return err
	}
	names := make([]string, len(copiedTables))
	for i, t := range copiedTables {
		names[i] = t.name
	}
	if restart {
		c.progress(Copied{Restarted: true})
	}
	return pgx.BeginFunc(ctx, c.target, func(tx pgx.Tx) error {
		_, err := tx.Exec(ctx, "TRUNCATE "+strings.Join(names, ", ")+", copies")
		if err == nil {
			_, err = tx.Exec(ctx, "INSERT INTO copies (id, mark) VALUES (1, $1)", mark)
		}
		return err
	})
}

// table copies the missing rows of a table.
func (c copier) table(ctx context.Context, t copiedTable) error {
	p := Copied{Table: t.name}
	count := "SELECT count(*) FROM " + t.name
	if err := c.source.QueryRowContext(ctx, count).Scan(&p.Total); err != nil {
		return err
	}
	if t.key == "" {
		if _, err := c.target.Exec(ctx, "DELETE FROM "+t.name); err != nil {
			return err
		}
	}
	if err := c.target.QueryRow(ctx, count).Scan(&p.Done); err != nil {
		return err
	}
	for c.progress(p); p.Done < p.Total; c.progress(p) {
		n, err := c.part(ctx, t)
		if err != nil {
			return err
		}
		if p.Done += n; n == 0 {
			return fmt.Errorf("%d of %d rows were copied, and the source has no more", p.Done, p.Total)
		}
	}
	return c.proceed(ctx, t)
}

// part copies the next rows in a transaction of their own.
func (c copier) part(ctx context.Context, t copiedTable) (n int64, err error) {
	query, after := "SELECT * FROM "+t.name, []any(nil)
	if t.key != "" {
		if after, err = c.last(ctx, t); err != nil {
			return 0, err
		}
		if len(after) > 0 {
			query += " WHERE " + t.key + " > ?"
		}
		query += fmt.Sprintf(" ORDER BY %s LIMIT %d", t.key, copyRows)
	}
	rows, err := c.source.QueryContext(ctx, query, after...)
	if err != nil {
		return 0, err
	}
	defer rows.Close()
	names, err := rows.Columns()
	if err != nil {
		return 0, err
	}
	n, err = c.target.CopyFrom(ctx, pgx.Identifier{t.name}, names, pgx.CopyFromFunc(func() ([]any, error) {
		return nextRow(rows, names)
	}))
	return n, errors.Join(err, rows.Err())
}

// last returns the key of the last row in the target, if there is one.
func (c copier) last(ctx context.Context, t copiedTable) ([]any, error) {
	var key any
	err := c.target.QueryRow(ctx, "SELECT "+t.key+" FROM "+t.name+" ORDER BY "+t.order()+" DESC LIMIT 1").Scan(&key)
	if errors.Is(err, pgx.ErrNoRows) {
		return nil, nil
	}
	return []any{key}, err
}

// order returns the key with the collation of SQLite, which compares bytes.
func (t copiedTable) order() string {
	if t.name == "clients" {
		return t.key + ` COLLATE "C"`
	}
	return t.key
}

// nextRow reads a row in PostgreSQL's types; nil is the end.
func nextRow(rows *sql.Rows, names []string) ([]any, error) {
	if !rows.Next() {
		return nil, rows.Err()
	}
	values := make([]any, len(names))
	places := make([]any, len(names))
	for i := range values {
		places[i] = &values[i]
	}
	if err := rows.Scan(places...); err != nil {
		return nil, err
	}
	for i, name := range names {
		if n, is := values[i].(int64); is && name == "blocked" {
			values[i] = n != 0
		}
	}
	return values, nil
}

// proceed sets the sequence of a table to the last number that the source used.
func (c copier) proceed(ctx context.Context, t copiedTable) error {
	var last int64
	err := c.source.QueryRowContext(ctx, "SELECT coalesce((SELECT seq FROM sqlite_sequence WHERE name = ?), 0)",
		t.name).Scan(&last)
	if err != nil || last == 0 {
		return err
	}
	_, err = c.target.Exec(ctx, "SELECT setval(pg_get_serial_sequence($1, $2), $3)", t.name, t.key, last)
	return err
}

// finish counts and verifies the copied rows. Only then may a process serve the copy.
func (c copier) finish(ctx context.Context, to string) error {
	for _, t := range copiedTables {
		var here, there int64
		count := "SELECT count(*) FROM " + t.name
		err := errors.Join(c.source.QueryRowContext(ctx, count).Scan(&here), c.target.QueryRow(ctx, count).Scan(&there))
		if err == nil && here != there {
			err = fmt.Errorf("%s: %d of %d rows were copied", t.name, there, here)
		}
		if err != nil {
			return err
		}
	}
	if _, err := c.target.Exec(ctx, "ANALYZE"); err != nil {
		return err
	}
	if err := release(ctx, to); err != nil {
		return err
	}
	var faults []string
	s := &Store{Options: Options{URL: to}, copying: true, alongside: true}
	err := s.verify(ctx, func(k Check) {
		if k.Count > 0 {
			faults = append(faults, fmt.Sprintf("%s: %d faults, such as: %s", k.Name, k.Count, k.Violations[0]))
		}
	})
	if err == nil && len(faults) > 0 {
		err = errors.New(
			"the copy has faults, which `agentevents verify` may find in the source too:\n" +
				strings.Join(faults, "\n"),
		)
	}
	if err != nil {
		return err
	}
	_, err = c.target.Exec(ctx, "DELETE FROM copies")
	if err == nil {
		_, err = c.source.ExecContext(ctx, "DELETE FROM copies")
	}
	return err
}

// release drops the leases of the process that last served the source.
func release(ctx context.Context, to string) error {
	s := &Store{Options: Options{URL: to}, copying: true, alongside: true}
	if err := s.openAs(ctx); err != nil {
		return err
	}
	return errors.Join(s.write(ctx, s.releaseAll), s.Close())
}

// checkComplete returns an error if the database is the target of an unfinished copy.
func checkComplete(q sqldb.Querier) error {
	under, err := sqldb.Value[int](q, "SELECT count(*) FROM copies")
	if err == nil && under > 0 {
		err = errors.New("the copy into this database is not complete: run `agentevents copy` again")
	}
	return err
}
