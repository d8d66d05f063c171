package main

import (
	"context"
	"database/sql"
	"errors"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"
	_ "github.com/jackc/pgx/v5/stdlib" // the driver pgx
	_ "github.com/mattn/go-sqlite3"    // the driver sqlite3

	"github.com/agentevents/agentevents/store/benchfill"
	"github.com/agentevents/agentevents/store/pgtest"
)

// database is where the servers store everything: a SQLite file, or a database on PostgreSQL. Its methods ask it on no
// server's way; a SQLite file only while no server has it.
type database struct {
	*sql.DB
	url              string
	network, address string          // of PostgreSQL
	cluster          *pgtest.Cluster // nil if the server is not ours
	exclusive        sync.Mutex      // is held while it has a fault
	drop             func() error
}

func openDatabase(ctx context.Context, o options, dir string) (d *database, err error) {
	if o.replicas == 0 {
		file := filepath.Join(dir, "agentevents.db")
		d = &database{url: "sqlite:" + file, drop: func() error { return nil }}
		d.DB, err = sql.Open("sqlite3", "file:"+(&url.URL{Path: file}).EscapedPath()+"?mode=rw")
		d.SetMaxIdleConns(0)
		return d, err
	}
	d = &database{}
	if o.postgres != "" {
		server := pgtest.At(o.postgres)
		d.url, err = server.Create(ctx)
		d.drop = func() error { return server.Drop(context.WithoutCancel(ctx), d.url) }
	} else {
		err = d.startCluster(ctx, dir)
	}
	if err != nil {
		return d, err
	}
	config, err := pgx.ParseConfig(d.url)
	if err != nil {
		return d, err
	}
	d.network, d.address = pgconn.NetworkAddress(config.Host, config.Port)
	d.DB, err = sql.Open("pgx", d.url)
	d.SetMaxIdleConns(0)
	return d, err
}

func (d *database) startCluster(ctx context.Context, dir string) (err error) {
	if err := os.Chmod(dir, 0o755); err != nil { //nolint:gosec // the server may run as another user
		return err
	}
	d.cluster, err = pgtest.Start(ctx, pgtest.Options{
		Dir: filepath.Join(dir, "postgres"), Settings: map[string]string{"max_connections": "200"},
	})
	if err != nil {
		return err
	}
	d.drop = d.cluster.Stop
	d.url, err = d.cluster.Create(ctx)
	return err
}

func (d *database) close() (err error) {
	if d.DB != nil {
		err = d.Close()
	}
	if d.drop != nil {
		err = errors.Join(err, d.drop())
	}
	return err
}

// compareFeeds holds what followers saw against what is stored.
func (c *crash) compareFeeds(ctx context.Context) error {
	stored, err := benchfill.ChangeIDs(ctx, c.database.DB)
	for _, f := range c.followers {
		f.compare(stored)
	}
	return err
}

// verify has the program look through a database that no server has.
func (c *crash) verify(ctx context.Context, url string) error {
	cmd := exec.CommandContext(ctx, c.binary, "verify", "--database-url", url) //nolint:gosec // named by the user
	out, err := cmd.CombinedOutput()
	if err == nil || ctx.Err() != nil {
		return ctx.Err()
	}
	for line := range strings.Lines(string(out)) {
		if !strings.HasPrefix(line, "ok ") {
			c.record.Wrong(complaint, "verify: %s", strings.TrimSpace(line))
		}
	}
	return nil
}
