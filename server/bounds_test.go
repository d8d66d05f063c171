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
	"strings"
	"testing"
	"time"

	"github.com/agentevents/agentevents/gen"
	"github.com/agentevents/agentevents/store"
)

// short is less patient than any server that is served.
func short() bounds {
	return bounds{head: 50 * time.Millisecond, all: 50 * time.Millisecond, connections: 100}
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
		ended <- answerRequests(ctx, func() {}, s.Config.Handler, on, slog.New(slog.DiscardHandler), b)
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
	if err := conn.SetDeadline(time.Now().Add(20 * time.Second)); err != nil { // long after anything that is waited for
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

// answers compares an answer; an empty body is not looked at.
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
	s.dial(address).ends("nothing is sent")
	s.dial(address).say("GET /healthz HTTP/1.1\r\nHost: x\r\n").ends("a head that stops")
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
	drip.ends("a head that drips")
}

func TestSlowBody(t *testing.T) {
	t.Parallel()
	s := newSite(t)
	address := s.bounded(short())
	const late = `{"message":"the body did not arrive in time"}`
	put := "PUT " + basePath + "/client/12 HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\nAuthorization: " + s.operator() + "\r\n"
	form := "POST /oauth/token HTTP/1.1\r\nHost: x\r\nContent-Type: application/x-www-form-urlencoded\r\n"
	for what, request := range map[string]string{
		"a body that stops":        put + "Content-Length: 2\r\n\r\n{",
		"one that never begins":    put + "Content-Length: 2\r\n\r\n",
		"one of unknown length":    put + "Transfer-Encoding: chunked\r\n\r\n1\r\n{\r\n",
		"a form that stops":        form + "Content-Length: 9\r\n\r\ngrant",
		"a form of unknown length": form + "Transfer-Encoding: chunked\r\n\r\n5\r\ngrant\r\n",
		"a form that is announced": form + "Content-Length: 16384\r\n\r\n",
	} {
		w := s.dial(address).say("%s", request)
		w.answers(what, http.StatusRequestTimeout, late)
		w.ends(what)
	}
	unread := s.dial(address).say("PUT %s/client/12 HTTP/1.1\r\nHost: x\r\nContent-Length: 2\r\n\r\n{", basePath)
	unread.answers("one that nobody reads", http.StatusUnauthorized, "")
	unread.ends("one that nobody reads")
	twice := s.dial(address)
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
	s.dial(address).say("%s", head(32<<10+1, 100, 1)).answers("one byte more", http.StatusRequestHeaderFieldsTooLarge, "")
	s.dial(address).say("%s", head(1<<20, 100, 1)[:40<<10]).answers("far more", http.StatusRequestHeaderFieldsTooLarge, "")
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
