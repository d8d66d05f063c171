package benchfill

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"net/url"
	"strings"
)

// connect opens a database that has its schema, by its URL, and says whether it is PostgreSQL's.
func connect(database string) (db *sql.DB, postgres bool, err error) {
	file, is := strings.CutPrefix(database, "sqlite:")
	if !is {
		db, err := sql.Open("pgx", database)
		return db, true, err
	}
	db, err = sql.Open("sqlite3", "file:"+(&url.URL{Path: file}).EscapedPath()+
		"?mode=rw&_foreign_keys=on&_synchronous=OFF&_cache_size=-262144")
	if err == nil {
		db.SetMaxOpenConns(1)
	}
	return db, false, err
}

// aside takes away what makes PostgreSQL slow to fill: foreign keys, and indexes that are not unique. It returns the
// statements that bring it back.
func aside(ctx context.Context, db *sql.DB) (back []string, err error) {
	rows, err := db.QueryContext(ctx, asideSQL)
	if err != nil {
		return nil, err
	}
	defer rows.Close()
	var away []string
	for rows.Next() {
		var drop, restore string
		if err := rows.Scan(&drop, &restore); err != nil {
			return nil, err
		}
		away, back = append(away, drop), append(back, restore)
	}
	return back, errors.Join(rows.Err(), run(ctx, db, away))
}

const asideSQL = `
SELECT format('ALTER TABLE %s DROP CONSTRAINT %I', conrelid::regclass, conname),
	format('ALTER TABLE %s ADD CONSTRAINT %I %s', conrelid::regclass, conname, pg_get_constraintdef(oid))
FROM pg_constraint WHERE contype = 'f' AND connamespace = current_schema()::regnamespace
UNION ALL
SELECT format('DROP INDEX %s', indexrelid::regclass), pg_get_indexdef(indexrelid)
FROM pg_index JOIN pg_class ON pg_class.oid = indrelid
WHERE NOT indisunique AND relnamespace = current_schema()::regnamespace`

// settled are the statements that make of what is filled what time would have made: PostgreSQL does not see which ids are
// taken, and gathers statistics by itself, but some minutes later. The program never has SQLite gather any.
func settled(postgres bool) (all []string) {
	if !postgres {
		return []string{"PRAGMA wal_checkpoint(TRUNCATE)"}
	}
	for _, table := range []string{"receivers", "agents", "lanes", "agent_events", "status_changes", "deliveries", "attempts"} {
		all = append(all, fmt.Sprintf("SELECT setval(pg_get_serial_sequence('%[1]s', 'id'), (SELECT max(id) FROM %[1]s))", table))
	}
	return append(all, "VACUUM (ANALYZE)")
}

func run(ctx context.Context, db *sql.DB, statements []string) error {
	for _, s := range statements {
		if _, err := db.ExecContext(ctx, s); err != nil {
			return fmt.Errorf("%s: %w", s, err)
		}
	}
	return nil
}
