package main

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"os"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/agentevents/agentevents/gen"
	"github.com/agentevents/agentevents/store"
)

// short is less patient than the program is, but long enough for a request that does not stop on its way.
func short() bounds {
	return bounds{head: time.Second, all: time.Second, connections: 100}
}

// bounded serves what the site does with other bounds, by the server that the program has. It returns the address.
func (s *site) bounded(b bounds) string {
	s.Helper()
	on, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		s.Fatal(err)
	}
	ctx, stop := context.WithCancel(context.Background())
	ended := make(chan error)
	go func() {
		log := newLog(s.log, config{logLevel: slog.LevelInfo})
		ended <- answerRequests(ctx, func() {}, s.Config.Handler, on, log, b)
	}()
	s.Cleanup(func() {
		stop()
		if err := <-ended; err != nil {
			s.Error(err)
		}
	})
	return on.Addr().String()
}

// wire is a connection that a test writes to as it likes.
type wire struct {
	*site
	net.Conn
	in *bufio.Reader
}

func (s *site) dial(address string) *wire {
	s.Helper()
	conn, err := net.Dial("tcp", address)
	if err != nil {
		s.Fatal(err)
	}
	s.Cleanup(func() { _ = conn.Close() })
	if err := conn.SetDeadline(time.Now().Add(time.Minute)); err != nil {
		s.Fatal(err)
	}
	return &wire{s, conn, bufio.NewReader(conn)}
}

func (w *wire) say(format string, args ...any) *wire {
	w.Helper()
	if _, err := fmt.Fprintf(w.Conn, format, args...); err != nil {
		w.Fatal(err)
	}
	return w
}

// answers compares an answer, unless the body to compare is empty. An error must be one of the API, with its id in the log.
func (w *wire) answers(what string, status int, body string) {
	w.Helper()
	resp, err := http.ReadResponse(w.in, nil)
	if err != nil {
		w.Fatalf("%s: %v", what, err)
	}
	defer resp.Body.Close()
	text, err := io.ReadAll(resp.Body)
	if resp.StatusCode != status || body != "" && (err != nil || strings.TrimSpace(string(text)) != body) {
		w.Errorf("%s: %d %s, %v; want %d %s", what, resp.StatusCode, text, err, status, body)
	}
	if status < http.StatusBadRequest {
		return
	}
	w.refusal(got{resp.StatusCode, resp.Header, string(text)})
	checkBrowserHeaders(w, what, resp.Header, showsNothing[0])
	logged := fmt.Sprintf("status=%d ", status)
	if id := resp.Header.Get("X-Request-Id"); id == "" || !w.logs(logged, "request_id="+id) {
		w.Errorf("%s: the log has no line of the request %q with %s: %s", what, id, logged, w.log)
	}
}

// logs says whether a line of the log has all the texts.
func (s *site) logs(texts ...string) bool {
	return slices.ContainsFunc(strings.Split(s.log.String(), "\n"), func(line string) bool {
		return !slices.ContainsFunc(texts, func(text string) bool { return !strings.Contains(line, text) })
	})
}

// closes is answers of a server that closes the connection afterwards.
func (w *wire) closes(what string, status int, body string) {
	w.Helper()
	w.answers(what, status, body)
	if rest, err := io.ReadAll(w.in); len(rest) > 0 || err != nil {
		w.Errorf("%s: after the answer the connection has %q, %v", what, rest, err)
	}
}

// ends waits until the server closes the connection.
func (w *wire) ends(what string) {
	w.Helper()
	rest, err := io.ReadAll(w.in)
	if len(rest) > 0 || errors.Is(err, os.ErrDeadlineExceeded) {
		w.Errorf("%s: the connection has %q, %v", what, rest, err)
	}
}

func TestSlowHead(t *testing.T) {
	t.Parallel()
	s := newSite(t)
	address := s.bounded(short())
	nothing, stops := s.dial(address), s.dial(address).say("GET /healthz HTTP/1.1\r\nHost: x\r\n")
	drip := s.dial(address).say("GET /healthz HTTP/1.1\r\nHost: x\r\nX: ")
	go func() {
		tick := time.NewTicker(time.Millisecond)
		defer tick.Stop()
		for range tick.C {
			if _, err := fmt.Fprint(drip.Conn, "x"); err != nil {
				return
			}
		}
	}()
	nothing.ends("nothing is sent")
	stops.ends("a head that stops")
	drip.ends("a head that drips")
}

func TestSlowBody(t *testing.T) {
	t.Parallel()
	s := newSite(t)
	address := s.bounded(short())
	const late = `{"message":"the body did not arrive in time"}`
	put := "PUT " + basePath + "/client/12 HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\nAuthorization: " + s.operator() + "\r\n"
	form := "POST /oauth/token HTTP/1.1\r\nHost: x\r\nContent-Type: application/x-www-form-urlencoded\r\n"
	slow := map[string]*wire{}
	for what, request := range map[string]string{
		"a body that stops":        put + "Content-Length: 2\r\n\r\n{",
		"one that never begins":    put + "Content-Length: 2\r\n\r\n",
		"one of unknown length":    put + "Transfer-Encoding: chunked\r\n\r\n1\r\n{\r\n",
		"a form that stops":        form + "Content-Length: 9\r\n\r\ngrant",
		"a form of unknown length": form + "Transfer-Encoding: chunked\r\n\r\n5\r\ngrant\r\n",
		"a form that is announced": form + "Content-Length: 16384\r\n\r\n",
	} {
		slow[what] = s.dial(address).say("%s", request)
	}
	unread := s.dial(address).say("PUT %s/client/12 HTTP/1.1\r\nHost: x\r\nContent-Length: 2\r\n\r\n{", basePath)
	for what, w := range slow {
		w.answers(what, http.StatusRequestTimeout, late)
		w.ends(what)
	}
	unread.answers("one that nobody reads", http.StatusUnauthorized, "")
	unread.ends("one that nobody reads")
	twice := s.dial(s.bounded(usualBounds()))
	for _, status := range []int{http.StatusCreated, http.StatusOK} {
		twice.say("%sContent-Length: 2\r\n\r\n{}", put).answers("one in time", status, "")
	}
}

// What waits for its answer is not late, however long that takes.
func TestWaitingIsNotSlow(t *testing.T) {
	t.Parallel()
	s := newSite(t).withAgents()
	address := s.bounded(short())
	feed := "GET " + basePath + "/client/12/status_change/?wait=30 HTTP/1.1\r\nHost: x\r\nAuthorization: " + s.operator() + "\r\n"
	waiting := []*wire{
		s.dial(address).say("%s\r\n", feed), s.dial(address).say("%sContent-Length: 2\r\n\r\n{}", feed),
	}
	for range 2 { // after these more time has passed than a request has
		slow := s.dial(address).say("POST /oauth/token HTTP/1.1\r\nHost: x\r\nContent-Length: 9\r\n\r\n")
		slow.answers("a body that never begins", http.StatusRequestTimeout, "")
	}
	k := store.AgentKey{Client: "12", Type: gen.AgentTypeLocal, ID: 136}
	if _, err := s.store.SetStatus(t.Context(), k, gen.AgentStatusUpdate{AgentStatus: gen.AgentStatusValueAvailable}); err != nil {
		t.Fatal(err)
	}
	for _, w := range waiting {
		w.answers("who waits", http.StatusOK, "")
	}
}

func TestConnectionsAreBounded(t *testing.T) {
	t.Parallel()
	s := newSite(t)
	b := usualBounds()
	b.connections = 1
	address := s.bounded(b)
	const healthy = "GET /healthz HTTP/1.1\r\nHost: x\r\n\r\n"
	first := s.dial(address).say(healthy)
	first.answers("the first", http.StatusOK, "")
	second := s.dial(address).say(healthy)
	first.say(healthy).answers("the first, again", http.StatusOK, "")
	if n := second.in.Buffered(); n > 0 {
		t.Errorf("the second was answered %d bytes while there is the first", n)
	}
	_ = first.Close()
	second.answers("the second", http.StatusOK, "")
}

func TestHeadIsBounded(t *testing.T) {
	t.Parallel()
	s := newSite(t)
	address := s.bounded(usualBounds())
	// head is one of a size, with a URL of another one, and so many fields beside Host.
	head := func(size, url, fields int) string {
		path := "/healthz?" + strings.Repeat("x", url-len("/healthz?"))
		text := "GET " + path + " HTTP/1.1\r\nHost: x\r\n" + strings.Repeat("A: \r\n", fields-1) + "B: "
		return text + strings.Repeat("b", max(0, size-len(text)-4)) + "\r\n\r\n"
	}
	s.dial(address).say("%s", head(0, 100, 100)).answers("100 fields", http.StatusOK, "")
	s.dial(address).say("%s", head(0, 100, 101)).
		answers("101 fields", http.StatusRequestHeaderFieldsTooLarge, `{"message":"the header may have at most 100 fields"}`)
	s.dial(address).say("%s", head(0, 8192, 1)).answers("a URL of 8 KiB", http.StatusOK, "")
	s.dial(address).say("%s", head(0, 8193, 1)).
		answers("one byte more", http.StatusRequestURITooLong, `{"message":"the URL may have at most 8192 bytes"}`)
	s.dial(address).say("%s", head(32<<10, 100, 1)).answers("a head of 32 KiB", http.StatusOK, "")
	s.dial(address).say("%s", head(32<<10+1, 100, 1)).closes("one byte more", http.StatusRequestHeaderFieldsTooLarge, longHead)
	s.dial(address).say("%s", head(1<<20, 100, 1)[:40<<10]).closes("far more", http.StatusRequestHeaderFieldsTooLarge, longHead)
	s.dial(address).say("%s", head(0, 64<<10, 1)).closes("a URL of 64 KiB", http.StatusRequestURITooLong, longTarget)
	again := s.dial(address).say("%s", head(0, 100, 1))
	again.answers("the first on a connection", http.StatusOK, "")
	again.say("%s", head(0, 64<<10, 1)).closes("the second, of 64 KiB", http.StatusRequestURITooLong, longTarget)
}

const (
	longHead   = `{"message":"the head of the request may have at most 32768 bytes"}`
	longTarget = `{"message":"the URL may have at most 8192 bytes"}`
	// far is more bytes than a connection buffers, and fewer than the server drops after its answer.
	far = 12 << 20
)

func TestMalformedHead(t *testing.T) {
	t.Parallel()
	s := newSite(t)
	address := s.bounded(usualBounds())
	const host = " HTTP/1.1\r\nHost: x\r\n"
	for _, c := range []struct {
		head    string
		status  int
		message string
	}{
		{"GET /healthz\r\n\r\n", 400, "the head of the request is malformed"},
		{"GET /healthz" + host + "A B: c\r\n\r\n", 400, "the head of the request is malformed: invalid header name"},
		{"GET /healthz" + host + "A: \x00\r\n\r\n", 400, "the head of the request is malformed"},
		{"GET /healthz HTTP/1.1\r\n\r\n", 400, "the head of the request is malformed: missing required Host header"},
		{"GET /healthz" + host + "Transfer-Encoding: gzip\r\n\r\n", 501, "the Transfer-Encoding must be chunked"},
		{"GET /healthz HTTP/3.0\r\nHost: x\r\n\r\n", 505, "the protocol must be HTTP/1.0 or HTTP/1.1"},
		{"PUT /healthz" + host + "Expect: x\r\nContent-Length: 2\r\n\r\n{}", 417, "the header Expect must be 100-continue"},
		{strings.Repeat("x", 64<<10), 414, "the URL may have at most 8192 bytes"},
	} {
		s.dial(address).say("%s", c.head).closes(fmt.Sprintf("%.60q", c.head), c.status, `{"message":"`+c.message+`"}`)
	}
	s.dial(address).say("OPTIONS *"+host+"\r\n").answers("OPTIONS *", http.StatusNotFound, "")
}

// A client that writes its whole request before it reads reads the answer all the same.
func TestRefusedClientReads(t *testing.T) {
	t.Parallel()
	s := newSite(t)
	patient := bounds{head: time.Minute, all: time.Minute, connections: 100}
	address := s.bounded(patient)
	put := "PUT " + basePath + "/client/12 HTTP/1.1\r\nHost: x\r\nAuthorization: " + s.operator() + "\r\n"
	long := strings.Repeat("x", far)
	for what, c := range map[string]struct {
		request string
		status  int
		body    string
	}{
		"a long header":              {put + "X: " + long, 431, longHead},
		"a long URL":                 {"GET /" + long, 414, longTarget},
		"no head at all":             {"\x16\x03\x01\r\n" + long, 400, ""},
		"a body in another encoding": {put + "Transfer-Encoding: gzip\r\n\r\n" + long, 501, ""},
		"a long body":                {fmt.Sprintf("%sContent-Length: %d\r\n\r\n%s", put, far, long), 413, ""},
		"one of unknown length":      {fmt.Sprintf("%sTransfer-Encoding: chunked\r\n\r\n%x\r\n%s", put, far, long), 413, ""},
		"a body that is not read":    {fmt.Sprintf("PUT %s/client/12 HTTP/1.1\r\nHost: x\r\nContent-Length: %d\r\n\r\n%s", basePath, far, long), 401, ""},
	} {
		s.dial(address).say("%s", c.request).closes(what, c.status, c.body)
	}
	patient.all = short().all
	late := s.dial(s.bounded(patient)).say("%sContent-Length: %d\r\n\r\n{", put, far)
	late.answers("a body that stops", http.StatusRequestTimeout, "")
	late.say("%s", long).ends("what comes after the answer")
}

// After an answer that closes the connection the server cuts the client off within its bounds, and accepts the next client.
func TestRefusedClientIsCutOff(t *testing.T) {
	t.Parallel()
	s := newSite(t)
	patient, hasty := bounds{head: time.Minute, all: time.Minute, connections: 1}, bounds{head: time.Second, all: time.Second, connections: 1}
	for what, c := range map[string]struct {
		bounds
		after func(w *wire)
	}{
		"much":           {patient, func(w *wire) { w.sendsUntilCutOff() }},
		"nothing":        {hasty, func(*wire) {}},
		"that it closes": {patient, func(w *wire) { _ = w.Close() }},
	} {
		address := s.bounded(c.bounds)
		first := s.dial(address).say("GET /healthz HTTP/1.1\r\n\r\n")
		first.answers(what, http.StatusBadRequest, "")
		c.after(first)
		s.dial(address).say("GET /healthz HTTP/1.1\r\nHost: x\r\n\r\n").answers("the next after "+what, http.StatusOK, "")
	}
}

func (w *wire) sendsUntilCutOff() {
	w.Helper()
	part, err := make([]byte, 1<<20), error(nil)
	for err == nil {
		_, err = w.Write(part)
	}
	if errors.Is(err, os.ErrDeadlineExceeded) {
		w.Error("the client is not cut off")
	}
}

// What is refused before all else is an answer of the API all the same.
func TestRefusedHeadTellsOfTheLimit(t *testing.T) {
	s := newSite(t)
	g := s.ask("GET", "/client/12?"+strings.Repeat("x", 8<<10), "")
	s.expect(g, http.StatusRequestURITooLong, "")
	s.refusal(g)
	if g.header.Get("X-RateLimit-Limit") != "2147483647" || g.header.Get("X-Request-Id") == "" {
		t.Errorf("the header is %v", g.header)
	}
}

// The server looks at no part of an answer but its beginning, wherever net/http splits the answer into writes.
func TestAnswerThatLooksLikeARefusal(t *testing.T) {
	t.Parallel()
	s := newSite(t)
	body := "HTTP/1.1 417 Expectation Failed\r\n" + ownHeader + strings.Repeat("x", 8<<10)
	s.Config.Handler = http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		flushed := http.NewResponseController(w).Flush() // so that the body is a write of its own
		_, err := io.WriteString(w, body)
		if err = errors.Join(flushed, err); err != nil {
			t.Error(err)
		}
	})
	s.dial(s.bounded(usualBounds())).say("GET / HTTP/1.0\r\n\r\n").answers("a body", http.StatusOK, body)
}
