package webhook

import (
	"context"
	"crypto/tls"
	"errors"
	"net"
	"net/http/httptrace"
	"sync/atomic"
	"time"
)

var (
	errLeaseOver = errors.New("the server was suspended until its lease was over, and sent nothing")
	errStale     = errors.New("the connection was kept open and turned out to be closed")
)

// leaseConn is a connection on which nothing is written after its lease. A process may be suspended at any instruction,
// also after it has checked its lease. When it resumes, another process may have the lane, and it must not continue
// with a request. Between the check in Write and the write itself there is only the system call.
type leaseConn struct {
	net.Conn
	use   atomic.Pointer[use]
	heard atomic.Bool // something was read after the request of that use
}

// Write implements net.Conn.
func (c *leaseConn) Write(b []byte) (int, error) {
	u := c.use.Load()
	if u == nil {
		return c.Conn.Write(b)
	}
	if err := u.refusal(); err != nil {
		return 0, err
	}
	if !u.wrote.Load() {
		c.heard.Store(false)
	}
	n, err := c.Conn.Write(b)
	if n > 0 {
		u.wrote.Store(true)
	}
	return n, err
}

// Read implements net.Conn.
func (c *leaseConn) Read(b []byte) (int, error) {
	n, err := c.Conn.Read(b)
	if n > 0 {
		c.heard.Store(true)
	}
	return n, err
}

// use is the use that one exchange makes of its connections, which net/http gives it one after another.
type use struct {
	until time.Time
	end   context.CancelCauseFunc

	conn     atomic.Pointer[leaseConn] // the last one, nil for one of another transport
	kept     atomic.Bool               // that connection has served another exchange before
	wrote    atomic.Bool               // a part of the request was sent, on any connection
	answered atomic.Bool               // the answer has begun
	stopped  atomic.Bool               // nothing more is written
	leftover atomic.Bool               // the answer was there before its request
	late     atomic.Bool               // a write was refused because the lease was over
}

// newUse returns a use and the context for its exchange. Nothing is written after the deadline of ctx, nor after the
// lease, if there is one.
func newUse(ctx context.Context, lease time.Time) (*use, context.Context) {
	until, _ := ctx.Deadline()
	if !lease.IsZero() && lease.Before(until) {
		until = lease
	}
	u := &use{until: until}
	ctx, u.end = context.WithCancelCause(ctx)
	return u, httptrace.WithClientTrace(ctx, &httptrace.ClientTrace{
		GotConn: u.gotConn, GotFirstResponseByte: u.gotFirstResponseByte,
	})
}

// gotConn stops an exchange to which net/http gives a second kept connection after the first one has failed: it would
// resend the request on each that is left.
func (u *use) gotConn(info httptrace.GotConnInfo) {
	c := leaseConnOf(info.Conn)
	if c == nil {
		return
	}
	if info.Reused && u.wrote.Load() {
		u.stopped.Store(true)
	}
	u.kept.Store(info.Reused)
	u.conn.Store(c)
	c.heard.Store(false)
	c.use.Store(u)
}

// gotFirstResponseByte detects an answer on a kept connection from which nothing was read since the request was sent.
// The receiver sent these bytes beyond the end of the answer before.
func (u *use) gotFirstResponseByte() {
	u.answered.Store(true)
	if c := u.conn.Load(); c != nil && u.kept.Load() && !c.heard.Load() {
		u.leftover.Store(true)
	}
}

// refusal returns the reason why nothing may be written. It ends the exchange, or net/http would try the next
// connection.
func (u *use) refusal() error {
	switch {
	case !time.Now().Before(u.until):
		u.late.Store(true)
		u.end(errLeaseOver)
		return errLeaseOver
	case u.stopped.Load():
		u.end(errStale)
		return errStale
	}
	return nil
}

// reason is the error of an exchange. net/http may report the state of the connection instead.
func (u *use) reason(err error) error {
	if err != nil && u.late.Load() {
		return errLeaseOver
	}
	return err
}

// stale reports whether the request was sent on a connection that had been kept open, and got no answer. It closes such
// a connection.
func (u *use) stale() bool {
	if u.leftover.Load() {
		u.conn.Load().Close()
		return true
	}
	return u.kept.Load() && !u.answered.Load()
}

// leaseConnOf returns the connection beneath a connection, or nil for one of another transport.
func leaseConnOf(conn net.Conn) *leaseConn {
	if secure, ok := conn.(*tls.Conn); ok {
		conn = secure.NetConn()
	}
	c, _ := conn.(*leaseConn)
	return c
}
