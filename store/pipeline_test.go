package store_test

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"net"
	"sync/atomic"
	"testing"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"

	"github.com/agentevents/agentevents/store"
	"github.com/agentevents/agentevents/store/internal/sqldb"
	"github.com/agentevents/agentevents/store/pgtest"
)

// On PostgreSQL, where statements wait for others, nothing of a transaction is committed in which one has failed,
// whether anybody has looked or not, and the next transaction knows nothing of it.
func TestNothingIsCommittedAfterAnError(t *testing.T) {
	if !pgtest.OnPostgres() {
		t.Skip("a statement that fails is undone alone there")
	}
	f := open(t)
	at := func() int { return f.count("SELECT at FROM probes") }
	set := func(tx *sqldb.Tx) { _ = tx.Queue("UPDATE probes SET at = at + 1") }
	fail := func(tx *sqldb.Tx) { _ = tx.Queue("UPDATE probes SET at = 1 / 0") }
	ask := func(tx *sqldb.Tx) { _, _ = sqldb.Value[int64](tx, "SELECT 1") }
	for name, steps := range map[string][]func(tx *sqldb.Tx){
		"kept, and then the commit":   {set, fail},
		"kept, and then a query":      {set, fail, ask},
		"a query":                     {set, func(tx *sqldb.Tx) { _, _ = sqldb.Value[int64](tx, "SELECT 1 / 0") }},
		"one that cannot be prepared": {set, func(tx *sqldb.Tx) { _, _ = sqldb.Value[int64](tx, "SELEKT 1") }, set},
		"of which a value cannot be sent": {set, func(tx *sqldb.Tx) {
			_ = tx.Queue("UPDATE probes SET at = ?", func() {})
		}, set, ask},
		"of GORM":              {set, func(tx *sqldb.Tx) { tx.GORM().Exec("SELECT 1 / 0") }},
		"before one of GORM":   {fail, func(tx *sqldb.Tx) { tx.GORM().Exec("SELECT 1") }, set},
		"before a row of GORM": {fail, func(tx *sqldb.Tx) { _ = tx.GORM().Raw("SELECT 1").Row().Err() }, set},
		"before all, and a row of GORM": {
			func(tx *sqldb.Tx) { _ = tx.Queue("SELEKT 1") },
			func(tx *sqldb.Tx) { _ = tx.GORM().Raw("UPDATE probes SET at = at + 1 RETURNING at").Row().Err() },
		},
		"a row that cannot be read": {set, func(tx *sqldb.Tx) { _, _ = sqldb.Value[int64](tx, "SELECT 'x'") }},
	} {
		t.Run(name, func(t *testing.T) {
			before := at()
			err := f.Write(t.Context(), func(tx *sqldb.Tx) error {
				for _, step := range steps {
					step(tx)
				}
				return nil
			})
			if after := at(); err == nil || after != before {
				t.Errorf("committed: %d, before %d; %v", after, before, err)
			}
			f.check(f.Write(t.Context(), func(tx *sqldb.Tx) error { set(tx); return nil }))
			if after := at(); after != before+1 {
				t.Errorf("the next transaction makes %d of %d", after, before)
			}
		})
	}
}

// Statements take effect in the order in which they are given, whichever way they go.
func TestStatementsInOrder(t *testing.T) {
	f := open(t)
	f.check(f.Write(f.ctx, func(tx *sqldb.Tx) error {
		errs := []error{
			tx.Queue("UPDATE probes SET at = 1"), tx.Exec("UPDATE probes SET at = at * 10 + 2"),
			tx.Queue("UPDATE probes SET at = at * 10 + 3"), tx.Queue("UPDATE probes SET at = at * 10 + 4"),
		}
		n, err := sqldb.Value[int64](tx, "SELECT at FROM probes")
		if n != 1234 {
			t.Errorf("found %d", n)
		}
		return errors.Join(append(errs, err, tx.Queue("UPDATE probes SET at = at * 10 + 5"))...)
	}))
	if n := f.count("SELECT at FROM probes"); n != 12345 {
		t.Errorf("stored is %d", n)
	}
	if err := f.Write(f.ctx, func(*sqldb.Tx) error { return errTrouble }); !errors.Is(err, errTrouble) {
		t.Error(err)
	}
	f.check(f.Ready(f.ctx))
}

var errTrouble = errors.New("trouble")

// A commit that the database has answered is one, though the connection ends before it says that it is ready again.
func TestCommitIsAnsweredAndNoMore(t *testing.T) {
	if !pgtest.OnPostgres() {
		t.Skip("there is no connection to end")
	}
	f := open(t)
	var cut atomic.Bool
	s, err := store.Open(f.ctx, store.Options{URL: through(t, f.url, &cut), Now: f.clock.Now})
	f.check(err)
	defer func() { f.check(s.Close()) }()
	cut.Store(true)
	f.check(s.Write(f.ctx, func(tx *sqldb.Tx) error { return tx.Queue("UPDATE probes SET at = 7") }))
	if cut.Load() {
		t.Error("the connection did not end")
	}
	if n := f.count("SELECT at FROM probes"); n != 7 {
		t.Errorf("stored is %d", n)
	}
	f.check(s.Ready(f.ctx))
}

// through is the URL of a database behind a network that ends a connection right after the answer to a commit, once it
// is to.
func through(t *testing.T, databaseURL string, cut *atomic.Bool) string {
	config, err := pgx.ParseConfig(databaseURL)
	if err != nil {
		t.Fatal(err)
	}
	network, address := pgconn.NetworkAddress(config.Host, config.Port)
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = l.Close() })
	go func() {
		for {
			client, err := l.Accept()
			if err != nil {
				return
			}
			server, err := net.Dial(network, address)
			if err != nil {
				t.Error(err)
				return
			}
			go func() { _, _ = io.Copy(server, client); _ = server.Close() }()
			go func() { answers(client, server, cut); _ = client.Close() }()
		}
	}()
	port := l.Addr().(*net.TCPAddr).Port
	return fmt.Sprintf("postgres://%s@127.0.0.1:%d/%s?sslmode=disable", config.User, port, config.Database)
}

// answers carries over what a server says.
func answers(client io.Writer, server io.Reader, cut *atomic.Bool) {
	const committed = "COMMIT\x00"
	said := make([]byte, 1<<16)
	for {
		n, err := server.Read(said)
		if at := bytes.Index(said[:n], []byte(committed)); at >= 0 && cut.CompareAndSwap(true, false) {
			_, _ = client.Write(said[:at+len(committed)])
			return
		}
		if _, failed := client.Write(said[:n]); err != nil || failed != nil {
			return
		}
	}
}
