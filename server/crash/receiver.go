package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"net"
	"net/http"
	"net/url"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"time"
)

// receiver is the other side: a web server that notes what it is sent.
type receiver struct {
	url    string
	number int
	book   *ledger
	mood   *mood
	gate   sync.Mutex   // is held while its port is opened or closed, and while that must not be
	http   *http.Server // nil while its port is closed
	open   atomic.Int64 // connections

	look atomic.Pointer[func(net.Conn) *connection] // finds out which replica has made one; nil when there is one server
}

func newReceiver(number int, book *ledger, m *mood) (*receiver, error) {
	l, err := net.Listen("tcp", "127.0.0.1:0") //nolint:noctx // does not wait
	if err != nil {
		return nil, fmt.Errorf("start a receiver: %w", err)
	}
	r := &receiver{url: "http://" + l.Addr().String(), number: number, book: book, mood: m}
	r.serve(l)
	return r, nil
}

// serve answers what comes to a port until that is closed.
func (r *receiver) serve(l net.Listener) {
	s := &http.Server{Handler: r, ReadHeaderTimeout: patience, ConnState: r.count, ConnContext: r.from}
	go func() { _ = s.Serve(l) }()
	r.http = s
}

func (r *receiver) close() {
	r.gate.Lock()
	defer r.gate.Unlock()
	if r.http != nil {
		_ = r.http.Close()
	}
}

// goDown begins an outage. What was confirmed before it gets its answer completely.
func (r *receiver) goDown(m mode) error {
	r.mood.setMode(m)
	if m != closed {
		return nil
	}
	r.gate.Lock()
	defer r.gate.Unlock()
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	defer cancel()
	err := r.http.Shutdown(ctx)
	r.http = nil
	return err
}

// comeBack ends an outage.
func (r *receiver) comeBack() error {
	r.gate.Lock()
	defer r.gate.Unlock()
	if r.http == nil {
		l, err := listen(strings.TrimPrefix(r.url, "http://"))
		if err != nil {
			return err
		}
		r.serve(l)
	}
	r.mood.setMode(healthy)
	return nil
}

// listen opens a port that was closed; meanwhile a connection may have had it.
func listen(address string) (l net.Listener, err error) {
	for began := time.Now(); time.Since(began) < patience; time.Sleep(time.Millisecond) {
		if l, err = net.Listen("tcp", address); err == nil { //nolint:noctx // does not wait
			return l, nil
		}
	}
	return nil, fmt.Errorf("a receiver comes back: %w", err)
}

type connectionKey struct{}

// from has somebody find out who has made a connection, while nobody waits for it.
func (r *receiver) from(ctx context.Context, c net.Conn) context.Context {
	look := r.look.Load()
	if look == nil {
		return ctx
	}
	return context.WithValue(ctx, connectionKey{}, (*look)(c))
}

func (r *receiver) count(_ net.Conn, state http.ConnState) {
	switch state {
	case http.StateNew:
		r.open.Add(1)
	case http.StateClosed, http.StateHijacked:
		r.open.Add(-1)
	}
}

// settle waits until all is noted that a server has sent that is gone: its connections are read to their ends.
func (r *receiver) settle(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, patience)
	defer cancel()
	r.gate.Lock()
	defer r.gate.Unlock()
	if r.http != nil {
		if err := r.knock(ctx); err != nil {
			return err
		}
	}
	look := time.NewTicker(time.Millisecond)
	defer look.Stop()
	for r.open.Load() > 0 {
		select {
		case <-look.C:
		case <-ctx.Done():
			return fmt.Errorf("a connection of a server that is gone stays open: %w", ctx.Err())
		}
	}
	return nil
}

// knock makes a connection of its own. Those that were made before are accepted when it is answered.
func (r *receiver) knock(ctx context.Context) error {
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, r.url+"/", http.NoBody)
	if err != nil {
		return err
	}
	alone := http.Client{Transport: &http.Transport{DisableKeepAlives: true}}
	resp, err := alone.Do(req)
	if err != nil {
		return err
	}
	return resp.Body.Close()
}

func (r *receiver) ServeHTTP(w http.ResponseWriter, req *http.Request) {
	if req.URL.Path == "/" { // a knock
		return
	}
	a, err := r.read(req)
	if err != nil {
		r.refuse(w, req, err)
		return
	}
	a.connection, _ = req.Context().Value(connectionKey{}).(*connection)
	r.book.arrive(a)
	reply := r.mood.next(a.attempt)
	if !reply.wait(req.Context()) {
		r.book.leave(a, req.Context().Err() == nil)
		panic(http.ErrAbortHandler) // ends the connection, if the server is not gone
	}
	if reply.after > 0 {
		w.Header().Set("Retry-After", strconv.Itoa(reply.after))
	}
	r.book.answer(a, reply.status)
	w.WriteHeader(reply.status)
}

// refuse answers what is no delivery, unless the server was killed in the middle of it.
func (r *receiver) refuse(w http.ResponseWriter, req *http.Request, err error) {
	if errors.Is(err, errCut) {
		return
	}
	r.book.wrong(mismatched, "receiver %d got %s %s: %v", r.number, req.Method, req.URL, err)
	http.Error(w, err.Error(), http.StatusBadRequest)
}

var errCut = errors.New("the request is not complete")

func (r *receiver) read(req *http.Request) (*arrival, error) {
	body, err := io.ReadAll(io.LimitReader(req.Body, 1<<16))
	if err != nil {
		return nil, errCut
	}
	values, errForm := url.ParseQuery(req.URL.RawQuery + string(body)) // one of them is empty
	agent, errAgent := strconv.ParseInt(values.Get("agent_id"), 10, 64)
	sequence, errSequence := strconv.ParseInt(req.Header.Get("agentevents-sequence"), 10, 64)
	attempt, errAttempt := strconv.Atoi(req.Header.Get("agentevents-attempt"))
	return &arrival{
		delivery: delivery{strings.Trim(req.URL.Path, "/"), sequence}, id: req.Header.Get("webhook-id"), agent: agent,
		status: values.Get("agent_status"), attempt: attempt, receiver: r.number,
		request: fmt.Sprintf("%s %s %s", req.Method, req.URL, body),
	}, errors.Join(errForm, errAgent, errSequence, errAttempt)
}

// mood decides how a receiver answers.
type mood struct {
	mu     sync.Mutex
	random *rand.Rand
	moody  bool // slow and failing now and then; else it confirms everything, and at once
	most   int  // how many requests it leaves without an answer in one life of the server, when it does
	holds  bool // whether it does
	asked  int  // requests in this life of the server
	held   int  // how many of these have no answer

	back   bool          // it has come back, and not each lane has got something since
	mode   mode          // that it has now
	turned chan struct{} // is closed when it has another one
}

// reply is how a request is answered.
type reply struct {
	status int
	after  int           // seconds that Retry-After says, 0 for none
	delay  time.Duration // before the answer
	never  bool          // no answer
	turned chan struct{} // is closed when a request without an answer is cut off
}

// set makes a receiver leave some requests without an answer, or not.
func (m *mood) set(holds bool) {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.holds, m.asked, m.held = holds, 0, 0
}

// setMode begins or ends an outage, and cuts off what has no answer.
func (m *mood) setMode(to mode) {
	m.mu.Lock()
	defer m.mu.Unlock()
	close(m.turned)
	m.mode, m.turned, m.back = to, make(chan struct{}), to == healthy
}

// caughtUp notes that each lane has got something since the receiver came back.
func (m *mood) caughtUp() {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.back = false
}

// calm makes a receiver confirm everything from now on.
func (m *mood) calm() {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.holds, m.moody = false, false
}

// next is the answer to a request, which is an attempt of a delivery.
func (m *mood) next(attempt int) reply {
	m.mu.Lock()
	defer m.mu.Unlock()
	r := reply{status: http.StatusOK, turned: m.turned}
	switch m.mode {
	case hanging:
		r.never = true
		return r
	case closed, failing: // a closed port's are those that have come before
		r.status = []int{http.StatusInternalServerError, http.StatusBadGateway, http.StatusServiceUnavailable}[m.random.IntN(3)]
		return r
	}
	if r.never = m.hold(); !m.moody {
		return r
	}
	if m.random.IntN(2) == 0 {
		r.delay = time.Duration(m.random.Int64N(int64(50 * time.Millisecond)))
	}
	// After more failures the delivery would wait for long, see schedule. A probe that is refused means that the receiver
	// is not back yet.
	if attempt == 1 && !m.back {
		m.fail(&r)
	}
	return r
}

// hold says whether a request is left without an answer. None of the first is: a server that knows nothing yet of a
// receiver sends it few at a time, and without answers no more.
func (m *mood) hold() bool {
	m.asked++
	if !m.holds || m.asked < 20 || m.held == m.most || m.random.IntN(20) > 0 {
		return false
	}
	m.held++
	return true
}

// fail makes some requests fail.
func (m *mood) fail(r *reply) {
	n := m.random.IntN(5000)
	switch {
	case n < 100:
		r.status = http.StatusInternalServerError
	case n < 120:
		r.status, r.after = http.StatusServiceUnavailable, 1
	case n < 123:
		r.status, r.after = http.StatusTooManyRequests, 1
	}
}

// wait waits until the answer is due. It says false when there is to be none.
func (r reply) wait(ctx context.Context) bool {
	if r.delay == 0 && !r.never {
		return ctx.Err() == nil
	}
	var due <-chan time.Time
	if !r.never {
		timer := time.NewTimer(r.delay)
		defer timer.Stop()
		due = timer.C
	}
	select {
	case <-due:
		return true
	case <-r.cutOff():
		return false
	case <-ctx.Done():
		return false
	}
}

// cutOff is when a request that has no answer is cut off.
func (r reply) cutOff() <-chan struct{} {
	if r.never {
		return r.turned
	}
	return nil
}
