package lab

import (
	"fmt"
	"net/http"
	"net/url"
	"strings"
	"sync"
	"time"
)

// Key names a delivery: one change for one registration, whose URL has a path of its own.
type Key struct {
	Path     string // of the registration's URL, escaped
	Sequence int64  // of the change
}

// Arrival is one request as a receiver got it, and how it was treated.
type Arrival struct {
	Key
	Receiver            int // its number
	Method, Query, Body string
	ID                  string // webhook-id
	Attempt             int
	Peer                any         // what Receiver.Peer returned for its connection
	Header              http.Header // nil unless the record keeps headers

	At     time.Time
	Ended  time.Time // when it was answered, or could no longer be; zero until then
	Status int       // of the answer; 0 until there is one
	Cut    bool      // the receiver ended the connection in place of an answer
	Held   bool      // it was left without an answer for a while
}

// Confirmed says whether it was answered by 2xx.
func (a *Arrival) Confirmed() bool { return a.Status/100 == 2 }

// Form is the AgentEventData: the query of a GET, the body of a POST.
func (a *Arrival) Form() string {
	if a.Method == http.MethodGet {
		return a.Query
	}
	return a.Body
}

// Request is the whole request.
func (a *Arrival) Request() string { return a.Method + " " + a.Path + "?" + a.Query + " " + a.Body }

func (a *Arrival) String() string {
	return fmt.Sprintf("change %d for %s at receiver %d as %s, attempt %d, at %s, answered %d",
		a.Sequence, a.Path, a.Receiver, a.ID, a.Attempt, a.At.Format(Clock), a.Status)
}

// Clock is the layout in which programs show times.
const Clock = "15:04:05.000"

// Pair is an element of a form.
type Pair struct{ Key, Value string }

// Pairs reads a form in its order, which url.ParseQuery does not keep. What cannot be read is empty.
func Pairs(form string) (pairs []Pair) {
	for element := range strings.SplitSeq(form, "&") {
		key, value, _ := strings.Cut(element, "=")
		key, _ = url.QueryUnescape(key)
		value, _ = url.QueryUnescape(value)
		pairs = append(pairs, Pair{key, value})
	}
	return pairs
}

// Expected is a delivery that must arrive: its change is stored, and its registration was there.
type Expected struct {
	Key
	Agent     int64
	Status    string    // the agent's
	Receiver  int       // where the registration pointed to when the change was made, or Anywhere
	Line      string    // in which it keeps its place, see NewRecord
	Since     time.Time // when that became known
	Cancelled bool      // its registration was deleted; what had been sent by then may still arrive
}

// Anywhere is the receiver of a delivery whose registration may be moved.
const Anywhere = -1

func (e *Expected) String() string {
	return fmt.Sprintf("change %d of agent %d, %s, for %s at receiver %d, known since %s",
		e.Sequence, e.Agent, e.Status, e.Path, e.Receiver, e.Since.Format(Clock))
}

// Record keeps what is expected and what has arrived at the receivers that share it. Its methods may be called from
// many goroutines.
type Record struct {
	KeepHeaders bool // in arrivals from now on

	line func(*Arrival) string

	mu        sync.Mutex
	arrivals  []*Arrival // in their order, over all receivers
	last      map[string]*Arrival
	expected  []*Expected
	confirmed map[Key]bool
	pending   map[Key]*Expected // neither confirmed nor cancelled
	faults    []Fault           // that were found before Check
}

// NewRecord returns an empty record. Deliveries of one line keep the order of their changes: line names that of an
// arrival, its lane for example; nil means that order does not matter.
func NewRecord(line func(*Arrival) string) *Record {
	if line == nil {
		line = func(a *Arrival) string { return a.ID }
	}
	return &Record{
		line: line, last: map[string]*Arrival{}, confirmed: map[Key]bool{}, pending: map[Key]*Expected{},
	}
}

func (r *Record) arrive(a *Arrival) {
	r.mu.Lock()
	defer r.mu.Unlock()
	a.At = time.Now()
	r.arrivals = append(r.arrivals, a)
	r.last[r.line(a)] = a
}

func (r *Record) hold(a *Arrival) {
	r.mu.Lock()
	defer r.mu.Unlock()
	a.Held = true
}

// end notes how a request is about to be answered, or that it cannot be.
func (r *Record) end(a *Arrival, status int, cut bool) {
	r.mu.Lock()
	defer r.mu.Unlock()
	a.Status, a.Cut, a.Ended = status, cut, time.Now()
	if a.Confirmed() {
		r.confirmed[a.Key] = true
		delete(r.pending, a.Key)
	}
}

// Expect notes a delivery that must arrive, or has arrived before that became known.
func (r *Record) Expect(e Expected) {
	r.mu.Lock()
	defer r.mu.Unlock()
	e.Since = time.Now()
	r.expected = append(r.expected, &e)
	if !r.confirmed[e.Key] {
		r.pending[e.Key] = &e
	}
}

// Cancel notes that a registration was deleted: what is pending for its path need not arrive.
func (r *Record) Cancel(path string) {
	r.mu.Lock()
	defer r.mu.Unlock()
	for key, e := range r.pending {
		if key.Path == path {
			e.Cancelled = true
			delete(r.pending, key)
		}
	}
}

// Wrong notes a fault that a program has found itself.
func (r *Record) Wrong(k Kind, format string, args ...any) {
	r.mu.Lock()
	defer r.mu.Unlock()
	text := fmt.Sprintf(format, args...)
	r.faults = append(r.faults, Fault{k, text + " (" + time.Now().Format(Clock) + ")"})
}

// Pending is how many deliveries are neither confirmed nor cancelled.
func (r *Record) Pending() int {
	r.mu.Lock()
	defer r.mu.Unlock()
	return len(r.pending)
}

// Count is how many requests have arrived.
func (r *Record) Count() int {
	r.mu.Lock()
	defer r.mu.Unlock()
	return len(r.arrivals)
}

// Arrivals returns copies of all that has arrived, in that order.
func (r *Record) Arrivals() (all []Arrival) {
	r.mu.Lock()
	defer r.mu.Unlock()
	for _, a := range r.arrivals {
		all = append(all, *a)
	}
	return all
}

// Take returns all that has arrived, and forgets it. While a request has not ended it does neither, and says so.
func (r *Record) Take() (all []*Arrival, ended bool) {
	r.mu.Lock()
	defer r.mu.Unlock()
	for _, a := range r.arrivals {
		if a.Ended.IsZero() {
			return nil, false
		}
	}
	all, r.arrivals = r.arrivals, nil
	clear(r.last)
	clear(r.confirmed)
	return all, true
}

// View shows the last arrival of each line and what is pending to a function, while neither changes.
func (r *Record) View(look func(last map[string]*Arrival, pending map[Key]*Expected)) {
	r.mu.Lock()
	defer r.mu.Unlock()
	look(r.last, r.pending)
}
