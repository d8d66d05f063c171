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

// maxUnread is the number of bytes that the server discards after an answer that closes the connection.
const maxUnread = 16 << 20

// listener accepts TCP connections up to a limit. On its connections every error has the form of the API, even one that
// net/http answers itself. Clients receive the error even while they send.
type listener struct {
	net.Listener
	log    *slog.Logger
	linger time.Duration // time for a client to finish sending after an answer that closes the connection
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

// conn is a connection of a listener. It embeds *net.TCPConn because net/http uses its method ReadFrom.
type conn struct {
	*net.TCPConn
	on       *listener
	release  func()
	lineRead atomic.Bool // the request line is complete
	answered atomic.Bool // an answer has begun since the connection was last idle
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

// Write implements net.Conn. It replaces the answers that net/http writes itself.
func (c *conn) Write(p []byte) (int, error) {
	if c.answered.Swap(true) { // p continues an answer, which may repeat text of the client
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

// CloseWrite ends the answer, and then discards, within limits, what the client still sends. Closing a connection with
// unread bytes would reset it, and the client could lose the answer.
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

// Close implements net.Conn. It waits for the client only after an answer, and never during shutdown.
func (c *conn) Close() error {
	defer c.release()
	if c.answered.Load() && !c.on.isClosed() {
		_ = c.CloseWrite() // fails if the client closed the connection
	}
	return c.TCPConn.Close()
}

// awaitRequest is an http.Server.ConnState. It resets an idle connection for the next request.
func awaitRequest(idle net.Conn, state http.ConnState) {
	if c, ok := idle.(*conn); ok && state == http.StateIdle {
		c.answered.Store(false)
		c.lineRead.Store(false)
	}
}
