package postgres

import (
	"context"
	"log/slog"
	"sync"
	"time"

	"github.com/jackc/pgx/v5"
)

// servedLock is an advisory lock. All processes that serve the database share it, so that no copy into it can begin.
const servedLock = "24934::bigint << 48"

const (
	channel           = "agentevents"
	reconnectAfter    = time.Second
	disconnectTimeout = time.Second
)

// Notify sends a message to all processes that serve the database, including this one.
func (db *DB) Notify(ctx context.Context, payload string) error {
	ctx, cancel := context.WithTimeout(ctx, TransactionTimeout)
	defer cancel()
	_, err := db.writers.ExecContext(ctx, "SELECT pg_notify($1, $2)", channel, payload)
	return err
}

// Listener receives the events of Listen.
type Listener struct {
	Log *slog.Logger

	Attempted func()               // called once, when the first connection attempt has succeeded or failed
	Connected func()               // called after each connect; earlier messages may be lost
	Received  func(payload string) // called with each message
}

// Listen receives messages, and marks the database as served, until ctx ends. It reconnects after the connection is
// lost.
func (db *DB) Listen(ctx context.Context, l Listener) {
	attempted := sync.OnceFunc(l.Attempted)
	for ctx.Err() == nil {
		err := db.listenOnce(ctx, l, attempted)
		attempted()
		if err == nil || ctx.Err() != nil {
			continue
		}
		l.Log.Warn("notification connection lost", "error", err)
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
	defer disconnect(conn)
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

// disconnect closes the connection without waiting long for a server that does not respond. It releases the locks
// first, because a server notices the end of a connection only a little later.
func disconnect(conn *pgx.Conn) {
	ctx, cancel := context.WithTimeout(context.Background(), disconnectTimeout)
	defer cancel()
	if !conn.IsClosed() {
		_, _ = conn.Exec(ctx, "SELECT pg_advisory_unlock_all()")
	}
	_ = conn.Close(ctx)
}

// LockUnserved takes the served lock exclusively, and reports whether it could. Until the connection ends, no process
// can begin to serve the database.
func LockUnserved(ctx context.Context, conn *pgx.Conn) (locked bool, err error) {
	err = conn.QueryRow(ctx, "SELECT pg_try_advisory_lock("+servedLock+")").Scan(&locked)
	return locked, err
}
