package store_test

import (
	"database/sql"
	"errors"
	"flag"
	"fmt"
	"math/rand/v2"
	"os"
	"path/filepath"
	"slices"
	"testing"
	"time"

	"pgregory.net/rapid"

	"github.com/agentevents/agentevents/gen"
	"github.com/agentevents/agentevents/store"
	"github.com/agentevents/agentevents/store/pgtest"
	"github.com/agentevents/agentevents/webhook"
)

// TestAnySchedule carries deliveries through random schedules of all that can happen to them, and holds each step
// against a model. In the end everything is enabled and all receivers answer: then nothing may be left.
//
// For longer: go test ./store -run AnySchedule -rapid.checks 100000
func TestAnySchedule(t *testing.T) {
	setRapid(t)
	f := openInMemory(t)
	db := beside{f.db(), map[string]*sql.Stmt{}}
	defer db.conn.Close()
	rapid.Check(t, func(rt *rapid.T) {
		m := newModel(f, db, rt)
		rt.Repeat(weighted([]action{
			{8, "change", m.change},
			{2, "register", m.register},
			{1, "unregister", m.unregister},
			{3, "move", m.move},
			{1, "update", m.update},
			{3, "toggle", m.toggle},
			{3, "redeliver", m.redeliver},
			{1, "test", m.test},
			{1, "agent", m.deleteOrCreate},
			{4, "claim", m.claimSome},
			{3, "claim all", m.claimAll},
			{7, "send", m.send},
			{6, "record", m.recordOne},
			{1, "release", m.release},
			{3, "wait", m.wait},
			{1, "lapse", m.lapse},
			{1, "minutes", m.minutes},
			{1, "hours", m.hours},
			{1, "down", func(*rapid.T) { m.down = !m.down }},
			{1, "crash", m.crash},
			{1, "mend", m.mend},
			{0, "", func(*rapid.T) { m.compare() }},
		}))
		m.drain()
	})
}

// setRapid gives rapid what the command line does not: more and longer runs, and a seed that is always known.
func setRapid(t *testing.T) {
	t.Helper()
	checks := "150"
	if pgtest.OnPostgres() {
		checks = "20" // each takes ten times as long
	}
	for name, value := range map[string]string{
		"rapid.checks": checks, "rapid.steps": "60", "rapid.seed": fmt.Sprint(rand.Uint64() | 1),
	} {
		f := flag.Lookup(name)
		if f.Value.String() != f.DefValue {
			continue
		}
		if err := f.Value.Set(value); err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { _ = f.Value.Set(f.DefValue) })
	}
	t.Logf("-rapid.seed=%s", flag.Lookup("rapid.seed").Value)
}

// openInMemory opens a store on a file that costs no disk, where there is such a thing.
func openInMemory(t *testing.T) *fixture {
	t.Helper()
	if pgtest.OnPostgres() {
		return open(t)
	}
	dir, err := os.MkdirTemp("/dev/shm", "agentevents")
	if err != nil {
		return open(t)
	}
	t.Cleanup(func() { _ = os.RemoveAll(dir) })
	f := &fixture{t: t, ctx: t.Context(), clock: newClock(), url: "sqlite:" + filepath.Join(dir, "agentevents.db")}
	f.open()
	t.Cleanup(func() { f.t = t; f.check(f.Close()) })
	return f
}

type action struct {
	weight int
	name   string
	do     func(*rapid.T)
}

func weighted(actions []action) map[string]func(*rapid.T) {
	all := map[string]func(*rapid.T){}
	for _, a := range actions {
		all[a.name] = a.do
		for n := 1; n < a.weight; n++ {
			all[fmt.Sprint(a.name, " ", n)] = a.do
		}
	}
	return all
}

// reporter lets a fixture's helpers fail a run of rapid, which then looks for a shorter one.
type reporter struct {
	testing.TB
	rt *rapid.T
}

func (r reporter) Helper()                      { r.rt.Helper() }
func (r reporter) Fatal(args ...any)            { r.rt.Helper(); r.rt.Fatal(args...) }
func (r reporter) Fatalf(text string, a ...any) { r.rt.Helper(); r.rt.Fatalf(text, a...) }
func (r reporter) Errorf(text string, a ...any) { r.rt.Helper(); r.rt.Errorf(text, a...) }

// newModel begins a run: an empty store at the clock's beginning, with two clients that have agents of the same ids
// and registrations at the same hosts.
func newModel(f *fixture, b beside, rt *rapid.T) *model {
	if r, ok := f.t.(reporter); ok {
		f.t = r.TB
	}
	f.t = reporter{f.t, rt}
	for _, table := range []string{
		"attempts", "deliveries", "status_changes", "agent_events", "lanes", "receivers", "agents", "clients",
	} {
		_, err := b.conn.Exec("DELETE FROM " + table)
		f.check(err)
	}
	f.clock.now = newClock().now
	m := &model{fixture: f, rt: rt, beside: b, sites: map[site]*breaker{}, down: rapid.Bool().Draw(rt, "down")}
	for _, k := range []store.AgentKey{
		{Client: "1", Type: gen.AgentTypeLocal, ID: 1},
		{Client: "1", Type: gen.AgentTypeLocal, ID: 2},
		{Client: "1", Type: gen.AgentTypeRemote, ID: 1},
		{Client: "2", Type: gen.AgentTypeLocal, ID: 1},
	} {
		_, _, err := f.PutClient(f.ctx, k.Client, gen.ClientUpdate{})
		f.check(err)
		a := &agent{key: k}
		m.agents = append(m.agents, a)
		m.createAgent(a)
		for _, typ := range both {
			m.add(a, drawURL(rt), gen.RequestMethodPOST, typ)
		}
	}
	return m
}

// pick draws one of a list; of an empty one there is none, and the action is not to be had.
func pick[T any](rt *rapid.T, label string, of []T) T {
	if len(of) == 0 {
		rt.Skip()
	}
	return of[rapid.IntRange(0, len(of)-1).Draw(rt, label)]
}

func only[T any](of []T, which func(T) bool) (some []T) {
	for _, x := range of {
		if which(x) {
			some = append(some, x)
		}
	}
	return some
}

func drawURL(rt *rapid.T) string {
	return pick(rt, "URL", []string{
		"http://crm.example/a", "http://board.example/a", "http://crm.example/b", "http://board.example/b",
	})
}

func (m *model) createAgent(a *agent) {
	name := "x"
	_, created, err := m.PutAgent(m.ctx, a.key, store.AgentUpdate{Name: &name})
	m.check(err)
	if !created {
		m.fail("%v was there already", a.key)
	}
	a.exists, a.available = true, false
}

func (m *model) add(a *agent, url string, method gen.RequestMethod, typ gen.EventType) {
	e, err := m.CreateEvent(m.ctx, a.key, gen.AgentEventCreate{URL: url, Method: method, EventType: typ})
	m.check(err)
	m.regs = append(m.regs, &registration{id: e.ID, agent: a, url: url, method: method, typ: typ})
}

func (m *model) existing() []*agent { return only(m.agents, func(a *agent) bool { return a.exists }) }

func (m *model) change(rt *rapid.T) {
	a := pick(rt, "agent", m.existing())
	to := a.available
	if rapid.IntRange(0, 4).Draw(rt, "unchanged") > 0 {
		to = !to
	}
	status := gen.AgentStatusValueLoggedOut
	if to {
		status = gen.AgentStatusValueAvailable
	}
	m.offer(rt)
	st := m.set(a.key, status)
	if st.Changed != (a.available != to) {
		m.fail("changed: %t, from available %t to %t", st.Changed, a.available, to)
	}
	a.available = to
	if !st.Changed {
		return // compare sees whether there is a delivery nevertheless
	}
	if n := m.owe(a, status, st.Sequence); n != st.Deliveries {
		m.fail("the answer says %d deliveries, want %d", st.Deliveries, n)
	}
	m.takeOffered()
}

// offer lets the next change hand out what it makes, or not.
func (m *model) offer(rt *rapid.T) {
	o := &webhook.Handoff{
		Take:    func(int64) bool { return rapid.IntRange(0, 3).Draw(rt, "take") > 0 },
		Deliver: func(d webhook.Delivery) { m.offered = append(m.offered, d) },
		Release: func(int64) { m.fail("a lane was given back") },
	}
	if !rapid.Bool().Draw(rt, "offer") {
		o = nil
	}
	m.SetHandoff(o)
}

func (m *model) takeOffered() {
	for _, d := range m.offered {
		m.handOut(d)
	}
	m.offered = nil
}

func (m *model) register(rt *rapid.T) {
	a := pick(rt, "agent", only(m.existing(), func(a *agent) bool {
		return len(only(m.regs, func(r *registration) bool { return r.agent == a })) < 5
	}))
	m.add(a, drawURL(rt), pick(rt, "method", []gen.RequestMethod{gen.RequestMethodPOST, gen.RequestMethodGET}),
		pick(rt, "type", both))
}

func (m *model) unregister(rt *rapid.T) {
	r := pick(rt, "event", m.regs)
	m.check(m.DeleteEvent(m.ctx, r.agent.key, r.id))
	m.regs = only(m.regs, func(o *registration) bool { return o != r })
	for _, i := range m.items {
		if i.reg == r && i.owed() {
			i.state = "cancelled"
		}
	}
}

// move prefers what has a delivery in flight.
func (m *model) move(rt *rapid.T) {
	regs := only(m.regs, func(r *registration) bool {
		return slices.ContainsFunc(m.workers, func(w *worker) bool { return w.item.reg == r })
	})
	if len(regs) == 0 || rapid.IntRange(0, 3).Draw(rt, "any") == 0 {
		regs = m.regs
	}
	url := ""
	m.patch(pick(rt, "event", regs), func(r *registration, u *gen.AgentEventUpdate) {
		url = drawURL(rt)
		u.URL, r.url = &url, url
	})
}

func (m *model) update(rt *rapid.T) {
	m.patch(pick(rt, "event", m.regs), func(r *registration, u *gen.AgentEventUpdate) {
		r.method = pick(rt, "method", []gen.RequestMethod{gen.RequestMethodPOST, gen.RequestMethodGET})
		r.typ = pick(rt, "type", both)
		u.Method, u.EventType = &r.method, &r.typ
	})
}

// patch makes what is pending of a registration due at once, if its URL or method changes.
func (m *model) patch(r *registration, fn func(*registration, *gen.AgentEventUpdate)) {
	old := *r
	var u gen.AgentEventUpdate
	fn(r, &u)
	_, err := m.UpdateEvent(m.ctx, r.agent.key, r.id, u)
	m.check(err)
	if old.url == r.url && old.method == r.method {
		return
	}
	m.rt.Logf("  event %d is at %s %s", r.id, r.method, r.url)
	for _, i := range m.items {
		if i.reg == r && i.owed() {
			i.due, i.failures, i.failedIn = m.now(), 0, 0
		}
	}
}

func (m *model) toggle(rt *rapid.T) {
	m.setEnabled(pick(rt, "event", m.regs), rapid.Bool().Draw(rt, "enabled"))
}

func (m *model) setEnabled(r *registration, enabled bool) {
	state := gen.AgentEventStateValueDisabled
	if enabled {
		state = gen.AgentEventStateValueEnabled
	}
	_, err := m.SetEventState(m.ctx, r.agent.key, r.id, state)
	m.check(err)
	switch {
	case enabled && r.disabled:
		m.enable(r)
	case !enabled && !r.disabled:
		m.disable(r)
	}
	m.rt.Logf("  event %d is enabled: %t", r.id, enabled)
}

// redeliver sends again what has ended: to where its registration is, or else to where it went.
func (m *model) redeliver(rt *rapid.T) {
	i := pick(rt, "delivery", m.items)
	d, err := m.Redeliver(m.ctx, i.agent.Client, i.id)
	switch i.state {
	case "pending":
		m.check(err)
		m.sendNow(i)
		return
	case "parked":
		var refused *store.Error
		if !errors.As(err, &refused) || refused.Kind != store.Conflict {
			m.fail("delivery %d is %s and was sent again: %v", i.id, i.state, err)
		}
		return
	}
	m.check(err)
	if !m.registered(i.reg.id) {
		i.reg = &registration{id: i.reg.id, agent: i.reg.agent, url: d.URL, method: d.Method}
	}
	i.state, i.due, i.expires, i.confirmed, i.tried = "pending", m.now(), m.now().Add(window), false, false
	i.failures, i.failedIn = 0, 0
	i.replays++
	if i.reg.disabled {
		i.state = "parked"
	}
	m.rt.Logf("  %d (sequence %d) is %s again", i.id, i.sequence, i.state)
}

// test has a receiver take a test of an event.
func (m *model) test(rt *rapid.T) {
	r := pick(rt, "event", m.regs)
	a := webhook.Attempt{StartedAt: m.now(), Status: 200, Verdict: webhook.Delivered}
	_, err := m.SaveTestDelivery(m.ctx, r.id, r.agent.key.Type, webhook.Delivery{URL: r.url, WebhookID: "msg_test"}, a)
	m.check(err)
	m.site(placeOf(r.agent.key, r.url).site).alive()
}

// sendNow makes a delivery and what goes before it in its lane due.
func (m *model) sendNow(i *item) {
	lane, at := m.lane(i)
	for _, o := range m.items {
		if o.state != "pending" || o != i && !o.before(i) {
			continue
		}
		if other, _ := m.lane(o); other == lane && m.now().Before(o.due) {
			o.due = m.now()
		}
	}
	m.site(at).now(m.now())
	m.rt.Logf("  %d (sequence %d) goes now", i.id, i.sequence)
}

// lane is the one that a delivery is in, and its receiver.
func (m *model) lane(i *item) (id int64, at site) {
	m.query(func(rows *sql.Rows) { m.check(rows.Scan(&id, &at.client, &at.host)) },
		"SELECT l.id, r.client_id, r.host FROM deliveries d JOIN lanes l ON l.id = d.lane_id "+
			"JOIN receivers r ON r.id = l.receiver_id WHERE d.id = ?", i.id)
	return id, at
}

func (m *model) deleteOrCreate(rt *rapid.T) {
	a := pick(rt, "agent", m.agents)
	if !a.exists {
		m.createAgent(a)
		for _, typ := range both {
			m.add(a, drawURL(rt), gen.RequestMethodPOST, typ)
		}
		return
	}
	m.offer(rt)
	m.check(m.DeleteAgent(m.ctx, a.key))
	if a.available {
		m.owe(a, gen.AgentStatusValueLoggedOut, 0)
	}
	m.takeOffered()
	a.exists = false
	m.regs = only(m.regs, func(r *registration) bool { return r.agent != a })
}

func (m *model) claimSome(rt *rapid.T) {
	room := webhook.ClaimLimits{
		Fresh: rapid.Bool().Draw(rt, "fresh"), Lanes: rapid.IntRange(1, 4).Draw(rt, "lanes"),
		PerReceiver: rapid.IntRange(1, 3).Draw(rt, "per receiver"),
		Take:        func(int64) bool { return rapid.IntRange(0, 3).Draw(rt, "take") > 0 },
	}
	claimed, _, err := m.Claim(m.ctx, room)
	m.check(err)
	if len(claimed) > room.Lanes {
		m.fail("claimed %d, with room for %d", len(claimed), room.Lanes)
	}
	for _, d := range claimed {
		m.handOut(d)
	}
}

// claimAll claims until nothing is left to be claimed, and checks that nothing is.
func (m *model) claimAll(*rapid.T) {
	m.everything()
	m.checkAllClaimed()
}

// everything claims all that is due, and returns how long it is until more is.
func (m *model) everything() time.Duration {
	for range 100 {
		claimed, next, err := m.Claim(m.ctx, webhook.ClaimLimits{
			Lanes: 1000, PerReceiver: 100, Take: func(int64) bool { return true },
		})
		m.check(err)
		for _, d := range claimed {
			m.handOut(d)
		}
		if len(claimed) == 0 && next != 0 {
			return next
		}
	}
	m.fail("claims come to no end")
	return 0
}

// send is the dispatcher's third rule, and an answer.
func (m *model) send(rt *rapid.T) {
	w := pick(rt, "worker", only(m.workers, func(w *worker) bool {
		return w.answer == nil && !m.now().Add(attemptTime).After(w.until)
	}))
	m.sent(w, drawAnswer(rt, m.down))
}

func (m *model) sent(w *worker, a webhook.Outcome) {
	if o := m.held(w.at); o != w {
		m.fail("delivery %d is sent while another is in flight", w.item.id)
	}
	a.StartedAt = m.now()
	w.answer = &a
	if a.Verdict == webhook.Delivered && w.d.Replays == w.item.replays {
		w.item.confirmed = true
	}
	m.rt.Logf("  %d is answered %d, %s", w.item.id, a.Status, a.Verdict)
}

// drawAnswer is mostly a failure while a receiver is down, or no breaker would open.
func drawAnswer(rt *rapid.T, down bool) webhook.Outcome {
	answers := []int{200, 500, 0, 200, 503, 404, 408, 429, 410, 200, -1}
	if down {
		answers = []int{500, 0, 502, 500, 0, 429, 503, 408, 200, 500, 0, -1}
	}
	status := pick(rt, "status", answers)
	o := webhook.Outcome{Attempt: webhook.Attempt{Status: max(status, 0), Verdict: webhook.Judge(status, nil)}}
	switch status {
	case 0, -1: // no answer, and a forbidden address
		o.Verdict = map[int]webhook.Verdict{0: webhook.Retry, -1: webhook.Failed}[status]
	case 429, 503, 500:
		o.RetryAfter = time.Duration(rapid.IntRange(0, 100).Draw(rt, "Retry-After")) * time.Second
	case 404: // it may be one that is being deployed
		o.Verdict = pick(rt, "verdict", []webhook.Verdict{webhook.Failed, webhook.Retry})
	}
	if o.Verdict == webhook.Retry {
		o.Delay = o.RetryAfter
	}
	if o.Verdict == webhook.Retry && o.Delay == 0 {
		o.Delay = pick(rt, "delay",
			[]time.Duration{5 * time.Second, 5 * time.Second, 30 * time.Second, 10 * time.Minute, time.Hour})
	}
	o.Recovery = min(o.Delay,
		pick(rt, "recovery", []time.Duration{5 * time.Second, 10 * time.Second, time.Minute}))
	return o
}

func (m *model) recordOne(rt *rapid.T) {
	w := pick(rt, "worker", only(m.workers, func(w *worker) bool { return w.answer != nil }))
	m.recorded(w, rapid.Bool().Draw(rt, "go on"))
}

// recorded records an answer. Between the loss of a lease and the next claim of the lane it may count or not, as the
// delivery may have gone elsewhere; but only as a whole.
func (m *model) recorded(w *worker, keepLane bool) *worker {
	valid, holds := m.valid(w), m.holds(w)
	if valid && !holds {
		m.fail("the claim of delivery %d was void before the end of its lease", w.item.id)
	}
	next, err := m.Record(m.ctx, w.d, *w.answer, keepLane)
	m.check(err)
	m.forget(w)
	if holds {
		m.judge(w)
	}
	if valid || holds && m.counted(w) {
		m.settle(w)
	}
	if next == nil {
		return nil
	}
	n := m.handOut(*next)
	if !keepLane || !holds || w.answer.Verdict == webhook.Retry || n.at != w.at || m.site(n.at.site).open() ||
		next.Claim != w.d.Claim || next.Lane != w.d.Lane {
		m.fail("went on from delivery %d to %d", w.item.id, n.item.id)
	}
	return n
}

// holds says whether nobody has claimed a worker's lane since.
func (m *model) holds(w *worker) (holds bool) {
	m.check(
		m.conn.QueryRow(pgtest.Numbered("SELECT claim = ? FROM lanes WHERE id = ?"), w.d.Claim, w.d.Lane).Scan(&holds),
	)
	return holds
}

// counted says whether a result that need not count did. What it cannot tell is whether a retry that counts was put
// off.
func (m *model) counted(w *worker) (counted bool) {
	if !w.item.owed() {
		return w.answer.Verdict == webhook.Gone && m.disabled(w.item.reg)
	}
	var state string
	var due int64
	var failures int
	var tried, same bool
	m.check(m.conn.QueryRow(pgtest.Numbered("SELECT d.state, d.due_at, d.attempts > 0, d.failures, d.outage = "+
		"r.outages AND r.failing_since IS NOT NULL "+
		"FROM deliveries d JOIN lanes l ON l.id = d.lane_id JOIN receivers r ON r.id = l.receiver_id WHERE d.id = ?"),
		w.item.id).
		Scan(&state, &due, &tried, &failures, &same))
	if w.answer.Verdict == webhook.Retry && state == w.item.state {
		w.item.due, w.item.tried, w.item.failures, w.item.failedIn = time.UnixMilli(due).UTC(), tried, failures, 0
		if same {
			w.item.failedIn = m.site(w.at.site).life
		}
		return false
	}
	return state != w.item.state
}

func (m *model) disabled(r *registration) (disabled bool) {
	m.query(func(rows *sql.Rows) { m.check(rows.Scan(&disabled)) },
		"SELECT state = 'disabled' FROM agent_events WHERE id = ?", r.id)
	return disabled
}

func (m *model) release(rt *rapid.T) {
	w := pick(rt, "worker", only(m.workers, func(w *worker) bool { return w.answer == nil }))
	holds := m.holds(w)
	m.check(m.Release(m.ctx, w.d))
	m.forget(w)
	if b := m.site(w.at.site); holds && b.probe == w {
		b.giveUp(m.now())
	}
}

// advance lets time pass. Who loses a lease by it may have been confirmed what is sent again.
func (m *model) advance(d time.Duration) {
	m.clock.add(d)
	for _, w := range m.workers {
		if !m.valid(w) {
			w.item.excused = true
		}
	}
}

func (m *model) wait(rt *rapid.T) {
	m.advance(time.Duration(rapid.IntRange(1, 6_000).Draw(rt, "ms")) * time.Millisecond)
}
func (m *model) lapse(*rapid.T) { m.advance(16 * time.Second) }
func (m *model) minutes(rt *rapid.T) {
	m.advance(time.Duration(rapid.IntRange(1, 15).Draw(rt, "minutes")) * time.Minute)
}

func (m *model) hours(rt *rapid.T) {
	m.advance(time.Duration(rapid.IntRange(1, 9).Draw(rt, "hours")) * time.Hour)
}

func (m *model) crash(*rapid.T) {
	for _, w := range m.workers {
		w.item.excused = true
	}
	m.workers = nil
	m.fixture.crash()
	for _, b := range m.sites {
		b.giveUp(m.now())
	}
}

func (m *model) mend(*rapid.T) {
	m.verify()
	if n, err := m.RepairLanes(m.ctx); err != nil || n != 0 {
		m.fail("mended %d lanes, %v", n, err)
	}
	for _, i := range m.items { // the sweep
		if i.owed() && m.over(i) && m.flying(i) == nil {
			i.state = "failed"
		}
	}
}

// drain enables everything and has all receivers answer, until nothing is left.
func (m *model) drain() {
	m.rt.Log("drain")
	for _, r := range m.regs {
		m.setEnabled(r, true)
	}
	m.advance(leaseTime)
	for range 500 {
		next := m.everything()
		m.checkAllClaimed()
		if len(m.workers) == 0 && next < 0 {
			break
		}
		m.finishAll()
		m.compare()
		if next > 0 {
			m.advance(next)
		}
	}
	m.drained()
	m.advance(window) // for what is parked for ever, as its agent is gone
	m.mend(nil)
	m.compare()
	if owed := only(m.items, (*item).owed); len(owed) > 0 {
		m.fail("%d deliveries are left, the first of them %+v", len(owed), *owed[0])
	}
}

// finishAll answers all that is in flight, and what follows. Those whose lease is over get their answers in, too.
func (m *model) finishAll() {
	for len(m.workers) > 0 {
		for w := m.workers[0]; w != nil; {
			if w.answer == nil && !m.valid(w) {
				m.forget(w)
				break
			}
			if w.answer == nil {
				m.sent(w, webhook.Outcome{Attempt: webhook.Attempt{Status: 200, Verdict: webhook.Delivered}})
			}
			w = m.recorded(w, true)
		}
	}
}
