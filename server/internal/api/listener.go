package api

import (
	"bytes"
	"io"
	"log/slog"
	"net"
	"net/http"
	"sync"
	"sync/atomic"
	"time"
)

// maxUnread is how many bytes the server discards after an answer that closes the connection.
const maxUnread = 16 << 20

// listener accepts TCP connections and bounds how many are open at a time. On its connections every error has the form
// of the API, even if net/http answers without a handler, and the client can read it.
type listener struct {
	net.Listener
	log    *slog.Logger
	linger time.Duration // how long a client may still send after an answer that closes the connection
	open   chan struct{} // a value for each open connection
	closed chan struct{}
	close  func() error
}

func newListener(on net.Listener, log *slog.Logger, limits Limits) *listener {
	l := &listener{
		Listener: on, log: log, linger: limits.Head,
		open: make(chan struct{}, limits.Connections), closed: make(chan struct{}),
	}
	l.close = sync.OnceValue(func() error {
		close(l.closed)
		return on.Close()
	})
	return l
}

// Accept implements net.Listener.
func (l *listener) Accept() (net.Conn, error) {
	select {
	case <-l.closed:
		return nil, net.ErrClosed
	case l.open <- struct{}{}:
	}
	accepted, err := l.Listener.Accept()
	if err != nil {
		<-l.open
		return nil, err
	}
	return &conn{TCPConn: accepted.(*net.TCPConn), on: l, release: sync.OnceFunc(func() { <-l.open })}, nil
}

// Close implements net.Listener.
func (l *listener) Close() error { return l.close() }

func (l *listener) isClosed() bool {
	select {
	case <-l.closed:
		return true
	default:
		return false
	}
}

// conn is a connection of a listener. It embeds the TCP connection, since net/http looks for its method ReadFrom.
type conn struct {
	*net.TCPConn
	on       *listener
	release  func()
	lineRead atomic.Bool // the request line has arrived
	answered atomic.Bool // an answer has begun, and the connection has not been idle since
	drained  sync.Once
}

// Read implements net.Conn.
func (c *conn) Read(p []byte) (int, error) {
	n, err := c.TCPConn.Read(p)
	if !c.lineRead.Load() && bytes.IndexByte(p[:n], '\n') >= 0 {
		c.lineRead.Store(true)
	}
	return n, err
}

// Write implements net.Conn. It replaces an answer that net/http gives without a handler.
func (c *conn) Write(p []byte) (int, error) {
	if c.answered.Swap(true) { // p continues an answer, whose text may be the client's
		return c.TCPConn.Write(p)
	}
	answer, ok := parseNetHTTPAnswer(p)
	if !ok {
		return c.TCPConn.Write(p)
	}
	if _, err := c.TCPConn.Write(c.refuse(answer.refusal(c.lineRead.Load()))); err != nil {
		return 0, err
	}
	return len(p), nil
}

// CloseWrite ends the answer. It discards what the client still sends, within the limits: a connection that is closed
// with unread bytes is reset, and the client may lose the answer.
func (c *conn) CloseWrite() (err error) {
	c.drained.Do(func() {
		if err = c.TCPConn.CloseWrite(); err != nil {
			return
		}
		if err = c.SetReadDeadline(time.Now().Add(c.on.linger)); err == nil {
			_, _ = io.CopyN(io.Discard, c.TCPConn, maxUnread)
		}
	})
	return err
}

// Close implements net.Conn. It waits for the client only after an answer, and not during shutdown.
func (c *conn) Close() error {
	defer c.release()
	if c.answered.Load() && !c.on.isClosed() {
		_ = c.CloseWrite() // fails if the client closed the connection
	}
	return c.TCPConn.Close()
}

// awaitRequest is an http.Server.ConnState.
func awaitRequest(idle net.Conn, state http.ConnState) {
	if c, ok := idle.(*conn); ok && state == http.StateIdle {
		c.answered.Store(false)
		c.lineRead.Store(false)
	}
}
