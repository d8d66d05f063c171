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

// Kind is the sort of promise that a fault breaks.
type Kind string

// What Check finds. Programs have further kinds.
const (
	Lost       Kind = "lost"                // it was stored, and is gone or was not confirmed
	Disorder   Kind = "out of order"        // a later delivery of a line arrived before an earlier one was confirmed
	Needless   Kind = "needless duplicates" // a delivery came again without a reason
	Mismatched Kind = "mismatched"          // two contents of one webhook-id, two ids of a delivery, or not expected
)

// Fault is one promise that was broken.
type Fault struct {
	Kind Kind
	Text string
}

// Rules are what may be so when deliveries are repeated. A request that was refused by a status from 300 on, or cut
// off, comes again in any case.
type Rules struct {
	// Excused says whether a delivery may come again that was confirmed or got no answer; nil means that none may.
	Excused func(before, again *Arrival) bool
	// Recounted says whether an excused repetition may have the next attempt's number, since its sender lives on.
	Recounted bool
	// Unseen says whether attempts between two arrivals may have reached no receiver; nil means that none have.
	Unseen func(before, again *Arrival) bool
}

// Verdict is what Check has found.
type Verdict struct {
	Faults     []Fault
	Retries    int // requests that came again because the receiver had refused or cut them off
	Duplicates int // requests that came again with an excuse
}

// Count is how many faults are of a kind.
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

// History is a record when nothing is added any more.
type History struct {
	Expected []*Expected
	Arrivals []*Arrival // in their order
	Line     func(*Arrival) string
}

// Close returns the history of a record, and the faults that were found on the way. Nothing may arrive any more.
func (r *Record) Close() (History, []Fault) {
	r.mu.Lock()
	defer r.mu.Unlock()
	return History{r.expected, r.arrivals, r.line}, r.faults
}

// Check compares what is expected with what has arrived: it was confirmed, and nothing else has arrived. A status that
// has not changed is not sent: no change has its sequence.
func Check(h History, rules Rules) Verdict {
	c := check{Rules: rules}
	expected, confirmed := map[Key]*Expected{}, map[Key]bool{}
	for _, e := range h.Expected {
		expected[e.Key] = e
	}
	// The last arrival of each delivery, webhook-id and line.
	ofKey, ofID, ofLine := map[Key]*Arrival{}, map[string]*Arrival{}, map[string]*Arrival{}
	for _, a := range h.Arrivals {
		line, before := h.Line(a), ofID[a.ID]
		if p := ofKey[a.Key]; p != nil && p.ID != a.ID {
			c.Wrong(Mismatched, "%v came as %s too", a, p.ID)
		}
		c.content(expected[a.Key], a)
		if before != nil {
			c.repetition(before, a)
		}
		if p := ofLine[line]; p != nil && p.ID != a.ID {
			c.order(p, a, before != nil)
		}
		ofKey[a.Key], ofID[a.ID], ofLine[line] = a, a, a
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

// content: a request is one that is expected, with that agent and status, at that receiver.
func (c *check) content(e *Expected, a *Arrival) {
	if e == nil {
		c.Wrong(Mismatched, "%v: it is not expected", a)
		return
	}
	form, _ := url.ParseQuery(a.Form()) // what cannot be read is empty
	if form.Get("agent_id") != fmt.Sprint(e.Agent) || form.Get("agent_status") != e.Status {
		c.Wrong(Mismatched, "%v with %s: expected is %v", a, a.Form(), e)
	}
	if e.Receiver != Anywhere && a.Receiver != e.Receiver {
		c.Wrong(Mismatched, "%v: its receiver is %d", a, e.Receiver)
	}
}

// repetition: what comes under one id is the same each time. It comes again only if the receiver has refused it or cut
// it off, or with an excuse.
func (c *check) repetition(p, a *Arrival) {
	if a.Key != p.Key || a.Request() != p.Request() {
		c.Wrong(Mismatched, "%v: before, this id was %v", a, p)
		return
	}
	refused, excused := p.Status >= 300 || p.Cut, c.Excused != nil && c.Excused(p, a)
	switch {
	case refused:
		c.Retries++
	case excused:
		c.Duplicates++
	default:
		c.Wrong(Needless, "%v, though it was there before: %v", a, p)
	}
	counted := (refused || excused && c.Recounted) && a.Attempt == p.Attempt+1
	uncounted := (excused || p.Cut) && a.Attempt == p.Attempt // what is cut off may go out once more at once
	unseen := a.Attempt > p.Attempt && c.Unseen != nil && c.Unseen(p, a)
	if !counted && !uncounted && !unseen {
		c.Wrong(Mismatched, "%v: before, this was attempt %d", a, p.Attempt)
	}
}

// order: nothing of a line is sent before what precedes it is confirmed. So only the last one comes again.
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
