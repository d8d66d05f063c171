package e2e

import (
	"io"
	"net/http"
	"net/http/httptest"
	"net/url"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"
)

type pair struct{ key, value string }

func (p pair) String() string { return p.key + " => " + p.value }

// arrival is one request as a receiver got it.
type arrival struct {
	method, path, query, body string
	header                    http.Header
	pairs                     []pair // in the order in which they were sent, of the query for GET, of the body for POST
}

// request is the line of the request without its protocol, and its body.
func (a arrival) request() string {
	return a.method + " " + a.path + "?" + a.query + " " + a.body
}

// id is the same on every attempt at a delivery, and of no other delivery.
func (a arrival) id() string { return a.header.Get("webhook-id") }

func (a arrival) sequence() int64 {
	n, _ := strconv.ParseInt(a.header.Get("agentevents-sequence"), 10, 64)
	return n
}

func (a arrival) value(key string) string {
	i := slices.IndexFunc(a.pairs, func(p pair) bool { return p.key == key })
	if i < 0 {
		return ""
	}
	return a.pairs[i].value
}

// receiver is the other side. It notes what it gets, and answers 200 at once, unless it is told to hold.
type receiver struct {
	url string

	mu       sync.Mutex
	arrivals []arrival
	holds    func(arrival) bool
	released chan struct{}
}

func newReceiver(t *testing.T) *receiver {
	t.Helper()
	r := &receiver{}
	server := httptest.NewServer(r)
	r.url = server.URL
	t.Cleanup(func() {
		r.release()
		server.CloseClientConnections()
		server.Close()
	})
	return r
}

// hold leaves those without an answer that a function names, until release or until the other side gives up.
func (r *receiver) hold(which func(arrival) bool) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.holds, r.released = which, make(chan struct{})
}

// release answers what is held, and holds nothing more.
func (r *receiver) release() {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.holds != nil {
		r.holds = nil
		close(r.released)
	}
}

func (r *receiver) ServeHTTP(w http.ResponseWriter, req *http.Request) {
	body, err := io.ReadAll(req.Body)
	if err != nil {
		return // the other side was killed
	}
	form := string(body)
	if req.Method == http.MethodGet {
		form = req.URL.RawQuery
	}
	released := r.note(arrival{
		method: req.Method, path: req.URL.EscapedPath(), query: req.URL.RawQuery, body: string(body),
		header: req.Header, pairs: parse(form),
	})
	select {
	case <-released:
	case <-req.Context().Done():
	}
}

// note returns what to wait for before the answer.
func (r *receiver) note(a arrival) <-chan struct{} {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.arrivals = append(r.arrivals, a)
	if r.holds != nil && r.holds(a) {
		return r.released
	}
	at := make(chan struct{})
	close(at)
	return at
}

func (r *receiver) all() []arrival {
	r.mu.Lock()
	defer r.mu.Unlock()
	return slices.Clone(r.arrivals)
}

// wait returns all requests when there are so many at least.
func (r *receiver) wait(t testing.TB, n int) []arrival {
	t.Helper()
	eventually(t, "the receiver gets "+strconv.Itoa(n), func() bool { return len(r.all()) >= n })
	return r.all()
}

// parse reads a form as PHP does, in order. What it cannot read stays as it is.
func parse(form string) (pairs []pair) {
	for element := range strings.SplitSeq(form, "&") {
		key, value, _ := strings.Cut(element, "=")
		pairs = append(pairs, pair{unescape(key), unescape(value)})
	}
	return pairs
}

func unescape(s string) string {
	plain, err := url.QueryUnescape(s)
	if err != nil {
		return s
	}
	return plain
}
