package store

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

// dialect is one of the two sets of migrations.
type dialect struct {
	goose.Dialect
	folder string
}

var (
	sqliteSchema   = dialect{goose.DialectSQLite3, "migrations/sqlite"}
	postgresSchema = dialect{goose.DialectPostgres, "migrations/postgres"}
)

// migrate brings the schema up to date. A database that a later version of the program has changed is refused:
// this one does not know what it may do with it.
func migrate(ctx context.Context, db *sql.DB) error {
	provider, err := sqliteSchema.provider(db)
	if err != nil {
		return err
	}
	return up(ctx, provider)
}

// migratePostgres lets one process migrate while the others wait, also those that serve: what it changes they know, or need not
// know. It waits for nobody who holds a table for long, since all would queue behind it; then the next start tries again.
func migratePostgres(ctx context.Context, databaseURL string) error {
	pool, err := openPool(databaseURL, 2, map[string]string{"idle_in_transaction_session_timeout": "0"})
	if err != nil {
		return err
	}
	defer pool.Close()
	locker, err := lock.NewPostgresSessionLocker(lock.WithLockTimeout(1, migrationPatience))
	if err != nil {
		return err
	}
	provider, err := postgresSchema.provider(pool, goose.WithSessionLocker(locker))
	if err != nil {
		return err
	}
	return up(ctx, provider)
}

// migrationPatience is how many seconds a process waits for another one to migrate.
const migrationPatience = 3600

func up(ctx context.Context, provider *goose.Provider) error {
	have, newest, err := provider.GetVersions(ctx)
	if err != nil {
		return fmt.Errorf("read schema version: %w", err)
	}
	if have > newest {
		return newer(have, newest)
	}
	if _, err := provider.Up(ctx); err != nil {
		return fmt.Errorf("migrate: %w", err)
	}
	return nil
}

// checkSchema returns nil when the schema is up to date, and unlike migrate it changes nothing.
func checkSchema(ctx context.Context, db *sql.DB, d dialect) error {
	provider, err := d.provider(db)
	if err != nil {
		return err
	}
	versions, err := database.NewStore(d.Dialect, goose.DefaultTablename)
	if err != nil {
		return err
	}
	sources := provider.ListSources()
	newest := sources[len(sources)-1].Version
	have, err := versions.GetLatestVersion(ctx, db)
	switch {
	case foreign(err):
		return fmt.Errorf("it is no database of this program: %w", err)
	case err != nil:
		return fmt.Errorf("read schema version: %w", err)
	case have > newest:
		return newer(have, newest)
	case have < newest:
		return fmt.Errorf("the database has schema version %d, this program knows %d: `agentevents serve` brings it up to date",
			have, newest)
	}
	return nil
}

// foreign says whether the schema's version could not be read because there is none.
func foreign(err error) bool {
	var said *pgconn.PgError
	var lite sqlite3.Error
	switch {
	case errors.As(err, &said):
		return said.Code == "42P01" // no such table
	case errors.As(err, &lite):
		return lite.Code == sqlite3.ErrNotADB || lite.Code == sqlite3.ErrError // the latter is what it says of a missing table
	}
	return errors.Is(err, database.ErrVersionNotFound)
}

func (d dialect) provider(db *sql.DB, options ...goose.ProviderOption) (*goose.Provider, error) {
	files, err := fs.Sub(migrations, d.folder)
	if err != nil {
		return nil, err
	}
	provider, err := goose.NewProvider(d.Dialect, db, files, options...)
	if err != nil {
		return nil, fmt.Errorf("read migrations: %w", err)
	}
	return provider, nil
}

func newer(have, newest int64) error {
	return fmt.Errorf("the database has schema version %d, this program knows %d: "+
		"use the version of the program that wrote it, or a later one", have, newest)
}
