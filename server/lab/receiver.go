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

// Reply is how a receiver treats one request.
type Reply struct {
	Status     int             // of the answer; 0 means 200
	RetryAfter int             // seconds of the header Retry-After, 0 for none
	Delay      time.Duration   // before the answer
	Hold       <-chan struct{} // if set: no answer until it is closed, then the receiver asks for a reply again
	Cut        bool            // ends the connection in place of an answer
}

// Receiver is a web server on a port of loopback. It notes every request in its record, and treats it as its program
// says.
type Receiver struct {
	URL    string
	Number int // which of the record's receivers it is

	// Peer returns what Arrival.Peer is for the requests of a connection; nil means nil. It must not wait.
	Peer atomic.Pointer[func(net.Conn) any]

	record  *Record
	reply   func(*Arrival) Reply
	address string       // HOST:PORT
	port    sync.Mutex   // is held while the port is opened or closed, and while that must not be
	http    *http.Server // nil while the port is closed
	open    atomic.Int64 // connections
	newest  atomic.Value // the other end of the last connection, a string
}

// NewReceiver opens a receiver. A program of nil answers every request with 200 at once; else it is called for many
// requests side by side.
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

// ClosePort refuses connections from now on. What has arrived gets its answer before it returns.
func (r *Receiver) ClosePort() error {
	r.port.Lock()
	defer r.port.Unlock()
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	defer cancel()
	err := r.http.Shutdown(ctx)
	r.http = nil
	return err
}

// OpenPort opens the port that was closed, which a connection of another program may use for a moment.
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

// Settle waits until all is noted that was sent by a server that is gone: its connections are read to their ends.
func (r *Receiver) Settle(ctx context.Context) error {
	r.port.Lock()
	defer r.port.Unlock()
	if r.http == nil {
		return nil // ClosePort has waited for them
	}
	last, err := net.Dial("tcp", r.address) //nolint:noctx // on loopback
	if err != nil {
		return err
	}
	defer last.Close()
	// When the last connection is accepted, so are those that were made before.
	if err := Until(ctx, patience, func() bool {
		return r.newest.Load() == last.LocalAddr().String() && r.open.Load() == 1
	}); err != nil {
		return fmt.Errorf("a connection of a server that is gone stays open: %w", err)
	}
	return nil
}

func (r *Receiver) ServeHTTP(w http.ResponseWriter, req *http.Request) {
	a, err := r.read(req)
	if err != nil {
		return // the sender was killed in the middle of it
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
	// What is not a number stays 0, which is no sequence and no attempt of any delivery.
	a.Sequence, _ = strconv.ParseInt(req.Header.Get("agentevents-sequence"), 10, 64)
	a.Attempt, _ = strconv.Atoi(req.Header.Get("agentevents-attempt"))
	if r.record.KeepHeaders {
		a.Header = req.Header
	}
	return a, err
}

// wait waits until a request is due to be treated, or its sender is gone, and returns how to treat it.
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
		_ = Pause(ctx, reply.Delay) // it ends early if the sender is gone
	}
	return reply
}
