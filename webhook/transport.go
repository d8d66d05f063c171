package webhook

import (
	"context"
	"net"
	"net/http"
	"sync"
	"time"
)

// newTransport returns a transport that speaks HTTP/1.1 alone, in which one exchange cannot block another on the same
// connection, and uses no proxy. A dial outlives the exchange that began it, to serve the next one. So it has a limit
// of its own: the dialer's, longer than an exchange, for the connection and for the TLS handshake.
//
// It asks for no compression, and decodes none: an answer is complete when all announced bytes have arrived.
func newTransport(r *rotatingTransport) *http.Transport {
	protocols := new(http.Protocols)
	protocols.SetHTTP1(true)
	return &http.Transport{
		Protocols:              protocols,
		DialContext:            r.dial,
		TLSHandshakeTimeout:    r.dialer.Timeout,
		DisableCompression:     true,
		MaxIdleConns:           1024,
		MaxIdleConnsPerHost:    32,  // as many as there are attempts at one receiver
		MaxConnsPerHost:        256, // a hard bound; the dispatcher's slots are the tighter one
		IdleConnTimeout:        30 * time.Second,
		MaxResponseHeaderBytes: maxHeader,
	}
}

// maxDials is the number of dials of one transport.
const maxDials = 1 << 12

// rotatingTransport replaces its transport after maxDials. A transport of net/http keeps one request for each address
// at which no connection ever became idle, as long as the transport lives: its memory grows with dead addresses.
type rotatingTransport struct {
	dialer *guarded

	mu    sync.Mutex
	now   *http.Transport
	dials int
}

func newRotatingTransport(dialer *net.Dialer, guard *Guard) *rotatingTransport {
	r := &rotatingTransport{dialer: newGuarded(dialer, guard)}
	r.now = newTransport(r)
	return r
}

func (r *rotatingTransport) RoundTrip(req *http.Request) (*http.Response, error) {
	return r.current().RoundTrip(req)
}

func (r *rotatingTransport) CloseIdleConnections() { r.current().CloseIdleConnections() }

func (r *rotatingTransport) current() *http.Transport {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.dials >= maxDials {
		r.now.CloseIdleConnections() // those in use end with their exchange
		r.now, r.dials = newTransport(r), 0
	}
	return r.now
}

// resend sends a request that was sent before once more, on a new connection.
func (r *rotatingTransport) resend(req *http.Request) (*http.Response, error) {
	if req.GetBody != nil {
		req.Body, _ = req.GetBody() // of a text in memory
	}
	alone := r.current().Clone()
	alone.MaxIdleConnsPerHost = -1 // keeps no connection, so it opens one
	return alone.RoundTrip(req)
}

func (r *rotatingTransport) dial(ctx context.Context, network, address string) (net.Conn, error) {
	r.mu.Lock()
	r.dials++
	r.mu.Unlock()
	conn, err := r.dialer.dial(ctx, network, address)
	if err != nil {
		return nil, err
	}
	return &leaseConn{Conn: conn}, nil
}
