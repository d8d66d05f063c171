package postgres

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

	"github.com/agentevents/agentevents/store/internal/sqldb"
)

// It does not matter whether the error was checked. The next transaction is not affected.
func TestFailedStatementPreventsTheCommit(t *testing.T) {
	w := openWriter(t)
	at := func() int64 { return w.number("SELECT at FROM probes") }
	set := func(tx *sqldb.Tx) { _ = tx.Queue("UPDATE probes SET at = at + 1") }
	fail := func(tx *sqldb.Tx) { _ = tx.Queue("UPDATE probes SET at = 1 / 0") }
	ask := func(tx *sqldb.Tx) { _, _ = sqldb.Value[int64](tx, "SELECT 1") }
	for name, steps := range map[string][]func(tx *sqldb.Tx){
		"queued, before the commit": {set, fail},
		"queued, before a query":    {set, fail, ask},
		"a query":                   {set, func(tx *sqldb.Tx) { _, _ = sqldb.Value[int64](tx, "SELECT 1 / 0") }},
		"an invalid statement":      {set, func(tx *sqldb.Tx) { _, _ = sqldb.Value[int64](tx, "SELEKT 1") }, set},
		"a value that cannot be sent": {
			set, func(tx *sqldb.Tx) { _ = tx.Queue("UPDATE probes SET at = ?", func() {}) }, set, ask,
		},
		"a statement of GORM":                {set, func(tx *sqldb.Tx) { tx.GORM().Exec("SELECT 1 / 0") }},
		"queued, before a statement of GORM": {fail, func(tx *sqldb.Tx) { tx.GORM().Exec("SELECT 1") }, set},
		"queued, before a row of GORM": {
			fail, func(tx *sqldb.Tx) { _ = tx.GORM().Raw("SELECT 1").Row().Err() }, set,
		},
		"queued first, and a row of GORM": {
			func(tx *sqldb.Tx) { _ = tx.Queue("SELEKT 1") },
			func(tx *sqldb.Tx) { _ = tx.GORM().Raw("UPDATE probes SET at = at + 1 RETURNING at").Row().Err() },
		},
		"a row that cannot be read": {set, func(tx *sqldb.Tx) { _, _ = sqldb.Value[int64](tx, "SELECT 'x'") }},
	} {
		t.Run(name, func(t *testing.T) {
			before := at()
			err := w.Do(t.Context(), func(tx *sqldb.Tx) error {
				for _, step := range steps {
					step(tx)
				}
				return nil
			})
			if after := at(); err == nil || after != before {
				t.Errorf("committed: %d, before %d; %v", after, before, err)
			}
			check(t, w.Do(t.Context(), func(tx *sqldb.Tx) error { set(tx); return nil }))
			if after := at(); after != before+1 {
				t.Errorf("the next transaction has stored %d, before %d", after, before)
			}
		})
	}
}

// The connection ends after the answer to the commit, and before the server is ready for the next query.
func TestAnsweredCommitSucceedsThoughTheConnectionEnds(t *testing.T) {
	w := openWriter(t)
	var cut atomic.Bool
	db, err := Open(t.Context(), Options{URL: through(t, w.url, &cut, true)})
	check(t, err)
	defer func() { check(t, db.Close()) }()
	writer := newWriter(t, db)
	cut.Store(true)
	check(t, writer.Do(t.Context(), func(tx *sqldb.Tx) error { return tx.Queue("UPDATE probes SET at = 7") }))
	if cut.Load() {
		t.Error("the connection did not end")
	}
	if n := w.number("SELECT at FROM probes"); n != 7 {
		t.Errorf("stored is %d", n)
	}
	check(t, writer.Do(t.Context(), func(tx *sqldb.Tx) error { return tx.Queue("UPDATE probes SET at = 8") }))
}

// Without an answer, the commit may have succeeded.
func TestCommitWithoutAnAnswerIsNotRetried(t *testing.T) {
	w := openWriter(t)
	var cut atomic.Bool
	db, err := Open(t.Context(), Options{URL: through(t, w.url, &cut, false)})
	check(t, err)
	defer func() { check(t, db.Close()) }()
	writer, works := newWriter(t, db), 0
	cut.Store(true)
	err = writer.Do(t.Context(), func(tx *sqldb.Tx) error {
		works++
		tx.CallerOnCommit(func() { t.Error("the hook of a commit was called") })
		return tx.Queue("UPDATE probes SET at = 7")
	})
	if works != 1 || !errors.Is(err, errUnknown) {
		t.Errorf("the work ran %d times, and the error is %v", works, err)
	}
	if n := w.number("SELECT at FROM probes"); n != 7 {
		t.Errorf("stored is %d", n)
	}
}

// through returns the URL of a database behind a proxy. If cut is true, the proxy ends the connection at the answer to
// the next commit: after the answer if answered is true, and before it otherwise.
func through(t *testing.T, databaseURL string, cut *atomic.Bool, answered bool) string {
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
			go func() { forward(client, server, cut, answered); _ = client.Close() }()
		}
	}()
	port := l.Addr().(*net.TCPAddr).Port
	return fmt.Sprintf("postgres://%s@127.0.0.1:%d/%s?sslmode=disable", config.User, port, config.Database)
}

// forward forwards the bytes of a server.
func forward(client io.Writer, server io.Reader, cut *atomic.Bool, answered bool) {
	const committed = "COMMIT\x00"
	data := make([]byte, 1<<16)
	for {
		n, err := server.Read(data)
		if at := bytes.Index(data[:n], []byte(committed)); at >= 0 && cut.CompareAndSwap(true, false) {
			if answered {
				_, _ = client.Write(data[:at+len(committed)])
			}
			return
		}
		if _, failed := client.Write(data[:n]); err != nil || failed != nil {
			return
		}
	}
}
