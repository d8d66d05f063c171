package main

import (
	"bufio"
	"bytes"
	"fmt"
	"io"
	"net"
	"net/http/httputil"
	"strconv"
	"time"

	"golang.org/x/sync/errgroup"
)

// Load is what a generator is to send, all of it made before: on a machine with few processors whatever it does itself is
// taken from what is measured.
type Load struct {
	Addr        string // HOST:PORT
	Connections int    // kept open, with one request at a time each
	Rate        float64
	Calls       []Call
}

// Call is a request. Those of one connection are sent in their order, so that one agent's are to have the same.
type Call struct {
	Connection int
	Request    []byte
	Sequence   int64 // what it is known by at the receiver; 0 if the answer says so
}

// Made is what became of a load, call by call.
type Made struct {
	Sent      []int64 // nanoseconds since 1970
	Answered  []int64
	Sequences []int64
}

// Generator sends what it is told to. Its exported methods are called from another process.
type Generator struct{}

// Send sends all calls as fast as their connections allow, or with a Rate so many a second: then a call that its
// connection is late with counts from when it was to be sent. An answer that is not a 2xx is an error.
func (*Generator) Send(l Load, m *Made) error {
	n := len(l.Calls)
	*m = Made{Sent: make([]int64, n), Answered: make([]int64, n), Sequences: make([]int64, n)}
	group := errgroup.Group{}
	began := time.Now()
	for i := range l.Connections {
		group.Go(func() error { return l.send(i, began, m) })
	}
	return group.Wait()
}

// send sends the calls of a connection.
func (l *Load) send(connection int, began time.Time, m *Made) error {
	c, err := dial(l.Addr)
	if err != nil {
		return err
	}
	defer c.Close()
	for i, call := range l.Calls {
		if call.Connection != connection {
			continue
		}
		m.Sent[i] = l.await(i, began).UnixNano()
		body, err := c.call(call.Request)
		if err != nil {
			return fmt.Errorf("request %d: %w", i, err)
		}
		m.Answered[i], m.Sequences[i] = time.Now().UnixNano(), call.Sequence
		if call.Sequence == 0 {
			m.Sequences[i] = sequenceIn(body)
		}
	}
	return nil
}

// await returns when it is time for a call, and from when on it counts.
func (l *Load) await(i int, began time.Time) time.Time {
	if l.Rate <= 0 {
		return time.Now()
	}
	due := began.Add(time.Duration(float64(i) / l.Rate * float64(time.Second)))
	if wait := time.Until(due); wait > 0 {
		time.Sleep(wait)
		return time.Now()
	}
	return due
}

var sequenceKey = []byte(`"sequence":`)

// sequenceIn is the sequence number in the JSON of a status, 0 if there is none.
func sequenceIn(body []byte) (n int64) {
	_, rest, _ := bytes.Cut(body, sequenceKey)
	for _, c := range bytes.TrimLeft(rest, " ") {
		if c < '0' || c > '9' {
			break
		}
		n = 10*n + int64(c-'0')
	}
	return n
}

// line is a connection that knows as much of HTTP as the answers need.
type line struct {
	net.Conn
	in   *bufio.Reader
	body []byte
}

func dial(addr string) (*line, error) {
	conn, err := net.Dial("tcp", addr) //nolint:noctx // on loopback
	if err != nil {
		return nil, err
	}
	return &line{Conn: conn, in: bufio.NewReaderSize(conn, 16<<10)}, nil
}

// call sends a request and returns the body of its answer, which is good until the next call.
func (c *line) call(request []byte) ([]byte, error) {
	if _, err := c.Write(request); err != nil {
		return nil, err
	}
	status, err := c.in.ReadSlice('\n')
	if err != nil {
		return nil, err
	}
	good := len(status) > 9 && status[9] == '2'
	said := string(status[:min(len(status), 32)])
	if err := c.read(); err != nil {
		return nil, err
	}
	if !good {
		return nil, fmt.Errorf("the answer is %q: %s", said, c.body)
	}
	return c.body, nil
}

var (
	lengthKey = []byte("content-length:")
	chunked   = []byte("transfer-encoding: chunked")
)

// read reads the headers of an answer and its body.
func (c *line) read() error {
	length, inChunks := 0, false
	for {
		header, err := c.in.ReadSlice('\n')
		if err != nil {
			return err
		}
		header = bytes.TrimRight(header, "\r\n")
		switch {
		case len(header) == 0:
			return c.readBody(length, inChunks)
		case starts(header, lengthKey):
			if length, err = strconv.Atoi(string(bytes.TrimSpace(header[len(lengthKey):]))); err != nil {
				return err
			}
		case starts(header, chunked):
			inChunks = true
		}
	}
}

func starts(header, key []byte) bool {
	return len(header) >= len(key) && bytes.EqualFold(header[:len(key)], key)
}

func (c *line) readBody(length int, inChunks bool) (err error) {
	if inChunks {
		if c.body, err = io.ReadAll(httputil.NewChunkedReader(c.in)); err == nil {
			_, err = c.in.ReadSlice('\n') // the end of the trailers, of which there are none
		}
		return err
	}
	if cap(c.body) < length {
		c.body = make([]byte, length)
	}
	c.body = c.body[:length]
	_, err = io.ReadFull(c.in, c.body)
	return err
}
