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

var errHeldUp = errors.New("the server was held up, and sent nothing")

// punctual is a connection on which nothing is written from a time on. A process may be frozen at any instruction, also
// after it has looked at its lease, and must not go on with a request when it wakes and others may have the lane. Between
// this look and the write there is nothing but the system.
type punctual struct {
	net.Conn
	until atomic.Pointer[time.Time]
}

// Write implements net.Conn.
func (c *punctual) Write(b []byte) (int, error) {
	if until := c.until.Load(); until != nil && !time.Now().Before(*until) {
		return 0, errHeldUp
	}
	return c.Conn.Write(b)
}

// punctually has an exchange write nothing when its context's deadline or the lease is over. Without a lease it is the
// deadline alone.
func punctually(ctx context.Context, lease time.Time) context.Context {
	until, _ := ctx.Deadline()
	if !lease.IsZero() && lease.Before(until) {
		until = lease
	}
	return httptrace.WithClientTrace(ctx, &httptrace.ClientTrace{GotConn: func(info httptrace.GotConnInfo) {
		if c := punctualOf(info.Conn); c != nil {
			c.until.Store(&until)
		}
	}})
}

// punctualOf is what is beneath a connection, nil for one that somebody else has made.
func punctualOf(conn net.Conn) *punctual {
	if secure, ok := conn.(*tls.Conn); ok {
		conn = secure.NetConn()
	}
	c, _ := conn.(*punctual)
	return c
}
