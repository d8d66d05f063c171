package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/url"
	"strings"
	"time"
)

// script is where the receiver has what the manual's example has at this place.
const script = "/fordel/show.php"

// pair is one element of $_GET or $_POST.
type pair struct{ key, value string }

// arrival is one request as the receiver got it.
type arrival struct {
	at       time.Time
	method   string
	sequence string
	pairs    []pair // in the order in which they were sent
}

// String is what the manual's PHP script leaves in the log of its web server.
func (a arrival) String() string {
	var b strings.Builder
	line := func(text string) { fmt.Fprintf(&b, "[%s] %s\n", a.at.Format(time.ANSIC), text) }
	line("------")
	for _, p := range a.pairs {
		line(p.key + " => " + p.value)
	}
	return b.String()
}

// receiver is the other side: a web server that keeps what it is sent.
type receiver struct {
	url      string
	http     *http.Server
	arrivals chan arrival
}

func newReceiver() (*receiver, error) {
	l, err := net.Listen("tcp", "127.0.0.1:0") //nolint:noctx // does not wait
	if err != nil {
		return nil, fmt.Errorf("start the receiver: %w", err)
	}
	r := &receiver{url: "http://" + l.Addr().String() + script, arrivals: make(chan arrival, 100)}
	r.http = &http.Server{Handler: http.HandlerFunc(r.receive), ReadHeaderTimeout: patience}
	go func() { _ = r.http.Serve(l) }() // until close
	return r, nil
}

func (r *receiver) close() { _ = r.http.Close() }

func (r *receiver) receive(w http.ResponseWriter, req *http.Request) {
	pairs, err := formOf(req)
	if err != nil || req.URL.Path != script {
		http.Error(w, "not what the demo expects", http.StatusBadRequest)
		return
	}
	r.arrivals <- arrival{
		at: time.Now(), method: req.Method, sequence: req.Header.Get("agentevents-sequence"), pairs: pairs,
	}
}

// formOf is $_GET for GET and $_POST for POST.
func formOf(req *http.Request) ([]pair, error) {
	if req.Method == http.MethodGet {
		return parse(req.URL.RawQuery)
	}
	body, err := io.ReadAll(io.LimitReader(req.Body, 1<<16))
	if err != nil {
		return nil, err
	}
	return parse(string(body))
}

// parse keeps the order, which url.ParseQuery does not.
func parse(form string) (pairs []pair, err error) {
	for element := range strings.SplitSeq(form, "&") {
		key, value, _ := strings.Cut(element, "=")
		k, errKey := url.QueryUnescape(key)
		v, errValue := url.QueryUnescape(value)
		if err := errors.Join(errKey, errValue); err != nil {
			return nil, err
		}
		pairs = append(pairs, pair{k, v})
	}
	return pairs, nil
}

// next waits for the next request.
func (r *receiver) next(ctx context.Context) (arrival, error) {
	select {
	case a := <-r.arrivals:
		return a, nil
	case <-ctx.Done():
		return arrival{}, fmt.Errorf("the receiver got nothing: %w", ctx.Err())
	}
}

// quiet complains of requests that nobody waited for.
func (r *receiver) quiet() error {
	select {
	case a := <-r.arrivals:
		return fmt.Errorf("the receiver got one more request, by %s:\n%s", a.method, a)
	default:
		return nil
	}
}
