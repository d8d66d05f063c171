package lab

import (
	"bufio"
	"bytes"
	"errors"
	"fmt"
	"io"
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
	in   *bufio.Reader
	body []byte
}

// Close closes the connection.
func (w *Wire) Close() error {
	if w.conn == nil {
		return nil
	}
	return w.conn.Close()
}

func (w *Wire) connect() (err error) {
	if w.conn != nil && time.Since(w.used) < maxIdle {
		return nil
	}
	_ = w.Close()
	if w.conn, err = net.Dial("tcp", w.Addr); err != nil { //nolint:noctx // on loopback
		return err
	}
	w.in = bufio.NewReaderSize(w.conn, 16<<10)
	return nil
}

// Call sends a request as it stands and returns the body of its answer, which is valid until the next call. An answer
// that is not a 2xx is an error.
func (w *Wire) Call(request []byte) ([]byte, error) {
	if err := w.connect(); err != nil {
		return nil, err
	}
	defer func() { w.used = time.Now() }()
	if _, err := w.conn.Write(request); err != nil {
		return nil, err
	}
	first, err := w.in.ReadSlice('\n')
	if err != nil {
		return nil, err
	}
	succeeded := len(first) > 9 && first[9] == '2'
	said := string(first[:min(len(first), 32)])
	if err := w.readAnswer(); err != nil {
		return nil, err
	}
	if !succeeded {
		return nil, fmt.Errorf("the answer is %q: %s", said, w.body)
	}
	return w.body, nil
}

var contentLength = []byte("content-length:")

// readAnswer reads the headers of an answer and its body, whose length must be among them.
func (w *Wire) readAnswer() error {
	length := -1
	for {
		header, err := w.in.ReadSlice('\n')
		if err != nil {
			return err
		}
		header = bytes.TrimRight(header, "\r\n")
		n := len(contentLength)
		switch {
		case len(header) == 0 && length < 0:
			return errors.New("the answer does not say how long it is")
		case len(header) == 0:
			w.body = slices.Grow(w.body[:0], length)[:length]
			_, err = io.ReadFull(w.in, w.body)
			return err
		case len(header) >= n && bytes.EqualFold(header[:n], contentLength):
			if length, err = strconv.Atoi(string(bytes.TrimSpace(header[n:]))); err != nil {
				return err
			}
		}
	}
}
