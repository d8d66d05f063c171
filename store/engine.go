package store

import (
	"context"
	"database/sql"

	"gorm.io/gorm"
	"gorm.io/gorm/logger"

	"github.com/agentevents/agentevents/store/internal/postgres"
	"github.com/agentevents/agentevents/store/internal/sqldb"
)

// engine is what SQLite and PostgreSQL do differently. engine_sqlite.go and engine_postgres.go have the two.
type engine interface {
	// open connects a store to its database, and brings the schema up to date unless the store works alongside the
	// process that serves the database; then an old schema is an error. After an error, too, close and unlock are
	// called.
	open(ctx context.Context, s *Store) error
	// close closes all connections but that of the writer, which has ended.
	close() error
	// unlock lets another process serve the database. Nothing uses a connection any more.
	unlock() error

	// openVerifier returns connections that only read, checkSchema an error if the schema is not up to date, and orm
	// puts GORM on top of a transaction.
	openVerifier(databaseURL string) (*sql.DB, error)
	checkSchema(ctx context.Context, db *sql.DB) error
	orm(pool gorm.ConnPool, log logger.Interface) (*gorm.DB, error)
	// rules are what verify looks for that the engine does not see to itself.
	rules() []rule

	// servesAlone says whether no other process can serve the database.
	servesAlone() bool
	// checkWritable returns why no write can be relied on, as far as that is known without the database.
	checkWritable() error
	// checkFiles looks whether the files are those that were opened.
	checkFiles(ctx context.Context) error
	// fileStats measures the files.
	fileStats() FileStats
	// maintain looks after the files, every second.
	maintain(ctx context.Context) error
	// shrink gives free space back to the file system.
	shrink(ctx context.Context) error
	// allocate writes something that needs room on the disk, and leaves nothing of it.
	allocate(tx *sqldb.Tx, now int64) error
	// eraseOverwritten removes overwritten secrets from the engine's log on the disk, as far as the engine can.
	eraseOverwritten(ctx context.Context) error

	// overwrite runs a function of a transaction so that its updates leave nothing of the old values in the file.
	overwrite(tx *sqldb.Tx, fn func() error) error

	// dueLanesSQL is the query that finds the lanes of a claim.
	dueLanesSQL() string

	// announceNumbers comes before a transaction draws its first sequence number.
	announceNumbers(tx *sqldb.Tx) error
	// visibleUpTo is a sequence number up to which no status change will appear any more.
	visibleUpTo(ctx context.Context) (int64, error)
}

// engineOf is the engine of a database URL.
func engineOf(databaseURL string) engine {
	if postgres.IsURL(databaseURL) {
		return &postgresEngine{}
	}
	return &sqliteEngine{}
}

// CheckURL says what is wrong with the URL of a PostgreSQL database, without repeating it: it may hold a password.
func CheckURL(databaseURL string) error { return postgres.CheckURL(databaseURL) }

// Redacted is a database URL without its password and its settings.
func Redacted(databaseURL string) string {
	if !postgres.IsURL(databaseURL) {
		return databaseURL
	}
	return postgres.Redact(databaseURL)
}
