package lab

import (
	"cmp"
	"fmt"
	"net/http"
	"net/url"
	"slices"
	"sync"
	"time"
)

// Key names a delivery: one change for one event, whose URL has a path of its own.
type Key struct {
	Path     string // of the event's URL, escaped
	Sequence int64  // of the change
}

// Arrival is a request to a receiver, and its answer.
type Arrival struct {
	Key
	Receiver            int // number of the receiver
	Method, Query, Body string
	ID                  string      // webhook-id
	Attempt             int         // number of the attempt, from its header
	Peer                any         // what Receiver.Peer returned for its connection
	Header              http.Header // nil unless the record keeps headers

	At     time.Time
	Ended  time.Time // time of the answer, or of the end of the connection; zero until then
	Status int       // of the answer; 0 without an answer
	Cut    bool      // the receiver ended the connection instead of an answer
	Held   bool      // the receiver held it before the answer
}

// Confirmed reports whether the answer is a 2xx.
func (a *Arrival) Confirmed() bool { return a.Status/100 == 2 }

// Form returns the AgentEventData: the query of a GET, or the body of a POST.
func (a *Arrival) Form() string {
	if a.Method == http.MethodGet {
		return a.Query
	}
	return a.Body
}

// Request returns the request without its headers.
func (a *Arrival) Request() string { return a.Method + " " + a.Path + "?" + a.Query + " " + a.Body }

func (a *Arrival) String() string {
	return fmt.Sprintf("change %d for %s at receiver %d as %s, attempt %d, at %s, answered %d",
		a.Sequence, a.Path, a.Receiver, a.ID, a.Attempt, a.At.Format(Clock), a.Status)
}

// Clock is the layout of times in the output of programs.
const Clock = "15:04:05.000"

// Expected is a delivery that must arrive: its change is stored, and fired its event.
type Expected struct {
	Key
	Agent     int64
	Status    string    // the agent's
	Receiver  int       // receiver of the event at the change, or Anywhere
	OrderKey  string    // see NewRecord
	Since     time.Time // time of Expect
	Cancelled bool      // the event was deleted; a request in flight may still arrive
}

// Anywhere is the receiver of a delivery whose event may be moved.
const Anywhere = -1

func (e *Expected) String() string {
	return fmt.Sprintf("change %d of agent %d, %s, for %s at receiver %d, known since %s",
		e.Sequence, e.Agent, e.Status, e.Path, e.Receiver, e.Since.Format(Clock))
}

// Record has the expected deliveries and the arrivals at the receivers that share it. Its methods may be called
// concurrently.
type Record struct {
	KeepHeaders bool // in later arrivals

	orderKey func(*Arrival) string

	mu        sync.Mutex
	arrivals  []*Arrival          // of all receivers, in order of time
	last      map[string]*Arrival // by order key
	expected  []*Expected
	confirmed map[Key]bool
	pending   map[Key]*Expected // neither confirmed nor cancelled
	faults    []Fault           // found before Check
}

// NewRecord returns an empty record. Deliveries with the same order key must arrive in the order of their changes. The
// key of an arrival is its lane, for example. If orderKey is nil, the order does not matter.
func NewRecord(orderKey func(*Arrival) string) *Record {
	if orderKey == nil {
		orderKey = func(a *Arrival) string { return a.ID }
	}
	return &Record{
		orderKey: orderKey, last: map[string]*Arrival{}, confirmed: map[Key]bool{}, pending: map[Key]*Expected{},
	}
}

func (r *Record) arrive(a *Arrival) {
	r.mu.Lock()
	defer r.mu.Unlock()
	a.At = time.Now()
	r.arrivals = append(r.arrivals, a)
	r.last[r.orderKey(a)] = a
}

func (r *Record) hold(a *Arrival) {
	r.mu.Lock()
	defer r.mu.Unlock()
	a.Held = true
}

// end records the answer that a request is about to get, or that it gets none.
func (r *Record) end(a *Arrival, status int, cut bool) {
	r.mu.Lock()
	defer r.mu.Unlock()
	a.Status, a.Cut, a.Ended = status, cut, time.Now()
	if a.Confirmed() {
		r.confirmed[a.Key] = true
		delete(r.pending, a.Key)
	}
}

// Expect records a delivery that must arrive. It may have arrived already.
func (r *Record) Expect(e Expected) {
	r.mu.Lock()
	defer r.mu.Unlock()
	e.Since = time.Now()
	r.expected = append(r.expected, &e)
	if !r.confirmed[e.Key] {
		r.pending[e.Key] = &e
	}
}

// Cancel records the deletion of an event: pending deliveries for its path need not arrive.
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

// Wrong records a fault that a program found without Check.
func (r *Record) Wrong(k Kind, format string, args ...any) {
	r.mu.Lock()
	defer r.mu.Unlock()
	text := fmt.Sprintf(format, args...)
	r.faults = append(r.faults, Fault{k, text + " (" + time.Now().Format(Clock) + ")"})
}

// Pending returns the number of deliveries that are neither confirmed nor cancelled.
func (r *Record) Pending() int {
	r.mu.Lock()
	defer r.mu.Unlock()
	return len(r.pending)
}

// Count returns the number of arrivals.
func (r *Record) Count() int {
	r.mu.Lock()
	defer r.mu.Unlock()
	return len(r.arrivals)
}

// Arrivals returns copies of all arrivals, in order of time.
func (r *Record) Arrivals() (all []Arrival) {
	r.mu.Lock()
	defer r.mu.Unlock()
	for _, a := range r.arrivals {
		all = append(all, *a)
	}
	return all
}

// Take returns and removes all arrivals. If a request has not ended, Take does nothing and returns false.
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

// View calls a function with the last arrival of each order key and the pending deliveries, and locks both meanwhile.
func (r *Record) View(look func(last map[string]*Arrival, pending map[Key]*Expected)) {
	r.mu.Lock()
	defer r.mu.Unlock()
	look(r.last, r.pending)
}

// Kind is the kind of guarantee that a fault violates.
type Kind string

// The kinds that Check finds. Programs have further kinds.
const (
	Lost       Kind = "lost"                // it was stored, and is absent or was not confirmed
	Disorder   Kind = "out of order"        // a delivery arrived before an earlier one of its order key was confirmed
	Needless   Kind = "needless duplicates" // a delivery was repeated without a permitted reason
	Mismatched Kind = "mismatched"          // two contents of one webhook-id, two ids of a delivery, or not expected
)

// Fault is one violation of a guarantee.
type Fault struct {
	Kind Kind
	Text string
}

// Rules permit repetitions of deliveries. A request that was refused by a status from 300 on, or cut off, may always be
// repeated.
type Rules struct {
	// Permitted reports whether a request may be repeated that was confirmed or got no answer; nil permits none.
	Permitted func(before, again *Arrival) bool
	// Recounted permits such a repetition to have the next number of an attempt, and not the same: the sender of the
	// first request may still run, and record its attempt before the repetition.
	Recounted bool
	// Unseen reports whether attempts between two arrivals may have reached no receiver; nil means that none have.
	Unseen func(before, again *Arrival) bool
}

// Verdict is the result of Check.
type Verdict struct {
	Faults     []Fault
	Retries    int // repetitions of requests that the receiver had refused or cut off
	Duplicates int // repetitions that Rules.Permitted permits
}

// Count returns the number of faults of a kind.
func (v *Verdict) Count(k Kind) (n int) {
	for _, f := range v.Faults {
		if f.Kind == k {
			n++
		}
	}
	return n
}

// Wrong adds a fault.
func (v *Verdict) Wrong(k Kind, format string, args ...any) {
	v.Faults = append(v.Faults, Fault{k, fmt.Sprintf(format, args...)})
}

// History is the content of a closed record.
type History struct {
	Expected []*Expected
	Arrivals []*Arrival            // in order of time
	OrderKey func(*Arrival) string // see NewRecord
}

// Close returns the history of a record, and the faults that Wrong recorded. No request may arrive after it.
func (r *Record) Close() (History, []Fault) {
	r.mu.Lock()
	defer r.mu.Unlock()
	return History{r.expected, r.arrivals, r.orderKey}, r.faults
}

// Check checks that every expected delivery was confirmed, and that no other arrived.
func Check(h History, rules Rules) Verdict {
	c := check{Rules: rules}
	expected, confirmed := map[Key]*Expected{}, map[Key]bool{}
	for _, e := range h.Expected {
		expected[e.Key] = e
	}
	// The last arrival of each delivery, webhook-id and order key.
	ofKey, ofID, ofOrder := map[Key]*Arrival{}, map[string]*Arrival{}, map[string]*Arrival{}
	for _, a := range h.Arrivals {
		order, before := h.OrderKey(a), ofID[a.ID]
		if p := ofKey[a.Key]; p != nil && p.ID != a.ID {
			c.Wrong(Mismatched, "%v came as %s too", a, p.ID)
		}
		c.content(expected[a.Key], a)
		if before != nil {
			c.repetition(before, a)
		}
		if p := ofOrder[order]; p != nil && p.ID != a.ID {
			c.order(p, a, before != nil)
		}
		ofKey[a.Key], ofID[a.ID], ofOrder[order] = a, a, a
		confirmed[a.Key] = confirmed[a.Key] || a.Confirmed()
	}
	slices.SortFunc(h.Expected, func(a, b *Expected) int { return cmp.Compare(a.Sequence, b.Sequence) })
	for _, e := range h.Expected {
		if !e.Cancelled && !confirmed[e.Key] {
			c.Wrong(Lost, "%v", e)
		}
	}
	return c.Verdict
}

type check struct {
	Rules
	Verdict
}

// content checks that a request is expected, with its agent and status, and at its receiver.
func (c *check) content(e *Expected, a *Arrival) {
	if e == nil {
		c.Wrong(Mismatched, "%v: it is not expected", a)
		return
	}
	form, _ := url.ParseQuery(a.Form()) // malformed pairs are missing
	if form.Get("agent_id") != fmt.Sprint(e.Agent) || form.Get("agent_status") != e.Status {
		c.Wrong(Mismatched, "%v with %s: expected is %v", a, a.Form(), e)
	}
	if e.Receiver != Anywhere && a.Receiver != e.Receiver {
		c.Wrong(Mismatched, "%v: its receiver is %d", a, e.Receiver)
	}
}

// repetition checks that requests with one id are equal, and that the second one is permitted and has a valid number.
func (c *check) repetition(p, a *Arrival) {
	if a.Key != p.Key || a.Request() != p.Request() {
		c.Wrong(Mismatched, "%v: before, this id was %v", a, p)
		return
	}
	refused, permitted := p.Status >= 300 || p.Cut, c.Permitted != nil && c.Permitted(p, a)
	switch {
	case refused:
		c.Retries++
	case permitted:
		c.Duplicates++
	default:
		c.Wrong(Needless, "%v, though it was there before: %v", a, p)
	}
	counted := (refused || permitted && c.Recounted) && a.Attempt == p.Attempt+1
	uncounted := (permitted || p.Cut) && a.Attempt == p.Attempt // the server may resend a request that was cut off
	unseen := a.Attempt > p.Attempt && c.Unseen != nil && c.Unseen(p, a)
	if !counted && !uncounted && !unseen {
		c.Wrong(Mismatched, "%v: before, this was attempt %d", a, p.Attempt)
	}
}

// order checks that a delivery is sent after the previous one of its order key is confirmed. So only the last one may
// be repeated.
func (c *check) order(p, a *Arrival, again bool) {
	switch {
	case again:
		c.Wrong(Needless, "%v came again after %v", a, p)
	case a.Sequence < p.Sequence:
		c.Wrong(Disorder, "%v came after %v", a, p)
	case !p.Confirmed() || a.At.Before(p.Ended):
		c.Wrong(Disorder, "%v came before this was confirmed: %v", a, p)
	}
}
