// Package schema has the tables of both engines as numbered SQL files, and migrates databases with them.
//
// It knows no URL, opens no database, and reads only the rows of the version. The SQL files are in migrations/sqlite
// and migrations/postgres. goose executes the files that a database lacks, and records them in the database. A released
// file is never edited: each change is a new file.
package schema

import (
	"context"
	"database/sql"
	"embed"
	"errors"
	"fmt"
	"io/fs"

	"github.com/jackc/pgx/v5/pgconn"
	"github.com/mattn/go-sqlite3"
	"github.com/pressly/goose/v3"
	"github.com/pressly/goose/v3/database"
	"github.com/pressly/goose/v3/lock"
)

//go:embed migrations
var migrations embed.FS

// Schema is the schema of one engine.
type Schema struct {
	dialect goose.Dialect
	folder  string // of the migrations
	shared  bool   // several processes may migrate at once
}

// The schemas of the two engines.
var (
	SQLite   = Schema{dialect: goose.DialectSQLite3, folder: "migrations/sqlite"}
	Postgres = Schema{dialect: goose.DialectPostgres, folder: "migrations/postgres", shared: true}
)

// Migrate migrates the schema of a database. It refuses a database that a later version of the program has migrated,
// since this version does not know that schema.
//
// On PostgreSQL, one process migrates while the others wait. Processes of an earlier version may serve meanwhile, so
// each migration keeps the tables and columns that they use, except those before the first release. No migration
// waits for long for a table, since all statements would queue behind it: it fails, and the next start tries again. The
// pool must have two connections, and no idle timeout of transactions.
func (s Schema) Migrate(ctx context.Context, db *sql.DB) error {
	provider, err := s.migrator(db)
	if err != nil {
		return err
	}
	have, newest, err := provider.GetVersions(ctx)
	if err != nil {
		return fmt.Errorf("read schema version: %w", err)
	}
	if have > newest {
		return newerError(have, newest)
	}
	if _, err := provider.Up(ctx); err != nil {
		return fmt.Errorf("migrate: %w", err)
	}
	return nil
}

// Check returns nil if the schema of a database is up to date. It changes nothing.
func (s Schema) Check(ctx context.Context, db *sql.DB) error {
	provider, err := s.provider(db)
	if err != nil {
		return err
	}
	versions, err := database.NewStore(s.dialect, goose.DefaultTablename)
	if err != nil {
		return err
	}
	sources := provider.ListSources()
	newest := sources[len(sources)-1].Version
	have, err := versions.GetLatestVersion(ctx, db)
	switch {
	case isForeign(err):
		return fmt.Errorf("it is no database of agentevents: %w", err)
	case err != nil:
		return fmt.Errorf("read schema version: %w", err)
	case have > newest:
		return newerError(have, newest)
	case have < newest:
		return fmt.Errorf("the database has schema version %d, this program knows %d: "+
			"`agentevents serve` migrates it", have, newest)
	}
	return nil
}

// isForeign reports whether the database has no schema version.
func isForeign(err error) bool {
	var postgresErr *pgconn.PgError
	var sqliteErr sqlite3.Error
	switch {
	case errors.As(err, &postgresErr):
		return postgresErr.Code == "42P01" // no such table
	case errors.As(err, &sqliteErr):
		return sqliteErr.Code == sqlite3.ErrNotADB || sqliteErr.Code == sqlite3.ErrError // the latter: no such table
	}
	return errors.Is(err, database.ErrVersionNotFound)
}

// lockSeconds is the time for which a process waits for the migration of another one.
const lockSeconds = 3600

func (s Schema) migrator(db *sql.DB) (*goose.Provider, error) {
	if !s.shared {
		return s.provider(db)
	}
	locker, err := lock.NewPostgresSessionLocker(lock.WithLockTimeout(1, lockSeconds))
	if err != nil {
		return nil, err
	}
	return s.provider(db, goose.WithSessionLocker(locker))
}

func (s Schema) provider(db *sql.DB, options ...goose.ProviderOption) (*goose.Provider, error) {
	files, err := fs.Sub(migrations, s.folder)
	if err != nil {
		return nil, err
	}
	provider, err := goose.NewProvider(s.dialect, db, files, options...)
	if err != nil {
		return nil, fmt.Errorf("read migrations: %w", err)
	}
	return provider, nil
}

func newerError(have, newest int64) error {
	return fmt.Errorf("the database has schema version %d, this program knows %d: "+
		"use the version of the program that wrote it, or a later one", have, newest)
}
