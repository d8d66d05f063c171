package api

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
	"runtime"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/agentevents/agentevents/gen"
	"github.com/agentevents/agentevents/server/internal/contract"
	"github.com/agentevents/agentevents/server/internal/telemetry"
	"github.com/agentevents/agentevents/store"
)

// shortLimits returns limits that a test can wait for. They suffice for a request that is not interrupted.
func shortLimits() Limits {
	limits := DefaultLimits()
	limits.Head, limits.Request = time.Second, time.Second
	return limits
}

// patientLimits are far above the time that a test takes.
func patientLimits() Limits {
	limits := DefaultLimits()
	limits.Head, limits.Request = time.Minute, time.Minute
	return limits
}

// serveWith serves the same handler by Serve, with other limits. It returns the address.
func (ls *liveServer) serveWith(b Limits) string {
	ls.Helper()
	on, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		ls.Fatal(err)
	}
	ctx, stop := context.WithCancel(context.Background())
	ended := make(chan error)
	go func() {
		log := telemetry.NewLog(ls.log, slog.LevelInfo, false)
		ended <- Serve(ctx, func() {}, ls.Config.Handler, on, log, b)
	}()
	ls.Cleanup(func() {
		stop()
		if err := <-ended; err != nil {
			ls.Error(err)
		}
	})
	return on.Addr().String()
}

// rawConn is a connection to which a test writes bytes.
type rawConn struct {
	*liveServer
	net.Conn
	in *bufio.Reader
}

func (ls *liveServer) dial(address string) *rawConn {
	ls.Helper()
	conn, err := net.Dial("tcp", address)
	if err != nil {
		ls.Fatal(err)
	}
	ls.Cleanup(func() { _ = conn.Close() })
	if err := conn.SetDeadline(time.Now().Add(time.Minute)); err != nil { // longer than any wait of a test
		ls.Fatal(err)
	}
	return &rawConn{ls, conn, bufio.NewReader(conn)}
}

func (raw *rawConn) send(format string, args ...any) *rawConn {
	raw.Helper()
	if _, err := fmt.Fprintf(raw.Conn, format, args...); err != nil {
		raw.Fatal(err)
	}
	return raw
}

// wantAnswer compares an answer. It ignores the body if the expected one is empty. An error must have the form of the
// API, and the log must have its id.
func (raw *rawConn) wantAnswer(what string, status int, body string) {
	raw.Helper()
	resp, err := http.ReadResponse(raw.in, nil)
	if err != nil {
		raw.Fatalf("%s: %v", what, err)
	}
	defer resp.Body.Close()
	text, err := io.ReadAll(resp.Body)
	if resp.StatusCode != status || body != "" && (err != nil || strings.TrimSpace(string(text)) != body) {
		raw.Errorf("%s: %d %s, %v; want %d %s", what, resp.StatusCode, text, err, status, body)
	}
	if status < http.StatusBadRequest {
		return
	}
	raw.errorOf(liveResponse{resp.StatusCode, resp.Header, string(text)})
	checkBrowserHeaders(raw, what, resp.Header, defaultPolicy[0])
	logged := fmt.Sprintf("status=%d ", status)
	if id := resp.Header.Get("X-Request-Id"); id == "" || !raw.logs(logged, "request_id="+id) {
		raw.Errorf("%s: the log has no line of the request %q with %s: %s", what, id, logged, raw.log)
	}
}

// logs reports whether a line of the log has all the texts.
func (ls *liveServer) logs(texts ...string) bool {
	return slices.ContainsFunc(strings.Split(ls.log.String(), "\n"), func(line string) bool {
		return !slices.ContainsFunc(texts, func(text string) bool { return !strings.Contains(line, text) })
	})
}

// wantAnswerAndClose is wantAnswer, and requires that the server closes the connection after the answer.
func (raw *rawConn) wantAnswerAndClose(what string, status int, body string) {
	raw.Helper()
	raw.wantAnswer(what, status, body)
	if rest, err := io.ReadAll(raw.in); len(rest) > 0 || err != nil {
		raw.Errorf("%s: the connection has %q after the answer, %v", what, rest, err)
	}
}

// wantClose waits until the server closes the connection.
func (raw *rawConn) wantClose(what string) {
	raw.Helper()
	rest, err := io.ReadAll(raw.in)
	if len(rest) > 0 || errors.Is(err, os.ErrDeadlineExceeded) {
		raw.Errorf("%s: the connection has %q, %v", what, rest, err)
	}
}

func TestSlowHeadEndsTheConnection(t *testing.T) {
	t.Parallel()
	ls := newLiveServer(t)
	address := ls.serveWith(shortLimits())
	nothing, stops := ls.dial(address), ls.dial(address).send("GET /healthz HTTP/1.1\r\nHost: x\r\n")
	drip := ls.dial(address).send("GET /healthz HTTP/1.1\r\nHost: x\r\nX: ")
	go func() {
		tick := time.NewTicker(time.Millisecond)
		defer tick.Stop()
		for range tick.C {
			if _, err := fmt.Fprint(drip.Conn, "x"); err != nil {
				return
			}
		}
	}()
	nothing.wantClose("no head")
	stops.wantClose("a head that stops")
	drip.wantClose("a head that drips")
}

func TestSlowBodyGets408(t *testing.T) {
	t.Parallel()
	ls := newLiveServer(t)
	address := ls.serveWith(shortLimits())
	const late = `{"message":"the body did not arrive in time"}`
	put := "PUT " + contract.BasePath +
		"/client/12 HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\nAuthorization: " + ls.operatorToken() +
		"\r\n"
	form := "POST /oauth/token HTTP/1.1\r\nHost: x\r\nContent-Type: application/x-www-form-urlencoded\r\n"
	slow := map[string]*rawConn{}
	for what, request := range map[string]string{
		"a body that stops":        put + "Content-Length: 2\r\n\r\n{",
		"a body that never begins": put + "Content-Length: 2\r\n\r\n",
		"a body of unknown length": put + "Transfer-Encoding: chunked\r\n\r\n1\r\n{\r\n",
		"a form that stops":        form + "Content-Length: 9\r\n\r\ngrant",
		"a form of unknown length": form + "Transfer-Encoding: chunked\r\n\r\n5\r\ngrant\r\n",
		"a form that never begins": form + "Content-Length: 16384\r\n\r\n",
	} {
		slow[what] = ls.dial(address).send("%s", request)
	}
	unread := ls.dial(address).send("PUT %s/client/12 HTTP/1.1\r\nHost: x\r\nContent-Length: 2\r\n\r\n{",
		contract.BasePath)
	for what, raw := range slow {
		raw.wantAnswer(what, http.StatusRequestTimeout, late)
		raw.wantClose(what)
	}
	unread.wantAnswer("a body that is not read", http.StatusUnauthorized, "")
	unread.wantClose("a body that is not read")
	twice := ls.dial(ls.serveWith(DefaultLimits()))
	for _, status := range []int{http.StatusCreated, http.StatusOK} {
		twice.send("%sContent-Length: 2\r\n\r\n{}", put).wantAnswer("a body in time", status, "")
	}
}

// The time limit of a request covers its arrival, not the time until its answer.
func TestPollOutlivesTheRequestLimit(t *testing.T) {
	t.Parallel()
	ls := newLiveServer(t).withAgents()
	address := ls.serveWith(shortLimits())
	feed := "GET " + contract.BasePath + "/client/12/status_change/?wait=30 HTTP/1.1\r\nHost: x\r\nAuthorization: " +
		ls.operatorToken() + "\r\n"
	waiting := []*rawConn{
		ls.dial(address).send("%s\r\n", feed), ls.dial(address).send("%sContent-Length: 2\r\n\r\n{}", feed),
	}
	for range 2 { // each takes as long as the limit
		slow := ls.dial(address).send("POST /oauth/token HTTP/1.1\r\nHost: x\r\nContent-Length: 9\r\n\r\n")
		slow.wantAnswer("a body that never begins", http.StatusRequestTimeout, "")
	}
	k := store.AgentKey{Client: "12", Type: gen.AgentTypeLocal, ID: 136}
	login := gen.AgentStatusUpdate{AgentStatus: gen.AgentStatusValueAvailable}
	if _, err := ls.store.SetStatus(t.Context(), k, login); err != nil {
		t.Fatal(err)
	}
	for _, raw := range waiting {
		raw.wantAnswer("a waiting poll", http.StatusOK, "")
	}
}

func TestHeadIsBounded(t *testing.T) {
	t.Parallel()
	ls := newLiveServer(t)
	address := ls.serveWith(DefaultLimits())
	// head returns the head of a request with a size, a size of its URL, and a number of fields in addition to Host.
	head := func(size, url, fields int) string {
		path := "/healthz?" + strings.Repeat("x", url-len("/healthz?"))
		text := "GET " + path + " HTTP/1.1\r\nHost: x\r\n" + strings.Repeat("A: \r\n", fields-1) + "B: "
		return text + strings.Repeat("b", max(0, size-len(text)-4)) + "\r\n\r\n"
	}
	ls.dial(address).send("%s", head(0, 100, 100)).wantAnswer("100 fields", http.StatusOK, "")
	ls.dial(address).send("%s", head(0, 100, 101)).
		wantAnswer("101 fields", http.StatusRequestHeaderFieldsTooLarge,
			`{"message":"the header may have at most 100 fields"}`)
	ls.dial(address).send("%s", head(0, 8192, 1)).wantAnswer("a URL of 8 KiB", http.StatusOK, "")
	ls.dial(address).send("%s", head(0, 8193, 1)).
		wantAnswer("one byte above the limit", http.StatusRequestURITooLong,
			`{"message":"the URL may have at most 8192 bytes"}`)
	ls.dial(address).send("%s", head(32<<10, 100, 1)).wantAnswer("a head of 32 KiB", http.StatusOK, "")
	ls.dial(address).send("%s", head(32<<10+1, 100, 1)).wantAnswerAndClose("one byte above the limit",
		http.StatusRequestHeaderFieldsTooLarge, headTooLong)
	ls.dial(address).send("%s", head(1<<20, 100, 1)[:40<<10]).wantAnswerAndClose("a head of 40 KiB",
		http.StatusRequestHeaderFieldsTooLarge, headTooLong)
	ls.dial(address).send("%s", head(0, 64<<10, 1)).wantAnswerAndClose("a URL of 64 KiB", http.StatusRequestURITooLong,
		urlTooLong)
	reused := ls.dial(address).send("%s", head(0, 100, 1))
	reused.wantAnswer("the first on a connection", http.StatusOK, "")
	reused.send("%s", head(0, 64<<10, 1)).wantAnswerAndClose("the second, of 64 KiB", http.StatusRequestURITooLong,
		urlTooLong)
}

const (
	headTooLong = `{"message":"the head of the request may have at most 32768 bytes"}`
	urlTooLong  = `{"message":"the URL may have at most 8192 bytes"}`
	// farTooMuch is more than a connection buffers, and less than the server discards after its answer.
	farTooMuch = 12 << 20
)

func TestMalformedHeadGetsAnErrorOfTheAPI(t *testing.T) {
	t.Parallel()
	ls := newLiveServer(t)
	address := ls.serveWith(DefaultLimits())
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
		{
			"PUT /healthz" + host + "Expect: x\r\nContent-Length: 2\r\n\r\n{}", 417,
			"the header Expect must be 100-continue",
		},
		{strings.Repeat("x", 64<<10), 414, "the URL may have at most 8192 bytes"},
	} {
		ls.dial(address).send("%s", c.head).wantAnswerAndClose(fmt.Sprintf("%.60q", c.head), c.status, `{"message":"`+
			c.message+`"}`)
	}
	ls.dial(address).send("OPTIONS *"+host+"\r\n").wantAnswer("OPTIONS *", http.StatusNotFound, "")
}

// A client that sends its whole request before it reads gets the answer.
func TestRefusedClientGetsTheAnswer(t *testing.T) {
	t.Parallel()
	ls := newLiveServer(t)
	patient := patientLimits()
	address := ls.serveWith(patient)
	put := "PUT " + contract.BasePath + "/client/12 HTTP/1.1\r\nHost: x\r\nAuthorization: " + ls.operatorToken() +
		"\r\n"
	long := strings.Repeat("x", farTooMuch)
	for what, c := range map[string]struct {
		request string
		status  int
		body    string
	}{
		"a long header":              {put + "X: " + long, 431, headTooLong},
		"a long URL":                 {"GET /" + long, 414, urlTooLong},
		"a TLS handshake":            {"\x16\x03\x01\r\n" + long, 400, ""},
		"a body in another encoding": {put + "Transfer-Encoding: gzip\r\n\r\n" + long, 501, ""},
		"a long body":                {fmt.Sprintf("%sContent-Length: %d\r\n\r\n%s", put, farTooMuch, long), 413, ""},
		"a long body of unknown length": {
			fmt.Sprintf("%sTransfer-Encoding: chunked\r\n\r\n%x\r\n%s", put, farTooMuch, long), 413, "",
		},
		"a body that is not read": {
			fmt.Sprintf("PUT %s/client/12 HTTP/1.1\r\nHost: x\r\nContent-Length: %d\r\n\r\n%s", contract.BasePath,
				farTooMuch, long), 401, "",
		},
	} {
		ls.dial(address).send("%s", c.request).wantAnswerAndClose(what, c.status, c.body)
	}
	patient.Request = shortLimits().Request
	late := ls.dial(ls.serveWith(patient)).send("%sContent-Length: %d\r\n\r\n{", put, farTooMuch)
	late.wantAnswer("a body that stops", http.StatusRequestTimeout, "")
	late.send("%s", long).wantClose("the rest of the body")
}

// After an answer that closes the connection, the server stops reading at its limits.
func TestRefusedClientIsCutOff(t *testing.T) {
	t.Parallel()
	ls := newLiveServer(t)
	for what, c := range map[string]struct {
		Limits
		after func(raw *rawConn)
	}{
		"a client that sends much":  {patientLimits(), func(raw *rawConn) { raw.sendUntilCutOff() }},
		"a client that waits":       {shortLimits(), func(*rawConn) {}},
		"a client that disconnects": {patientLimits(), func(raw *rawConn) { _ = raw.Close() }},
	} {
		on := ls.listenWith(c.Limits)
		raw := ls.dial(on.Addr().String()).send("GET /healthz HTTP/1.1\r\n\r\n")
		raw.wantAnswer(what, http.StatusBadRequest, "")
		c.after(raw)
		for end := time.Now().Add(patientLimits().Head / 2); on.open.len() > 0; runtime.Gosched() {
			if time.Now().After(end) {
				t.Fatalf("%s: the connection is still open", what)
			}
		}
	}
}

// listenWith serves the same handler with other limits, on a listener that the test can look at.
func (ls *liveServer) listenWith(limits Limits) *listener {
	ls.Helper()
	on, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		ls.Fatal(err)
	}
	log := telemetry.NewLog(ls.log, slog.LevelInfo, false)
	l, server := newListener(on, log, limits), newServer(ls.Config.Handler, log, limits)
	ended := make(chan struct{})
	go func() {
		defer close(ended)
		_ = server.Serve(l) // until Close
	}()
	ls.Cleanup(func() {
		_ = server.Close()
		<-ended
	})
	return l
}

func (cs *connections) len() int {
	cs.mu.Lock()
	defer cs.mu.Unlock()
	return cs.count
}

func (raw *rawConn) sendUntilCutOff() {
	raw.Helper()
	part, err := make([]byte, 1<<20), error(nil)
	for err == nil {
		_, err = raw.Write(part)
	}
	if errors.Is(err, os.ErrDeadlineExceeded) {
		raw.Error("the server did not close the connection")
	}
}

// A request that is refused for its head gets all headers of the API.
func TestRefusedHeadHasLimitHeaders(t *testing.T) {
	ls := newLiveServer(t)
	g := ls.call("GET", "/client/12?"+strings.Repeat("x", 8<<10), "")
	ls.expect(g, http.StatusRequestURITooLong, "")
	ls.errorOf(g)
	if g.header.Get("X-RateLimit-Limit") != "2147483647" || g.header.Get("X-Request-Id") == "" {
		t.Errorf("the header is %v", g.header)
	}
}

// The server inspects only the beginning of an answer, however net/http splits the answer into writes.
func TestBodyIsNotMistakenForARefusal(t *testing.T) {
	t.Parallel()
	ls := newLiveServer(t)
	body := "HTTP/1.1 417 Expectation Failed\r\n" + netHTTPHeader + strings.Repeat("x", 8<<10)
	ls.Config.Handler = http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		flushed := http.NewResponseController(w).Flush() // so that the body is written separately
		_, err := io.WriteString(w, body)
		if err = errors.Join(flushed, err); err != nil {
			t.Error(err)
		}
	})
	ls.dial(ls.serveWith(DefaultLimits())).send("GET / HTTP/1.0\r\n\r\n").wantAnswer("a body", http.StatusOK, body)
}
