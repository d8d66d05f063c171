package main

import (
	"fmt"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/agentevents/agentevents/gen"
)

// delivery is one change for one registration.
type delivery struct {
	registration string // its name
	sequence     int64
}

// debt is a delivery that the server has promised: its change is stored, and the registration was there.
type debt struct {
	delivery
	agent     int64
	status    gen.AgentStatusValue
	receiver  int       // where the registration pointed to when the change was made
	life      int       // of the server, in which that became known
	cancelled bool      // the registration was deleted; what had been sent by then may still arrive
	at        time.Time // when it became known
}

// arrival is one request as a receiver got it.
type arrival struct {
	delivery
	id       string // webhook-id
	agent    int64
	status   string
	request  string // method, URL and body
	attempt  int
	receiver int
	life     int // of the server that has sent it
	sender   int // which of several replicas that was, from 1; 0 when it is not known
	at       time.Time

	connection *connection // nil when there is one server
	place      int         // how many requests had arrived before it
	answer     int         // status that it was answered with; 0 when the server was gone before
	until      int         // how many requests had arrived when it was answered
	cut        bool        // the receiver ended the connection instead
	ended      time.Time   // when it was answered, or could no longer be
}

func (a *arrival) lane() lane { return lane{a.agent, a.receiver} }

func (a *arrival) confirmed() bool { return a.answer/100 == 2 }

// lane is one agent and one receiver.
type lane struct {
	agent    int64
	receiver int
}

// countdown tells when something has happened so often. It may happen more often.
type countdown struct {
	left atomic.Int64
	over chan struct{}
}

func newCountdown(n int) *countdown {
	c := &countdown{over: make(chan struct{})}
	c.left.Store(int64(n))
	return c
}

func (c *countdown) strike() {
	if c.left.Add(-1) == 0 {
		close(c.over)
	}
}

// ledger keeps what was promised and what has arrived.
type ledger struct {
	mu          sync.Mutex
	life        int // how often the server was started on the store
	changes     *countdown
	requests    *countdown
	debts       map[string][]*debt // by the registration
	arrivals    []*arrival
	confirmed   map[delivery]bool
	unconfirmed map[delivery]*debt // what is neither confirmed nor cancelled
	last        map[lane]*arrival
	faults      []fault // those that are known before the judgement
	troubles    []*trouble
	timeouts    map[attempt]bool
	times       *timeline
	counts
}

// counts are how often something has happened.
type counts struct {
	amended  int // changes of registrations that were answered
	answered int // changes of statuses that were answered 200
	doubtful int // those whose request was cut off
	stored   int // of these, how many were found stored
	refused  int // requests that were answered 503
}

func newLedger() *ledger {
	return &ledger{
		debts: map[string][]*debt{}, confirmed: map[delivery]bool{}, unconfirmed: map[delivery]*debt{}, last: map[lane]*arrival{},
		times: newTimeline(),
	}
}

// begin begins another life of the server, in which so many changes and requests are counted down.
func (l *ledger) begin(count int) (changes, requests <-chan struct{}) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.life++
	l.changes, l.requests = newCountdown(count), newCountdown(count)
	return l.changes.over, l.requests.over
}

// owe notes that a change of an agent is stored.
func (l *ledger) owe(a *agent, s gen.AgentStatus) {
	l.mu.Lock()
	defer l.mu.Unlock()
	for _, r := range a.firing(s.AgentStatus) {
		d := delivery{r.name, s.Sequence}
		x := &debt{delivery: d, agent: a.id, status: s.AgentStatus, receiver: r.receiver, life: l.life, at: time.Now()}
		l.debts[r.name] = append(l.debts[r.name], x)
		if !l.confirmed[d] {
			l.unconfirmed[d] = x
		}
	}
}

// cancel notes that a registration was deleted.
func (l *ledger) cancel(registration string) {
	l.mu.Lock()
	defer l.mu.Unlock()
	for _, d := range l.debts[registration] {
		d.cancelled = true
		delete(l.unconfirmed, d.delivery)
	}
}

// amend counts a change of a registration, or the deletion of an agent.
func (l *ledger) amend() {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.amended++
}

// accept counts a change that was answered 200.
func (l *ledger) accept() {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.answered++
	l.changes.strike()
}

// doubt counts changes whose requests were cut off.
func (l *ledger) doubt(n int) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.doubtful += n
}

// resolve counts a change that was in doubt and is found stored.
func (l *ledger) resolve() {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.stored++
}

// refuse counts an answer of 503.
func (l *ledger) refuse() {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.refused++
}

// arrive notes a request.
func (l *ledger) arrive(a *arrival) {
	l.mu.Lock()
	defer l.mu.Unlock()
	a.life, a.place, a.at = l.life, len(l.arrivals), time.Now()
	l.arrivals = append(l.arrivals, a)
	l.last[a.lane()] = a
}

// answer notes how a request is about to be answered.
func (l *ledger) answer(a *arrival, status int) {
	l.mu.Lock()
	defer l.mu.Unlock()
	a.answer, a.until, a.ended = status, len(l.arrivals), time.Now()
	if a.confirmed() {
		l.confirmed[a.delivery] = true
		delete(l.unconfirmed, a.delivery)
	}
	l.requests.strike()
}

// leave notes that a request gets no answer: the server is gone, or the receiver ends the connection.
func (l *ledger) leave(a *arrival, cut bool) {
	l.mu.Lock()
	defer l.mu.Unlock()
	a.cut, a.ended = cut, time.Now()
}

// lagging says whether a lane of a plain agent has got nothing yet, since a receiver is back, of what is pending from
// before.
func (l *ledger) lagging(receiver int, back time.Time) bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	for _, d := range l.unconfirmed {
		if d.receiver != receiver || d.agent >= firstBusy || d.at.After(back) {
			continue
		}
		if a := l.last[lane{d.agent, receiver}]; a == nil || a.at.Before(back) {
			return true
		}
	}
	return false
}

// unanswered lists the plain agents' lanes of the quick receiver whose last request has no answer: one of the server
// that lives now, or one that a kill has cut off. At a moody receiver the server may have reason not to send it again.
func (l *ledger) unanswered() (now, cutOff []lane) {
	l.mu.Lock()
	defer l.mu.Unlock()
	for where, a := range l.last {
		switch {
		case where.receiver != quick || where.agent >= firstBusy || a.answer != 0:
		case a.life == l.life:
			now = append(now, where)
		default:
			cutOff = append(cutOff, where)
		}
	}
	return now, cutOff
}

// outstanding is how many deliveries are neither confirmed nor cancelled.
func (l *ledger) outstanding() int {
	l.mu.Lock()
	defer l.mu.Unlock()
	return len(l.unconfirmed)
}

// sofar is how many changes were answered, and how many requests have arrived.
func (l *ledger) sofar() (changes, requests int) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.answered, len(l.arrivals)
}

// wrong notes a fault.
func (l *ledger) wrong(k kind, format string, args ...any) {
	l.mu.Lock()
	defer l.mu.Unlock()
	text := fmt.Sprintf(format, args...)
	l.faults = append(l.faults, fault{k, fmt.Sprintf("%s (life %d)", text, l.life)})
}

// complaints notes what a server printed that it should never have to. Reads that SIGTERM cuts off are nothing to worry
// about.
func (l *ledger) complaints(log string) {
	for line := range strings.SplitSeq(log, "\n") {
		if strings.Contains(line, "level=ERROR") || strings.Contains(line, "panic") || strings.Contains(line, "DATA RACE") {
			l.wrong(complaint, "the server printed: %s", line)
		}
	}
}

// total is the end of it all.
type total struct {
	verdict
	counts
	requests int
	took     time.Duration
}

// total judges. Nothing may arrive any more.
func (l *ledger) total(r rules) total {
	l.mu.Lock()
	defer l.mu.Unlock()
	var debts []debt
	for _, of := range l.debts {
		for _, d := range of {
			debts = append(debts, *d)
		}
	}
	for _, a := range l.arrivals {
		if a.connection != nil {
			a.sender = int(a.connection.replica.Load())
		}
	}
	t := total{verdict: judge(debts, l.arrivals, r), counts: l.counts, requests: len(l.arrivals)}
	t.faults = append(l.faults, t.faults...)
	return t
}
