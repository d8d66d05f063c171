package postgres

import (
	"context"
	"net"
	"sync"
	"time"

	"github.com/jackc/pgx/v5/pgconn"
)

// responseTimeout is the time in which a server must respond: longer than the time limit of a statement that reads.
// Without it, a read would wait for ever for a server that is suspended, or behind a network that drops packets.
const responseTimeout = readTimeout + 5*time.Second

// deadlineConn is a connection whose reads end after responseTimeout, unless the driver has set a deadline of its own.
type deadlineConn struct {
	net.Conn
	mu  sync.Mutex
	own bool // the driver has set a deadline
}

// withReadDeadline wraps the connections of dial in a deadlineConn.
func withReadDeadline(dial pgconn.DialFunc) pgconn.DialFunc {
	return func(ctx context.Context, network, address string) (net.Conn, error) {
		conn, err := dial(ctx, network, address)
		if err != nil {
			return nil, err
		}
		return &deadlineConn{Conn: conn}, nil
	}
}

// SetDeadline implements net.Conn.
func (c *deadlineConn) SetDeadline(t time.Time) error { return c.set(t, c.Conn.SetDeadline) }

// SetReadDeadline implements net.Conn.
func (c *deadlineConn) SetReadDeadline(t time.Time) error { return c.set(t, c.Conn.SetReadDeadline) }

func (c *deadlineConn) set(t time.Time, set func(time.Time) error) error {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.own = !t.IsZero()
	return set(t)
}

// Read implements net.Conn.
func (c *deadlineConn) Read(p []byte) (int, error) {
	if err := c.begin(); err != nil {
		return 0, err
	}
	return c.Conn.Read(p)
}

func (c *deadlineConn) begin() error {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.own {
		return nil
	}
	return c.Conn.SetReadDeadline(time.Now().Add(responseTimeout))
}
