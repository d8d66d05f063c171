package lab

import (
	"cmp"
	"context"
	"fmt"
	"io"
	"net"
	"net/http"
	"strconv"
	"sync"
	"sync/atomic"
	"time"
)

// Reply is a receiver's reply to one request.
type Reply struct {
	Status     int             // of the answer; 0 means 200
	RetryAfter int             // seconds of the header Retry-After, 0 for none
	Delay      time.Duration   // before the answer
	Hold       <-chan struct{} // if set, the request waits until it is closed, and then gets another reply
	Cut        bool            // ends the connection instead of an answer
}

// Receiver is a web server on a port of loopback. It records every request, and gives it the reply of its program.
type Receiver struct {
	URL    string
	Number int // among the receivers of its record

	// Peer returns Arrival.Peer for the requests of a connection; nil means nil. It must not wait.
	Peer atomic.Pointer[func(net.Conn) any]

	record  *Record
	reply   func(*Arrival) Reply
	address string       // HOST:PORT
	port    sync.Mutex   // held while the port is opened or closed, or must not be
	http    *http.Server // nil while the port is closed
	open    atomic.Int64 // connections
	newest  atomic.Value // remote address of the last connection, a string
}

// NewReceiver opens a receiver. A nil program answers every request with 200 immediately. The program is called
// concurrently.
func NewReceiver(record *Record, number int, program func(*Arrival) Reply) (*Receiver, error) {
	if program == nil {
		program = func(*Arrival) Reply { return Reply{} }
	}
	r := &Receiver{Number: number, record: record, reply: program, address: "127.0.0.1:0"}
	err := r.OpenPort()
	r.URL = "http://" + r.address
	return r, err
}

// Close ends the receiver and its connections.
func (r *Receiver) Close() {
	r.port.Lock()
	defer r.port.Unlock()
	if r.http != nil {
		_ = r.http.Close()
	}
}

// ClosePort closes the port. It returns after the requests that have arrived got their answers.
func (r *Receiver) ClosePort() error {
	r.port.Lock()
	defer r.port.Unlock()
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	defer cancel()
	err := r.http.Shutdown(ctx)
	r.http = nil
	return err
}

// OpenPort opens the port. After ClosePort, it tries again while another program's connection uses the port.
func (r *Receiver) OpenPort() (err error) {
	r.port.Lock()
	defer r.port.Unlock()
	var l net.Listener
	if late := Until(context.Background(), patience, func() bool {
		l, err = net.Listen("tcp", r.address) //nolint:noctx // does not wait
		return err == nil
	}); late != nil {
		return fmt.Errorf("open a receiver: %w", err)
	}
	s := &http.Server{Handler: r, ReadHeaderTimeout: patience, ConnState: r.count, ConnContext: r.connected}
	go func() { _ = s.Serve(l) }() // until Close or ClosePort
	r.address, r.http = l.Addr().String(), s
	return nil
}

type peerKey struct{}

func (r *Receiver) connected(ctx context.Context, c net.Conn) context.Context {
	if peer := r.Peer.Load(); peer != nil {
		return context.WithValue(ctx, peerKey{}, (*peer)(c))
	}
	return ctx
}

func (r *Receiver) count(c net.Conn, state http.ConnState) {
	switch state {
	case http.StateNew:
		r.open.Add(1)
		r.newest.Store(c.RemoteAddr().String())
	case http.StateClosed:
		r.open.Add(-1)
	}
}

// Settle waits until all requests of servers that have ended are recorded: it waits for the end of their connections.
func (r *Receiver) Settle(ctx context.Context) error {
	r.port.Lock()
	defer r.port.Unlock()
	if r.http == nil {
		return nil // ClosePort waited for them
	}
	last, err := net.Dial("tcp", r.address) //nolint:noctx // on loopback
	if err != nil {
		return err
	}
	defer last.Close()
	// Connections are accepted in order, so earlier ones are accepted before last.
	if err := Until(ctx, patience, func() bool {
		return r.newest.Load() == last.LocalAddr().String() && r.open.Load() == 1
	}); err != nil {
		return fmt.Errorf("a connection of a server that has ended stays open: %w", err)
	}
	return nil
}

func (r *Receiver) ServeHTTP(w http.ResponseWriter, req *http.Request) {
	a, err := r.read(req)
	if err != nil {
		return // the sender was killed while it sent
	}
	r.record.arrive(a)
	reply := r.wait(req.Context(), a)
	if gone := req.Context().Err() != nil; gone || reply.Cut {
		r.record.end(a, 0, !gone)
		panic(http.ErrAbortHandler) // ends the connection
	}
	if reply.RetryAfter > 0 {
		w.Header().Set("Retry-After", strconv.Itoa(reply.RetryAfter))
	}
	status := cmp.Or(reply.Status, http.StatusOK)
	r.record.end(a, status, false)
	w.WriteHeader(status)
}

func (r *Receiver) read(req *http.Request) (*Arrival, error) {
	body, err := io.ReadAll(io.LimitReader(req.Body, 1<<16))
	a := &Arrival{
		Receiver: r.Number, Method: req.Method, Query: req.URL.RawQuery, Body: string(body),
		ID: req.Header.Get("webhook-id"), Peer: req.Context().Value(peerKey{}),
	}
	a.Path = req.URL.EscapedPath()
	// A malformed number stays 0, which no delivery has as its sequence or attempt.
	a.Sequence, _ = strconv.ParseInt(req.Header.Get("agentevents-sequence"), 10, 64)
	a.Attempt, _ = strconv.Atoi(req.Header.Get("agentevents-attempt"))
	if r.record.KeepHeaders {
		a.Header = req.Header
	}
	return a, err
}

// wait returns the reply to a request, after its Hold and Delay. It ends early if the sender closes the connection.
func (r *Receiver) wait(ctx context.Context, a *Arrival) Reply {
	reply := r.reply(a)
	for reply.Hold != nil {
		r.record.hold(a)
		select {
		case <-reply.Hold:
		case <-ctx.Done():
			return reply
		}
		reply = r.reply(a)
	}
	if reply.Delay > 0 {
		_ = Pause(ctx, reply.Delay)
	}
	return reply
}
