package main

import (
	"bytes"
	"context"
	"fmt"
	"math/rand/v2"
	"net/http"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"golang.org/x/sync/errgroup"

	"github.com/agentevents/agentevents/gen"
	"github.com/agentevents/agentevents/gen/client"
	"github.com/agentevents/agentevents/server/lab"
)

// together is how many requests are made side by side where the rate does not matter.
const together = 64

// agent is a local agent with an event for its login and one for its logout, so that each change of its status is one
// delivery.
type agent struct {
	client   string
	id       int64
	receiver string // its URL

	mu        sync.Mutex // one change at a time
	available bool
}

// agents makes n agents of a client, with the ids 1 to n, over receivers in turn.
func agents(client string, n int, receivers ...string) (all []*agent) {
	for i := range n {
		all = append(all, &agent{client: client, id: int64(i + 1), receiver: receivers[i%len(receivers)]})
	}
	return all
}

// shuffled returns agents in an order that is the same in every run.
func shuffled(all []*agent) []*agent {
	all = slices.Clone(all)
	rand.New(rand.NewPCG(1, 2)).Shuffle(len(all), func(i, j int) { //nolint:gosec // nobody is to be surprised
		all[i], all[j] = all[j], all[i]
	})
	return all
}

// change is a change of a status as it was asked for.
type change struct {
	client   string
	sequence int64
	sent     time.Time
}

// caller is the PBX.
type caller struct {
	api    *client.ClientWithResponses
	url    string       // of the server
	asks   *http.Client // as the operator
	pid    int          // its process
	log    *lab.Log     // what it prints
	heldUp atomic.Int64 // nanoseconds, see hiccup
}

func newCaller(server string) (*caller, error) {
	t := &http.Transport{MaxIdleConns: 1024, MaxIdleConnsPerHost: 1024, IdleConnTimeout: time.Minute}
	asks := &http.Client{Transport: &lab.Operator{URL: server, Base: t}}
	api, err := client.NewClientWithResponses(server+"/api/ver1.0", client.WithHTTPClient(asks))
	return &caller{url: server, api: api, asks: asks}, err
}

// register makes agents known, with their events, and their clients before.
func (c *caller) register(ctx context.Context, all []*agent) error {
	known := map[string]bool{}
	for _, a := range all {
		if known[a.client] {
			continue
		}
		known[a.client] = true
		resp, err := c.api.PutClientWithResponse(ctx, a.client, gen.ClientUpdate{})
		if err := answered(http.StatusCreated, resp, err); err != nil {
			return err
		}
		if err := c.unlimit(ctx, a.client); err != nil {
			return err
		}
	}
	group, ctx := errgroup.WithContext(ctx)
	group.SetLimit(together)
	for _, a := range all {
		group.Go(func() error { return c.add(ctx, a) })
	}
	return group.Wait()
}

// unlimit lets a client have as many agents and events as it likes.
func (c *caller) unlimit(ctx context.Context, id string) error {
	many := gen.ClientLimitUpdate{Limit: new(int64(1_000_000))}
	resp, err := c.api.PutLimitsWithResponse(ctx, id, gen.ClientLimitsUpdate{Agent: many, AgentEvent: many})
	return answered(http.StatusOK, resp, err)
}

// add makes an agent: it is told of by GET when it logs in, and by POST when it logs out.
func (c *caller) add(ctx context.Context, a *agent) error {
	name := fmt.Sprintf("%06d@example.com", a.id)
	resp, err := c.api.PutLocalAgentWithResponse(ctx, a.client, a.id, gen.LocalAgentUpdate{ExtensionName: &name})
	if err := answered(http.StatusCreated, resp, err); err != nil {
		return err
	}
	url := fmt.Sprintf("%s/%s/%d", a.receiver, a.client, a.id)
	for _, e := range []gen.AgentEventCreate{
		{URL: url, Method: gen.RequestMethodGET, EventType: gen.EventTypeAgentLogin},
		{URL: url, Method: gen.RequestMethodPOST, EventType: gen.EventTypeAgentLogout},
	} {
		resp, err := c.api.CreateLocalAgentEventWithResponse(ctx, a.client, a.id, nil, e)
		if err := answered(http.StatusCreated, resp, err); err != nil {
			return err
		}
	}
	return nil
}

// reportHeldUp says how long the load stood still, so that nobody trusts what was measured on a machine that was busy.
func (c *caller) reportHeldUp(out *report, round int) {
	out.figure(round, "seconds in which the load was held up", time.Duration(c.heldUp.Load()).Seconds())
}

// toggle logs an agent in or out. The time that counts is that of the call.
func (c *caller) toggle(ctx context.Context, a *agent) (change, error) {
	ch := change{client: a.client, sent: time.Now()}
	a.mu.Lock()
	defer a.mu.Unlock()
	resp, err := c.api.PutLocalAgentStatusWithResponse(ctx, a.client, a.id, gen.AgentStatusUpdate{AgentStatus: a.other()})
	if err := answered(http.StatusOK, resp, err); err != nil {
		return ch, err
	}
	ch.sequence = resp.JSON200.Sequence
	return ch, a.changed(resp.JSON200)
}

// toggleAll does so to up to 1,000 agents of one client in one request.
func (c *caller) toggleAll(ctx context.Context, all []*agent) ([]change, error) {
	items := make([]gen.AgentStatusUpdateItem, len(all))
	defer hold(all)()
	for i, a := range all {
		items[i] = gen.AgentStatusUpdateItem{AgentType: gen.AgentTypeLocal, AgentID: a.id, AgentStatus: a.other()}
	}
	sent := time.Now()
	resp, err := c.api.PutStatusesWithResponse(ctx, all[0].client, items)
	if err := answered(http.StatusOK, resp, err); err != nil {
		return nil, err
	}
	changes := make([]change, len(all))
	for i, result := range *resp.JSON200 {
		if result.Status == nil {
			return nil, fmt.Errorf("the answer for agent %d is %+v", all[i].id, *result.Error)
		}
		changes[i] = change{client: all[i].client, sequence: result.Status.Sequence, sent: sent}
		if err := all[i].changed(result.Status); err != nil {
			return nil, err
		}
	}
	return changes, nil
}

// hold keeps others from changing agents until what it returns is called.
func hold(all []*agent) (letGo func()) {
	for _, a := range all {
		a.mu.Lock()
	}
	return func() {
		for _, a := range all {
			a.mu.Unlock()
		}
	}
}

// other is the status that an agent does not have.
func (a *agent) other() gen.AgentStatusValue {
	if a.available {
		return gen.AgentStatusValueLoggedOut
	}
	return gen.AgentStatusValueAvailable
}

// changed notes an answer, which must be that of a change with one delivery.
func (a *agent) changed(s *gen.AgentStatus) error {
	a.available = !a.available
	if !s.Changed || s.Deliveries != 1 {
		return fmt.Errorf("the answer for agent %d is %+v, and not: changed, with 1 delivery", a.id, *s)
	}
	return nil
}

// bulk toggles all agents of one client as fast as it goes, so many in a request.
func (c *caller) bulk(ctx context.Context, all []*agent, size int) (changes []change, err error) {
	for chunk := range slices.Chunk(all, size) {
		made, err := c.toggleAll(ctx, chunk)
		if err != nil {
			return nil, err
		}
		changes = append(changes, made...)
	}
	return changes, nil
}

// hiccup is how long this process may be late with a change. When it is later, the machine has been busy with other
// things, or stood still, which is no load that anybody asked for: what it has missed then is left out.
const hiccup = 50 * time.Millisecond

// steady toggles agents in turn, so many a second, until a context ends. It does not wait for answers, but for the last
// ones in the end.
func (c *caller) steady(ctx, until context.Context, all []*agent, rate float64) (changes []change, err error) {
	var mu sync.Mutex
	group, ctx := errgroup.WithContext(ctx)
	at := time.Now()
	for i := 0; ctx.Err() == nil && len(all) > 0; i++ {
		if !sleep(until, time.Until(at)) {
			break
		}
		if late := time.Since(at); late > hiccup {
			at = at.Add(late)
			c.heldUp.Add(int64(late))
		}
		at = at.Add(time.Duration(float64(time.Second) / rate))
		group.Go(func() error {
			ch, err := c.toggle(ctx, all[i%len(all)])
			mu.Lock()
			defer mu.Unlock()
			changes = append(changes, ch)
			return err
		})
	}
	err = group.Wait()
	return changes, err
}

// answered says whether the server answered a request as it should.
func answered(want int, resp interface {
	StatusCode() int
	GetBody() []byte
}, err error,
) error {
	if err != nil {
		return err
	}
	if resp.StatusCode() != want {
		return fmt.Errorf("the answer is %d and not %d: %s", resp.StatusCode(), want, bytes.TrimSpace(resp.GetBody()))
	}
	return nil
}
