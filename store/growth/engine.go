package growth

import (
	"database/sql"
	"fmt"
	"net/url"
	"strings"
)

// engine is what engines want of who puts much into a database.
type engine struct{ finish []string }

// connect opens a database that has its schema, by its URL.
func connect(database string) (*sql.DB, engine, error) {
	file, is := strings.CutPrefix(database, "sqlite:")
	if !is {
		db, err := sql.Open("pgx", database)
		return db, postgres, err
	}
	db, err := sql.Open("sqlite3", "file:"+(&url.URL{Path: file}).EscapedPath()+
		"?mode=rw&_foreign_keys=on&_synchronous=OFF&_cache_size=-262144")
	if err == nil {
		db.SetMaxOpenConns(1)
	}
	return db, sqlite, err
}

// The program never has SQLite gather statistics, so they are not there either.
var sqlite = engine{[]string{"PRAGMA wal_checkpoint(TRUNCATE)"}}

// PostgreSQL does not see which ids are taken, and gathers statistics by itself, but some minutes later.
var postgres = engine{append(sequences(), "VACUUM (ANALYZE)")}

func sequences() (all []string) {
	for _, table := range []string{"receivers", "agents", "lanes", "agent_events", "status_changes", "deliveries", "attempts"} {
		all = append(all, fmt.Sprintf("SELECT setval(pg_get_serial_sequence('%[1]s', 'id'), (SELECT max(id) FROM %[1]s))", table))
	}
	return all
}
