package main

import (
	"context"
	"errors"
	"net/http"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"syscall"

	"github.com/agentevents/agentevents/server/lab"
	"github.com/agentevents/agentevents/store/benchfill"
	"github.com/agentevents/agentevents/store/pgtest"
)

// startPostgres starts a server if it is asked for. Without PostgreSQL on the machine it says so and goes without.
func (b *bench) startPostgres(ctx context.Context) (err error) {
	if !slices.Contains(b.engines, "postgres") {
		return nil
	}
	b.cluster, err = pgtest.Start(ctx, pgtest.Options{}) // as durable as PostgreSQL is by default
	if errors.Is(err, pgtest.ErrNone) && slices.Contains(b.engines, "sqlite") {
		b.log.Print("NOTHING is measured on PostgreSQL: ", err)
		b.engines, err = []string{"sqlite"}, nil
	}
	return err
}

// createDatabase creates an empty database on an engine. SQLite's has a directory of its own.
func (b *bench) createDatabase(ctx context.Context, engine string) (url string, drop func() error, err error) {
	if engine == "postgres" {
		url, err = b.cluster.Create(ctx)
		return url, func() error { return b.cluster.Drop(context.WithoutCancel(ctx), url) }, err
	}
	dir, err := os.MkdirTemp(b.dir, "store-")
	return "sqlite:" + filepath.Join(dir, "agentevents.db"), func() error { return os.RemoveAll(dir) }, err
}

// sqliteFile is the path in the URL of a database.
func sqliteFile(url string) string { return strings.TrimPrefix(url, "sqlite:") }

// system is what is measured: the program on an engine, or a floor.
type system struct {
	label  string // the part of a benchmark's name that says what it is
	binary string // which lab starts
	engine string // empty if it stores nothing
	floor  bool
}

// systems returns what a workload is measured with: the floors if it is about throughput, and the programs. The ledgers
// take part where a change is one delivery.
func (b *bench) systems(w workload) (all []system) {
	asked := func(floor string) bool { return w.hasFloors && slices.Contains(b.floors, floor) }
	if asked("relay") { // first, since benchstat compares with the first
		all = append(all, system{label: "on=relay", binary: os.Args[0], floor: true})
	}
	for _, engine := range b.engines {
		if asked("ledger") && w.receivers == 1 {
			all = append(all, system{label: "on=ledger-" + engine, binary: os.Args[0], engine: engine, floor: true})
		}
		for _, binary := range b.binaries {
			label := "on=" + engine
			if len(b.binaries) > 1 {
				label += "/binary=" + strings.ReplaceAll(binary, "/", "_")
			}
			all = append(all, system{label: label, binary: binary, engine: engine})
		}
	}
	return all
}

// instance is a system that runs.
type instance struct {
	addr     string // HOST:PORT
	token    string // of the operator
	pid      int    // of its process
	database int    // the process id of its database server, 0 if it has none
	store    string // the URL of its database
	stats    string // the URL of its metrics and profiles, empty if it has none
	output   *lab.Log
}

// start runs a function alongside an instance of the system that has seen no change before.
func (m *measurement) start(ctx context.Context, fn func(context.Context) error) (err error) {
	store := ""
	if m.engine != "" {
		var drop func() error
		if store, drop, err = m.createDatabase(ctx, m.engine); err != nil {
			return err
		}
		defer func() { err = errors.Join(err, drop()) }()
	}
	if !m.floor { // by a process of its own: that of the measurement has nothing in memory of it
		err := m.serve(ctx, store, m.register)
		if err == nil && m.clone { // calls for all agents would take minutes on any disk
			err = benchfill.CloneAgent(ctx, store, len(m.clients[0].agents))
		}
		if err != nil {
			return err
		}
		syscall.Sync() // or else the first durable commit would wait for all of it
	}
	return m.serve(ctx, store, fn)
}

// serve runs a function alongside an instance on a database.
func (m *measurement) serve(ctx context.Context, store string, fn func(context.Context) error) error {
	env := append([]string{"AGENTEVENTS_LOG_LEVEL=warn"}, m.env...)
	if m.floor {
		env = append(env, relayVariable+"="+strings.Join(m.urls, ","))
	}
	server, err := lab.Start(ctx, m.binary, store, env...)
	if err != nil {
		return err
	}
	if err = server.Ready(ctx); err == nil {
		m.instance = &instance{addr: strings.TrimPrefix(server.URL, "http://"), pid: server.PID(), store: store}
		m.output = server.Log
		if m.engine == "postgres" {
			m.database = m.cluster.PID()
		}
		if found := statsURL.FindStringSubmatch(server.Log.String()); found != nil {
			m.stats = found[1]
		}
		m.token, err = lab.Token(http.DefaultClient, server.URL, lab.OperatorID, lab.OperatorSecret)
		if err == nil {
			err = fn(ctx)
		}
	}
	return server.Explain(errors.Join(err, server.Stop()))
}

// statsURL is what a server says about where its metrics are.
var statsURL = regexp.MustCompile(`metrics=(http://\S+)/metrics`)
