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

// errAway says that a server or the database was away. Whether the request was carried out is not known.
var errAway = errors.New("away")

// Do implements lab.Doer by any of the servers, seldom by one that has a fault. When something is wrong the server has
// to answer 503, with Retry-After. After errAway everything that the request may do is done and can be seen.
func (c *crash) Do(req *http.Request) (*http.Response, error) {
	ctx, began := req.Context(), time.Now()
	var to *replica
	var server *lab.Server
	for server == nil || !c.single() && rand.IntN(20) > 0 && c.timeline.disturbed(to.number, time.Now(), nothing) {
		to = c.servers[rand.IntN(len(c.servers))]
		if server = to.life.Load(); server == nil && lab.Pause(ctx, time.Millisecond) != nil {
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
	if c.single() && !c.timeline.disturbed(to.number, began, nothing) {
		return nil, fmt.Errorf("without a fault: %w", err)
	} else if undecided := c.decided(ctx, to); undecided != nil {
		return nil, undecided
	}
	return nil, fmt.Errorf("%w: server %d: %w", errAway, to.number, err)
}

// decided waits until PostgreSQL has ended everything that a server had begun by now, one way or the other.
func (c *crash) decided(ctx context.Context, r *replica) (err error) {
	if c.single() {
		return nil // a file is nobody else's
	}
	var now *time.Time // by the clock of the database
	late := lab.Until(ctx, silence, func() bool {
		var open bool
		err = c.database.QueryRowContext(ctx, "SELECT now, EXISTS (SELECT 1 FROM pg_stat_activity WHERE "+
			"application_name = $1 AND xact_start <= now) FROM (SELECT coalesce($2, clock_timestamp()) AS now) AS t",
			application(r.number), now).Scan(&now, &open)
		return err == nil && !open
	})
	if errors.Is(late, lab.ErrLate) {
		return fmt.Errorf("a transaction of server %d does not end (%w)", r.number, err)
	}
	return late
}

// writer changes its agents, one request after another.
type writer struct {
	*crash
	random *rand.Rand
	agents []*agent
}

// work changes agents until that is enough, and then lets everything that is pending be sent. After a request without
// an answer it looks how its agents stand, and continues.
func (w *writer) work(ctx context.Context) (err error) {
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

// prepare compares an agent and its events with what was answered before, and creates what is missing. At last it
// enables what is disabled.
func (w *writer) prepare(ctx context.Context, a *agent, last bool) error {
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

// reconcileEvents compares an agent's events with what was answered before, and adopts what was in doubt.
func (w *writer) reconcileEvents(ctx context.Context, a *agent) error {
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
			w.record.Wrong(lab.Lost, "what was answered is undone: event %+v was %+v", now, e.eventState)
		}
		if e.path != "" && now.path == "" { // it was deleted, or the request to create it never came through
			w.record.Cancel(e.path)
		}
		delete(stored, e.path)
		e.eventState, e.inDoubt = now, false
	}
	if len(stored) > 0 {
		w.record.Wrong(lab.Mismatched, "agent %d has events that it should not have: %+v", a.id, stored)
	}
	return nil
}

// create creates an agent, and what it lacks of its events, odd ones by GET and even ones by POST.
func (w *writer) create(ctx context.Context, a *agent) error {
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

// change makes a request that changes an agent or an event, which is in doubt until it is answered with an id.
func (w *writer) change(ctx context.Context, inDoubt *bool, want int, method, url string, body any) (int64, error) {
	*inDoubt = true
	answer, err := lab.Call[gen.AgentEvent](ctx, w, want, method, url, body)
	*inDoubt = err != nil
	return answer.ID, err
}

// step is the next change of an agent.
func (w *writer) step(ctx context.Context) error {
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
		return w.setAtOnce(ctx, a)
	}
	return w.set(ctx, a, a.status)
}

// stepBusy changes the status of a busy agent, or its events, or deletes it.
func (w *writer) stepBusy(ctx context.Context, a *agent) error {
	if err := w.create(ctx, a); err != nil { // what the step before has deleted
		return err
	}
	e := a.events[w.random.IntN(len(a.events))]
	switch n := w.random.IntN(24); {
	case n < 12:
		return w.set(ctx, a, a.other())
	case n < 18: // what is pending, and what follows, is sent to the other receiver
		e.receiver = reliable + flaky - e.receiver
		update := gen.AgentEventUpdate{URL: new(w.receivers[e.receiver].URL + e.path)}
		_, err := w.change(ctx, &e.inDoubt, http.StatusOK, http.MethodPut, a.eventURL(e.id, ""), update)
		return err
	case n < 21:
		return w.toggle(ctx, a, e)
	case n < 23: // which cancels what is pending of it
		_, err := w.change(ctx, &e.inDoubt, http.StatusNoContent, http.MethodDelete, a.eventURL(e.id, ""), nil)
		if err == nil {
			w.record.Cancel(e.path)
			e.eventState = eventState{}
		}
		return err
	}
	return w.remove(ctx, a)
}

func (w *writer) put(ctx context.Context, a *agent, to gen.AgentStatusValue) (gen.AgentStatus, error) {
	update := gen.AgentStatusUpdate{AgentStatus: to}
	return lab.Call[gen.AgentStatus](ctx, w, http.StatusOK, http.MethodPut, a.url("/status"), update)
}

// set logs an agent in or out, or sets the status that it has.
func (w *writer) set(ctx context.Context, a *agent, to gen.AgentStatusValue) error {
	a.inDoubt = to != a.status
	s, err := w.put(ctx, a, to)
	if err == nil {
		w.adopt(a, to, s)
		a.inDoubt = false
	}
	return err
}

// setMany logs some of the agents in or out in one request, in which others are named that stay as they are.
func (w *writer) setMany(ctx context.Context) error {
	var items []gen.AgentStatusUpdateItem
	for _, a := range w.agents {
		to := a.status
		if w.random.IntN(3) > 0 {
			to, a.inDoubt = a.other(), true
		}
		items = append(items, gen.AgentStatusUpdateItem{AgentType: gen.AgentTypeLocal, AgentID: a.id, AgentStatus: to})
	}
	results, err := lab.Call[[]gen.AgentStatusResult](ctx, w, http.StatusOK, http.MethodPut, pbx+"/status/", items)
	for i, result := range results {
		w.adopt(w.agents[i], items[i].AgentStatus, *result.Status)
		w.agents[i].inDoubt = false
	}
	return err
}

// setAtOnce logs an agent in or out by several requests at once, which make one change together. Any answer is a
// promise, also if others are missing.
func (w *writer) setAtOnce(ctx context.Context, a *agent) error {
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
	earlier := a.delayed && a.sequence > before // another request has made the change
	if changes > 1 || changes == 0 && err == nil && !earlier {
		w.record.Wrong(lab.Mismatched, "%d of 3 simultaneous requests have changed agent %d", changes, a.id)
	}
	a.inDoubt = err != nil
	return err
}

// toggle disables an event, or enables it.
func (w *writer) toggle(ctx context.Context, a *agent, e *event) error {
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

// remove deletes an agent, which cancels nothing. It is logged out before, since no answer says which sequence the
// logout has that its deletion makes, and nothing is parked, since nothing could enable it any more.
func (w *writer) remove(ctx context.Context, a *agent) error {
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

// enable enables what is disabled of an agent's events.
func (w *writer) enable(ctx context.Context, a *agent) error {
	for _, e := range a.events {
		if e.disabled {
			if err := w.toggle(ctx, a, e); err != nil {
				return err
			}
		}
	}
	return nil
}

// follower reads the feed of changes page by page, and waits for what is added.
type follower struct {
	*crash
	random *rand.Rand
	seen   []int64
	last   int64 // that was seen, 0 for none
}

// follow reads after the last change that was seen, until nothing is added any more and a page is empty.
func (f *follower) follow(ctx context.Context) error {
	for {
		complete := f.complete.Load()
		url := fmt.Sprintf("%s/status_change/?after=%d&limit=%d&wait=%d",
			pbx, f.last, 1+f.random.IntN(50), f.random.IntN(3))
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

// compare compares what was seen with what is stored.
func (f *follower) compare(stored []int64) {
	for _, sequence := range stored {
		if !slices.Contains(f.seen, sequence) {
			f.record.Wrong(lab.Lost, "change %d is stored, and the feed has passed it", sequence)
		}
	}
	if len(f.seen) != len(stored) {
		f.record.Wrong(lab.Mismatched, "the feed had %d changes, and %d are stored", len(f.seen), len(stored))
	}
}
