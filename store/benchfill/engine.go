package benchfill

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"net/url"
	"strings"
)

// The parameters of an SQLite connection. filling is for a store that no server has open, and durable only at the end.
// reading is for a connection alongside a server.
const (
	filling = "mode=rw&_foreign_keys=on&_synchronous=OFF&_cache_size=-262144"
	reading = "mode=ro&_busy_timeout=5000"
)

// connect opens a database with a schema by its URL, and reports whether it is on PostgreSQL.
func connect(database, parameters string) (db *sql.DB, postgres bool, err error) {
	file, isFile := strings.CutPrefix(database, "sqlite:")
	if !isFile {
		db, err := sql.Open("pgx", database)
		return db, true, err
	}
	db, err = sql.Open("sqlite3", "file:"+(&url.URL{Path: file}).EscapedPath()+"?"+parameters)
	if err == nil {
		db.SetMaxOpenConns(1)
	}
	return db, false, err
}

// dropSlow drops foreign keys and indexes that are not unique, which make PostgreSQL slow to fill. It returns the
// statements that restore them.
func dropSlow(ctx context.Context, db *sql.DB) (restoring []string, err error) {
	rows, err := db.QueryContext(ctx, slowSQL)
	if err != nil {
		return nil, err
	}
	defer rows.Close()
	var dropping []string
	for rows.Next() {
		var drop, restore string
		if err := rows.Scan(&drop, &restore); err != nil {
			return nil, err
		}
		dropping, restoring = append(dropping, drop), append(restoring, restore)
	}
	return restoring, errors.Join(rows.Err(), run(ctx, db, dropping))
}

// slowSQL lists the statements that drop and restore each of them.
const slowSQL = `
SELECT format('ALTER TABLE %s DROP CONSTRAINT %I', conrelid::regclass, conname),
	format('ALTER TABLE %s ADD CONSTRAINT %I %s', conrelid::regclass, conname, pg_get_constraintdef(oid))
FROM pg_constraint WHERE contype = 'f' AND connamespace = current_schema()::regnamespace
UNION ALL
SELECT format('DROP INDEX %s', indexrelid::regclass), pg_get_indexdef(indexrelid)
FROM pg_index JOIN pg_class ON pg_class.oid = indrelid
WHERE NOT indisunique AND relnamespace = current_schema()::regnamespace`

// sequenceSQL makes PostgreSQL continue after the ids in a table.
const sequenceSQL = "SELECT setval(pg_get_serial_sequence('%[1]s', 'id'), (SELECT max(id) FROM %[1]s))"

// numbered are the tables with generated ids.
var numbered = []string{
	"receivers", "agents", "lanes", "agent_events", "status_changes", "deliveries", "attempts",
}

// finishing returns the statements after filling. PostgreSQL does not notice explicit ids, and gathers statistics by
// itself only minutes later. agentevents never gathers statistics in SQLite.
func finishing(postgres bool) (all []string) {
	if !postgres {
		return []string{"PRAGMA wal_checkpoint(TRUNCATE)"}
	}
	for _, table := range numbered {
		all = append(all, fmt.Sprintf(sequenceSQL, table))
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
