package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"github.com/agentevents/agentevents/store/pgtest"
)

// engine is a kind of store, and how such stores are made.
type engine struct {
	name   string
	create func(ctx context.Context, name string) (url string, err error)
	copy   func(ctx context.Context, url string) (string, error) // of a store that nobody has open
	drop   func(ctx context.Context, url string) error
	pid    func() int // of the first process of a server of its own, 0 if it has none
	stop   func() error
}

// The names of the engines, as the flag has them.
const (
	sqliteName   = "sqlite"
	postgresName = "postgres"
)

// engines are those that are asked for and there, from the first time on that anybody wants them.
func (h *house) engines(ctx context.Context) ([]*engine, error) {
	if h.started != nil {
		return h.started, nil
	}
	for _, name := range h.wanted {
		e, err := h.engine(ctx, name)
		if errors.Is(err, pgtest.ErrNone) {
			h.say("NOTHING is measured on PostgreSQL: %v", err)
			continue
		}
		if err != nil {
			return nil, err
		}
		h.started = append(h.started, e)
	}
	return h.started, nil
}

func (h *house) engine(ctx context.Context, name string) (*engine, error) {
	if name == sqliteName {
		return h.sqlite(), nil
	}
	return postgres(ctx)
}

// stop stops what the engines have started.
func (h *house) stop() (err error) {
	for _, e := range h.started {
		err = errors.Join(err, e.stop())
	}
	return err
}

func (h *house) sqlite() *engine {
	return &engine{
		name: sqliteName, pid: func() int { return 0 }, stop: func() error { return nil },
		create: func(_ context.Context, name string) (string, error) {
			return "sqlite:" + filepath.Join(h.dir, name+".db"), nil
		},
		copy: func(_ context.Context, url string) (string, error) {
			dir, err := os.MkdirTemp(h.dir, "round-")
			to := filepath.Join(dir, "agentevents.db")
			return "sqlite:" + to, errors.Join(err, copyFile(to, sqliteFile(url)))
		},
		drop: func(_ context.Context, url string) error { return os.RemoveAll(filepath.Dir(sqliteFile(url))) },
	}
}

// sqliteFile is the path in a URL.
func sqliteFile(url string) string { return strings.TrimPrefix(url, "sqlite:") }

// postgres is a server of its own, as durable as PostgreSQL is.
func postgres(ctx context.Context) (*engine, error) {
	c, err := pgtest.Start(ctx, pgtest.Options{})
	if err != nil {
		return nil, err
	}
	return &engine{
		name: postgresName, pid: c.PID, stop: c.Stop, copy: c.Copy, drop: c.Drop,
		create: func(ctx context.Context, _ string) (string, error) { return c.Create(ctx) },
	}, nil
}

// parseEngines reads a list such as sqlite,postgres.
func parseEngines(list string) ([]string, error) {
	all := strings.Split(list, ",")
	for _, name := range all {
		if !slices.Contains([]string{sqliteName, postgresName}, name) {
			return nil, fmt.Errorf("there is no engine %q", name)
		}
	}
	return all, nil
}
