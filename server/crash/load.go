package main

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"net/http"
	"slices"
	"strings"
	"time"

	"golang.org/x/sync/errgroup"

	"github.com/agentevents/agentevents/gen"
	"github.com/agentevents/agentevents/server/lab"
)

// errAway reports that a server or the database was unavailable. The request may have been executed.
var errAway = errors.New("away")

// Do implements lab.Doer. It sends a request to a random server, seldom to one with a fault. An error of the server
// must be a 503 with Retry-After. When Do returns errAway, every transaction that the server had begun has ended.
func (c *crash) Do(req *http.Request) (*http.Response, error) {
	ctx, began := req.Context(), time.Now()
	var to *replica
	var server *lab.Server
	for server == nil || !c.single() && rand.IntN(20) > 0 && c.timeline.disturbed(to.number, time.Now(), none) {
		to = c.servers[rand.IntN(len(c.servers))]
		if server = to.process.Load(); server == nil && lab.Pause(ctx, time.Millisecond) != nil {
			return nil, context.Cause(ctx)
		}
	}
	out := req.Clone(ctx)
	out.URL.Host = strings.TrimPrefix(server.URL, "http://")
	out.Header.Set("Authorization", "Bearer "+*c.token.Load())
	resp, err := c.transport.RoundTrip(out)
	switch {
	case ctx.Err() != nil:
		return nil, context.Cause(ctx)
	case err == nil && resp.StatusCode < http.StatusInternalServerError:
		return resp, nil
	case err == nil && (resp.StatusCode != http.StatusServiceUnavailable || resp.Header.Get("Retry-After") == ""):
		c.record.Wrong(complaint, "%s %s was answered %s, %v", req.Method, req.URL.Path, resp.Status, resp.Header)
		return resp, nil
	case err == nil:
		err = errors.Join(errors.New(resp.Status), resp.Body.Close())
	}
	if c.single() && !c.timeline.disturbed(to.number, began, none) {
		return nil, fmt.Errorf("without a fault: %w", err)
	} else if undecided := c.decided(ctx, to); undecided != nil {
		return nil, undecided
	}
	return nil, fmt.Errorf("%w: server %d: %w", errAway, to.number, err)
}

// decided waits until PostgreSQL has committed or rolled back all transactions that a server has begun by now.
func (c *crash) decided(ctx context.Context, r *replica) (err error) {
	if c.single() {
		return nil // the end of the process ended its transactions
	}
	var now *time.Time // by the clock of the database
	late := lab.Until(ctx, lostAfter, func() bool {
		var open bool
		err = c.database.QueryRowContext(ctx, "SELECT now, EXISTS (SELECT 1 FROM pg_stat_activity WHERE "+
			"application_name = $1 AND xact_start <= now) FROM (SELECT coalesce($2, clock_timestamp()) AS now) AS t",
			connectionName(r.number), now).Scan(&now, &open)
		return err == nil && !open
	})
	if errors.Is(late, lab.ErrLate) {
		return fmt.Errorf("a transaction of server %d does not end (%w)", r.number, err)
	}
	return late
}

// loader changes its agents, by one request after another.
type loader struct {
	*crash
	random *rand.Rand
	agents []*agent
}

// run changes agents until c.over, and then enables all events, so that pending deliveries are sent. After a request
// without an answer, it reads the state of its agents and continues.
func (w *loader) run(ctx context.Context) (err error) {
	for last := false; !last || errors.Is(err, errAway); {
		last, err = w.over.Load(), nil
		for i := 0; i < len(w.agents) && err == nil; i++ {
			err = w.prepare(ctx, w.agents[i], last)
		}
		for err == nil && !w.over.Load() {
			err = w.step(ctx)
		}
		if err != nil && !errors.Is(err, errAway) {
			return err
		}
	}
	return nil
}

// prepare checks an agent and its events against the known state, and creates those that are missing. If last is set,
// it enables disabled events.
func (w *loader) prepare(ctx context.Context, a *agent, last bool) error {
	s, err := lab.Call[gen.AgentStatus](ctx, w, http.StatusOK, http.MethodGet, a.url("/status"), nil)
	if missing := new(lab.StatusError); errors.As(err, &missing) && missing.Status == http.StatusNotFound {
		if a.exists && (!a.inDoubt || !a.busy()) {
			w.record.Wrong(lab.Lost, "agent %d is gone", a.id)
		}
		a.clear()
		err = nil
	} else if err == nil {
		if a.inDoubt {
			w.tally.add(doubtful, 1)
		}
		w.adopt(a, "", s)
		a.exists, a.inDoubt, a.delayed = true, false, a.delayed || a.inDoubt
		err = w.reconcileEvents(ctx, a)
	}
	if err == nil {
		err = w.create(ctx, a)
	}
	if err == nil && last {
		err = w.enable(ctx, a)
	}
	return err
}

// reconcileEvents checks the events of an agent against the known state. It adopts the state of an event in doubt.
func (w *loader) reconcileEvents(ctx context.Context, a *agent) error {
	all, err := lab.Call[[]gen.AgentEvent](ctx, w, http.StatusOK, http.MethodGet, a.url("/event/"), nil)
	if err != nil {
		return err
	}
	stored := map[string]eventState{}
	for _, e := range all {
		at := strings.LastIndex(e.URL, "/")
		now := eventState{path: e.URL[at:], id: e.ID}
		now.receiver = slices.IndexFunc(w.receivers, func(r *receiver) bool { return r.URL == e.URL[:at] })
		if a.busy() {
			url := a.eventURL(e.ID, "/state")
			s, err := lab.Call[gen.AgentEventState](ctx, w, http.StatusOK, http.MethodGet, url, nil)
			if err != nil {
				return err
			}
			now.disabled = s.State == gen.AgentEventStateValueDisabled
		}
		stored[now.path] = now
	}
	for _, e := range a.events {
		now := stored[e.path]
		if now != e.eventState && !e.inDoubt {
			w.record.Wrong(lab.Lost, "an answered change is undone: event %+v was %+v", now, e.eventState)
		}
		if e.path != "" && now.path == "" { // it was deleted, or its creation never reached a server
			w.record.Cancel(e.path)
		}
		delete(stored, e.path)
		e.eventState, e.inDoubt = now, false
	}
	if len(stored) > 0 {
		w.record.Wrong(lab.Mismatched, "agent %d has unexpected events: %+v", a.id, stored)
	}
	return nil
}

// create creates the agent and its events if they are missing. Receivers get every second event by GET.
func (w *loader) create(ctx context.Context, a *agent) error {
	if !a.exists {
		update := gen.LocalAgentUpdate{ExtensionName: new(fmt.Sprintf("000*%d@example.org", a.id))}
		if _, err := w.change(ctx, &a.inDoubt, http.StatusCreated, http.MethodPut, a.url(""), update); err != nil {
			return err
		}
		a.exists = true
	}
	for i, e := range a.events {
		if e.path != "" {
			continue
		}
		e.created++
		e.path, e.receiver = fmt.Sprintf("/%d-%d-%d", a.id, i, e.created), e.at
		method := []gen.RequestMethod{gen.RequestMethodPOST, gen.RequestMethodGET}[i%2]
		body := gen.AgentEventCreate{URL: w.receivers[e.at].URL + e.path, Method: method, EventType: e.on}
		id, err := w.change(ctx, &e.inDoubt, http.StatusCreated, http.MethodPost, a.url("/event/"), body)
		if err != nil {
			return err
		}
		e.id = id
	}
	return nil
}

// change sends a request that changes an agent or an event, and returns the id in the answer. Without the wanted
// answer, the agent or event stays in doubt.
func (w *loader) change(ctx context.Context, inDoubt *bool, want int, method, url string, body any) (int64, error) {
	*inDoubt = true
	answer, err := lab.Call[gen.AgentEvent](ctx, w, want, method, url, body)
	*inDoubt = err != nil
	return answer.ID, err
}

// step makes a random change of a random agent.
func (w *loader) step(ctx context.Context) error {
	a := w.agents[w.random.IntN(len(w.agents))]
	if a.busy() {
		return w.stepBusy(ctx, a)
	}
	switch n := w.random.IntN(20); {
	case n < 10:
		return w.set(ctx, a, a.other())
	case n < 16:
		return w.setMany(ctx)
	case n < 19:
		return w.setConcurrently(ctx, a)
	}
	return w.set(ctx, a, a.status)
}

// stepBusy changes the status or an event of a busy agent, or deletes the agent.
func (w *loader) stepBusy(ctx context.Context, a *agent) error {
	if err := w.create(ctx, a); err != nil { // the previous step may have deleted it
		return err
	}
	e := a.events[w.random.IntN(len(a.events))]
	switch n := w.random.IntN(24); {
	case n < 12:
		return w.set(ctx, a, a.other())
	case n < 18: // moves the event, with its pending deliveries, to the other receiver
		e.receiver = reliable + flaky - e.receiver
		update := gen.AgentEventUpdate{URL: new(w.receivers[e.receiver].URL + e.path)}
		_, err := w.change(ctx, &e.inDoubt, http.StatusOK, http.MethodPut, a.eventURL(e.id, ""), update)
		return err
	case n < 21:
		return w.toggle(ctx, a, e)
	case n < 23: // a deletion cancels pending deliveries
		_, err := w.change(ctx, &e.inDoubt, http.StatusNoContent, http.MethodDelete, a.eventURL(e.id, ""), nil)
		if err == nil {
			w.record.Cancel(e.path)
			e.eventState = eventState{}
		}
		return err
	}
	return w.remove(ctx, a)
}

func (w *loader) put(ctx context.Context, a *agent, to gen.AgentStatusValue) (gen.AgentStatus, error) {
	update := gen.AgentStatusUpdate{AgentStatus: to}
	return lab.Call[gen.AgentStatus](ctx, w, http.StatusOK, http.MethodPut, a.url("/status"), update)
}

// set sets the status of an agent, possibly to the current one.
func (w *loader) set(ctx context.Context, a *agent, to gen.AgentStatusValue) error {
	a.inDoubt = to != a.status
	s, err := w.put(ctx, a, to)
	if err == nil {
		w.adopt(a, to, s)
		a.inDoubt = false
	}
	return err
}

// setMany sets the status of all agents in one request, of some to the current one.
func (w *loader) setMany(ctx context.Context) error {
	var items []gen.AgentStatusUpdateItem
	for _, a := range w.agents {
		to := a.status
		if w.random.IntN(3) > 0 {
			to, a.inDoubt = a.other(), true
		}
		items = append(items, gen.AgentStatusUpdateItem{AgentType: gen.AgentTypeLocal, AgentID: a.id, AgentStatus: to})
	}
	url := clientURL + "/status/"
	results, err := lab.Call[[]gen.AgentStatusResult](ctx, w, http.StatusOK, http.MethodPut, url, items)
	for i, result := range results {
		w.adopt(w.agents[i], items[i].AgentStatus, *result.Status)
		w.agents[i].inDoubt = false
	}
	return err
}

// setConcurrently sets the status of an agent by three concurrent requests, which must make exactly one change. Each
// answer must hold, even if others are missing.
func (w *loader) setConcurrently(ctx context.Context, a *agent) error {
	to, before := a.other(), a.sequence
	a.inDoubt = true
	answers := make([]gen.AgentStatus, 3)
	var requests errgroup.Group
	for i := range answers {
		requests.Go(func() (err error) {
			answers[i], err = w.put(ctx, a, to)
			return err
		})
	}
	err := requests.Wait()
	changes := 0
	for _, s := range answers {
		if s.Changed {
			changes++
		}
		if s.Sequence > a.sequence {
			w.adopt(a, "", s)
		}
	}
	earlier := a.delayed && a.sequence > before // an earlier request has made the change
	if changes > 1 || changes == 0 && err == nil && !earlier {
		w.record.Wrong(lab.Mismatched, "%d of 3 simultaneous requests have changed agent %d", changes, a.id)
	}
	a.inDoubt = err != nil
	return err
}

// toggle disables an enabled event, and enables a disabled one.
func (w *loader) toggle(ctx context.Context, a *agent, e *event) error {
	update := gen.AgentEventStateUpdate{State: gen.AgentEventStateValueDisabled}
	if e.disabled {
		update.State = gen.AgentEventStateValueEnabled
	}
	_, err := w.change(ctx, &e.inDoubt, http.StatusOK, http.MethodPut, a.eventURL(e.id, "/state"), update)
	if err == nil {
		e.disabled = !e.disabled
	}
	return err
}

// remove deletes an agent, or logs it out if it is available: no answer has the sequence of the logout that a deletion
// makes. Before a deletion it enables all events. A deletion cancels no delivery, and parked ones could never be sent.
func (w *loader) remove(ctx context.Context, a *agent) error {
	if a.status == gen.AgentStatusValueAvailable {
		return w.set(ctx, a, a.other())
	}
	if err := w.enable(ctx, a); err != nil {
		return err
	}
	_, err := w.change(ctx, &a.inDoubt, http.StatusNoContent, http.MethodDelete, a.url(""), nil)
	if err == nil {
		a.clear()
	}
	return err
}

// enable enables the disabled events of an agent.
func (w *loader) enable(ctx context.Context, a *agent) error {
	for _, e := range a.events {
		if e.disabled {
			if err := w.toggle(ctx, a, e); err != nil {
				return err
			}
		}
	}
	return nil
}

// follower reads the feed of changes page by page, and waits for new changes.
type follower struct {
	*crash
	random *rand.Rand
	seen   []int64
	last   int64 // sequence of the last seen change, 0 for none
}

// follow reads the feed until a page is empty after c.complete.
func (f *follower) follow(ctx context.Context) error {
	for {
		complete := f.complete.Load()
		url := fmt.Sprintf("%s/status_change/?after=%d&limit=%d&wait=%d",
			clientURL, f.last, 1+f.random.IntN(50), f.random.IntN(3))
		changes, err := lab.Call[[]gen.StatusChange](ctx, f, http.StatusOK, http.MethodGet, url, nil)
		for _, c := range changes {
			if c.Sequence <= f.last {
				f.record.Wrong(lab.Disorder, "the feed has change %d after change %d", c.Sequence, f.last)
			}
			f.seen, f.last = append(f.seen, c.Sequence), c.Sequence
		}
		if err == nil && complete && len(changes) == 0 || err != nil && !errors.Is(err, errAway) {
			return err
		}
	}
}

// compare checks that the follower saw each stored change once.
func (f *follower) compare(stored []int64) {
	for _, sequence := range stored {
		if !slices.Contains(f.seen, sequence) {
			f.record.Wrong(lab.Lost, "change %d is stored, and was not in the feed", sequence)
		}
	}
	if len(f.seen) != len(stored) {
		f.record.Wrong(lab.Mismatched, "the feed had %d changes, and %d are stored", len(f.seen), len(stored))
	}
}
