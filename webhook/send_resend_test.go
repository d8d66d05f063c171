package webhook

import (
	"bufio"
	"crypto/tls"
	"fmt"
	"io"
	"log"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"slices"
	"sync"
	"testing"
	"time"

	"github.com/agentevents/agentevents/gen"
)

// sighting is a request that a flaky receiver read: the number of requests before it on its connection, and its
// webhook-id.
type sighting struct {
	before int
	id     string
}

// flaky is a receiver that answers at first, and handles later requests by a function.
type flaky struct {
	gathered  sync.WaitGroup // of the first requests: each is answered when all are there, so each has a connection
	mu        sync.Mutex
	broken    func(conn net.Conn, before int) // nil: it answers
	sightings []sighting                      // since it is broken
}

// serve is for wireReceiver.
func (f *flaky) serve(conn net.Conn, r *bufio.Reader) {
	for before := 0; ; before++ {
		req, _, err := readRequest(r)
		if err != nil {
			return
		}
		f.mu.Lock()
		broken := f.broken
		if broken != nil {
			f.sightings = append(f.sightings, sighting{before, req.Header.Get("webhook-id")})
		}
		f.mu.Unlock()
		if broken != nil {
			broken(conn, before)
			return
		}
		f.gathered.Done()
		f.gathered.Wait()
		_, _ = io.WriteString(conn, "HTTP/1.1 204 OK\r\n\r\n")
	}
}

func (f *flaky) breakWith(broken func(net.Conn, int)) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.broken = broken
}

func (f *flaky) seen() []sighting {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.sightings
}

// keepConnections makes the sender keep so many connections to a receiver.
func keepConnections(t *testing.T, s *Sender, f *flaky, url string, n int) {
	t.Helper()
	f.gathered.Add(n)
	var sent sync.WaitGroup
	for range n {
		sent.Go(func() { wantAttempt(t, s.Send(t.Context(), to(url, gen.RequestMethodPOST)), 204, Delivered, "") })
	}
	sent.Wait()
}

// overTLS makes wireReceiver's connections speak TLS, and a sender trust them.
func overTLS(t *testing.T, s *Sender, serve func(net.Conn, *bufio.Reader)) func(net.Conn, *bufio.Reader) {
	t.Helper()
	server := httptest.NewTLSServer(http.NotFoundHandler()) // for its certificate
	server.Close()
	trusting := server.Client().Transport.(*http.Transport).TLSClientConfig
	s.transport.(*rotatingTransport).current().TLSClientConfig = trusting
	config := &tls.Config{Certificates: server.TLS.Certificates}
	return func(conn net.Conn, _ *bufio.Reader) {
		secure := tls.Server(conn, config)
		defer secure.Close()
		serve(secure, bufio.NewReader(secure))
	}
}

// eachWay runs a test by GET and by POST, in the clear and over TLS.
func eachWay(t *testing.T, timeout time.Duration, test func(t *testing.T, s *Sender, f *flaky, d Delivery)) {
	t.Helper()
	for _, scheme := range []string{"http", "https"} {
		for _, method := range []gen.RequestMethod{gen.RequestMethodGET, gen.RequestMethodPOST} {
			t.Run(fmt.Sprintf("%s, %s", scheme, method), func(t *testing.T) {
				s, f := loopbackSender(t, timeout), &flaky{}
				serve := f.serve
				if scheme == "https" {
					serve = overTLS(t, s, f.serve)
				}
				test(t, s, f, to(scheme+"://"+wireReceiver(t, serve), method))
			})
		}
	}
}

// hangUp closes a connection without an answer.
func hangUp(net.Conn, int) {}

// A receiver that reads a request and closes without an answer gets two requests of an attempt, the second on a new
// connection, however many connections are kept.
func TestSendResendsOnceAtMost(t *testing.T) {
	eachWay(t, ample, func(t *testing.T, s *Sender, f *flaky, d Delivery) {
		keepConnections(t, s, f, d.URL, 32)
		f.breakWith(hangUp)
		wantAttempt(t, s.Send(t.Context(), d), 0, Retry,
			"the receiver closed the connection before its answer was complete")
		if want := []sighting{{1, "msg_1"}, {0, "msg_1"}}; !slices.Equal(f.seen(), want) {
			t.Errorf("the receiver saw %v, want %v", f.seen(), want)
		}
	})
}

func TestSendResendsOnceAtMostAfterAReset(t *testing.T) {
	eachWay(t, ample, func(t *testing.T, s *Sender, f *flaky, d Delivery) {
		keepConnections(t, s, f, d.URL, 8)
		f.breakWith(func(conn net.Conn, _ int) {
			if secure, ok := conn.(*tls.Conn); ok {
				conn = secure.NetConn()
			}
			_ = conn.(*net.TCPConn).SetLinger(0)
			conn.Close()
		})
		wantAttempt(t, s.Send(t.Context(), d), 0, Retry,
			"the receiver reset the connection before its answer was complete")
		if want := []sighting{{1, "msg_1"}, {0, "msg_1"}}; !slices.Equal(f.seen(), want) {
			t.Errorf("the receiver saw %v, want %v", f.seen(), want)
		}
	})
}

// Any answer on the new connection is the attempt's.
func TestSendResendIsAnswered(t *testing.T) {
	eachWay(t, ample, func(t *testing.T, s *Sender, f *flaky, d Delivery) {
		keepConnections(t, s, f, d.URL, 8)
		f.breakWith(func(conn net.Conn, before int) {
			if before == 0 {
				_, _ = io.WriteString(conn, "HTTP/1.1 202 OK\r\nContent-Length: 5\r\n\r\nfresh")
			}
		})
		got := s.Send(t.Context(), d)
		wantAttempt(t, got, 202, Delivered, "")
		if want := []sighting{{1, "msg_1"}, {0, "msg_1"}}; !slices.Equal(f.seen(), want) || got.Excerpt != "fresh" {
			t.Errorf("the receiver saw %v, want %v; excerpt %q", f.seen(), want, got.Excerpt)
		}
	})
}

// After a new connection the request is not resent: the receiver has read it.
func TestSendOnAFreshConnectionIsOneRequest(t *testing.T) {
	eachWay(t, ample, func(t *testing.T, s *Sender, f *flaky, d Delivery) {
		f.breakWith(hangUp)
		wantAttempt(t, s.Send(t.Context(), d), 0, Retry,
			"the receiver closed the connection before its answer was complete")
		if want := []sighting{{0, "msg_1"}}; !slices.Equal(f.seen(), want) {
			t.Errorf("the receiver saw %v, want %v", f.seen(), want)
		}
	})
}

// After an answer that breaks off the request is not resent: the receiver has read it.
func TestSendDoesNotResendAfterTheBeginningOfAnAnswer(t *testing.T) {
	eachWay(t, ample, func(t *testing.T, s *Sender, f *flaky, d Delivery) {
		keepConnections(t, s, f, d.URL, 8)
		f.breakWith(func(conn net.Conn, _ int) { _, _ = io.WriteString(conn, "HTTP/1.1 200 OK\r\na: b") })
		wantAttempt(t, s.Send(t.Context(), d), 0, Retry,
			"the receiver closed the connection before its answer was complete")
		if want := []sighting{{1, "msg_1"}}; !slices.Equal(f.seen(), want) {
			t.Errorf("the receiver saw %v, want %v", f.seen(), want)
		}
	})
}

// After the lease no second request is sent, as no first one is.
func TestSendResendsNothingLate(t *testing.T) {
	eachWay(t, ample, func(t *testing.T, s *Sender, f *flaky, d Delivery) {
		keepConnections(t, s, f, d.URL, 8)
		d.Lease = time.Now().Add(short)
		f.breakWith(func(net.Conn, int) { <-time.After(time.Until(d.Lease)) })
		if a := s.Send(t.Context(), d); a.Verdict != Retry || a.Status != 0 {
			t.Errorf("the attempt is %+v", a)
		}
		if want := []sighting{{1, "msg_1"}}; !slices.Equal(f.seen(), want) {
			t.Errorf("the receiver saw %v, want %v", f.seen(), want)
		}
	})
}

// An attempt that is cut off is not resent.
func TestSendResendsNothingAfterTheCutOff(t *testing.T) {
	eachWay(t, short, func(t *testing.T, s *Sender, f *flaky, d Delivery) {
		keepConnections(t, s, f, d.URL, 8)
		released := make(chan struct{})
		defer close(released)
		f.breakWith(func(net.Conn, int) { <-released })
		wantAttempt(t, s.Send(t.Context(), d), 0, Retry, timeoutError(short).Error())
		if want := []sighting{{1, "msg_1"}}; !slices.Equal(f.seen(), want) {
			t.Errorf("the receiver saw %v, want %v", f.seen(), want)
		}
	})
}

// Bytes beyond the end of an answer do not count as the answer to the next request.
func TestSendTakesNoLeftoverForAnAnswer(t *testing.T) {
	log.SetOutput(io.Discard) // net/http says that there is more
	t.Cleanup(func() { log.SetOutput(os.Stderr) })
	for name, leftover := range map[string]string{
		"line end": "\r\n", "body of a 204": "ok", "another answer": "HTTP/1.1 410 Gone\r\nContent-Length: 0\r\n\r\n",
	} {
		t.Run(name, func(t *testing.T) {
			s := loopbackSender(t, ample)
			address := wireReceiver(t, func(conn net.Conn, r *bufio.Reader) {
				for {
					if _, _, err := readRequest(r); err != nil {
						return
					}
					_, _ = io.WriteString(conn, "HTTP/1.1 204 OK\r\n\r\n"+leftover)
				}
			})
			for range 300 {
				got := s.Send(t.Context(), to("http://"+address, gen.RequestMethodPOST))
				if got.Status != 204 || got.Verdict != Delivered {
					t.Fatalf("the attempt is %+v", got)
				}
			}
		})
	}
}
