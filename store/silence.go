package store

import (
	"context"
	"net"
	"sync"
	"time"

	"github.com/jackc/pgx/v5/pgconn"
)

// pgSilence is how long a server that was asked something may say nothing: longer than it works on a statement that
// reads. One that is frozen, or behind a network that drops what is sent, would be waited for for ever.
const pgSilence = pgQuery + 5*time.Second

// listener is a connection to a server on which a read ends after pgSilence, unless its user has set an end of its own.
type listener struct {
	net.Conn
	mu  sync.Mutex
	own bool // whether the user has
}

// listening has connections be made as dial does, and end when the server is silent.
func listening(dial pgconn.DialFunc) pgconn.DialFunc {
	return func(ctx context.Context, network, address string) (net.Conn, error) {
		conn, err := dial(ctx, network, address)
		if err != nil {
			return nil, err
		}
		return &listener{Conn: conn}, nil
	}
}

// SetDeadline implements net.Conn.
func (c *listener) SetDeadline(t time.Time) error { return c.set(t, c.Conn.SetDeadline) }

// SetReadDeadline implements net.Conn.
func (c *listener) SetReadDeadline(t time.Time) error { return c.set(t, c.Conn.SetReadDeadline) }

func (c *listener) set(t time.Time, set func(time.Time) error) error {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.own = !t.IsZero()
	return set(t)
}

// Read implements net.Conn.
func (c *listener) Read(p []byte) (int, error) {
	if err := c.begin(); err != nil {
		return 0, err
	}
	return c.Conn.Read(p)
}

func (c *listener) begin() error {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.own {
		return nil
	}
	return c.Conn.SetReadDeadline(time.Now().Add(pgSilence))
}
