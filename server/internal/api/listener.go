package api

import (
	"bytes"
	"container/list"
	"io"
	"log/slog"
	"net"
	"net/http"
	"runtime"
	"sync"
	"sync/atomic"
	"time"

	"github.com/agentevents/agentevents/server/internal/telemetry"
)

// maxUnread is the number of bytes that the server discards after an answer that closes the connection.
const maxUnread = 16 << 20

// listener accepts TCP connections. If there are too many, it closes idle ones. On its connections every error has the
// form of the API, even one that net/http answers itself. Clients receive the error even while they send.
type listener struct {
	net.Listener
	log     *slog.Logger
	lines   *telemetry.LineLimiter // of malformed requests
	evicted *telemetry.Tally
	refused *telemetry.Tally
	linger  time.Duration // time for a client to finish sending after an answer that closes the connection
	open    *connections
	closed  chan struct{}
	close   func() error
}

func newListener(on net.Listener, log *slog.Logger, limits Limits) *listener {
	l := &listener{
		Listener: on, log: log, linger: limits.Head, open: newConnections(limits), closed: make(chan struct{}),
		lines:   telemetry.NewLineLimiter(log, "malformed"),
		evicted: telemetry.NewTally(log, slog.LevelWarn, "idle connections closed"),
		refused: telemetry.NewTally(log, slog.LevelWarn, "connections refused"),
	}
	l.close = sync.OnceValue(func() error {
		close(l.closed)
		return on.Close()
	})
	return l
}

// Accept implements net.Listener. It refuses a connection only if there are too many and none is idle.
func (l *listener) Accept() (net.Conn, error) {
	for {
		accepted, err := l.Listener.Accept()
		if err != nil {
			return nil, err
		}
		c := &conn{TCPConn: accepted.(*net.TCPConn), on: l}
		evicted, ok := l.open.add(c, accepted.RemoteAddr().(*net.TCPAddr).AddrPort().Addr())
		if evicted != nil {
			l.evicted.Add()
			_ = evicted.TCPConn.Close() // fails if it is closed already
		}
		if ok {
			return c, nil
		}
		l.refused.Add()
		_ = accepted.Close()
	}
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
	lineRead atomic.Bool // the request line is complete
	answered atomic.Bool // an answer has begun since the connection was last idle
	drained  sync.Once

	// Under the mutex of on.open:
	peer      *peer         // nil if it is not among the open ones
	place     *list.Element // among the idle ones of its peer, nil if it is not idle
	idleSince uint64
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
		c.on.open.setIdle(c)
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
	defer c.on.open.remove(c)
	if c.answered.Load() && !c.on.isClosed() {
		_ = c.CloseWrite() // fails if the client closed the connection
	}
	return c.TCPConn.Close()
}

// followState is an http.Server.ConnState. It resets an idle connection for the next request. When the head of a
// request has arrived, the connection stays idle until admit. Between two requests it yields: a client that sends
// requests without waiting for answers would otherwise keep a processor for a whole time slice.
func followState(on net.Conn, state http.ConnState) {
	c, ok := on.(*conn)
	switch {
	case !ok:
	case state == http.StateIdle:
		c.answered.Store(false)
		c.lineRead.Store(false)
		c.on.open.setIdle(c)
		runtime.Gosched()
	case state == http.StateActive:
		c.on.open.setIdle(c)
	}
}
