package store

import (
	"context"
	"database/sql"
	"embed"
	"fmt"
	"io/fs"

	"github.com/pressly/goose/v3"
	"github.com/pressly/goose/v3/database"
)

//go:embed migrations
var migrations embed.FS

// migrate brings the schema up to date. A database that a later version of the program has changed is refused:
// this one does not know what it may do with it.
func migrate(ctx context.Context, db *sql.DB) error {
	provider, err := schema(db)
	if err != nil {
		return err
	}
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
func checkSchema(ctx context.Context, db *sql.DB) error {
	provider, err := schema(db)
	if err != nil {
		return err
	}
	versions, err := database.NewStore(goose.DialectSQLite3, goose.DefaultTablename)
	if err != nil {
		return err
	}
	sources := provider.ListSources()
	newest := sources[len(sources)-1].Version
	have, err := versions.GetLatestVersion(ctx, db)
	switch {
	case err != nil:
		return fmt.Errorf("it is no database of this program: %w", err)
	case have > newest:
		return newer(have, newest)
	case have < newest:
		return fmt.Errorf("the database has schema version %d, this program knows %d: `agentevents serve` brings it up to date",
			have, newest)
	}
	return nil
}

func schema(db *sql.DB) (*goose.Provider, error) {
	files, err := fs.Sub(migrations, "migrations/sqlite")
	if err != nil {
		return nil, err
	}
	provider, err := goose.NewProvider(goose.DialectSQLite3, db, files)
	if err != nil {
		return nil, fmt.Errorf("read migrations: %w", err)
	}
	return provider, nil
}

func newer(have, newest int64) error {
	return fmt.Errorf("the database has schema version %d, this program knows %d: "+
		"use the version of the program that wrote it, or a later one", have, newest)
}
