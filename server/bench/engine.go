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

// engine is a kind of database, and how such databases are made.
type engine struct {
	name   string
	create func(ctx context.Context) (url string, err error)
	copy   func(ctx context.Context, url string) (string, error) // of a database that no process has open
	drop   func(ctx context.Context, url string) error
	pid    func() int // of the first process of the database server, 0 if there is none
	stop   func() error
}

// startEngines starts those that are asked for, once. Without PostgreSQL on the machine it says so and goes without.
func (b *bench) startEngines(ctx context.Context) ([]*engine, error) {
	if b.started != nil {
		return b.started, nil
	}
	for name := range strings.SplitSeq(b.engines, ",") {
		if name == sqliteName {
			b.started = append(b.started, sqliteIn(b.dir))
			continue
		}
		e, err := startPostgres(ctx)
		if errors.Is(err, pgtest.ErrNone) {
			b.say("NOTHING is measured on PostgreSQL: %v", err)
			continue
		}
		if err != nil {
			return nil, err
		}
		b.started = append(b.started, e)
	}
	if len(b.started) == 0 {
		return nil, errors.New("there is no database to measure on")
	}
	return b.started, nil
}

func (b *bench) stopEngines() (err error) {
	for _, e := range b.started {
		err = errors.Join(err, e.stop())
	}
	return err
}

// sqliteIn makes each database in a directory of its own below another.
func sqliteIn(parent string) *engine {
	create := func(context.Context) (string, error) {
		dir, err := os.MkdirTemp(parent, "store-")
		return "sqlite:" + filepath.Join(dir, "agentevents.db"), err
	}
	return &engine{
		name: sqliteName, create: create, pid: func() int { return 0 }, stop: func() error { return nil },
		copy: func(ctx context.Context, url string) (string, error) {
			to, err := create(ctx)
			return to, errors.Join(err, copyFile(sqliteFile(to), sqliteFile(url)))
		},
		drop: func(_ context.Context, url string) error { return os.RemoveAll(filepath.Dir(sqliteFile(url))) },
	}
}

// sqliteFile is the path in a URL.
func sqliteFile(url string) string { return strings.TrimPrefix(url, "sqlite:") }

// startPostgres starts a server as durable as PostgreSQL is by default.
func startPostgres(ctx context.Context) (*engine, error) {
	c, err := pgtest.Start(ctx, pgtest.Options{})
	if err != nil {
		return nil, err
	}
	return &engine{name: postgresName, create: c.Create, copy: c.Copy, drop: c.Drop, pid: c.PID, stop: c.Stop}, nil
}

// copyFile returns when the copy is on disk, or else the first durable commit would wait for all of it.
func copyFile(to, from string) error {
	data, err := os.ReadFile(filepath.Clean(from))
	if err != nil {
		return err
	}
	out, err := os.Create(filepath.Clean(to))
	if err != nil {
		return err
	}
	_, err = out.Write(data)
	return errors.Join(err, out.Sync(), out.Close())
}
