package lab

import (
	"bufio"
	"bytes"
	"cmp"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/url"
	"slices"
	"strconv"
	"sync"
	"time"

	"github.com/agentevents/agentevents/gen"
)

// The operator's application of every server that Start starts, and the path of the API.
const (
	OperatorID     = "lab"
	OperatorSecret = "a-secret-of-the-lab-alone"
	APIPath        = "/api/ver1.0"
)

// Doer makes requests, as http.Client does.
type Doer interface {
	Do(req *http.Request) (*http.Response, error)
}

// StatusError is an answer whose status is not the wanted one.
type StatusError struct {
	Status, Want int    // that of the answer, and the wanted one
	Body         string // of the answer
}

func (e *StatusError) Error() string {
	return fmt.Sprintf("the answer is %d and not %d: %s", e.Status, e.Want, e.Body)
}

// Call makes a request and reads the answer as T. A body of url.Values is sent as a form, a string as it is, anything
// else as JSON, and nil not at all. If the answer has not the wanted status, the error is a *StatusError.
func Call[T any](ctx context.Context, d Doer, want int, method, address string, body any) (answer T, err error) {
	kind, content := "application/json", []byte{}
	switch b := body.(type) {
	case nil:
	case string:
		content = []byte(b)
	case url.Values:
		kind, content = "application/x-www-form-urlencoded", []byte(b.Encode())
	default:
		if content, err = json.Marshal(b); err != nil {
			return answer, err
		}
	}
	req, err := http.NewRequestWithContext(ctx, method, address, bytes.NewReader(content))
	if err != nil {
		return answer, err
	}
	req.Header.Set("Content-Type", kind)
	resp, err := d.Do(req)
	if err != nil {
		return answer, err
	}
	defer resp.Body.Close()
	content, err = io.ReadAll(resp.Body)
	switch {
	case err != nil:
	case resp.StatusCode != want:
		err = &StatusError{resp.StatusCode, want, string(bytes.TrimSpace(content))}
	case len(content) > 0:
		err = json.Unmarshal(content, &answer)
	}
	return answer, err
}

// Operator sends requests to a server with a token. It keeps the Authorization of a request that has one.
type Operator struct {
	URL   string            // of the server
	Token string            // if empty, the first request gets the operator's token
	Base  http.RoundTripper // nil means http.DefaultTransport

	mu sync.Mutex // of Token
}

// RoundTrip implements http.RoundTripper.
func (o *Operator) RoundTrip(r *http.Request) (*http.Response, error) {
	if r.Header.Get("Authorization") == "" {
		token, err := o.current()
		if err != nil {
			return nil, err
		}
		r = r.Clone(r.Context())
		r.Header.Set("Authorization", "Bearer "+token)
	}
	return cmp.Or(o.Base, http.DefaultTransport).RoundTrip(r)
}

func (o *Operator) current() (token string, err error) {
	o.mu.Lock()
	defer o.mu.Unlock()
	if o.Token == "" {
		o.Token, err = Token(&http.Client{Transport: o.Base}, o.URL, OperatorID, OperatorSecret)
	}
	return o.Token, err
}

// Token requests a token for an application.
func Token(d Doer, server, id, secret string) (string, error) {
	AddSecret(secret)
	form := url.Values{"grant_type": {"client_credentials"}, "client_id": {id}, "client_secret": {secret}}
	answer, err := Call[gen.Token](context.Background(), d, http.StatusOK, http.MethodPost, server+"/oauth/token", form)
	if err != nil {
		return "", fmt.Errorf("get a token: %w", err)
	}
	return answer.AccessToken, nil
}

// maxIdle is the time for which an idle connection is kept, since a server closes idle connections.
const maxIdle = time.Second

// Wire sends requests to a server over one connection at a time. It implements only as much HTTP as the answers need,
// since its processor time is missing to the server that it measures. Only one goroutine may use it.
type Wire struct {
	Addr string                   // HOST:PORT on loopback
	Dial func() (net.Conn, error) // nil means to connect to Addr

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

// Call sends a complete request and returns the body of its answer, which is valid until the next call. If the answer
// is not a 2xx, the error is a *StatusError. After an error, the next call uses another connection.
func (w *Wire) Call(request []byte) (body []byte, err error) {
	if time.Since(w.used) > maxIdle {
		if err := w.connect(); err != nil {
			return nil, err
		}
	}
	w.used = time.Time{}
	if err := w.conn.SetDeadline(time.Now().Add(patience)); err != nil {
		return nil, err
	}
	if _, err := w.conn.Write(request); err != nil {
		return nil, err
	}
	head, body, err := w.read()
	if err != nil {
		return nil, err
	}
	_, code, _ := bytes.Cut(head, []byte(" "))
	status, _ := strconv.Atoi(string(code[:min(3, len(code))]))
	if status/100 != 2 {
		return nil, &StatusError{status, http.StatusOK, string(body)}
	}
	w.used = time.Now()
	return body, nil
}

func (w *Wire) connect() (err error) {
	_ = w.Close()
	if w.Dial != nil {
		w.conn, err = w.Dial()
	} else {
		w.conn, err = net.Dial("tcp", w.Addr) //nolint:noctx // on loopback
	}
	return err
}

// read reads an answer. If its body has chunks, net/http reads it.
func (w *Wire) read() (head, body []byte, err error) {
	w.in = w.in[:0]
	for {
		if head, body, found := bytes.Cut(w.in, []byte("\r\n\r\n")); found {
			_, length, _ := bytes.Cut(head, []byte("Content-Length: "))
			length, _, _ = bytes.Cut(length, []byte("\r\n"))
			n, err := strconv.Atoi(string(length))
			if err != nil {
				body, err = w.readChunks()
				return head, body, err
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

// readChunks reads the rest of an answer, and returns its body.
func (w *Wire) readChunks() ([]byte, error) {
	resp, err := http.ReadResponse(bufio.NewReader(io.MultiReader(bytes.NewReader(w.in), w.conn)), nil)
	if err != nil {
		return nil, err
	}
	defer resp.Body.Close()
	return io.ReadAll(resp.Body)
}
