package lab

import (
	"bufio"
	"bytes"
	"fmt"
	"io"
	"net"
	"net/http/httputil"
	"strconv"
)

// Wire is a connection to a server that knows as much of HTTP as the answers need: what it spends itself is missing to
// what it measures on the same machine.
type Wire struct {
	conn net.Conn
	in   *bufio.Reader
	body []byte
}

// Dial opens a connection to HOST:PORT on loopback.
func Dial(addr string) (*Wire, error) {
	conn, err := net.Dial("tcp", addr) //nolint:noctx // on loopback
	if err != nil {
		return nil, err
	}
	return &Wire{conn: conn, in: bufio.NewReaderSize(conn, 16<<10)}, nil
}

// Close closes the connection.
func (w *Wire) Close() error { return w.conn.Close() }

// Call sends a request as it stands and returns the body of its answer, which is valid until the next call. An answer
// that is not a 2xx is an error.
func (w *Wire) Call(request []byte) ([]byte, error) {
	if _, err := w.conn.Write(request); err != nil {
		return nil, err
	}
	line, err := w.in.ReadSlice('\n')
	if err != nil {
		return nil, err
	}
	succeeded := len(line) > 9 && line[9] == '2'
	status := string(line[:min(len(line), 32)])
	if err := w.readAnswer(); err != nil {
		return nil, err
	}
	if !succeeded {
		return nil, fmt.Errorf("the answer is %q: %s", status, w.body)
	}
	return w.body, nil
}

var (
	contentLength = []byte("content-length:")
	chunked       = []byte("transfer-encoding: chunked")
)

// readAnswer reads the headers of an answer and its body.
func (w *Wire) readAnswer() error {
	length, inChunks := 0, false
	for {
		header, err := w.in.ReadSlice('\n')
		if err != nil {
			return err
		}
		header = bytes.TrimRight(header, "\r\n")
		switch {
		case len(header) == 0:
			return w.readBody(length, inChunks)
		case hasPrefixFold(header, contentLength):
			if length, err = strconv.Atoi(string(bytes.TrimSpace(header[len(contentLength):]))); err != nil {
				return err
			}
		case hasPrefixFold(header, chunked):
			inChunks = true
		}
	}
}

func hasPrefixFold(header, prefix []byte) bool {
	return len(header) >= len(prefix) && bytes.EqualFold(header[:len(prefix)], prefix)
}

func (w *Wire) readBody(length int, inChunks bool) (err error) {
	if inChunks {
		if w.body, err = io.ReadAll(httputil.NewChunkedReader(w.in)); err == nil {
			_, err = w.in.ReadSlice('\n') // the end of the trailers, of which there are none
		}
		return err
	}
	if cap(w.body) < length {
		w.body = make([]byte, length)
	}
	w.body = w.body[:length]
	_, err = io.ReadFull(w.in, w.body)
	return err
}
