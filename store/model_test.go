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

// model is what a store should be: it says of each delivery, by the definition of order and not by lanes, what has
// become of it and whether it may be handed out.
type model struct {
	*fixture
	rt *rapid.T
	beside
	agents  []*agent
	regs    []*registration // those that there are
	items   []*item         // in the order of their ids
	workers []*worker
	offered []webhook.Delivery // handed out by changes, and not looked at yet
	sites   map[site]*breaker
	newest  int64 // sequence
	down    bool  // receivers answer by failures
}

// beside is a connection beside the store, to see the rows.
type beside struct {
	conn       *sql.DB
	statements map[string]*sql.Stmt
}

type agent struct {
	key       store.AgentKey
	exists    bool
	available bool
}

// registration stays with its deliveries when it is deleted with its agent, as the copy that they keep.
type registration struct {
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
	reg          *registration
	state        string
	due, expires time.Time
	replays      int
	failures     int  // of its own
	tried        bool // an attempt was recorded since it was last sent again
	failedIn     int  // which life of its receiver it failed in last; 0 for none
	confirmed    bool // a receiver has answered 2xx since it was last sent again
	excused      bool // a crash or the loss of a lease came before a record
}

// site is a receiver, place an agent's way to it.
type (
	site  struct{ client, host string }
	place struct {
		agent store.AgentKey
		site  site
	}
)

// worker holds a delivery.
type worker struct {
	d      webhook.Delivery
	item   *item
	at     place
	until  time.Time        // end of the lease
	answer *webhook.Outcome // nil before it was sent
}

type breaker struct {
	failures, probes int
	waits, paused    time.Time
	probe            *worker
	life             int // one more than there were signs of life
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

// alive is a sign of life.
func (b *breaker) alive() {
	if b.open() {
		*b = breaker{life: b.life}
	}
	b.failures = 0
	b.life++
}

// now ends a wait that its receiver has not asked for, unless a probe is under way.
func (b *breaker) now(now time.Time) {
	if b.open() && b.probe == nil && b.waits.After(now) {
		b.waits = now
		if b.paused.After(now) {
			b.waits = b.paused
		}
	}
}

// giveUp forgets a probe, and no longer waits for it.
func (b *breaker) giveUp(now time.Time) {
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

func (i *item) home() place { return placeOf(i.agent, i.reg.url) }
func (i *item) owed() bool  { return i.state == "pending" || i.state == "parked" }

func (i *item) before(o *item) bool {
	return cmp.Or(cmp.Compare(i.sequence, o.sequence), cmp.Compare(i.id, o.id)) < 0
}

func (m *model) now() time.Time       { return m.clock.Now() }
func (m *model) expired(i *item) bool { return !m.now().Before(i.expires) }

// over says whether a delivery has failed because its window is over. One that was never tried has one attempt,
// unless its receiver is down or has asked for a pause.
func (m *model) over(i *item) bool {
	return m.expired(i) && (i.state == "parked" || i.tried || m.site(i.home().site).open() ||
		m.now().Before(m.site(i.home().site).paused))
}
func (m *model) valid(w *worker) bool { return m.now().Before(w.until) }
func (m *model) forget(w *worker) {
	m.workers = slices.DeleteFunc(m.workers, func(o *worker) bool { return o == w })
}
func (m *model) site(s site) *breaker { return at(m.sites, s) }
func (m *model) registered(id int64) bool {
	return slices.ContainsFunc(m.regs, func(r *registration) bool { return r.id == id })
}
func (m *model) fail(text string, a ...any) { m.rt.Helper(); m.rt.Fatalf(text, a...) }

func at(sites map[site]*breaker, s site) *breaker {
	if sites[s] == nil {
		sites[s] = &breaker{life: 1}
	}
	return sites[s]
}

// held is who has something in flight at a place, or nil.
func (m *model) held(p place) *worker {
	for _, w := range m.workers {
		if m.valid(w) && w.at == p {
			return w
		}
	}
	return nil
}

// flying is who has a delivery in flight, or nil.
func (m *model) flying(i *item) *worker {
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
		m.fail("delivery %d should not be", id)
	}
	return m.items[n]
}

// owe expects one delivery for each registration of an agent that a change fires, and returns how many.
func (m *model) owe(a *agent, status gen.AgentStatusValue, sequence int64) int {
	want := map[int64]*registration{}
	for _, r := range m.regs {
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
		i.reg = want[event]
		delete(want, event)
		if i.reg == nil || i.sequence <= m.newest || sequence != 0 && i.sequence != sequence {
			m.fail("delivery %d of event %d, sequence %d: there is no reason for it", i.id, event, i.sequence)
		}
		sequence = i.sequence
		if i.reg.disabled {
			i.state = "parked"
		}
		if slices.ContainsFunc(m.items, func(o *item) bool { return o.webhookID == i.webhookID }) {
			m.fail("delivery %d has the webhook-id of another", i.id)
		}
		m.items = append(m.items, i)
	}, "SELECT id, change_id, event_id, webhook_id FROM deliveries WHERE id > ? ORDER BY id", last)
	if len(want) > 0 {
		m.fail("%v became %s, and there is nothing for %d events", a.key, status, len(want))
	}
	m.newest = max(m.newest, sequence)
	return n
}

// handOut checks that a delivery may be in flight from now on, and notes who has it.
func (m *model) handOut(d webhook.Delivery) *worker {
	i := m.item(d.ID)
	w := &worker{d: d, item: i, at: placeOf(i.agent, d.URL), until: m.now().Add(leaseTime)}
	switch {
	case i.state != "pending":
		m.fail("delivery %d is %s and was handed out", i.id, i.state)
	case i.confirmed && !i.excused:
		m.fail("delivery %d was confirmed and handed out again", i.id)
	case m.over(i):
		m.fail("delivery %d was handed out after its window", i.id)
	case d.Failures != i.failures:
		m.fail("delivery %d has had %d failures of its own, not %d", i.id, i.failures, d.Failures)
	case m.now().Before(i.due):
		m.fail("delivery %d was handed out %v too early", i.id, i.due.Sub(m.now()))
	case d.URL != i.reg.url || d.Method != i.reg.method:
		m.fail("delivery %d goes to %s %s, want %s %s", i.id, d.Method, d.URL, i.reg.method, i.reg.url)
	case d.WebhookID != i.webhookID || d.Sequence != i.sequence || d.Data.AgentStatus != i.status ||
		d.Replays != i.replays || d.Replay != (i.replays > 0):
		m.fail("delivery %d is not what it was: %+v", i.id, d)
	case m.held(w.at) != nil:
		m.fail("deliveries %d and %d are both in flight", m.held(w.at).item.id, i.id)
	case m.flying(i) != nil:
		m.fail("delivery %d is in flight twice", i.id)
	}
	m.checkOrder(w)
	m.checkBreaker(w)
	m.workers = append(m.workers, w)
	m.rt.Logf("  %d (sequence %d) is in flight to %s", i.id, i.sequence, d.URL)
	return w
}

// checkOrder is the definition of order: what is pending on the same way does not overtake.
func (m *model) checkOrder(w *worker) {
	for _, o := range m.items {
		if o.state == "pending" && o.home() == w.at && o.before(w.item) && !m.over(o) {
			m.fail("delivery %d (sequence %d) overtakes %d (sequence %d)", w.item.id, w.item.sequence, o.id, o.sequence)
		}
	}
}

func (m *model) checkBreaker(w *worker) {
	b := m.site(w.at.site)
	if m.now().Before(b.waits) {
		m.fail("delivery %d was handed out %v before its receiver's time", w.item.id, b.waits.Sub(m.now()))
	}
	if !b.open() {
		return
	}
	if b.probe != nil && m.valid(b.probe) {
		m.fail("deliveries %d and %d are probes at the same time", b.probe.item.id, w.item.id)
	}
	b.probe, b.waits = w, w.until
}

// judge is what an answer that counts says of its receiver.
func (m *model) judge(w *worker) {
	b, o := m.site(w.at.site), w.answer
	switch health := o.Health(); {
	case health == webhook.Alive:
		b.alive()
	case health == webhook.Down && !b.open():
		if b.failures++; b.open() {
			b.wait(m.now().Add(5 * time.Second))
		}
	case b.open() && b.probe == w:
		b.probes++
		b.giveUp(m.now())
		b.probe = nil
		b.wait(m.now().Add([]time.Duration{5, 10, 30, 60}[min(b.probes, 3)] * time.Second))
	}
	if o.Status == 429 {
		b.wait(m.now().Add(o.Delay))
		b.pause(m.now().Add(o.Delay))
	}
}

// settle is what becomes of a delivery by an answer that counts.
func (m *model) settle(w *worker) {
	i, o := w.item, w.answer
	if w.d.Replays != i.replays {
		return // it was sent again meanwhile, and that is what counts
	}
	i.tried = true
	corrected := o.Verdict != webhook.Delivered && i.owed() && (i.reg.url != w.d.URL || i.reg.method != w.d.Method)
	switch {
	case corrected:
		// it was not sent to where it belongs by now, and is due there since the correction
		i.failures, i.failedIn = 0, 0
	case o.Verdict == webhook.Retry && i.owed():
		if i.due = m.now().Add(m.failed(w)); i.due.After(i.expires) {
			i.due = i.expires
		}
	case o.Verdict == webhook.Delivered && i.owed():
		i.state = "delivered"
	case i.owed():
		i.state = "failed"
	}
	if o.Verdict == webhook.Gone && !corrected && m.registered(i.reg.id) && i.reg.url == w.d.URL {
		m.disable(i.reg)
	}
}

// failed notes a failure and returns how long the delivery waits: for as long as the receiver says, or for its
// receiver's sake when nothing has come of that since it failed there before, and else for its own.
func (m *model) failed(w *worker) time.Duration {
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

func (m *model) disable(r *registration) {
	r.disabled = true
	for _, i := range m.items {
		if i.reg == r && i.state == "pending" {
			i.state = "parked"
		}
	}
}

func (m *model) enable(r *registration) {
	r.disabled = false
	for _, i := range m.items {
		if i.reg == r && i.state == "parked" {
			i.state, i.due = "pending", m.now()
			if m.expired(i) {
				i.state = "failed"
			}
		}
	}
}

// checkAllClaimed checks after a claim of everything that what is left has a reason to be.
func (m *model) checkAllClaimed() {
	for _, i := range m.items {
		p := i.home()
		if i.state != "pending" || m.over(i) || m.now().Before(i.due) || m.now().Before(m.site(p.site).waits) ||
			m.held(p) != nil {
			continue
		}
		if !slices.ContainsFunc(m.items, func(o *item) bool { return m.inTheWay(o, i) }) {
			m.fail("delivery %d (sequence %d) is due and was not claimed", i.id, i.sequence)
		}
	}
}

// inTheWay says whether one delivery has to wait for another: an earlier one, or one that follows its registration
// to the same place when it is back.
func (m *model) inTheWay(o, i *item) bool {
	return o.state == "pending" && o.home() == i.home() && !m.over(o) && (o.before(i) || m.flying(o) != nil)
}

// compare checks that the rows say what the model says. What is over its window may have failed already.
func (m *model) compare() {
	seen := 0
	m.query(func(rows *sql.Rows) {
		var id int64
		var state, url, webhookID string
		var method gen.RequestMethod
		m.check(rows.Scan(&id, &state, &url, &method, &webhookID))
		seen++
		i := m.item(id)
		if i.owed() && m.expired(i) && m.flying(i) == nil && state == "failed" {
			i.state = state
		}
		if i.state != state || i.webhookID != webhookID {
			m.fail("delivery %d (%s) is %s, want %s (%s)", id, webhookID, state, i.state, i.webhookID)
		}
		if i.owed() && (url != i.reg.url || method != i.reg.method) {
			m.fail("delivery %d is for %s %s, want %s %s", id, method, url, i.reg.method, i.reg.url)
		}
	}, "SELECT id, state, url, method, webhook_id FROM deliveries")
	if seen != len(m.items) {
		m.fail("%d of %d deliveries are there", seen, len(m.items))
	}
	m.compareEvents()
}

func (m *model) compareEvents() {
	n := 0
	m.query(func(rows *sql.Rows) {
		var id int64
		m.check(rows.Scan(&id))
		n++
		if !slices.ContainsFunc(m.regs, func(r *registration) bool { return r.id == id && r.disabled }) {
			m.fail("event %d is disabled", id)
		}
	}, "SELECT id FROM agent_events WHERE state = 'disabled'")
	if want := len(only(m.regs, func(r *registration) bool { return r.disabled })); n != want {
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
