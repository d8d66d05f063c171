package webhook

import (
	"bufio"
	"context"
	"errors"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"net/http/httptrace"
	"sync/atomic"
	"testing"
	"time"
)

// frozenAt makes a context in which an exchange is suspended when it has its connection, until it is released.
func frozenAt(ctx context.Context, released <-chan struct{}) context.Context {
	return httptrace.WithClientTrace(ctx, &httptrace.ClientTrace{GotConn: func(httptrace.GotConnInfo) { <-released }})
}

// A process that was suspended between the check of its lease and the request writes nothing when it resumes: another
// process may have the lane.
func TestSendNothingLate(t *testing.T) {
	for name, lease := range map[string]time.Duration{"after the timeout": ample, "after the lease": 0} {
		t.Run(name, func(t *testing.T) {
			got := make(chan int64, 1)
			address := wireReceiver(t, func(_ net.Conn, r *bufio.Reader) {
				n, _ := io.Copy(io.Discard, r)
				got <- n
			})
			timeout, why := brief, "there was no complete answer within 50ms"
			if lease == 0 {
				timeout, why = ample, errLeaseOver.Error()
			}
			released := make(chan struct{})
			time.AfterFunc(2*brief, func() { close(released) })
			s := loopbackSender(t, timeout)
			a := s.Send(frozenAt(t.Context(), released),
				Delivery{URL: "http://" + address, Lease: time.Now().Add(lease)})
			if a.Error != why || a.Verdict != Retry || a.LeaseOver != (lease == 0) {
				t.Errorf("the attempt is %+v", a)
			}
			s.Close()
			if n := <-got; n > 0 {
				t.Errorf("the receiver got %d bytes", n)
			}
		})
	}
}

// A connection that served one exchange serves the next one, however long after.
func TestPunctualConnection(t *testing.T) {
	near, far := net.Pipe()
	defer near.Close()
	defer far.Close()
	go func() { _, _ = io.Copy(io.Discard, far) }()
	c := &leaseConn{Conn: near}
	write := func(until time.Time, want error) {
		t.Helper()
		c.use.Store(&use{until: until, end: func(error) {}})
		if _, err := c.Write([]byte("x")); !errors.Is(err, want) {
			t.Errorf("the error is %v, want %v", err, want)
		}
	}
	write(time.Now().Add(ample), nil)
	write(time.Now(), errLeaseOver)
	write(time.Now().Add(ample), nil)
}

// The same holds with TLS.
func TestSendNothingLateWithTLS(t *testing.T) {
	var got atomic.Int64
	server := httptest.NewTLSServer(http.HandlerFunc(func(http.ResponseWriter, *http.Request) { got.Add(1) }))
	defer server.Close()
	s := loopbackSender(t, ample)
	rotating, ok := s.transport.(*rotatingTransport)
	if !ok {
		t.Fatal("it has another transport")
	}
	rotating.now.TLSClientConfig = server.Client().Transport.(*http.Transport).TLSClientConfig
	d := Delivery{URL: server.URL, Lease: time.Now().Add(ample)}
	if a := s.Send(t.Context(), d); a.Verdict != Delivered || got.Load() != 1 {
		t.Fatalf("the attempt is %+v", a)
	}
	d.Lease = time.Now().Add(-time.Second)
	if a := s.Send(t.Context(), d); a.Verdict != Retry || !a.LeaseOver || got.Load() != 1 {
		t.Errorf("the attempt is %+v, and the receiver got %d requests", a, got.Load())
	}
}
