package main

import (
	"bytes"
	"cmp"
	"context"
	"errors"
	"fmt"
	"net/http"
	"slices"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"golang.org/x/sync/errgroup"

	"github.com/agentevents/agentevents/gen"
	"github.com/agentevents/agentevents/server/lab"
)

// concurrency is how many connections a stream has, with one request at a time each.
const concurrency = 32

// client is a client of the program, with what was sent and has arrived since the warm-up.
type client struct {
	name      string
	token     string // for its changes; empty means the operator's
	form      string // that requests a token
	event     string // path of an event in the API
	agents    []*agent
	reply     atomic.Pointer[lab.Reply] // of the receivers; nil means 200
	confirmed atomic.Int64              // requests that were answered with 200
	sent      []*change
	arrived   []*lab.Arrival
}

// agent is a local agent that has an event for its login and one for its logout at each of its receivers. It is used by
// one goroutine at a time.
type agent struct {
	*client
	id        int64
	receiver  int      // the number of the first receiver
	urls      []string // of all of them
	available bool     // after the changes so far
}

// addAgents makes n agents, with the ids 1 to n. In turn they have the next so many of some receivers each, which are
// given by the number of the first, and their URLs.
func (c *client) addAgents(n, first, each int, urls []string) *client {
	for i := range n {
		r := i % (len(urls) / each) * each
		c.agents = append(c.agents, &agent{client: c, id: int64(i + 1), receiver: first + r, urls: urls[r : r+each]})
	}
	return c
}

// path is that of the agent's events at a receiver.
func (a *agent) path(receiver int) string { return fmt.Sprintf("/%s/%d/%d", a.name, receiver, a.id) }

// apiPath is that of the agent in the API.
func (a *agent) apiPath() string { return fmt.Sprintf("/client/%s/agent/local/%d", a.name, a.id) }

// events are one for the agent's login and one for its logout at each of its receivers.
func (a *agent) events() (all []gen.AgentEventCreate) {
	for i, url := range a.urls {
		for _, t := range []gen.EventType{gen.EventTypeAgentLogin, gen.EventTypeAgentLogout} {
			all = append(all, gen.AgentEventCreate{
				URL: url + a.path(a.receiver+i), Method: gen.RequestMethodPOST, EventType: t,
			})
		}
	}
	return all
}

// extension is the name of the agent.
func (a *agent) extension() string { return strconv.FormatInt(a.id, 10) + "@example.com" }

// register makes the clients of a scenario with their agents and events.
func (m *measurement) register(ctx context.Context) error {
	base := &http.Transport{MaxIdleConnsPerHost: concurrency}
	api := &http.Client{Transport: &lab.Operator{URL: "http://" + m.addr, Base: base}}
	create := func(ctx context.Context, want int, method, path string, body any) error {
		_, err := lab.Call[any](ctx, api, want, method, "http://"+m.addr+lab.APIPath+path, body)
		return err
	}
	group, ctx := errgroup.WithContext(ctx)
	group.SetLimit(concurrency)
	for _, c := range m.clients {
		path := "/client/" + c.name
		many := gen.ClientLimitUpdate{Limit: new(int64(1_000_000_000))}
		if err := errors.Join(
			create(ctx, http.StatusCreated, http.MethodPut, path, gen.ClientUpdate{}),
			create(ctx, http.StatusOK, http.MethodPut, path+"/limit/",
				gen.ClientLimitsUpdate{
					Agent: many, AgentEvent: many, EventsPerAgent: many, RequestsPerHour: many,
				}),
		); err != nil {
			return err
		}
		all := c.agents
		if m.clone {
			all = all[:1]
		}
		for _, a := range all {
			group.Go(func() error {
				err := create(ctx, http.StatusCreated, http.MethodPut, a.apiPath(),
					gen.LocalAgentUpdate{ExtensionName: new(a.extension())})
				for _, e := range a.events() {
					err = errors.Join(err, create(ctx, http.StatusCreated, http.MethodPost, a.apiPath()+"/event/", e))
				}
				return err
			})
		}
	}
	return group.Wait()
}

// change is a change of an agent's status.
type change struct {
	*agent
	status   gen.AgentStatusValue
	sequence int64         // from the answer
	request  []byte        // made in advance: this process shares its processors with what it measures
	due      time.Duration // after the first; 0 for when the change before has its answer
	sent     time.Time     // when it was due to be sent; zero if it was not
}

// stream is n changes that log agents in and out in turn.
type stream struct {
	agents []*agent
	n      int
	rate   float64 // per second; 0 for as fast as they are taken
}

// send sends a stream until its end, or that of ctx, and returns the changes that were sent. All changes of an agent
// use one connection, in their order. An answer that is not a 2xx is an error.
func (i *instance) send(ctx context.Context, s stream) (all []*change, err error) {
	lines := make([][]*change, concurrency)
	for n := range s.n {
		c := i.next(s.agents[n%len(s.agents)])
		if s.rate > 0 {
			c.due = time.Duration(float64(n) / s.rate * float64(time.Second))
		}
		line := &lines[c.id%concurrency]
		all, *line = append(all, c), append(*line, c)
	}
	group, ctx := errgroup.WithContext(ctx)
	began := time.Now()
	for _, line := range lines {
		group.Go(func() error { return i.sendLine(ctx, began, line) })
	}
	err = group.Wait()
	return slices.DeleteFunc(all, func(c *change) bool { return c.sent.IsZero() }), err
}

// next makes the next change of an agent, which logs it in or out, with its request.
func (i *instance) next(a *agent) *change {
	c := &change{agent: a, status: gen.AgentStatusValueAvailable}
	if a.available {
		c.status = gen.AgentStatusValueLoggedOut
	}
	a.available = !a.available
	body := fmt.Sprintf(`{"agent_status":%q}`, c.status)
	c.request = i.request(cmp.Or(a.token, i.token), http.MethodPut, lab.APIPath+a.apiPath()+"/status", body)
	return c
}

// request makes a complete request with a body in JSON, or a form to get a token.
func (i *instance) request(token, method, path, body string) []byte {
	kind := "application/json"
	if path == tokenPath {
		kind = "application/x-www-form-urlencoded"
	}
	return fmt.Appendf(nil, "%s %s HTTP/1.1\r\nHost: %s\r\nAuthorization: Bearer %s\r\nContent-Type: %s\r\n"+
		"Content-Length: %d\r\n\r\n%s", method, path, i.addr, token, kind, len(body), body)
}

// sendLine sends the changes of a connection until ctx ends.
func (i *instance) sendLine(ctx context.Context, began time.Time, line []*change) error {
	w := lab.Wire{Addr: i.addr}
	defer w.Close()
	for _, c := range line {
		sent := began.Add(c.due) // also if the connection is late
		if wait := time.Until(sent); c.due == 0 || wait > 0 {
			_ = lab.Pause(ctx, wait)
			sent = time.Now()
		}
		if ctx.Err() != nil {
			return nil
		}
		c.sent = sent
		body, err := w.Call(c.request)
		if err != nil {
			return err
		}
		if c.sequence = sequenceIn(body); c.sequence == 0 {
			return fmt.Errorf("the answer %q has no sequence", body)
		}
	}
	return nil
}

// sequenceIn is the sequence in the JSON of a status, 0 if there is none.
func sequenceIn(body []byte) int64 {
	_, tail, _ := bytes.Cut(body, []byte(`"sequence":`))
	end := bytes.IndexAny(tail, ",}")
	n, _ := strconv.ParseInt(string(bytes.TrimSpace(tail[:max(end, 0)])), 10, 64)
	return n
}

// receivers are web servers of this process that share a record.
type receivers struct {
	urls   []string
	all    []*lab.Receiver
	record *lab.Record
	warmUp int           // how many requests came in it
	delay  time.Duration // of each answer
	mu     sync.Mutex
	byName map[string]*client
}

// openReceivers opens n receivers, which are to be closed in any case.
func openReceivers(n int) (*receivers, error) {
	r := &receivers{record: lab.NewRecord(laneOf), byName: map[string]*client{}}
	for i := range n {
		one, err := lab.NewReceiver(r.record, i, r.reply)
		if err != nil {
			return r, err
		}
		r.all, r.urls = append(r.all, one), append(r.urls, one.URL)
	}
	return r, nil
}

func (r *receivers) close() {
	for _, one := range r.all {
		one.Close()
	}
}

// client returns the one of a name, which is made if there is none.
func (r *receivers) client(name string) *client {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.byName[name] == nil {
		r.byName[name] = &client{name: name}
	}
	return r.byName[name]
}

// clientOf returns the client of a request to /CLIENT/RECEIVER/AGENT, the path that each registration has for itself.
func (r *receivers) clientOf(a *lab.Arrival) *client {
	name, _, _ := strings.Cut(strings.TrimPrefix(a.Path, "/"), "/")
	return r.client(name)
}

// laneOf names the lane of a request.
func laneOf(a *lab.Arrival) string { return a.Path }

func (r *receivers) reply(a *lab.Arrival) lab.Reply {
	c := r.clientOf(a)
	if reply := c.reply.Load(); reply != nil {
		return *reply
	}
	c.confirmed.Add(1)
	return lab.Reply{Delay: r.delay}
}

// patience is how long a measurement waits in vain for the next of its deliveries.
const patience = 2 * time.Minute

// await waits until n requests were answered with 200 since the warm-up. When none comes for too long it returns as
// well: the check finds what is missing.
func (c *client) await(ctx context.Context, n int) (err error) {
	last, before := time.Now(), 0
	for err == nil && before < n && time.Since(last) < patience {
		err = lab.Pause(ctx, 10*time.Millisecond)
		if now := int(c.confirmed.Load()); now > before {
			last, before = time.Now(), now
		}
	}
	return err
}

// harvest gives each client the requests that have arrived since the warm-up, when the system is gone.
func (r *receivers) harvest(ctx context.Context) error {
	for _, one := range r.all {
		if err := one.Settle(ctx); err != nil {
			return err
		}
	}
	h, _ := r.record.Close()
	for _, a := range h.Arrivals[r.warmUp:] {
		c := r.clientOf(a)
		c.arrived = append(c.arrived, a)
	}
	return nil
}
