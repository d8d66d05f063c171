package webhook

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/agentevents/agentevents/gen"
)

// memory is an Outbox in memory, by the clock of the bubble. It keeps the records, counts the calls, and can be made to
// fail.
type memory struct {
	lease time.Duration
	due   chan struct{}

	mu       sync.Mutex
	last     int64 // id of a delivery
	lanes    map[int64]*memoryLane
	fresh    []int64 // lanes that changes have made due since the last claim
	all      bool    // others may be due too
	recorded []record
	asked    map[string][]time.Time // calls, by the name of the method
	trouble  map[string]func(context.Context) error
}

type memoryLane struct {
	id, receiver, claim int64
	held                bool
	dueAt               time.Time // while held: the end of the lease
	pending             []*memoryDelivery
}

type memoryDelivery struct {
	Delivery
	dueAt, expiresAt time.Time
}

// record is a stored outcome.
type record struct {
	Delivery
	Outcome
	at   time.Time
	void bool // another claim had the lane by then
}

var _ Outbox = (*memory)(nil)

// SetHandoff implements Outbox: every delivery is claimed.
func (m *memory) SetHandoff(*HandoffFuncs) {}

func newMemory() *memory {
	return &memory{
		lease: 15 * time.Second, due: make(chan struct{}, 1), lanes: map[int64]*memoryLane{},
		asked: map[string][]time.Time{}, trouble: map[string]func(context.Context) error{},
	}
}

// add puts n deliveries into a lane, due now, and wakes the dispatcher.
func (m *memory) add(receiver, lane int64, n int) {
	m.addUntil(receiver, lane, n, time.Now().Add(24*time.Hour))
}

func (m *memory) addUntil(receiver, lane int64, n int, expiresAt time.Time) {
	defer m.signal()
	m.mu.Lock()
	defer m.mu.Unlock()
	m.fresh = append(m.fresh, lane)
	l := m.lanes[lane]
	if l == nil {
		l = &memoryLane{id: lane, receiver: receiver}
		m.lanes[lane] = l
	}
	for range n {
		m.last++
		l.pending = append(l.pending, &memoryDelivery{dueAt: time.Now(), expiresAt: expiresAt, Delivery: Delivery{
			ID: m.last, WebhookID: fmt.Sprintf("msg_%d", m.last), Lane: lane, Receiver: receiver,
			URL: fmt.Sprintf("http://r%d.example/%d", receiver, lane), Method: gen.RequestMethodPOST,
			EventType: gen.EventTypeAgentLogin, Sequence: m.last, ChangedAt: time.Now(), Attempt: 1,
		}})
	}
	if !l.held {
		l.letGo()
	}
}

// wake notifies the dispatcher that any lane may have become due.
func (m *memory) wake() {
	m.mu.Lock()
	m.all = true
	m.mu.Unlock()
	m.signal()
}

func (m *memory) signal() {
	select {
	case m.due <- struct{}{}:
	default:
	}
}

// setTrouble adds an error or a wait before a method. The key "commit" is a claim that fails after it has taken its
// lanes. Nil ends it.
func (m *memory) setTrouble(method string, what func(context.Context) error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.trouble[method] = what
}

var errTrouble = errors.New("the disk is full")

func fails(context.Context) error { return errTrouble }

func blocks(ctx context.Context) error {
	<-ctx.Done()
	return ctx.Err()
}

func takes(t time.Duration) func(context.Context) error {
	return func(context.Context) error {
		time.Sleep(t)
		return nil
	}
}

func (m *memory) enter(ctx context.Context, method string) error {
	m.mu.Lock()
	m.asked[method] = append(m.asked[method], time.Now())
	what := m.trouble[method]
	m.mu.Unlock()
	if what == nil || ctx.Err() != nil {
		return ctx.Err()
	}
	return what(ctx)
}

// calls lists the times of the calls of a method.
func (m *memory) calls(method string) []time.Time {
	m.mu.Lock()
	defer m.mu.Unlock()
	return slices.Clone(m.asked[method])
}

// records lists the stored outcomes.
func (m *memory) records() []record {
	m.mu.Lock()
	defer m.mu.Unlock()
	return slices.Clone(m.recorded)
}

// left returns the number of pending deliveries and of leased lanes.
func (m *memory) left() (pending, held int) {
	m.mu.Lock()
	defer m.mu.Unlock()
	for _, l := range m.lanes {
		pending += len(l.pending)
		if l.held {
			held++
		}
	}
	return pending, held
}

func (m *memory) Due() <-chan struct{} { return m.due }

func (m *memory) Claim(ctx context.Context, limits ClaimLimits) (claimed []Delivery, next time.Duration, err error) {
	lease := time.Now().Add(m.lease)
	err = m.enter(ctx, "Claim")
	m.mu.Lock()
	defer m.mu.Unlock()
	fresh, all := m.fresh, m.all
	m.fresh, m.all = nil, false
	defer func() { m.all = m.all || err != nil || next == 0 }()
	if err != nil {
		return nil, 0, err
	}
	found := m.dueLanes(limits, fresh, all || !limits.Fresh)
	lanes := slices.DeleteFunc(slices.Clone(found), func(l *memoryLane) bool { return !limits.Take("", l.receiver) })
	if fail := m.trouble["commit"]; fail != nil {
		return nil, 0, fail(ctx)
	}
	for _, l := range lanes {
		l.claim++
		if d := l.head(lease); d != nil {
			claimed = append(claimed, *d)
		}
	}
	if len(found) == limits.Lanes || len(claimed) < len(lanes) {
		return claimed, 0, nil
	}
	if limits.Fresh && !all {
		return claimed, -1, nil
	}
	return claimed, m.untilNext(), nil
}

// dueLanes is fair as the store's is: no receiver's second lane before every receiver's first, the longest due first.
func (m *memory) dueLanes(limits ClaimLimits, fresh []int64, all bool) []*memoryLane {
	var found []*memoryLane
	for _, l := range m.lanes {
		if (all || slices.Contains(fresh, l.id)) && len(l.pending) > 0 && !l.dueAt.After(time.Now()) &&
			!slices.Contains(limits.Full, l.receiver) {
			found = append(found, l)
		}
	}
	slices.SortFunc(found, func(a, b *memoryLane) int {
		return cmp.Or(a.dueAt.Compare(b.dueAt), cmp.Compare(a.id, b.id))
	})
	turns := map[int64]int{}
	turn := map[*memoryLane]int{}
	for _, l := range found {
		turns[l.receiver]++
		turn[l] = turns[l.receiver]
	}
	found = slices.DeleteFunc(found, func(l *memoryLane) bool { return turn[l] > limits.PerReceiver })
	slices.SortStableFunc(found, func(a, b *memoryLane) int { return cmp.Compare(turn[a], turn[b]) })
	return found[:min(len(found), limits.Lanes)]
}

// untilNext is the time until the next lane is due that is not due yet.
func (m *memory) untilNext() time.Duration {
	next := time.Duration(-1)
	for _, l := range m.lanes {
		if wait := time.Until(l.dueAt); len(l.pending) > 0 && wait > 0 && (next < 0 || wait < next) {
			next = wait
		}
	}
	return next
}

func (m *memory) Record(ctx context.Context, d Delivery, o Outcome, keepLane bool) (*Delivery, error) {
	lease := time.Now().Add(m.lease)
	if err := m.enter(ctx, "Record"); err != nil {
		return nil, err
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	l := m.lanes[d.Lane]
	m.recorded = append(m.recorded, record{Delivery: d, Outcome: o, at: time.Now(), void: l.claim != d.Claim})
	if l.claim != d.Claim {
		return nil, nil
	}
	if x := l.pending[0]; o.Verdict == Retry {
		x.Attempt++
		if o.RetryAfter == 0 {
			x.Failures++ // each is the delivery's own here
		}
		x.dueAt = time.Now().Add(o.Delay)
	} else {
		l.pending = l.pending[1:]
	}
	l.letGo()
	var next *Delivery
	if keepLane && o.Verdict != Retry && len(l.pending) > 0 && !l.dueAt.After(time.Now()) {
		next = l.head(lease)
	}
	if next == nil && len(l.pending) > 0 {
		m.all = true
		m.signal()
	}
	return next, nil
}

func (m *memory) Release(ctx context.Context, d Delivery) error {
	defer m.wake()
	if err := m.enter(ctx, "Release"); err != nil {
		return err
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	if l := m.lanes[d.Lane]; l.claim == d.Claim {
		l.letGo()
	}
	return nil
}

func (m *memory) RepairLanes(ctx context.Context) (int, error) { return 0, m.enter(ctx, "RepairLanes") }

// head leases the lane and hands out its first delivery, unless the retry window of that is over.
func (l *memoryLane) head(lease time.Time) *Delivery {
	x := l.pending[0]
	if !x.expiresAt.After(time.Now()) {
		l.pending = l.pending[1:]
		l.letGo()
		return nil
	}
	l.held, l.dueAt = true, lease
	d := x.Delivery
	d.Claim, d.Lease, d.HasSuccessor = l.claim, lease, len(l.pending) > 1
	return &d
}

// letGo makes the lane due when its head is.
func (l *memoryLane) letGo() {
	l.held = false
	if len(l.pending) > 0 {
		l.dueAt = l.pending[0].dueAt
	}
}

// answer is the answer of a receiver to a request.
type answer func(*http.Request) (*http.Response, error)

// says answers with a status and pairs of headers.
func says(status int, header ...string) answer {
	return func(*http.Request) (*http.Response, error) {
		resp := &http.Response{
			StatusCode: status, Header: http.Header{}, Body: io.NopCloser(strings.NewReader("thanks")),
		}
		for pair := range slices.Chunk(header, 2) {
			resp.Header.Set(pair[0], pair[1])
		}
		return resp, nil
	}
}

// after is an answer after a delay.
func after(t time.Duration, then answer) answer {
	return func(req *http.Request) (*http.Response, error) {
		select {
		case <-time.After(t):
			return then(req)
		case <-req.Context().Done():
			return nil, req.Context().Err()
		}
	}
}

func hangs(req *http.Request) (*http.Response, error) {
	<-req.Context().Done()
	return nil, req.Context().Err()
}

// receiver and lane are in the URL that memory makes.
func receiver(req *http.Request) (n int) {
	fmt.Sscanf(req.URL.Host, "r%d.example", &n) //nolint:errcheck // a host of another form is 0
	return n
}

func lane(req *http.Request) string { return req.URL.Path[1:] }

// arrival is a request at a receiver.
type arrival struct {
	lane, id      string
	receiver      int
	sequence      int
	attempt       string
	at, waited    time.Duration // since the bubble began, since the change
	inLane, inAll int           // how many were in flight then, this one included
}

// network is all receivers.
type network struct {
	start time.Time

	mu       sync.Mutex
	answer   answer
	seen     []arrival
	inFlight map[string]int // by lane
	inAll    int
}

func (n *network) RoundTrip(req *http.Request) (*http.Response, error) {
	answer := n.arrive(req)
	defer n.leave(req)
	return answer(req)
}

func (n *network) setAnswer(a answer) {
	n.mu.Lock()
	defer n.mu.Unlock()
	n.answer = a
}

func (n *network) arrive(req *http.Request) answer {
	n.mu.Lock()
	defer n.mu.Unlock()
	n.inFlight[lane(req)]++
	n.inAll++
	sequence, _ := strconv.Atoi(req.Header.Get("agentevents-sequence"))
	changed, _ := time.Parse(timeFormat, req.Header.Get("agentevents-changed-at"))
	n.seen = append(n.seen, arrival{
		lane: lane(req), id: req.Header.Get("webhook-id"), receiver: receiver(req), sequence: sequence,
		attempt: req.Header.Get("agentevents-attempt"), at: time.Since(n.start), waited: time.Since(changed),
		inLane: n.inFlight[lane(req)], inAll: n.inAll,
	})
	return n.answer
}

func (n *network) leave(req *http.Request) {
	n.mu.Lock()
	defer n.mu.Unlock()
	n.inFlight[lane(req)]--
	n.inAll--
}

func (n *network) arrivals() []arrival {
	n.mu.Lock()
	defer n.mu.Unlock()
	return slices.Clone(n.seen)
}

// at lists the arrival times of requests.
func (n *network) at() (times []time.Duration) {
	for _, a := range n.arrivals() {
		times = append(times, a.at)
	}
	return times
}

// rig is a dispatcher between an outbox in memory and receivers.
type rig struct {
	*memory
	*network
	t    testing.TB
	d    *Dispatcher
	soft context.CancelFunc
	done chan struct{}
}

// setUp makes a rig that does not run yet. The timeout is 10 s, the lease 15 s.
func setUp(t testing.TB, o DispatcherOptions, a answer) *rig {
	t.Helper()
	r := &rig{
		memory: newMemory(), network: &network{answer: a, start: time.Now(), inFlight: map[string]int{}},
		t: t, done: make(chan struct{}),
	}
	o.Outbox, o.Log = r.memory, slog.New(slog.DiscardHandler)
	if o.Sender == nil {
		o.Sender = NewSender(SenderOptions{Transport: r.network})
	}
	if o.Schedule.Delays == nil {
		o.Schedule = DefaultSchedule()
		o.Schedule.Jitter = 0
	}
	r.d = NewDispatcher(o)
	return r
}

// patient sets a rig's timeout and lease.
func (r *rig) patient(timeout, lease time.Duration) *rig {
	r.d.Sender = NewSender(SenderOptions{Transport: r.network, Timeout: timeout})
	r.lease = lease
	return r
}

// run runs the rig until the test ends, or until it is stopped.
func (r *rig) run() *rig {
	ctx, cancel := context.WithCancel(context.Background())
	r.soft = cancel
	go func() {
		defer close(r.done)
		r.d.Run(ctx)
	}()
	r.t.Cleanup(func() { r.stop() })
	synctest.Wait()
	return r
}

// stop stops the rig and returns the time that Run took to return.
func (r *rig) stop() time.Duration {
	start := time.Now()
	r.soft()
	<-r.done
	return time.Since(start)
}

// pass lets time pass, and waits until the bubble is idle.
func (r *rig) pass(t time.Duration) {
	time.Sleep(t)
	synctest.Wait()
}

// wantLeft checks the pending deliveries and leased lanes of the outbox, and that a slot is taken for each of these
// only.
func (r *rig) wantLeft(pending, held int) {
	r.t.Helper()
	if p, h := r.left(); p != pending || h != held {
		r.t.Errorf("%d deliveries are pending and %d lanes held, want %d and %d", p, h, pending, held)
	}
}

func (r *rig) wantFree() {
	r.t.Helper()
	r.d.limiter.mu.Lock()
	defer r.d.limiter.mu.Unlock()
	if r.d.limiter.used != [kinds]int{} {
		r.t.Errorf("%v slots are in use, want none", r.d.limiter.used)
	}
}

// wantOrder checks each lane: one request at a time, first arrivals in sequence.
func (r *rig) wantOrder() {
	r.t.Helper()
	last := map[string]int{}
	for _, a := range r.arrivals() {
		if a.inLane != 1 {
			r.t.Errorf("%d requests of lane %s were in flight at once", a.inLane, a.lane)
		}
		if a.sequence < last[a.lane] {
			r.t.Errorf("in lane %s %d came after %d", a.lane, a.sequence, last[a.lane])
		}
		last[a.lane] = a.sequence
	}
}

func equal[T comparable](t testing.TB, what string, got, want []T) {
	t.Helper()
	if !slices.Equal(got, want) {
		t.Errorf("%s: %v, want %v", what, got, want)
	}
}
