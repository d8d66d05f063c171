package store_test

import (
	"cmp"
	"database/sql"
	"net/url"
	"slices"
	"time"

	"pgregory.net/rapid"

	"github.com/agentevents/agentevents/gen"
	"github.com/agentevents/agentevents/store"
	"github.com/agentevents/agentevents/store/pgtest"
	"github.com/agentevents/agentevents/webhook"
)

const (
	leaseTime   = 15 * time.Second
	attemptTime = 10 * time.Second
	window      = 24 * time.Hour
)

// model is the specification of the store. It derives the state of each delivery, and whether it may be sent, from the
// definition of order and not from lanes.
type model struct {
	*fixture
	rt *rapid.T
	sideConnection
	agents      []*agent
	agentEvents []*agentEvent // events that exist
	items       []*item       // in the order of ids
	workers     []*worker
	handedOff   []webhook.Delivery // deliveries handed off by a change and not checked yet
	sites       map[site]*breaker
	newest      int64 // the newest sequence number
	down        bool  // receivers fail
}

// sideConnection is a connection alongside the store, to read the rows.
type sideConnection struct {
	conn       *sql.DB
	statements map[string]*sql.Stmt
}

type agent struct {
	key       store.AgentKey
	exists    bool
	available bool
}

// agentEvent is an event. Its deliveries still refer to it after it is deleted with its agent.
type agentEvent struct {
	id       int64
	agent    *agent
	url      string
	method   gen.RequestMethod
	typ      gen.EventType
	disabled bool
}

// item is a delivery.
type item struct {
	id, sequence int64
	webhookID    string
	agent        store.AgentKey
	status       gen.AgentStatusValue
	event        *agentEvent
	state        string
	due, expires time.Time
	replays      int
	failures     int  // failures of its own
	tried        bool // an attempt was recorded since the last redelivery
	failedIn     int  // the life of its receiver at its last failure; 0 for none
	confirmed    bool // a receiver answered 2xx since the last redelivery
	excused      bool // a crash or an expired lease may have lost its result
}

// site is a receiver; place is an agent and a receiver, like a lane.
type (
	site  struct{ client, host string }
	place struct {
		agent store.AgentKey
		site  site
	}
)

// worker is a worker that holds a delivery.
type worker struct {
	d      webhook.Delivery
	item   *item
	at     place
	until  time.Time        // the end of the lease
	answer *webhook.Outcome // nil before the answer
}

type breaker struct {
	failures, probes int
	waits, paused    time.Time
	probe            *worker
	life             int // the number of signs of life plus one
}

func (b *breaker) open() bool { return b.failures >= 5 }

// wait makes a receiver wait, unless it waits longer already.
func (b *breaker) wait(until time.Time) {
	if until.After(b.waits) {
		b.waits = until
	}
}

func (b *breaker) pause(until time.Time) {
	if until.After(b.paused) {
		b.paused = until
	}
}

// succeed applies a sign of life.
func (b *breaker) succeed() {
	if b.open() {
		*b = breaker{life: b.life}
	}
	b.failures = 0
	b.life++
}

// makeDue ends a wait that the receiver did not ask for, unless a probe is in flight.
func (b *breaker) makeDue(now time.Time) {
	if b.open() && b.probe == nil && b.waits.After(now) {
		b.waits = now
		if b.paused.After(now) {
			b.waits = b.paused
		}
	}
}

// abandonProbe removes the probe, and ends the wait for it.
func (b *breaker) abandonProbe(now time.Time) {
	if b.probe != nil && b.waits.Equal(b.probe.until) {
		b.probe, b.waits = nil, now
	}
}

func placeOf(k store.AgentKey, rawURL string) place {
	u, err := url.Parse(rawURL)
	if err != nil {
		panic(err)
	}
	return place{k, site{k.Client, u.Host}}
}

func (i *item) home() place      { return placeOf(i.agent, i.event.url) }
func (i *item) unfinished() bool { return i.state == "pending" || i.state == "parked" }

func (i *item) before(o *item) bool {
	return cmp.Or(cmp.Compare(i.sequence, o.sequence), cmp.Compare(i.id, o.id)) < 0
}

func (m *model) now() time.Time       { return m.clock.Now() }
func (m *model) expired(i *item) bool { return !m.now().Before(i.expires) }

// failsByWindow reports whether a delivery fails because its window is over. A delivery without an attempt has one
// first, unless its receiver is down or has asked for a pause.
func (m *model) failsByWindow(i *item) bool {
	return m.expired(i) && (i.state == "parked" || i.tried || m.site(i.home().site).open() ||
		m.now().Before(m.site(i.home().site).paused))
}
func (m *model) valid(w *worker) bool { return m.now().Before(w.until) }
func (m *model) forget(w *worker) {
	m.workers = slices.DeleteFunc(m.workers, func(o *worker) bool { return o == w })
}
func (m *model) site(s site) *breaker { return at(m.sites, s) }
func (m *model) eventExists(id int64) bool {
	return slices.ContainsFunc(m.agentEvents, func(r *agentEvent) bool { return r.id == id })
}
func (m *model) fail(text string, a ...any) { m.rt.Helper(); m.rt.Fatalf(text, a...) }

func at(sites map[site]*breaker, s site) *breaker {
	if sites[s] == nil {
		sites[s] = &breaker{life: 1}
	}
	return sites[s]
}

// workerAt returns the worker that has a delivery in flight at a place, or nil.
func (m *model) workerAt(p place) *worker {
	for _, w := range m.workers {
		if m.valid(w) && w.at == p {
			return w
		}
	}
	return nil
}

// workerOf returns the worker that has a delivery in flight, or nil.
func (m *model) workerOf(i *item) *worker {
	for _, w := range m.workers {
		if m.valid(w) && w.item == i {
			return w
		}
	}
	return nil
}

func (m *model) item(id int64) *item {
	n, ok := slices.BinarySearchFunc(m.items, id, func(i *item, id int64) int { return cmp.Compare(i.id, id) })
	if !ok {
		m.fail("delivery %d must not exist", id)
	}
	return m.items[n]
}

// expectDeliveries expects one delivery for each event that a change of an agent fires, and returns their number.
func (m *model) expectDeliveries(a *agent, status gen.AgentStatusValue, sequence int64) int {
	want := map[int64]*agentEvent{}
	for _, r := range m.agentEvents {
		if r.agent == a && (r.typ == gen.EventTypeAgentLogin) == (status == gen.AgentStatusValueAvailable) {
			want[r.id] = r
		}
	}
	n := len(want)
	last := int64(0)
	if len(m.items) > 0 {
		last = m.items[len(m.items)-1].id
	}
	m.query(func(rows *sql.Rows) {
		i := &item{agent: a.key, status: status, state: "pending", due: m.now(), expires: m.now().Add(window)}
		var event int64
		m.check(rows.Scan(&i.id, &i.sequence, &event, &i.webhookID))
		i.event = want[event]
		delete(want, event)
		if i.event == nil || i.sequence <= m.newest || sequence != 0 && i.sequence != sequence {
			m.fail("delivery %d of event %d, sequence %d: no change fired it", i.id, event, i.sequence)
		}
		sequence = i.sequence
		if i.event.disabled {
			i.state = "parked"
		}
		if slices.ContainsFunc(m.items, func(o *item) bool { return o.webhookID == i.webhookID }) {
			m.fail("delivery %d has the webhook-id of another", i.id)
		}
		m.items = append(m.items, i)
	}, "SELECT id, change_id, event_id, webhook_id FROM deliveries WHERE id > ? ORDER BY id", last)
	if len(want) > 0 {
		m.fail("%v became %s, and %d events have no delivery", a.key, status, len(want))
	}
	m.newest = max(m.newest, sequence)
	return n
}

// handOut checks that a delivery may be in flight from now on, and adds its worker.
func (m *model) handOut(d webhook.Delivery) *worker {
	i := m.item(d.ID)
	w := &worker{d: d, item: i, at: placeOf(i.agent, d.URL), until: m.now().Add(leaseTime)}
	switch {
	case i.state != "pending":
		m.fail("delivery %d is %s and was handed out", i.id, i.state)
	case i.confirmed && !i.excused:
		m.fail("delivery %d was confirmed and handed out again", i.id)
	case m.failsByWindow(i):
		m.fail("delivery %d was handed out after its window", i.id)
	case d.Failures != i.failures:
		m.fail("delivery %d has had %d failures of its own, not %d", i.id, i.failures, d.Failures)
	case m.now().Before(i.due):
		m.fail("delivery %d was handed out %v too early", i.id, i.due.Sub(m.now()))
	case d.URL != i.event.url || d.Method != i.event.method:
		m.fail("delivery %d goes to %s %s, want %s %s", i.id, d.Method, d.URL, i.event.method, i.event.url)
	case d.WebhookID != i.webhookID || d.Sequence != i.sequence || d.Data.AgentStatus != i.status ||
		d.Redeliveries != i.replays || d.Redelivery != (i.replays > 0):
		m.fail("delivery %d has other content: %+v", i.id, d)
	case m.workerAt(w.at) != nil:
		m.fail("deliveries %d and %d are both in flight", m.workerAt(w.at).item.id, i.id)
	case m.workerOf(i) != nil:
		m.fail("delivery %d is in flight twice", i.id)
	}
	m.checkOrder(w)
	m.checkBreaker(w)
	m.workers = append(m.workers, w)
	m.rt.Logf("  %d (sequence %d) is in flight to %s", i.id, i.sequence, d.URL)
	return w
}

// checkOrder checks the definition of order: no delivery overtakes a pending one at the same place.
func (m *model) checkOrder(w *worker) {
	for _, o := range m.items {
		if o.state == "pending" && o.home() == w.at && o.before(w.item) && !m.failsByWindow(o) {
			m.fail("delivery %d (sequence %d) overtakes %d (sequence %d)", w.item.id, w.item.sequence, o.id, o.sequence)
		}
	}
}

func (m *model) checkBreaker(w *worker) {
	b := m.site(w.at.site)
	if m.now().Before(b.waits) {
		m.fail("delivery %d was handed out %v before its receiver's wait ended", w.item.id, b.waits.Sub(m.now()))
	}
	if !b.open() {
		return
	}
	if b.probe != nil && m.valid(b.probe) {
		m.fail("deliveries %d and %d are probes at the same time", b.probe.item.id, w.item.id)
	}
	b.probe, b.waits = w, w.until
}

// updateBreaker applies an answer that counts to its receiver.
func (m *model) updateBreaker(w *worker) {
	b, o := m.site(w.at.site), w.answer
	switch health := o.Health(); {
	case health == webhook.Alive:
		b.succeed()
	case health == webhook.Down && !b.open():
		if b.failures++; b.open() {
			b.wait(m.now().Add(5 * time.Second))
		}
	case b.open() && b.probe == w:
		b.probes++
		b.abandonProbe(m.now())
		b.probe = nil
		b.wait(m.now().Add([]time.Duration{5, 10, 30, 60}[min(b.probes, 3)] * time.Second))
	}
	if o.Status == 429 {
		b.wait(m.now().Add(o.Delay))
		b.pause(m.now().Add(o.Delay))
	}
}

// applyResult applies an answer that counts to its delivery. unswept means that the delivery had not followed its event
// before.
func (m *model) applyResult(w *worker, unswept bool) {
	i, o := w.item, w.answer
	if w.d.Redeliveries != i.replays {
		return // only the redelivery counts
	}
	i.tried = true
	if unswept && i.state == "cancelled" && o.Verdict != webhook.Retry {
		i.state = map[webhook.Verdict]string{webhook.Delivered: "delivered"}[o.Verdict]
		i.state = cmp.Or(i.state, "failed") // its result came before it was cancelled
	}
	corrected := o.Verdict != webhook.Delivered && i.unfinished() &&
		(i.event.url != w.d.URL || i.event.method != w.d.Method)
	switch {
	case corrected:
		// the event has another URL or method by now, at which the delivery is due at once
		i.failures, i.failedIn = 0, 0
	case o.Verdict == webhook.Retry && unswept:
		i.failures, i.failedIn = 0, 0
	case o.Verdict == webhook.Retry && i.unfinished():
		if i.due = m.now().Add(m.addFailure(w)); i.due.After(i.expires) {
			i.due = i.expires
		}
	case o.Verdict == webhook.Delivered && i.unfinished():
		i.state = "delivered"
	case i.unfinished():
		i.state = "failed"
	}
	if o.Verdict == webhook.Gone && !corrected && m.eventExists(i.event.id) && i.event.url == w.d.URL {
		m.disable(i.event)
	}
}

// addFailure adds a failure and returns the delay of the delivery. The receiver may set the delay. If the receiver
// showed no sign of life since the last failure there, the delay is the receiver's. Otherwise it is the delivery's own.
func (m *model) addFailure(w *worker) time.Duration {
	i, life, o := w.item, m.site(w.at.site).life, w.answer
	down, again := o.Health() == webhook.Down, i.failedIn == life
	if down {
		i.failedIn = life
	}
	switch {
	case o.RetryAfter > 0:
	case down && again:
		return o.Recovery
	default:
		i.failures++
	}
	return o.Delay
}

func (m *model) disable(r *agentEvent) {
	r.disabled = true
	for _, i := range m.items {
		if i.event == r && i.state == "pending" {
			i.state, i.failures, i.failedIn = "parked", 0, 0
		}
	}
}

func (m *model) enable(r *agentEvent) {
	r.disabled = false
	for _, i := range m.items {
		if i.event == r && i.state == "parked" {
			i.state, i.due, i.failures, i.failedIn = "pending", m.now(), 0, 0
			if m.expired(i) && m.rowState(i) != "pending" { // it was parked
				i.state = "failed"
			}
		}
	}
}

// rowState returns the stored state of a delivery.
func (m *model) rowState(i *item) (state string) {
	m.query(func(rows *sql.Rows) { m.check(rows.Scan(&state)) }, "SELECT state FROM deliveries WHERE id = ?", i.id)
	return state
}

// sweeps returns the events with deliveries that have not followed them yet, and the last delivery of each that has.
func (m *model) sweeps() map[int64]int64 {
	positions := map[int64]int64{}
	m.query(func(rows *sql.Rows) {
		var event, position int64
		m.check(rows.Scan(&event, &position))
		positions[event] = position
	}, "SELECT event_id, position FROM event_sweeps")
	return positions
}

func (m *model) unswept(i *item) bool {
	position, is := m.sweeps()[i.event.id]
	return is && position < i.id
}

// checkAllClaimed checks that each delivery that was not claimed has a reason to wait. A sweep is one.
func (m *model) checkAllClaimed() {
	if len(m.sweeps()) > 0 {
		return
	}
	for _, i := range m.items {
		p := i.home()
		if i.state != "pending" || m.failsByWindow(i) || m.now().Before(i.due) ||
			m.now().Before(m.site(p.site).waits) || m.workerAt(p) != nil {
			continue
		}
		if !slices.ContainsFunc(m.items, func(o *item) bool { return m.blocks(o, i) }) {
			m.fail("delivery %d (sequence %d) is due and was not claimed", i.id, i.sequence)
		}
	}
}

// blocks reports whether a delivery has to wait for another one: an earlier one, or one that will move to the same
// place.
func (m *model) blocks(o, i *item) bool {
	return o.state == "pending" && o.home() == i.home() && !m.failsByWindow(o) && (o.before(i) || m.workerOf(o) != nil)
}

// compare checks that the rows match the model. An expired delivery may have failed already.
func (m *model) compare() {
	seen, sweeps := 0, m.sweeps()
	m.query(func(rows *sql.Rows) {
		var id int64
		var state, url, webhookID string
		var method gen.RequestMethod
		m.check(rows.Scan(&id, &state, &url, &method, &webhookID))
		seen++
		i := m.item(id)
		if position, is := sweeps[i.event.id]; is && position < id {
			return
		}
		if i.unfinished() && m.expired(i) && m.workerOf(i) == nil && state == "failed" {
			i.state = state
		}
		if i.state != state || i.webhookID != webhookID {
			m.fail("delivery %d (%s) is %s, want %s (%s)", id, webhookID, state, i.state, i.webhookID)
		}
		if i.unfinished() && (url != i.event.url || method != i.event.method) {
			m.fail("delivery %d is for %s %s, want %s %s", id, method, url, i.event.method, i.event.url)
		}
	}, "SELECT d.id, d.state, v.url, v.method, d.webhook_id FROM deliveries d "+
		"JOIN event_versions v ON v.id = d.version_id")
	if seen != len(m.items) {
		m.fail("%d of %d deliveries exist", seen, len(m.items))
	}
	m.compareEvents()
}

func (m *model) compareEvents() {
	n := 0
	m.query(func(rows *sql.Rows) {
		var id int64
		m.check(rows.Scan(&id))
		n++
		if !slices.ContainsFunc(m.agentEvents, func(r *agentEvent) bool { return r.id == id && r.disabled }) {
			m.fail("event %d is disabled", id)
		}
	}, "SELECT id FROM agent_events WHERE state = 'disabled'")
	if want := len(keepIf(m.agentEvents, func(r *agentEvent) bool { return r.disabled })); n != want {
		m.fail("%d events are disabled, want %d", n, want)
	}
}

func (m *model) query(each func(*sql.Rows), statement string, args ...any) {
	prepared := m.statements[statement]
	if prepared == nil {
		var err error
		prepared, err = m.conn.Prepare(pgtest.Numbered(statement))
		m.check(err)
		m.statements[statement] = prepared
	}
	rows, err := prepared.Query(args...)
	m.check(err)
	defer rows.Close()
	for rows.Next() {
		each(rows)
	}
	m.check(rows.Err())
}
