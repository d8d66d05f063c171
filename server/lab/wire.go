package lab

import (
	"bytes"
	"errors"
	"fmt"
	"net"
	"slices"
	"strconv"
	"time"
)

// maxIdle is how long a connection is kept without a request: servers close those that have none for longer.
const maxIdle = time.Second

// Wire sends requests to a server over one connection at a time, and knows as much of HTTP as the answers need: what it
// spends itself is missing to what it measures on the same machine. It is used by one goroutine.
type Wire struct {
	Addr string // HOST:PORT on loopback

	conn net.Conn
	used time.Time // last
	in   []byte    // the last answer
}

// Close closes the connection.
func (w *Wire) Close() error {
	if w.conn == nil {
		return nil
	}
	return w.conn.Close()
}

// Call sends a request as it stands and returns the body of its answer, which is valid until the next call. An answer
// that is not a 2xx is an error.
func (w *Wire) Call(request []byte) (body []byte, err error) {
	if time.Since(w.used) > maxIdle {
		_ = w.Close()
		if w.conn, err = net.Dial("tcp", w.Addr); err != nil { //nolint:noctx // on loopback
			return nil, err
		}
	}
	if _, err := w.conn.Write(request); err != nil {
		return nil, err
	}
	head, body, err := w.read()
	if err != nil {
		return nil, err
	}
	if w.used = time.Now(); !bytes.HasPrefix(head, []byte("HTTP/1.1 2")) {
		return nil, fmt.Errorf("the answer is %.32q: %s", head, body)
	}
	return body, nil
}

// read reads an answer, whose length must be in its head.
func (w *Wire) read() (head, body []byte, err error) {
	w.in = w.in[:0]
	for {
		if head, body, found := bytes.Cut(w.in, []byte("\r\n\r\n")); found {
			_, length, _ := bytes.Cut(head, []byte("Content-Length: "))
			length, _, _ = bytes.Cut(length, []byte("\r\n"))
			n, err := strconv.Atoi(string(length))
			if err != nil {
				return nil, nil, errors.New("the answer does not say how long it is")
			}
			if len(body) >= n {
				return head, body, nil
			}
		}
		w.in = slices.Grow(w.in, 16<<10)
		n, err := w.conn.Read(w.in[len(w.in):cap(w.in)])
		if err != nil {
			return nil, nil, err
		}
		w.in = w.in[:len(w.in)+n]
	}
}
