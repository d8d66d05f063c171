package store_test

import (
	"database/sql"
	"errors"
	"flag"
	"fmt"
	"maps"
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

// TestAnySchedule executes random schedules of everything that can happen to deliveries, and compares the store with a
// model after each step. In the end it enables all events and makes all receivers answer. Then no delivery may be
// unfinished.
func TestAnySchedule(t *testing.T) {
	setRapid(t)
	f := openInMemory(t)
	db := sideConnection{f.db(), map[string]*sql.Stmt{}}
	defer db.conn.Close()
	rapid.Check(t, func(rt *rapid.T) {
		defer store.SetSweptRows(draw(rt, "rows of a slice", []int{1, 2, 200}))()
		m := newModel(f, db, rt)
		rt.Repeat(weighted([]action{
			{8, "change", m.change},
			{2, "create event", m.createEvent},
			{1, "delete event", m.deleteEvent},
			{3, "move", m.move},
			{1, "update", m.update},
			{3, "toggle", m.toggle},
			{3, "redeliver", m.redeliver},
			{3, "sweep", m.sweepNext},
			{1, "test", m.test},
			{1, "agent", m.deleteOrCreate},
			{4, "claim", m.claimSome},
			{3, "claim all", m.claimAll},
			{7, "send", m.send},
			{6, "record", m.recordOne},
			{1, "release", m.release},
			{3, "wait", m.wait},
			{1, "expire leases", m.expireLeases},
			{1, "minutes", m.minutes},
			{1, "hours", m.hours},
			{1, "down", func(*rapid.T) { m.down = !m.down }},
			{1, "crash", m.crash},
			{1, "repair", m.repair},
			{0, "", func(*rapid.T) { m.compare() }},
		}))
		m.drain()
	})
}

// setRapid sets defaults of rapid: more and longer runs, and a seed that the log shows.
func setRapid(t *testing.T) {
	t.Helper()
	checks := "150"
	if pgtest.OnPostgres() {
		checks = "20" // each run takes ten times as long
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

// openInMemory opens a store on a file in memory, if the system has a file system for it.
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

// reporter makes a fixture's helpers fail the run of rapid, which then shrinks it.
type reporter struct {
	testing.TB
	rt *rapid.T
}

func (r reporter) Helper()                      { r.rt.Helper() }
func (r reporter) Fatal(args ...any)            { r.rt.Helper(); r.rt.Fatal(args...) }
func (r reporter) Fatalf(text string, a ...any) { r.rt.Helper(); r.rt.Fatalf(text, a...) }
func (r reporter) Errorf(text string, a ...any) { r.rt.Helper(); r.rt.Errorf(text, a...) }

// newModel begins a run: an empty store at the initial time, with two clients whose agents have the same ids and events
// at the same hosts.
func newModel(f *fixture, b sideConnection, rt *rapid.T) *model {
	if r, ok := f.t.(reporter); ok {
		f.t = r.TB
	}
	f.t = reporter{f.t, rt}
	for _, table := range []string{
		"attempts", "deliveries", "status_changes", "event_sweeps", "agent_events", "event_versions", "lanes",
		"receivers", "agents", "clients",
	} {
		_, err := b.conn.Exec("DELETE FROM " + table)
		f.check(err)
	}
	f.clock.now = newClock().now
	m := &model{fixture: f, rt: rt, sideConnection: b, sites: map[site]*breaker{}, down: rapid.Bool().Draw(rt, "down")}
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

// draw draws an element of a list. It skips the action if the list is empty.
func draw[T any](rt *rapid.T, label string, of []T) T {
	if len(of) == 0 {
		rt.Skip()
	}
	return of[rapid.IntRange(0, len(of)-1).Draw(rt, label)]
}

func keepIf[T any](of []T, which func(T) bool) (some []T) {
	for _, x := range of {
		if which(x) {
			some = append(some, x)
		}
	}
	return some
}

func drawURL(rt *rapid.T) string {
	return draw(rt, "URL", []string{
		"http://crm.example/a", "http://board.example/a", "http://crm.example/b", "http://board.example/b",
	})
}

func (m *model) createAgent(a *agent) {
	name := "x"
	_, created, err := m.PutAgent(m.ctx, a.key, store.AgentUpdate{Name: &name})
	m.check(err)
	if !created {
		m.fail("%v exists already", a.key)
	}
	a.exists, a.available = true, false
}

func (m *model) add(a *agent, url string, method gen.RequestMethod, typ gen.EventType) {
	e, err := m.CreateEvent(m.ctx, a.key, gen.AgentEventCreate{URL: url, Method: method, EventType: typ})
	m.check(err)
	m.agentEvents = append(m.agentEvents, &agentEvent{id: e.ID, agent: a, url: url, method: method, typ: typ})
}

func (m *model) existing() []*agent { return keepIf(m.agents, func(a *agent) bool { return a.exists }) }

func (m *model) change(rt *rapid.T) {
	a := draw(rt, "agent", m.existing())
	to := a.available
	if rapid.IntRange(0, 4).Draw(rt, "unchanged") > 0 {
		to = !to
	}
	status := gen.AgentStatusValueLoggedOut
	if to {
		status = gen.AgentStatusValueAvailable
	}
	m.drawHandoff(rt)
	st := m.set(a.key, status)
	if st.Changed != (a.available != to) {
		m.fail("changed: %t, from available %t to %t", st.Changed, a.available, to)
	}
	a.available = to
	if !st.Changed {
		return // compare finds a delivery that must not exist
	}
	if n := m.expectDeliveries(a, status, st.Sequence); n != st.Deliveries {
		m.fail("the answer says %d deliveries, want %d", st.Deliveries, n)
	}
	m.takeHandoffs()
}

// drawHandoff decides whether the next change may hand off its deliveries.
func (m *model) drawHandoff(rt *rapid.T) {
	o := &webhook.HandoffFuncs{
		Take:        func(string, int64) bool { return rapid.IntRange(0, 3).Draw(rt, "take") > 0 },
		Deliver:     func(d webhook.Delivery) { m.handedOff = append(m.handedOff, d) },
		ReleaseSlot: func(int64) { m.fail("a lane was released") },
	}
	if !rapid.Bool().Draw(rt, "handoff") {
		o = nil
	}
	m.SetHandoff(o)
}

func (m *model) takeHandoffs() {
	for _, d := range m.handedOff {
		m.handOut(d)
	}
	m.handedOff = nil
}

func (m *model) createEvent(rt *rapid.T) {
	a := draw(rt, "agent", keepIf(m.existing(), func(a *agent) bool {
		return len(keepIf(m.agentEvents, func(r *agentEvent) bool { return r.agent == a })) < 5
	}))
	m.add(a, drawURL(rt), draw(rt, "method", []gen.RequestMethod{gen.RequestMethodPOST, gen.RequestMethodGET}),
		draw(rt, "type", both))
}

func (m *model) deleteEvent(rt *rapid.T) {
	r := draw(rt, "event", m.agentEvents)
	m.check(m.DeleteEvent(m.ctx, r.agent.key, r.id))
	m.agentEvents = keepIf(m.agentEvents, func(o *agentEvent) bool { return o != r })
	for _, i := range m.items {
		if i.event == r && i.unfinished() {
			i.state = "cancelled"
		}
	}
}

// move prefers events with a delivery in flight.
func (m *model) move(rt *rapid.T) {
	events := keepIf(m.agentEvents, func(r *agentEvent) bool {
		return slices.ContainsFunc(m.workers, func(w *worker) bool { return w.item.event == r })
	})
	if len(events) == 0 || rapid.IntRange(0, 3).Draw(rt, "any") == 0 {
		events = m.agentEvents
	}
	url := ""
	m.updateEvent(draw(rt, "event", events), func(r *agentEvent, u *gen.AgentEventUpdate) {
		url = drawURL(rt)
		u.URL, r.url = &url, url
	})
}

func (m *model) update(rt *rapid.T) {
	m.updateEvent(draw(rt, "event", m.agentEvents), func(r *agentEvent, u *gen.AgentEventUpdate) {
		r.method = draw(rt, "method", []gen.RequestMethod{gen.RequestMethodPOST, gen.RequestMethodGET})
		r.typ = draw(rt, "type", both)
		u.Method, u.EventType = &r.method, &r.typ
	})
}

// updateEvent makes the unfinished deliveries of an event due at once if its URL or method changes.
func (m *model) updateEvent(r *agentEvent, fn func(*agentEvent, *gen.AgentEventUpdate)) {
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
		if i.event == r && i.unfinished() {
			i.due, i.failures, i.failedIn = m.now(), 0, 0
		}
	}
}

func (m *model) toggle(rt *rapid.T) {
	m.setEnabled(draw(rt, "event", m.agentEvents), rapid.Bool().Draw(rt, "enabled"))
}

func (m *model) setEnabled(r *agentEvent, enabled bool) {
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

// redeliver redelivers a delivery: to the URL of its event, or to its own URL if the event is deleted.
func (m *model) redeliver(rt *rapid.T) {
	i := draw(rt, "delivery", m.items)
	if m.unswept(i) {
		rt.Skip()
	}
	d, err := m.Redeliver(m.ctx, i.agent.Client, i.id)
	switch i.state {
	case "pending":
		m.check(err)
		m.makeDue(i)
		return
	case "parked":
		var refused *store.Error
		if !errors.As(err, &refused) || refused.Kind != store.Conflict {
			m.fail("delivery %d is %s and was redelivered: %v", i.id, i.state, err)
		}
		return
	}
	m.check(err)
	if !m.eventExists(i.event.id) {
		i.event = &agentEvent{id: i.event.id, agent: i.event.agent, url: d.URL, method: d.Method}
	}
	i.state, i.due, i.expires, i.confirmed, i.tried = "pending", m.now(), m.now().Add(window), false, false
	i.failures, i.failedIn = 0, 0
	i.replays++
	if i.event.disabled {
		i.state = "parked"
	}
	m.rt.Logf("  %d (sequence %d) is %s again", i.id, i.sequence, i.state)
}

// sweepNext makes some deliveries follow their event.
func (m *model) sweepNext(rt *rapid.T) {
	event := draw(rt, "event", slices.Sorted(maps.Keys(m.sweeps())))
	m.check(m.SweepNext(m.ctx, event))
	m.rt.Logf("  event %d is swept", event)
}

// test makes a receiver accept a test delivery of an event.
func (m *model) test(rt *rapid.T) {
	r := draw(rt, "event", m.agentEvents)
	a := webhook.Attempt{StartedAt: m.now(), Status: 200, Verdict: webhook.Delivered}
	_, err := m.SaveTestDelivery(m.ctx, r.id, r.agent.key.Type, webhook.Delivery{URL: r.url, WebhookID: "msg_test"}, a)
	m.check(err)
	m.site(placeOf(r.agent.key, r.url).site).succeed()
}

// makeDue makes a delivery and the earlier ones of its lane due.
func (m *model) makeDue(i *item) {
	lane, at := m.lane(i)
	for _, o := range m.items {
		if o.state != "pending" || o != i && !o.before(i) {
			continue
		}
		if other, _ := m.lane(o); other == lane && m.now().Before(o.due) {
			o.due = m.now()
		}
	}
	m.site(at).makeDue(m.now())
	m.rt.Logf("  %d (sequence %d) is due now", i.id, i.sequence)
}

// lane returns the lane of a delivery, and its receiver.
func (m *model) lane(i *item) (id int64, at site) {
	m.query(func(rows *sql.Rows) { m.check(rows.Scan(&id, &at.client, &at.host)) },
		"SELECT l.id, r.client_id, r.host FROM deliveries d JOIN lanes l ON l.id = d.lane_id "+
			"JOIN receivers r ON r.id = l.receiver_id WHERE d.id = ?", i.id)
	return id, at
}

func (m *model) deleteOrCreate(rt *rapid.T) {
	a := draw(rt, "agent", m.agents)
	if !a.exists {
		m.createAgent(a)
		for _, typ := range both {
			m.add(a, drawURL(rt), gen.RequestMethodPOST, typ)
		}
		return
	}
	m.drawHandoff(rt)
	m.check(m.DeleteAgent(m.ctx, a.key))
	if a.available {
		m.expectDeliveries(a, gen.AgentStatusValueLoggedOut, 0)
	}
	m.takeHandoffs()
	a.exists = false
	m.agentEvents = keepIf(m.agentEvents, func(r *agentEvent) bool { return r.agent != a })
}

func (m *model) claimSome(rt *rapid.T) {
	room := webhook.ClaimLimits{
		Fresh: rapid.Bool().Draw(rt, "fresh"), Lanes: rapid.IntRange(1, 4).Draw(rt, "lanes"),
		PerReceiver: rapid.IntRange(1, 3).Draw(rt, "per receiver"),
		Take:        func(string, int64) bool { return rapid.IntRange(0, 3).Draw(rt, "take") > 0 },
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

// claimAll claims all lanes that are due, and checks that no other could be claimed.
func (m *model) claimAll(*rapid.T) {
	m.claimEverything()
	m.checkAllClaimed()
}

// claimEverything claims until no lane is due, and returns the time until the next one is.
func (m *model) claimEverything() time.Duration {
	for range 100 {
		claimed, next, err := m.Claim(m.ctx, webhook.ClaimLimits{
			Lanes: 1000, PerReceiver: 100, Take: func(string, int64) bool { return true },
		})
		m.check(err)
		for _, d := range claimed {
			m.handOut(d)
		}
		if len(claimed) == 0 && next != 0 {
			return next
		}
	}
	m.fail("claims do not end")
	return 0
}

// send sends a delivery whose lease lasts for another attempt, as the dispatcher does, and draws the answer.
func (m *model) send(rt *rapid.T) {
	w := draw(rt, "worker", keepIf(m.workers, func(w *worker) bool {
		return w.answer == nil && !m.now().Add(attemptTime).After(w.until)
	}))
	m.answer(w, drawAnswer(rt, m.down))
}

func (m *model) answer(w *worker, a webhook.Outcome) {
	if o := m.workerAt(w.at); o != w {
		m.fail("delivery %d is sent while another is in flight", w.item.id)
	}
	a.StartedAt = m.now()
	w.answer = &a
	if a.Verdict == webhook.Delivered && w.d.Redeliveries == w.item.replays {
		w.item.confirmed = true
	}
	m.rt.Logf("  %d is answered %d, %s", w.item.id, a.Status, a.Verdict)
}

// drawAnswer draws mostly failures while a receiver is down, so that breakers open.
func drawAnswer(rt *rapid.T, down bool) webhook.Outcome {
	answers := []int{200, 500, 0, 200, 503, 404, 408, 429, 410, 200, -1}
	if down {
		answers = []int{500, 0, 502, 500, 0, 429, 503, 408, 200, 500, 0, -1}
	}
	status := draw(rt, "status", answers)
	o := webhook.Outcome{Attempt: webhook.Attempt{Status: max(status, 0), Verdict: webhook.Judge(status, nil)}}
	switch status {
	case 0, -1: // no answer, and an address that is not allowed
		o.Verdict = map[int]webhook.Verdict{0: webhook.Retry, -1: webhook.Failed}[status]
	case 429, 503, 500:
		o.RetryAfter = time.Duration(rapid.IntRange(0, 100).Draw(rt, "Retry-After")) * time.Second
	case 404: // the receiver may be in the middle of a deployment
		o.Verdict = draw(rt, "verdict", []webhook.Verdict{webhook.Failed, webhook.Retry})
	}
	if o.Verdict == webhook.Retry {
		o.Delay = o.RetryAfter
	}
	if o.Verdict == webhook.Retry && o.Delay == 0 {
		o.Delay = draw(rt, "delay",
			[]time.Duration{5 * time.Second, 5 * time.Second, 30 * time.Second, 10 * time.Minute, time.Hour})
	}
	o.Recovery = min(o.Delay,
		draw(rt, "recovery", []time.Duration{5 * time.Second, 10 * time.Second, time.Minute}))
	return o
}

func (m *model) recordOne(rt *rapid.T) {
	w := draw(rt, "worker", keepIf(m.workers, func(w *worker) bool { return w.answer != nil }))
	m.recordAnswered(w, rapid.Bool().Draw(rt, "keep lane"))
}

// recordAnswered records an answer. Between the end of a lease and the next claim of the lane, the answer may count or
// not, because the delivery may have moved. But it counts as a whole or not at all.
func (m *model) recordAnswered(w *worker, keepLane bool) *worker {
	valid, holds := m.valid(w), m.holdsClaim(w)
	if valid && !holds {
		m.fail("the claim of delivery %d was invalid before the end of its lease", w.item.id)
	}
	unswept := m.unswept(w.item)
	if unswept && !valid {
		m.check(m.SweepAll(m.ctx))
		unswept = false
	}
	next, err := m.Record(m.ctx, w.d, *w.answer, keepLane)
	m.check(err)
	m.forget(w)
	if holds {
		m.updateBreaker(w)
	}
	if valid || holds && m.hasCounted(w) {
		m.applyResult(w, unswept)
	}
	if next == nil {
		return nil
	}
	n := m.handOut(*next)
	if !keepLane || !holds || w.answer.Verdict == webhook.Retry || n.at != w.at || m.site(n.at.site).open() ||
		next.Claim != w.d.Claim || next.Lane != w.d.Lane {
		m.fail("the lane continued from delivery %d with %d", w.item.id, n.item.id)
	}
	return n
}

// holdsClaim reports whether a worker's lane was not claimed again.
func (m *model) holdsClaim(w *worker) (holds bool) {
	m.check(
		m.conn.QueryRow(pgtest.Numbered("SELECT claim = ? FROM lanes WHERE id = ?"), w.d.Claim, w.d.Lane).Scan(&holds),
	)
	return holds
}

// hasCounted reports whether an answer that may count did. For a retry that is not known, so it adopts the stored row.
func (m *model) hasCounted(w *worker) (counted bool) {
	if !w.item.unfinished() {
		return w.answer.Verdict == webhook.Gone && m.disabled(w.item.event)
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

func (m *model) disabled(r *agentEvent) (disabled bool) {
	m.query(func(rows *sql.Rows) { m.check(rows.Scan(&disabled)) },
		"SELECT state = 'disabled' FROM agent_events WHERE id = ?", r.id)
	return disabled
}

func (m *model) release(rt *rapid.T) {
	w := draw(rt, "worker", keepIf(m.workers, func(w *worker) bool { return w.answer == nil }))
	holds := m.holdsClaim(w)
	m.check(m.Release(m.ctx, w.d))
	m.forget(w)
	if b := m.site(w.at.site); holds && b.probe == w {
		b.abandonProbe(m.now())
	}
}

// advance moves the clock. A delivery whose lease expires may be confirmed and sent again.
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
func (m *model) expireLeases(*rapid.T) { m.advance(16 * time.Second) }
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
		b.abandonProbe(m.now())
	}
}

func (m *model) repair(*rapid.T) {
	m.verify()
	if n, err := m.RepairLanes(m.ctx); err != nil || n != 0 {
		m.fail("repaired %d lanes, %v", n, err)
	}
	for _, i := range m.items { // RepairLanes fails expired deliveries
		if i.unfinished() && m.failsByWindow(i) && m.workerOf(i) == nil {
			i.state = "failed"
		}
	}
}

// drain enables all events and makes all receivers answer, until no delivery is pending.
func (m *model) drain() {
	m.rt.Log("drain")
	for _, r := range m.agentEvents {
		m.setEnabled(r, true)
	}
	m.check(m.SweepAll(m.ctx))
	m.advance(leaseTime)
	for range 500 {
		next := m.claimEverything()
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
	m.wantDrained()
	m.advance(window) // for parked deliveries of deleted agents
	m.repair(nil)
	m.compare()
	if left := keepIf(m.items, (*item).unfinished); len(left) > 0 {
		m.fail("%d deliveries are unfinished, the first of them %+v", len(left), *left[0])
	}
}

// finishAll answers all deliveries in flight, and those that follow in their lanes. Answers after the end of a lease
// are recorded, too.
func (m *model) finishAll() {
	for len(m.workers) > 0 {
		for w := m.workers[0]; w != nil; {
			if w.answer == nil && !m.valid(w) {
				m.forget(w)
				break
			}
			if w.answer == nil {
				m.answer(w, webhook.Outcome{Attempt: webhook.Attempt{Status: 200, Verdict: webhook.Delivered}})
			}
			w = m.recordAnswered(w, true)
		}
	}
}
