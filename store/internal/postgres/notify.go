package postgres

import (
	"context"
	"log/slog"
	"sync"
	"time"

	"github.com/jackc/pgx/v5"
)

// servedLock is the advisory lock that all processes share that serve a database, so that none copies into it
// meanwhile.
const servedLock = "24934::bigint << 48"

const (
	channel        = "agentevents"
	reconnectAfter = time.Second
	hangUpTimeout  = time.Second
)

// Notify sends a message to all processes that serve the database, this one included.
func (db *DB) Notify(ctx context.Context, payload string) error {
	ctx, cancel := context.WithTimeout(ctx, TransactionTimeout)
	defer cancel()
	_, err := db.writers.ExecContext(ctx, "SELECT pg_notify($1, $2)", channel, payload)
	return err
}

// Listener is what is done with messages.
type Listener struct {
	Log *slog.Logger

	Attempted func()               // is called once, when the first attempt to connect has succeeded or failed
	Connected func()               // is called each time that it is connected; messages before may have been missed
	Received  func(payload string) // is called with each message
}

// Listen receives messages, and says that the database is served, until ctx ends. It connects again when the connection
// is lost.
func (db *DB) Listen(ctx context.Context, l Listener) {
	attempted := sync.OnceFunc(l.Attempted)
	for ctx.Err() == nil {
		err := db.listenOnce(ctx, l, attempted)
		attempted()
		if err == nil || ctx.Err() != nil {
			continue
		}
		l.Log.Warn("listen to the other processes", "error", err)
		select {
		case <-ctx.Done():
		case <-time.After(reconnectAfter):
		}
	}
}

// listenOnce receives messages until the connection is lost.
func (db *DB) listenOnce(ctx context.Context, l Listener, attempted func()) error {
	c, err := writerConfig(db.url, nil)
	if err != nil {
		return err
	}
	conn, err := pgx.ConnectConfig(ctx, c)
	if err != nil {
		return err
	}
	defer hangUp(conn)
	if err := subscribe(ctx, conn); err != nil {
		return err
	}
	attempted()
	l.Connected()
	for {
		n, err := conn.WaitForNotification(ctx)
		if err != nil {
			return err
		}
		l.Received(n.Payload)
	}
}

func subscribe(ctx context.Context, conn *pgx.Conn) error {
	ctx, cancel := context.WithTimeout(ctx, TransactionTimeout)
	defer cancel()
	_, err := conn.Exec(ctx, "LISTEN "+channel+"; SELECT pg_advisory_lock_shared("+servedLock+")")
	return err
}

// hangUp does not wait for a server that is gone. One that is there notices the end of a connection a little later: the
// locks that it holds are released before.
func hangUp(conn *pgx.Conn) {
	ctx, cancel := context.WithTimeout(context.Background(), hangUpTimeout)
	defer cancel()
	if !conn.IsClosed() {
		_, _ = conn.Exec(ctx, "SELECT pg_advisory_unlock_all()")
	}
	_ = conn.Close(ctx)
}

// LockUnserved says whether no process serves the database, nor can begin to until the connection ends.
func LockUnserved(ctx context.Context, conn *pgx.Conn) (locked bool, err error) {
	err = conn.QueryRow(ctx, "SELECT pg_try_advisory_lock("+servedLock+")").Scan(&locked)
	return locked, err
}
