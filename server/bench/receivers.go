package main

import (
	"fmt"
	"io"
	"net/http"
	"strconv"
	"strings"
	"sync"
	"time"
)

// Arrival is a request as a receiver got it.
type Arrival struct {
	Client   string // whose events they are: the first element of the path
	Agent    int64  // the second one
	Host     string // of the receiver, with its port
	Sequence int64
	ID       string // the webhook-id
	At       int64  // when the headers were there, nanoseconds since 1970
	Status   int    // what it was answered, 0 if nothing
}

func (a Arrival) confirmed() bool { return a.Status/100 == 2 }

// Behaviour is what the requests of a client get from now on.
type Behaviour struct {
	Client string
	Status int           // 0 leaves them without an answer, until the caller goes or it is to be otherwise
	After  time.Duration // how long an answer takes
}

// Harvest is what came since the last one.
type Harvest struct {
	Arrivals []Arrival      // in their order
	Together map[string]int // the most requests of a client that were at work together
	AtOne    map[string]int // the same at any one receiver
}

// Receivers are many receivers in one process. Its exported methods are called from the other one.
type Receivers struct {
	mu       sync.Mutex
	clients  map[string]*treated
	working  map[place]int // requests at work, of a client in all (where host is empty) and at each receiver
	arrivals []*Arrival
	together map[string]int
	atOne    map[string]int
}

// place is a receiver, as one client asks it.
type place struct{ client, host string }

// treated is how a client is.
type treated struct {
	Behaviour
	changed   chan struct{} // closed when that changes
	confirmed int
}

func newReceivers() *Receivers {
	return &Receivers{
		clients: map[string]*treated{}, working: map[place]int{}, together: map[string]int{}, atOne: map[string]int{},
	}
}

// Open opens so many receivers, each on a port of its own, and returns their URLs.
func (r *Receivers) Open(n int, urls *[]string) error {
	for range n {
		addr, err := listen(r)
		if err != nil {
			return err
		}
		*urls = append(*urls, "http://"+addr)
	}
	return nil
}

// Behave changes what a client gets, also those of its requests that have no answer yet.
func (r *Receivers) Behave(b Behaviour, _ *struct{}) error {
	r.mu.Lock()
	defer r.mu.Unlock()
	g := r.of(b.Client)
	g.Behaviour = b
	close(g.changed)
	g.changed = make(chan struct{})
	return nil
}

// Count tells how many requests of a client were confirmed since the last harvest.
func (r *Receivers) Count(client string, n *int) error {
	r.mu.Lock()
	defer r.mu.Unlock()
	*n = r.of(client).confirmed
	return nil
}

// Take returns what came, and begins anew.
func (r *Receivers) Take(_ struct{}, h *Harvest) error {
	r.mu.Lock()
	defer r.mu.Unlock()
	for _, a := range r.arrivals {
		h.Arrivals = append(h.Arrivals, *a)
	}
	h.Together, h.AtOne = r.together, r.atOne
	r.arrivals, r.together, r.atOne = nil, map[string]int{}, map[string]int{}
	for _, g := range r.clients {
		g.confirmed = 0
	}
	return nil
}

// of is how a client is treated: until somebody says otherwise, it is answered at once.
func (r *Receivers) of(name string) *treated {
	g := r.clients[name]
	if g == nil {
		g = &treated{Behaviour: Behaviour{Client: name, Status: http.StatusOK}, changed: make(chan struct{})}
		r.clients[name] = g
	}
	return g
}

func (r *Receivers) ServeHTTP(w http.ResponseWriter, req *http.Request) {
	a, err := arrival(req)
	if err != nil {
		http.Error(w, err.Error(), http.StatusBadRequest)
		return
	}
	_, _ = io.Copy(io.Discard, req.Body) // only then it is noticed when the caller goes
	b, changed := r.enter(a)
	for b.Status == 0 && req.Context().Err() == nil {
		select {
		case <-req.Context().Done():
		case <-changed:
			b, changed = r.behaviour(a.Client)
		}
	}
	time.Sleep(b.After)
	r.leave(a, b.Status)
	w.WriteHeader(max(b.Status, http.StatusOK))
}

// arrival reads /CLIENT/AGENT and the headers.
func arrival(req *http.Request) (a *Arrival, err error) {
	a = &Arrival{At: time.Now().UnixNano(), ID: req.Header.Get("webhook-id"), Host: req.Host}
	path := strings.TrimPrefix(req.URL.Path, "/")
	client, agent, found := strings.Cut(path, "/")
	if a.Client = client; !found {
		return a, fmt.Errorf("the path %q is not /CLIENT/AGENT", req.URL.Path)
	}
	if a.Agent, err = strconv.ParseInt(agent, 10, 64); err != nil {
		return a, err
	}
	a.Sequence, err = strconv.ParseInt(req.Header.Get("agentevents-sequence"), 10, 64)
	return a, err
}

// enter notes an arrival and returns what it is to get.
func (r *Receivers) enter(a *Arrival) (b Behaviour, changed <-chan struct{}) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.arrivals = append(r.arrivals, a)
	all, one := place{client: a.Client}, place{a.Client, a.Host}
	r.working[all]++
	r.working[one]++
	r.together[a.Client] = max(r.together[a.Client], r.working[all])
	r.atOne[a.Client] = max(r.atOne[a.Client], r.working[one])
	g := r.of(a.Client)
	return g.Behaviour, g.changed
}

func (r *Receivers) behaviour(client string) (Behaviour, <-chan struct{}) {
	r.mu.Lock()
	defer r.mu.Unlock()
	g := r.of(client)
	return g.Behaviour, g.changed
}

// leave notes what a request is answered.
func (r *Receivers) leave(a *Arrival, status int) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.working[place{client: a.Client}]--
	r.working[place{a.Client, a.Host}]--
	a.Status = status
	if a.confirmed() {
		r.of(a.Client).confirmed++
	}
}
