package main

import (
	"context"
	"errors"
	"os"
	"path/filepath"
	"strings"

	"github.com/agentevents/agentevents/store/pgtest"
)

// The names of the engines.
const (
	sqliteName   = "sqlite"
	postgresName = "postgres"
)

// engine is a kind of database.
type engine struct {
	name string
	databases
}

// databases are made on an engine, and given by their URLs.
type databases interface {
	Create(ctx context.Context) (url string, err error)
	Copy(ctx context.Context, url string) (string, error) // of one that no process has open
	Drop(ctx context.Context, url string) error
	PID() int // of the first process of the database server, 0 if there is none
	Stop() error
}

// startEngines starts those that are asked for, once. Without PostgreSQL on the machine it says so and goes without.
func (b *bench) startEngines(ctx context.Context) error {
	if b.engines != nil {
		return nil
	}
	for name := range strings.SplitSeq(b.onEngines, ",") {
		if name == sqliteName {
			b.engines = append(b.engines, &engine{name, sqlite{b.dir}})
			continue
		}
		c, err := pgtest.Start(ctx, pgtest.Options{}) // as durable as PostgreSQL is by default
		if errors.Is(err, pgtest.ErrNone) {
			b.say("NOTHING is measured on PostgreSQL: %v", err)
			continue
		}
		if err != nil {
			return err
		}
		b.engines = append(b.engines, &engine{name, c})
	}
	if len(b.engines) == 0 {
		return errors.New("there is no database to measure on")
	}
	return nil
}

// sqlite makes each database in a directory of its own below another.
type sqlite struct{ dir string }

func (s sqlite) Create(context.Context) (string, error) {
	dir, err := os.MkdirTemp(s.dir, "store-")
	return "sqlite:" + filepath.Join(dir, "agentevents.db"), err
}

// Copy returns when the copy is on disk, or else the first durable commit would wait for all of it.
func (s sqlite) Copy(ctx context.Context, url string) (string, error) {
	to, err := s.Create(ctx)
	if err != nil {
		return "", err
	}
	data, err := os.ReadFile(sqliteFile(url))
	if err != nil {
		return "", err
	}
	out, err := os.Create(sqliteFile(to))
	if err != nil {
		return "", err
	}
	_, err = out.Write(data)
	return to, errors.Join(err, out.Sync(), out.Close())
}

func (sqlite) Drop(_ context.Context, url string) error {
	return os.RemoveAll(filepath.Dir(sqliteFile(url)))
}
func (sqlite) PID() int    { return 0 }
func (sqlite) Stop() error { return nil }

// sqliteFile is the path in a URL.
func sqliteFile(url string) string { return filepath.Clean(strings.TrimPrefix(url, "sqlite:")) }
