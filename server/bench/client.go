package main

import (
	"context"
	"fmt"
	"math/rand/v2"
	"net/http"
	"regexp"
	"slices"
	"strings"
	"time"

	"golang.org/x/sync/errgroup"

	"github.com/agentevents/agentevents/gen"
	"github.com/agentevents/agentevents/gen/client"
	"github.com/agentevents/agentevents/server/lab"
)

const (
	// setupRequests is how many requests are under way where the rate does not matter.
	setupRequests = 64
	// clientLimit is how many agents and events a client may have.
	clientLimit = 1_000_000
)

// agent is a local agent that has an event for its login and one for its logout at each of its receivers. It is used by
// one goroutine at a time.
type agent struct {
	client    string
	id        int64
	receiver  int      // the number of the first receiver
	urls      []string // of all of them
	available bool     // after the changes so far
}

// agents makes n agents of a client, with the ids 1 to n. In turn they have the next so many of some receivers each,
// which are given by the number of the first, and their URLs.
func agents(client string, n, first, each int, urls []string) (all []*agent) {
	for i := range n {
		r := i % (len(urls) / each) * each
		all = append(all, &agent{client: client, id: int64(i + 1), receiver: first + r, urls: urls[r : r+each]})
	}
	return all
}

// path is that of the agent's events at a receiver.
func (a *agent) path(receiver int) string { return fmt.Sprintf("/%s/%d/%d", a.client, receiver, a.id) }

// change is a change of an agent's status.
type change struct {
	*agent
	status   gen.AgentStatusValue
	sequence int64
	sent     time.Time // when it was due to be sent
}

// shuffled returns agents in an order that is the same in every run.
func shuffled(all []*agent) []*agent {
	all = slices.Clone(all)
	random := rand.New(rand.NewPCG(1, 2)) //nolint:gosec // every run has the same order
	random.Shuffle(len(all), func(i, j int) { all[i], all[j] = all[j], all[i] })
	return all
}

// toggle is the next change of an agent, which logs it in or out.
func (a *agent) toggle() change {
	status := gen.AgentStatusValueAvailable
	if a.available {
		status = gen.AgentStatusValueLoggedOut
	}
	a.available = !a.available
	return change{agent: a, status: status}
}

// caller is the PBX of a running target.
type caller struct {
	api        *client.ClientWithResponses
	addr       string // HOST:PORT
	isReceiver bool   // it gets the forms, and has no API
	token      string
	pid        int    // of its process, 0 if it has none of its own
	database   int    // of its database server's first process, likewise
	store      string // the URL of its database
	stats      string // the URL of its metrics and profiles, empty if it has none
}

// statsURL is what a server says about where its metrics are.
var statsURL = regexp.MustCompile(`metrics=(http://\S+)/metrics`)

func newCaller(s *lab.Server, store string) (*caller, error) {
	api, err := lab.NewClient(s.URL, &http.Transport{MaxIdleConnsPerHost: setupRequests})
	if err != nil {
		return nil, err
	}
	token, err := lab.Token(http.DefaultClient, s.URL, lab.OperatorID, lab.OperatorSecret)
	c := &caller{api: api, addr: hostPort(s.URL), token: token, pid: s.PID(), store: store}
	if found := statsURL.FindStringSubmatch(s.Log.String()); found != nil {
		c.stats = found[1]
	}
	return c, err
}

// hostPort is HOST:PORT of a URL without a path.
func hostPort(url string) string { return strings.TrimPrefix(url, "http://") }

// register makes clients with their agents and events.
func (c *caller) register(ctx context.Context, clients ...[]*agent) error {
	for _, all := range clients {
		if err := c.addClient(ctx, all[0].client); err != nil {
			return err
		}
	}
	group, ctx := errgroup.WithContext(ctx)
	group.SetLimit(setupRequests)
	for _, a := range slices.Concat(clients...) {
		group.Go(func() error { return c.addAgent(ctx, a) })
	}
	return group.Wait()
}

func (c *caller) addClient(ctx context.Context, id string) error {
	resp, err := c.api.PutClientWithResponse(ctx, id, gen.ClientUpdate{})
	if err := lab.Answered(http.StatusCreated, resp, err); err != nil {
		return err
	}
	many := gen.ClientLimitUpdate{Limit: new(int64(clientLimit))}
	limits, err := c.api.PutLimitsWithResponse(ctx, id, gen.ClientLimitsUpdate{Agent: many, AgentEvent: many})
	return lab.Answered(http.StatusOK, limits, err)
}

func (c *caller) addAgent(ctx context.Context, a *agent) error {
	name := extension(a.id)
	resp, err := c.api.PutLocalAgentWithResponse(ctx, a.client, a.id, gen.LocalAgentUpdate{ExtensionName: &name})
	if err := lab.Answered(http.StatusCreated, resp, err); err != nil {
		return err
	}
	for i, url := range a.urls {
		for _, t := range []gen.EventType{gen.EventTypeAgentLogin, gen.EventTypeAgentLogout} {
			e := gen.AgentEventCreate{URL: url + a.path(a.receiver+i), Method: gen.RequestMethodPOST, EventType: t}
			resp, err := c.api.CreateLocalAgentEventWithResponse(ctx, a.client, a.id, nil, e)
			if err := lab.Answered(http.StatusCreated, resp, err); err != nil {
				return err
			}
		}
	}
	return nil
}
