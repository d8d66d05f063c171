package webhook

import (
	"bufio"
	"bytes"
	"compress/gzip"
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"log"
	"net"
	"net/http"
	"net/http/httptest"
	"net/netip"
	"os"
	"reflect"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"
	"unicode/utf8"

	"go.uber.org/goleak"
	"golang.org/x/net/dns/dnsmessage"

	"github.com/agentevents/agentevents/gen"
)

const (
	ample = time.Minute           // for exchanges that end by themselves
	brief = 50 * time.Millisecond // for those that never would, however far they get
	short = time.Second           // for those that never would, but must get as far as the status before
)

// loopbackSender may reach loopback. The test fails if the sender leaves goroutines behind.
func loopbackSender(t *testing.T, timeout time.Duration) *Sender {
	t.Helper()
	before := goleak.IgnoreCurrent()
	s := NewSender(SenderOptions{Guard: guardOf("127.0.0.0/8", "::1/128"), Timeout: timeout})
	t.Cleanup(func() {
		s.Close()
		goleak.VerifyNone(t, before)
	})
	return s
}

// wireReceiver serves each connection with serve, which gets the requests one by one from r, and returns its
// address. When the test ends, the connections are closed and serve must return.
func wireReceiver(t *testing.T, serve func(conn net.Conn, r *bufio.Reader)) string {
	t.Helper()
	listener := listen(t, "127.0.0.1:0")
	var running sync.WaitGroup
	var open sync.Map
	running.Go(func() {
		for {
			conn, err := listener.Accept()
			if err != nil {
				return
			}
			open.Store(conn, true)
			running.Go(func() {
				defer conn.Close()
				serve(conn, bufio.NewReader(conn))
			})
		}
	})
	t.Cleanup(func() {
		listener.Close()
		open.Range(func(conn, _ any) bool { conn.(net.Conn).Close(); return true })
		running.Wait()
	})
	return listener.Addr().String()
}

func listen(t *testing.T, address string) net.Listener {
	t.Helper()
	listener, err := net.Listen("tcp", address)
	if err != nil {
		t.Fatal(err)
	}
	return listener
}

// httpReceiver is a regular HTTP server.
func httpReceiver(t *testing.T, handle http.HandlerFunc) *httptest.Server {
	t.Helper()
	server := httptest.NewServer(handle)
	t.Cleanup(server.Close)
	return server
}

// readRequest reads a request and its body from the wire.
func readRequest(r *bufio.Reader) (*http.Request, string, error) {
	req, err := http.ReadRequest(r)
	if err != nil {
		return nil, "", err
	}
	body, err := io.ReadAll(req.Body)
	return req, string(body), err
}

// untilClosed waits for the sender to close the connection.
func untilClosed(r *bufio.Reader) { _, _ = io.Copy(io.Discard, r) }

func to(url string, method gen.RequestMethod) Delivery {
	d := seedDelivery()
	d.URL, d.Method = url, method
	return d
}

func wantAttempt(t *testing.T, got Attempt, status int, verdict Verdict, errorText string) {
	t.Helper()
	if got.Status != status || got.Verdict != verdict || got.Error != errorText {
		t.Errorf("got  %d, %s, %q\nwant %d, %s, %q", got.Status, got.Verdict, got.Error, status, verdict, errorText)
	}
	if got.StartedAt.IsZero() || got.Duration <= 0 {
		t.Errorf("started at %v, took %v", got.StartedAt, got.Duration)
	}
}

func TestRequestArrivesUnchanged(t *testing.T) {
	s := loopbackSender(t, ample)
	type arrival struct{ line, body, agent, id, encoding string }
	arrived := make(chan arrival, 1)
	server := httpReceiver(t, func(w http.ResponseWriter, r *http.Request) {
		body, _ := io.ReadAll(r.Body)
		arrived <- arrival{
			r.Method + " " + r.RequestURI, string(body), r.UserAgent(), r.Header.Get("webhook-id"),
			fmt.Sprint(r.TransferEncoding, r.ContentLength, r.Header["Idempotency-Key"]),
		}
		fmt.Fprint(w, "thanks")
	})
	want := map[gen.RequestMethod]arrival{
		gen.RequestMethodGET: {"GET /hook?a=1&" + seedForm, "", "agentevents", "msg_1", "[] 0 []"},
		gen.RequestMethodPOST: {
			"POST /hook?a=1", seedForm, "agentevents", "msg_1", fmt.Sprint("[] ", len(seedForm), " []"),
		},
	}
	for method, want := range want {
		got := s.Send(t.Context(), to(server.URL+"/hook?a=1#top", method))
		wantAttempt(t, got, 200, Delivered, "")
		if a := <-arrived; a != want || got.Excerpt != "thanks" || got.RetryAfter != 0 {
			t.Errorf("%s\narrived %+v\nwant    %+v\nexcerpt %q, retry after %s", method, a, want, got.Excerpt,
				got.RetryAfter)
		}
	}
}

func TestSendEveryStatus(t *testing.T) {
	s := loopbackSender(t, ample)
	address := wireReceiver(t, func(conn net.Conn, r *bufio.Reader) {
		for {
			req, _, err := readRequest(r)
			if err != nil {
				return
			}
			status, _ := strconv.Atoi(req.URL.Path[1:])
			length := "Content-Length: 2\r\n\r\nok"
			switch status {
			case 101:
				length = "Connection: Upgrade\r\nUpgrade: websocket\r\n\r\n"
			case 204, 304:
				length = "\r\n"
			}
			fmt.Fprintf(conn, "HTTP/1.1 %d Whatever\r\nLocation: http://%%zz/\r\n%s", status, length)
		}
	})
	for status := 200; status <= 599; status++ {
		got := s.Send(t.Context(), to(fmt.Sprintf("http://%s/%d", address, status), gen.RequestMethodPOST))
		wantAttempt(t, got, status, Judge(status, nil), "")
	}
	// 101 is the one 1xx that ends an exchange; behind it there is no body to wait for.
	got := s.Send(t.Context(), to("http://"+address+"/101", gen.RequestMethodGET))
	wantAttempt(t, got, 101, Failed, "")
}

// The failures of a receiver on the wire. Those that never end by themselves get a brief timeout.
func TestSendDescribesEachConnectionFailure(t *testing.T) {
	const (
		timeout   = "" // its text depends on the timeout
		closed    = "the receiver closed the connection before its answer was complete"
		reset     = "the receiver reset the connection before its answer was complete"
		malformed = "the receiver's answer was not valid HTTP"
	)
	answer := func(text string) func(net.Conn, *bufio.Reader) {
		return func(conn net.Conn, r *bufio.Reader) {
			_, _, _ = readRequest(r)
			_, _ = io.WriteString(conn, text)
		}
	}
	answerAndWait := func(text string) func(net.Conn, *bufio.Reader) {
		return func(conn net.Conn, r *bufio.Reader) {
			answer(text)(conn, r)
			untilClosed(r)
		}
	}
	forEver := func(start, more string, pace time.Duration) func(net.Conn, *bufio.Reader) {
		return func(conn net.Conn, r *bufio.Reader) {
			answer(start)(conn, r)
			for tick := time.NewTicker(max(pace, 1)); ; {
				if pace > 0 {
					<-tick.C
				}
				if _, err := io.WriteString(conn, more); err != nil {
					return
				}
			}
		}
	}
	cases := []struct {
		name    string
		serve   func(net.Conn, *bufio.Reader)
		timeout time.Duration
		status  int
		verdict Verdict
		text    string
	}{
		{"hangs", answerAndWait(""), brief, 0, Retry, timeout},
		{"does not even read", func(_ net.Conn, r *bufio.Reader) { untilClosed(r) }, brief, 0, Retry, timeout},
		{
			"drips its headers", forEver("HTTP/1.1 200 OK\r\n", "a: b\r\n", 10*time.Millisecond), brief, 0, Retry,
			timeout,
		},
		{"drips its body", forEver("HTTP/1.1 200 OK\r\n\r\n", "x", 10*time.Millisecond), short, 200, Retry, timeout},
		{
			"drips its chunks", forEver("HTTP/1.1 410 Gone\r\nTransfer-Encoding: chunked\r\n\r\n", "1\r\nx\r\n",
				10*time.Millisecond), short, 410, Retry, timeout,
		},
		{
			"stops within its body", answerAndWait("HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\nabc"), short, 200,
			Retry, timeout,
		},
		{
			"is never done announcing", forEver("", "HTTP/1.1 103 Early Hints\r\n\r\n", time.Millisecond), brief, 0,
			Retry, timeout,
		},
		{"never ends its headers", forEver("HTTP/1.1 200 OK\r\n", "a: b\r\n", 0), ample, 0, Retry, malformed},
		{
			"never ends its status line", forEver("HTTP/1.1 200 O", strings.Repeat("K", 1000), 0), ample, 0, Retry,
			malformed,
		},
		{
			"never ends a header", forEver("HTTP/1.1 200 OK\r\na: ", strings.Repeat("b", 1000), 0), ample, 0, Retry,
			malformed,
		},
		{
			"has too long headers", answer("HTTP/1.1 200 OK\r\na: " + strings.Repeat("b", maxHeader) + "\r\n\r\n"),
			ample, 0, Retry, malformed,
		},
		{"never ends its body", forEver("HTTP/1.1 200 OK\r\n\r\n", "endless ", 0), ample, 200, Delivered, ""},
		{"never ends its refusal", forEver("HTTP/1.1 404 No\r\n\r\n", "endless ", 0), ample, 404, Failed, ""},
		{
			"announces a huge body", forEver("HTTP/1.1 200 OK\r\nContent-Length: 999999999999\r\n\r\n", "huge ", 0),
			ample, 200, Delivered, "",
		},
		{"closes", answer(""), ample, 0, Retry, closed},
		{"closes at once", func(net.Conn, *bufio.Reader) {}, ample, 0, Retry, ""},
		{"closes within its headers", answer("HTTP/1.1 200 OK\r\na: b"), ample, 0, Retry, closed},
		{
			"closes within its body", answer("HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\nabc"), ample, 200, Retry,
			closed,
		},
		{
			"closes within a chunk", answer("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n9\r\nabc"), ample,
			200, Retry, closed,
		},
		{"resets", resetConnection(""), ample, 0, Retry, reset},
		{
			"resets within its body", resetConnection("HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\nabc"), ample, 200,
			Retry, reset,
		},
		{"is not HTTP", answer("220 mail.example ESMTP\r\n"), ample, 0, Retry, malformed},
		{"has a status of its own", answer("HTTP/1.1 abc OK\r\n\r\n"), ample, 0, Retry, malformed},
		{"has a status beyond", answer("HTTP/1.1 999 Denied\r\nContent-Length: 0\r\n\r\n"), ample, 999, Retry, ""},
		{"has bad headers", answer("HTTP/1.1 200 OK\r\nno colon\r\n\r\n"), ample, 0, Retry, malformed},
		{
			"has two lengths", answer("HTTP/1.1 200 OK\r\nContent-Length: 1\r\nContent-Length: 2\r\n\r\nab"), ample, 0,
			Retry, malformed,
		},
		{
			"has bad chunks", answer("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\nzz\r\n"), ample, 200, Retry,
			malformed,
		},
		{
			"has bad gzip", answer(
				"HTTP/1.1 200 OK\r\nContent-Encoding: gzip\r\nContent-Length: 12\r\n\r\nnot gzip at.",
			), ample, 200, Delivered, "",
		},
		{"speaks HTTP/2 unasked", answer("\x00\x00\x00\x04\x00\x00\x00\x00\x00"), ample, 0, Retry, malformed},
		{"ends its body by closing", answer("HTTP/1.0 200 OK\r\n\r\nabc"), ample, 200, Delivered, ""},
	}
	for _, c := range cases {
		t.Run(c.name, func(t *testing.T) {
			s := loopbackSender(t, c.timeout)
			address := wireReceiver(t, c.serve)
			methods := []gen.RequestMethod{gen.RequestMethodGET, gen.RequestMethodPOST}
			if c.timeout == short {
				methods = methods[:1]
			}
			for _, method := range methods {
				got := s.Send(t.Context(), to("http://us3r:s3cret@"+address+"/p?token=s3cret", method))
				want := c.text
				if c.timeout != ample {
					want = timeoutError(c.timeout).Error()
				}
				if c.name == "closes at once" && (got.Error == closed || got.Error == reset) {
					want = got.Error // which of them is up to the kernel
				}
				wantAttempt(t, got, c.status, c.verdict, want)
				wantNoSecret(t, got)
			}
		})
	}
}

// resetConnection answers with text, waits until that is read, and sends a TCP reset.
func resetConnection(text string) func(net.Conn, *bufio.Reader) {
	return func(conn net.Conn, r *bufio.Reader) {
		_, _, _ = readRequest(r)
		_, _ = io.WriteString(conn, text)
		_ = conn.(*net.TCPConn).SetLinger(0)
	}
}

func wantNoSecret(t *testing.T, got Attempt) {
	t.Helper()
	for _, secret := range []string{"us3r", "s3cret", "token"} {
		if strings.Contains(got.Error, secret) {
			t.Errorf("the error leaks a part of the URL: %q", got.Error)
		}
	}
}

func TestSendToAClosedPort(t *testing.T) {
	s := loopbackSender(t, ample)
	listener := listen(t, "127.0.0.1:0")
	listener.Close()
	got := s.Send(t.Context(),
		to("http://us3r:s3cret@"+listener.Addr().String()+"/?token=s3cret", gen.RequestMethodPOST))
	wantAttempt(t, got, 0, Retry, "the receiver refused the connection")
	wantNoSecret(t, got)
}

func TestSendUnusableURL(t *testing.T) {
	s := loopbackSender(t, ample)
	for _, raw := range []string{
		"ftp://us3r:s3cret@h/", "http://us3r:s3cret@h:99999/", "http://us3r:s3cret@127.1/", "http://h/?token=s3cret x",
		"",
	} {
		got := s.Send(t.Context(), to(raw, gen.RequestMethodGET))
		if got.Verdict != Failed || !strings.HasPrefix(got.Error, "the URL must ") {
			t.Errorf("%q: %s, %q", raw, got.Verdict, got.Error)
		}
		wantNoSecret(t, got)
	}
}

func TestSendForbiddenAddress(t *testing.T) {
	var connections atomic.Int32
	address := wireReceiver(t, func(net.Conn, *bufio.Reader) { connections.Add(1) })
	_, port, _ := net.SplitHostPort(address)
	s := NewSender(SenderOptions{Timeout: ample}) // public addresses only
	defer s.Close()
	for _, host := range []string{"127.0.0.1", "localhost", "[::ffff:127.0.0.1]"} {
		got := s.Send(t.Context(), to("http://us3r:s3cret@"+host+":"+port+"/?token=s3cret", gen.RequestMethodPOST))
		if got.Verdict != Failed || got.Status != 0 ||
			!strings.Contains(got.Error, "is not allowed") {
			t.Errorf("%s: %s, %q", host, got.Verdict, got.Error)
		}
		wantNoSecret(t, got)
	}
	if n := connections.Load(); n != 0 {
		t.Errorf("the receiver saw %d connections", n)
	}
}

func TestSendFollowsNoRedirect(t *testing.T) {
	var followed atomic.Int32
	other := httpReceiver(t, func(http.ResponseWriter, *http.Request) { followed.Add(1) })
	for _, location := range []string{
		other.URL, "http://10.0.0.1/", "http://169.254.169.254/latest/", "/again", "", "http://%zz/",
	} {
		var asked atomic.Int32
		server := httpReceiver(t, func(w http.ResponseWriter, r *http.Request) {
			asked.Add(1)
			status, _ := strconv.Atoi(r.URL.Path[1:])
			w.Header().Set("Location", location)
			w.WriteHeader(status)
		})
		s := loopbackSender(t, ample)
		statuses := []int{300, 301, 302, 303, 304, 305, 307, 308}
		for _, status := range statuses {
			got := s.Send(t.Context(), to(fmt.Sprintf("%s/%d", server.URL, status), gen.RequestMethodPOST))
			wantAttempt(t, got, status, Failed, "")
		}
		if n := asked.Load(); int(n) != len(statuses) {
			t.Errorf("Location %q: %d requests, want %d", location, n, len(statuses))
		}
	}
	if n := followed.Load(); n != 0 {
		t.Errorf("%d redirects were followed", n)
	}
}

func TestSendRetryAfter(t *testing.T) {
	s := loopbackSender(t, ample)
	server := httpReceiver(t, func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("Retry-After", r.URL.Query().Get("after"))
		status, _ := strconv.Atoi(r.URL.Path[1:])
		w.WriteHeader(status)
	})
	cases := []struct {
		path string
		want time.Duration
	}{
		{"/503?after=7", 7 * time.Second},
		{"/429?after=0", time.Second},
		{"/500?after=100000", time.Hour},
		{"/408?after=Tue,%2030%20May%202017%2015:07:50%20GMT", time.Second},
		{"/425?after=later", 0},
		{"/503", 0},
		{"/200?after=7", 0}, // nothing to retry
		{"/301?after=7", 0},
		{"/404?after=7", 0},
		{"/410?after=7", 0},
	}
	for _, c := range cases {
		if got := s.Send(t.Context(), to(server.URL+c.path, gen.RequestMethodPOST)).RetryAfter; got != c.want {
			t.Errorf("%s: RetryAfter %s, want %s", c.path, got, c.want)
		}
	}
}

func TestSendGzipBomb(t *testing.T) {
	s := loopbackSender(t, ample)
	zeros := make([]byte, 1<<20)
	ended := make(chan struct{})
	server := httpReceiver(t, func(w http.ResponseWriter, r *http.Request) {
		defer close(ended)
		w.Header().Set("Content-Encoding", "gzip")
		for bomb := gzip.NewWriter(w); r.Context().Err() == nil; {
			_, _ = bomb.Write(zeros)
			_ = bomb.Flush()
			_ = http.NewResponseController(w).Flush()
		}
	})
	got := s.Send(t.Context(), to(server.URL, gen.RequestMethodGET))
	wantAttempt(t, got, 200, Delivered, "")
	if len(got.Excerpt) > maxExcerpt || !utf8.ValidString(got.Excerpt) || strings.ContainsRune(got.Excerpt, 0) {
		t.Errorf("excerpt of %d bytes: %q", len(got.Excerpt), got.Excerpt)
	}
	<-ended // the connection was closed, the bomb is endless
}

func TestSendReadsGzip(t *testing.T) {
	s := loopbackSender(t, ample)
	server := httpReceiver(t, func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Content-Encoding", "gzip")
		zip := gzip.NewWriter(w)
		fmt.Fprint(zip, "no such agent")
		zip.Close()
	})
	if got := s.Send(t.Context(), to(server.URL, gen.RequestMethodPOST)); got.Excerpt != "no such agent" {
		t.Errorf("excerpt %q", got.Excerpt)
	}
}

// countingBody is an endless body of s that counts what is read of it.
type countingBody struct {
	s      string
	read   int
	closed bool
}

func (b *countingBody) Read(p []byte) (int, error) {
	for i := range p {
		p[i] = b.s[(b.read+i)%len(b.s)]
	}
	b.read += len(p)
	return len(p), nil
}

func (b *countingBody) Close() error { b.closed = true; return nil }

type roundTrip func(*http.Request) (*http.Response, error)

func (f roundTrip) RoundTrip(r *http.Request) (*http.Response, error) { return f(r) }

func TestSendReadsNoMoreThanTheCap(t *testing.T) {
	body := &countingBody{s: "ж"}
	s := NewSender(SenderOptions{Transport: roundTrip(func(*http.Request) (*http.Response, error) {
		return &http.Response{StatusCode: http.StatusInternalServerError, Body: body}, nil
	})})
	got := s.Send(t.Context(), seedDelivery())
	wantAttempt(t, got, 500, Retry, "")
	if body.read != maxBody || !body.closed {
		t.Errorf("%d bytes were read, want %d; closed: %v", body.read, maxBody, body.closed)
	}
	if want := strings.Repeat("ж", maxExcerpt/2); got.Excerpt != want {
		t.Errorf("excerpt of %d bytes: %q", len(got.Excerpt), got.Excerpt)
	}
}

func TestExcerpt(t *testing.T) {
	cases := []struct{ name, body, want string }{
		{"empty", "", ""},
		{"as it is", "line\r\n\tЖ 株 😀", "line\r\n\tЖ 株 😀"},
		{"control characters", "a\x00b\x1b[31mc\u0085", "a\ufffdb\ufffd[31mc\ufffd"},
		{"not UTF-8", "a\xff\xfeb\xc3", "a\ufffdb\ufffd"},
		{"a rune across the end", strings.Repeat("a", 1023) + "Ж", strings.Repeat("a", 1023)},
		{"four bytes across the end", strings.Repeat("a", 1021) + "😀😀", strings.Repeat("a", 1021)},
		{"just fits", strings.Repeat("a", 1022) + "Ж!", strings.Repeat("a", 1022) + "Ж"},
		{"grows", strings.Repeat("\x00", 1024), strings.Repeat("\ufffd", 341)},
	}
	for _, c := range cases {
		t.Run(c.name, func(t *testing.T) {
			resp := &http.Response{StatusCode: http.StatusOK, Body: io.NopCloser(strings.NewReader(c.body))}
			if got, err := readBody(resp); got != c.want || err != nil {
				t.Errorf("got %q, %v\nwant %q", got, err, c.want)
			}
		})
	}
}

func FuzzExcerpt(f *testing.F) {
	f.Add([]byte("a\xff\x00Ж"), 300)
	f.Fuzz(func(t *testing.T, piece []byte, times int) {
		got := excerpt(bytes.Repeat(piece, min(max(times, 0), 2000)))
		if len(got) > maxExcerpt || !utf8.ValidString(got) || strings.ContainsRune(got, 0) {
			t.Errorf("%d bytes: %q", len(got), got)
		}
	})
}

// An answer after the timeout does not count as the answer to the next request.
func TestSendAnswerAfterTheTimeout(t *testing.T) {
	s := loopbackSender(t, brief)
	over := make(chan struct{})
	var asked atomic.Int32
	server := httpReceiver(t, func(w http.ResponseWriter, r *http.Request) {
		if asked.Add(1) == 1 {
			<-over
			w.WriteHeader(http.StatusGone)
			return
		}
		fmt.Fprint(w, "second")
	})
	got := s.Send(t.Context(), to(server.URL, gen.RequestMethodPOST))
	wantAttempt(t, got, 0, Retry, timeoutError(brief).Error())
	close(over)

	s.timeout = ample
	got = s.Send(t.Context(), to(server.URL, gen.RequestMethodPOST))
	wantAttempt(t, got, 200, Delivered, "")
	if got.Excerpt != "second" {
		t.Errorf("excerpt %q", got.Excerpt)
	}
}

func TestSendCutOff(t *testing.T) {
	s := loopbackSender(t, ample)
	for _, text := range []string{"", "HTTP/1.1 200 OK\r\n\r\nabc"} {
		ctx, cancel := context.WithCancelCause(t.Context())
		address := wireReceiver(t, func(conn net.Conn, r *bufio.Reader) {
			_, _, _ = readRequest(r)
			_, _ = io.WriteString(conn, text)
			cancel(errors.New("any reason"))
			untilClosed(r)
		})
		got := s.Send(ctx, to("http://"+address, gen.RequestMethodPOST))
		if ctx.Err() == nil || got.Error != "cut off before there was an answer: the server is stopping" ||
			got.Verdict != Retry || !got.CutOff {
			t.Errorf("after %q: %s, %q", text, got.Verdict, got.Error)
		}
	}
}

// An answer that was complete before ctx ended is an answer.
func TestSendAnswerBeforeTheCutOff(t *testing.T) {
	ctx, cancel := context.WithCancel(t.Context())
	s := NewSender(SenderOptions{Transport: roundTrip(func(*http.Request) (*http.Response, error) {
		cancel()
		return &http.Response{StatusCode: http.StatusNoContent, Body: http.NoBody}, nil
	})})
	wantAttempt(t, s.Send(ctx, seedDelivery()), 204, Delivered, "")
}

func TestSendTLS(t *testing.T) {
	quiet := log.New(io.Discard, "", 0)
	untrusted := httptest.NewUnstartedServer(http.NotFoundHandler())
	untrusted.Config.ErrorLog = quiet
	untrusted.StartTLS()
	t.Cleanup(untrusted.Close)
	old := httptest.NewUnstartedServer(http.NotFoundHandler())
	old.Config.ErrorLog = quiet
	old.TLS = &tls.Config{MaxVersion: tls.VersionTLS11, MinVersion: tls.VersionTLS10}
	old.StartTLS()
	t.Cleanup(old.Close)
	plain := httpReceiver(t, http.NotFound)
	silent := wireReceiver(t, func(_ net.Conn, r *bufio.Reader) { untilClosed(r) })
	garbage := wireReceiver(t, func(conn net.Conn, r *bufio.Reader) {
		_, _ = r.ReadByte()
		_, _ = io.WriteString(conn, "\x16\x03\x03\x00\x04\x0f\xff\xff\xff")
		untilClosed(r)
	})
	cases := []struct {
		name, address, text string
		timeout             time.Duration
	}{
		{
			"untrusted", untrusted.Listener.Addr().String(),
			"the receiver's TLS certificate is signed by an unknown authority", ample,
		},
		{"old version", old.Listener.Addr().String(), "the TLS handshake with the receiver failed", ample},
		{"no TLS", plain.Listener.Addr().String(), "the receiver does not speak TLS on this port", ample},
		{"garbage", garbage, "the TLS handshake with the receiver failed", ample},
		{"silent", silent, timeoutError(brief).Error(), brief},
	}
	for _, c := range cases {
		t.Run(c.name, func(t *testing.T) {
			got := loopbackSender(t, c.timeout).Send(t.Context(),
				to("https://us3r:s3cret@"+c.address+"/?token=s3cret", gen.RequestMethodPOST))
			wantAttempt(t, got, 0, Retry, c.text)
			wantNoSecret(t, got)
		})
	}
	// The other way round: an answer, of which TLS is no part.
	got := loopbackSender(t, ample).Send(t.Context(),
		to("http://"+untrusted.Listener.Addr().String(), gen.RequestMethodPOST))
	wantAttempt(t, got, 400, Failed, "")
}

func TestSendTrustedTLS(t *testing.T) {
	server := httptest.NewTLSServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		fmt.Fprint(w, r.Proto)
	}))
	defer server.Close()
	s := loopbackSender(t, ample)
	trusting := server.Client().Transport.(*http.Transport).TLSClientConfig
	s.transport.(*rotatingTransport).current().TLSClientConfig = trusting
	got := s.Send(t.Context(), to(server.URL, gen.RequestMethodPOST))
	wantAttempt(t, got, 200, Delivered, "")
	if got.Excerpt != "HTTP/1.1" {
		t.Errorf("spoken: %s", got.Excerpt)
	}
}

func TestSendUsesNoProxy(t *testing.T) {
	t.Setenv("HTTP_PROXY", "http://127.0.0.1:1")
	t.Setenv("HTTPS_PROXY", "http://127.0.0.1:1")
	if NewSender(SenderOptions{}).transport.(*rotatingTransport).current().Proxy != nil {
		t.Error("there is a proxy")
	}
}

// net/http keeps a request for each dead receiver; only its internal state shows that.
func TestSendForgetsDeadReceivers(t *testing.T) {
	s := loopbackSender(t, ample)
	for i := range maxDials + 100 {
		s.Send(t.Context(), to(fmt.Sprintf("http://127.%d.%d.%d:9", 1+i>>16, i>>8&255, i&255), gen.RequestMethodGET))
	}
	kept := reflect.ValueOf(s.transport.(*rotatingTransport).current()).Elem().FieldByName("idleConnWait")
	if !kept.IsValid() {
		t.Fatal("net/http is made otherwise than it was: is rotatingTransport still of use?")
	}
	if kept.Len() == 0 || kept.Len() > 100 {
		t.Errorf("%d dead receivers are remembered, want those since the transport is new", kept.Len())
	}
}

func TestSendReusesConnections(t *testing.T) {
	s := loopbackSender(t, ample)
	var opened atomic.Int32
	server := httptest.NewUnstartedServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		_, _ = w.Write(make([]byte, 10_000)) // more than an excerpt
	}))
	server.Config.ConnState = func(_ net.Conn, state http.ConnState) {
		if state == http.StateNew {
			opened.Add(1)
		}
	}
	server.Start()
	t.Cleanup(server.Close)
	for range 10 {
		wantAttempt(t, s.Send(t.Context(), to(server.URL, gen.RequestMethodPOST)), 200, Delivered, "")
	}
	if n := opened.Load(); n != 1 {
		t.Errorf("10 attempts opened %d connections", n)
	}
}

// A receiver may close an idle connection at the very moment at which the next request goes out on it.
func TestSendOnAStaleConnection(t *testing.T) {
	for _, method := range []gen.RequestMethod{gen.RequestMethodGET, gen.RequestMethodPOST} {
		var served atomic.Int32
		address := wireReceiver(t, func(conn net.Conn, r *bufio.Reader) {
			if _, _, err := readRequest(r); err != nil {
				return
			}
			served.Add(1)
			_, _ = io.WriteString(conn, "HTTP/1.1 204 OK\r\n\r\n")
			_, _ = r.Peek(1) // the next request is there, and the connection is closed
		})
		s := loopbackSender(t, ample)
		for range 3 {
			wantAttempt(t, s.Send(t.Context(), to("http://"+address, method)), 204, Delivered, "")
		}
		if n := served.Load(); n != 3 {
			t.Errorf("%s: %d requests were answered, want 3", method, n)
		}
	}
}

// fakeDNS answers each question for an IPv4 address with the next of answers, then with the last one again; no
// answers mean that there is no such name. It returns a resolver and the number of answers given.
func fakeDNS(t *testing.T, answers ...netip.Addr) (*net.Resolver, *atomic.Int32) {
	t.Helper()
	server, err := net.ListenPacket("udp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	given, done := new(atomic.Int32), make(chan struct{})
	go func() {
		defer close(done)
		for packet := make([]byte, 1500); ; {
			n, from, err := server.ReadFrom(packet)
			if err != nil {
				return
			}
			_, _ = server.WriteTo(answerDNS(packet[:n], answers, given), from)
		}
	}()
	t.Cleanup(func() { server.Close(); <-done })
	dial := func(ctx context.Context, _, _ string) (net.Conn, error) {
		return new(net.Dialer).DialContext(ctx, "udp", server.LocalAddr().String())
	}
	return &net.Resolver{PreferGo: true, Dial: dial}, given
}

func answerDNS(packet []byte, answers []netip.Addr, given *atomic.Int32) []byte {
	var m dnsmessage.Message
	if err := m.Unpack(packet); err != nil {
		return nil
	}
	m.Response, m.Additionals = true, nil
	if len(answers) == 0 {
		m.RCode = dnsmessage.RCodeNameError
	}
	if q := m.Questions[0]; len(answers) > 0 && q.Type == dnsmessage.TypeA {
		i := min(int(given.Add(1)), len(answers)) - 1
		m.Answers = []dnsmessage.Resource{{
			Header: dnsmessage.ResourceHeader{Name: q.Name, Class: q.Class},
			Body:   &dnsmessage.AResource{A: answers[i].As4()},
		}}
	}
	reply, _ := m.Pack()
	return reply
}

// resolvingSender is a sender as NewSender makes it, except for the resolver.
// unresolved is the error of an attempt at a name without an allowed address.
func unresolved(name string) string { return (&unresolvedError{name: name}).Error() }

func resolvingSender(t *testing.T, g *Guard, resolver *net.Resolver) *Sender {
	t.Helper()
	transport := newRotatingTransport(&net.Dialer{Timeout: ample, Resolver: resolver}, g)
	s := NewSender(SenderOptions{Transport: transport, Timeout: ample})
	t.Cleanup(s.Close)
	return s
}

// twoReceivers listen on the same port of 127.0.0.1 and 127.0.0.2 and count connections. Both close after an answer.
func twoReceivers(t *testing.T) (port string, first, second *atomic.Int32) {
	t.Helper()
	one := listen(t, "127.0.0.1:0")
	_, port, _ = net.SplitHostPort(one.Addr().String())
	two, err := net.Listen("tcp", "127.0.0.2:"+port)
	if err != nil && os.Getenv("CI") == "" {
		one.Close()
		t.Skipf("this machine does not listen on 127.0.0.2: %v", err)
	}
	if err != nil {
		t.Fatal(err)
	}
	return port, counting(t, one), counting(t, two)
}

func counting(t *testing.T, listener net.Listener) *atomic.Int32 {
	connections := new(atomic.Int32)
	server := httptest.NewUnstartedServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Connection", "close")
		w.WriteHeader(http.StatusNoContent)
	}))
	server.Listener.Close()
	server.Listener = listener
	server.Config.ConnState = func(_ net.Conn, state http.ConnState) {
		if state == http.StateNew {
			connections.Add(1)
		}
	}
	server.Start()
	t.Cleanup(server.Close)
	return connections
}

// DNS rebinding: the name leads to an allowed address at first and to a forbidden one from then on.
func TestSendDNSThatChanges(t *testing.T) {
	port, forbidden, allowed := twoReceivers(t)
	good, bad := netip.MustParseAddr("127.0.0.2"), netip.MustParseAddr("127.0.0.1")
	resolver, given := fakeDNS(t, good, bad)
	s := resolvingSender(t, guardOf("127.0.0.2/32"), resolver)
	url := "http://us3r:s3cret@rebinding.example:" + port + "/?token=s3cret"

	// One look-up per attempt: the address that is dialled is the one that was checked, or the second answer, the
	// forbidden one, would already have been asked for.
	wantAttempt(t, s.Send(t.Context(), to(url, gen.RequestMethodPOST)), 204, Delivered, "")
	if given.Load() != 1 || allowed.Load() != 1 || forbidden.Load() != 0 {
		t.Errorf("%d look-ups, %d and %d connections", given.Load(), allowed.Load(), forbidden.Load())
	}
	got := s.Send(t.Context(), to(url, gen.RequestMethodPOST))
	wantAttempt(t, got, 0, Retry, unresolved("rebinding.example"))
	wantNoSecret(t, got)
	if given.Load() != 2 || allowed.Load() != 1 || forbidden.Load() != 0 {
		t.Errorf("%d look-ups, %d and %d connections", given.Load(), allowed.Load(), forbidden.Load())
	}
}

func TestSendAllowedNetworkAndItsNeighbour(t *testing.T) {
	port, neighbour, allowed := twoReceivers(t)
	s := NewSender(SenderOptions{Guard: guardOf("127.0.0.2/32"), Timeout: ample})
	defer s.Close()
	wantAttempt(t, s.Send(t.Context(), to("http://127.0.0.2:"+port, gen.RequestMethodGET)), 204, Delivered, "")
	wantAttempt(t, s.Send(t.Context(), to("http://127.0.0.1:"+port, gen.RequestMethodGET)), 0, Failed,
		"the receiver's address is not allowed: "+allowedAddresses)
	if allowed.Load() != 1 || neighbour.Load() != 0 {
		t.Errorf("%d and %d connections, want 1 and 0", allowed.Load(), neighbour.Load())
	}
}

func TestSendUnknownHost(t *testing.T) {
	resolver, _ := fakeDNS(t)
	s := resolvingSender(t, guardOf(), resolver)
	got := s.Send(t.Context(), to("http://us3r:s3cret@nowhere.example/?token=s3cret", gen.RequestMethodPOST))
	wantAttempt(t, got, 0, Retry, unresolved("nowhere.example"))
	wantNoSecret(t, got)
}

func TestSenderDefaults(t *testing.T) {
	s := NewSender(SenderOptions{})
	if s.Timeout() != 10*time.Second || s.userAgent != "agentevents" {
		t.Errorf("timeout %s, user agent %q", s.Timeout(), s.userAgent)
	}
	NewSender(SenderOptions{Transport: roundTrip(nil)}).Close() // which has nothing to close
}
