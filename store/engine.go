package store

import (
	"context"
	"database/sql"

	"gorm.io/gorm"
	"gorm.io/gorm/logger"

	"github.com/agentevents/agentevents/store/internal/postgres"
	"github.com/agentevents/agentevents/store/internal/sqldb"
)

// engine is the interface of the two databases. engine_sqlite.go and engine_postgres.go implement it.
type engine interface {
	// open connects a store to its database. It migrates the schema, unless the store works alongside the process that
	// serves the database: then an old schema is an error. The caller calls close and unlock after an error, too.
	open(ctx context.Context, s *Store) error
	// close closes all connections except the writer's, which has ended.
	close() error
	// unlock permits another process to serve the database. No connection may be in use.
	unlock() error

	// openVerifier returns read-only connections. checkSchema returns an error if the schema is not up to date. orm
	// wraps a transaction in GORM.
	openVerifier(databaseURL string) (*sql.DB, error)
	checkSchema(ctx context.Context, db *sql.DB) error
	orm(pool gorm.ConnPool, log logger.Interface) (*gorm.DB, error)
	// invariants are the invariants that verify checks because this engine does not enforce them.
	invariants() []invariant

	// servesAlone reports whether the database can have only one server process.
	servesAlone() bool
	// checkWritable returns a known reason why writes would be lost. It sends no statement.
	checkWritable() error
	// checkFiles compares the files with those that were opened.
	checkFiles(ctx context.Context) error
	// fileStats returns the measurements of the files.
	fileStats() FileStats
	// maintain maintains the files; it is called every second.
	maintain(ctx context.Context) error
	// shrink returns free space to the file system.
	shrink(ctx context.Context) error
	// writeUnsynced is Store.write for work that may be lost when the machine or the database crashes. Its commit waits
	// for no disk. All processes see it when writeUnsynced returns.
	writeUnsynced(ctx context.Context, work sqldb.Work) error
	// allocate writes data that needs space on the disk, and keeps none of it.
	allocate(tx *sqldb.Tx, now int64) error
	// eraseOverwritten removes overwritten values from the engine's log on the disk, as far as the engine can. It
	// reports false if another transaction still needs the log.
	eraseOverwritten(ctx context.Context) (erased bool, err error)

	// eraseDeleted is eraseOverwritten after it has removed deleted rows from the pages that are not used any more.
	eraseDeleted(ctx context.Context) (erased bool, err error)

	// overwrite runs a function of a transaction whose updates and deletions leave no old value in the file.
	overwrite(tx *sqldb.Tx, fn func() error) error

	// readers is the number of connections that read.
	readers() int

	// dueLanesSQL is the query that finds the lanes of a claim.
	dueLanesSQL() string

	// announceNumbers must run before a transaction draws its first sequence number.
	announceNumbers(tx *sqldb.Tx) error
	// visibleUpTo is the high-water mark of the feed: no status change with this number or a lower one will still
	// appear.
	visibleUpTo(ctx context.Context) (int64, error)
}

// engineOf returns the engine of a database URL.
func engineOf(databaseURL string) engine {
	if postgres.IsURL(databaseURL) {
		return &postgresEngine{}
	}
	return &sqliteEngine{}
}

// CheckURL returns an error for an invalid PostgreSQL URL. The error does not contain the URL, which may hold a
// password.
func CheckURL(databaseURL string) error { return postgres.CheckURL(databaseURL) }

// Redacted is a database URL without its password and its parameters.
func Redacted(databaseURL string) string {
	if !postgres.IsURL(databaseURL) {
		return databaseURL
	}
	return postgres.Redact(databaseURL)
}
