package store

import (
	"context"
	"errors"
	"log/slog"
	"path/filepath"
	"sync/atomic"
	"testing"

	"github.com/mattn/go-sqlite3"

	"github.com/agentevents/agentevents/store/internal/sqldb"
	"github.com/agentevents/agentevents/store/internal/sqlite"
	"github.com/agentevents/agentevents/store/pgtest"
)

// watchedStore is a store on SQLite whose commits are counted and can be made to fail.
type watchedStore struct {
	*Store
	t       testing.TB
	commits atomic.Int64
	refuse  atomic.Bool // refuses the next commit
}

func openWatchedStore(t testing.TB) *watchedStore {
	t.Helper()
	pgtest.SQLiteOnly(t, "it watches SQLite's commits")
	s, err := Open(context.Background(), Options{
		URL: "sqlite:" + filepath.Join(t.TempDir(), "agentevents.db"), Log: slog.New(slog.DiscardHandler),
	})
	if err != nil {
		t.Fatal(err)
	}
	w := &watchedStore{Store: s, t: t}
	err = s.engine.(*sqliteEngine).file.Conn().Raw(func(conn any) error {
		conn.(*sqlite3.SQLiteConn).RegisterCommitHook(func() int {
			if w.refuse.Swap(false) {
				return 1
			}
			w.commits.Add(1)
			return 0
		})
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	return w
}

func (w *watchedStore) done() {
	if err := w.Close(); err != nil {
		w.t.Error(err)
	}
}

func (w *watchedStore) wantUnavailable(err error) {
	w.t.Helper()
	var known *Error
	if !errors.As(err, &known) || known.Kind != Unavailable {
		w.t.Errorf("error is %v, want one of kind Unavailable", err)
	}
}

// addClient inserts a client.
func addClient(tx *sqldb.Tx) error {
	return tx.Exec("INSERT INTO clients (id, created_at) VALUES ('12', 0)")
}

// A failed commit, an ended transaction and a closed store are Unavailable. An error of the function is returned
// unchanged.
func TestWriteWithoutACommitIsUnavailable(t *testing.T) {
	w := openWatchedStore(t)
	w.refuse.Store(true)
	w.wantUnavailable(w.write(t.Context(), addClient))
	w.wantUnavailable(w.write(t.Context(), func(tx *sqldb.Tx) error { return tx.Exec("ROLLBACK") }))
	own := errors.New("its own")
	if err := w.write(t.Context(), func(*sqldb.Tx) error { return own }); !errors.Is(err, own) {
		t.Errorf("a function's own error is %v", err)
	}
	if err := w.write(t.Context(), addClient); err != nil {
		t.Errorf("a later write: %v", err)
	}
	if err := w.write(t.Context(), addClient); !isDuplicate(err) {
		t.Errorf("the same write again: %v", err)
	}
	w.done()
	w.wantUnavailable(w.write(t.Context(), addClient))
}

// Ready returns when its context ends, while a transaction hangs. A later call is not affected.
func TestReadyReturnsWhileATransactionHangs(t *testing.T) {
	w := openWatchedStore(t)
	defer w.done()
	hold, held, done := make(chan struct{}), make(chan struct{}), make(chan error)
	go func() {
		done <- w.write(t.Context(), func(*sqldb.Tx) error { close(held); <-hold; return nil })
	}()
	<-held
	asked := make(chan error)
	ctx, end := context.WithCancel(t.Context())
	go func() { asked <- w.Ready(ctx) }()
	for w.writes.(*sqlite.Writer).Waiting() == 0 {
		select {
		case err := <-asked:
			t.Fatalf("Ready returned early: %v", err)
		default:
		}
	}
	end()
	if err := <-asked; !errors.Is(err, context.Canceled) {
		t.Errorf("Ready returned %v", err)
	}
	close(hold)
	if err := <-done; err != nil {
		t.Error(err)
	}
	if err := w.Ready(t.Context()); err != nil {
		t.Errorf("after the transaction: %v", err)
	}
}
