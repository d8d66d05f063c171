package main

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"net"
	"net/http"
	"net/url"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"golang.org/x/sync/errgroup"

	"github.com/agentevents/agentevents/gen"
	"github.com/agentevents/agentevents/server/lab"
)

const (
	tokenPath = "/oauth/token"
	attacker  = "/client/attacker"
	agentPath = attacker + "/agent/local/1"
	// mostDeliveries is how many a change or a list of changes of the attacker has at most.
	mostDeliveries = 20_000
)

// attack is a way to do harm.
type attack struct {
	name    string
	workers int      // requests at a time
	pace    float64  // requests per second at most; 0 for as fast as they are answered
	env     []string // variables of the program
	prepare func(*neighbourhood, context.Context) error
	shoot   func(*striker) ([]byte, error)
}

// attacks returns all of them. README.md says what each is.
func attacks() []attack {
	return []attack{
		{name: "none"},
		{name: "items", workers: 5, pace: 100, shoot: repeat(http.MethodPut, attacker+"/status/",
			"["+strings.Repeat("{},", 349_000)+"{}]")},
		{name: "fields", workers: 24, pace: 100, shoot: repeat(http.MethodPost, attacker+"/delivery/redeliver",
			manyFields())},
		{name: "bulks", workers: 4, prepare: (*neighbourhood).fillAgents, shoot: bulk},
		{name: "flips", workers: 32, prepare: (*neighbourhood).fillAgents, shoot: flip},
	}
}

func attackNames() []string {
	names := []string{"all"}
	for _, a := range attacks() {
		names = append(names, a.name)
	}
	return names
}

// striker is a connection of an attack.
type striker struct {
	*neighbourhood
	lab.Wire
	application
	number, shots int
}

// strike attacks until ctx ends, and counts what the answers are.
func (n *neighbourhood) strike(ctx context.Context) {
	var group sync.WaitGroup
	began := time.Now()
	for i := range n.workers {
		s := &striker{neighbourhood: n, number: i, application: n.attackers[i%len(n.attackers)]}
		s.Dial = func() (net.Conn, error) { return dialFrom(ctx, i, n.addr) }
		group.Go(func() {
			for ; ctx.Err() == nil; s.shots++ {
				if n.pace > 0 {
					turn := float64(s.shots*n.workers+i) / n.pace * float64(time.Second)
					_ = lab.Pause(ctx, time.Until(began.Add(time.Duration(turn))))
				}
				answer, err := n.shoot(s)
				n.count(ctx, answer, err)
			}
		})
	}
	group.Wait()
	<-ctx.Done()
}

// count counts an answer, or each of its results.
func (n *neighbourhood) count(ctx context.Context, answer []byte, err error) {
	var status *lab.StatusError
	switch {
	case err == nil:
		n.got.accepted.Add(int64(max(1, bytes.Count(answer, []byte(`"changed":true`)))))
		n.got.refused.Add(int64(bytes.Count(answer, []byte(`"error":`))))
	case errors.As(err, &status):
		n.got.refused.Add(1)
	case ctx.Err() == nil:
		n.got.cut.Add(1)
	}
}

// dialFrom connects from one of ten addresses that the quiet client does not have, until ctx ends.
func dialFrom(ctx context.Context, i int, addr string) (net.Conn, error) {
	d := net.Dialer{LocalAddr: &net.TCPAddr{IP: net.IPv4(127, 0, 0, byte(2+i%10))}}
	c, err := d.DialContext(ctx, "tcp", addr)
	if err == nil {
		context.AfterFunc(ctx, func() { _ = c.Close() })
	}
	return c, err
}

// call makes a call with the striker's token.
func (s *striker) call(method, path, body string) ([]byte, error) {
	return s.Call(s.request(s.token, method, path, body))
}

// repeat makes the same call again and again.
func repeat(method, path, body string) func(*striker) ([]byte, error) {
	return func(s *striker) ([]byte, error) { return s.call(method, lab.APIPath+path, body) }
}

// manyFields is an object of 1 MiB with unknown fields.
func manyFields() string {
	var b strings.Builder
	for i := 0; b.Len() < 1<<20-20; i++ {
		fmt.Fprintf(&b, `"%x":0,`, i)
	}
	return "{" + b.String() + `"z":0}`
}

// bulk flips the first agent as often as a request may.
func bulk(s *striker) ([]byte, error) {
	return s.call(http.MethodPut, lab.APIPath+attacker+"/status/", flips(1000, 1))
}

// flips are entries of a bulk request that log agents in and out in turn.
func flips(n, agents int) string {
	var all []string
	for i := range n {
		all = append(all, fmt.Sprintf(`{"agent_type":"local","agent_id":%d,"agent_status":%q}`, i%agents+1,
			[]string{"available", "logged_out"}[i/agents%2]))
	}
	return "[" + strings.Join(all, ",") + "]"
}

// flip logs an agent in or out.
func flip(s *striker) ([]byte, error) {
	status := []string{"available", "logged_out"}[s.shots%2]
	return s.call(http.MethodPut, fmt.Sprintf("%s%s/agent/local/%d/status", lab.APIPath, attacker, s.number%hostileAgents+1),
		fmt.Sprintf(`{"agent_status":%q}`, status))
}

// fillAgents gives each agent of the attacker as many events as are allowed, at a receiver that fails.
func (n *neighbourhood) fillAgents(ctx context.Context) error {
	n.client("attacker").reply.Store(&lab.Reply{Status: http.StatusInternalServerError})
	var count atomic.Int64
	for id := range hostileAgents {
		if err := n.addAgent(ctx, "attacker", id+1); err != nil {
			return err
		}
		group, ctx := errgroup.WithContext(ctx)
		group.SetLimit(concurrency)
		for i := range 1000 {
			group.Go(func() error {
				kind := []gen.EventType{gen.EventTypeAgentLogin, gen.EventTypeAgentLogout}[i%2]
				_, err := n.addEvent(ctx, "attacker", id+1, fmt.Sprintf("%s/attacker/1/%d", n.urls[1], i), kind)
				if status := (*lab.StatusError)(nil); errors.As(err, &status) && status.Status != http.StatusServiceUnavailable {
					return nil // the limit is reached
				}
				count.Add(1)
				return err
			})
		}
		if err := group.Wait(); err != nil {
			return err
		}
	}
	n.log.Printf("the attacker has %d events", count.Load())
	return nil
}

const hostileAgents = 10

func (n *neighbourhood) url(path string) string { return "http://" + n.addr + lab.APIPath + path }

// addAttacker makes a client of the attack, with its application. It may make any number of requests per hour, since
// their limit would end the attack.
func (n *neighbourhood) addAttacker(ctx context.Context, name string) error {
	_, err := lab.Call[any](ctx, n.operator, http.StatusCreated, http.MethodPut, n.url("/client/"+name), gen.ClientUpdate{})
	if err != nil {
		return err
	}
	_, err = lab.Call[any](ctx, n.operator, http.StatusOK, http.MethodPut, n.url("/client/"+name+"/limit/"),
		gen.ClientLimitsUpdate{RequestsPerHour: gen.ClientLimitUpdate{Limit: new(int64(1_000_000_000))}})
	if err != nil {
		return err
	}
	a, err := n.addApplication(ctx, name)
	n.attackers = append(n.attackers, a)
	return err
}

// addApplication makes an application of a client that may do all that a client may.
func (n *neighbourhood) addApplication(ctx context.Context, client string) (a application, err error) {
	made, err := lab.Call[gen.ApplicationSecret](ctx, n.operator, http.StatusCreated, http.MethodPost,
		n.url("/client/"+client+"/application/"), gen.ApplicationCreate{Name: "bench", Access: gen.AccessLevelAll})
	if err != nil {
		return a, err
	}
	a.client = client
	a.form = url.Values{
		"grant_type": {"client_credentials"}, "client_id": {made.ID}, "client_secret": {made.Secret},
	}.Encode()
	a.token, err = lab.Token(http.DefaultClient, "http://"+n.addr, made.ID, made.Secret)
	return a, err
}

func (n *neighbourhood) addAgent(ctx context.Context, client string, id int) error {
	_, err := lab.Call[any](ctx, n.operator, http.StatusCreated, http.MethodPut,
		n.url(fmt.Sprintf("/client/%s/agent/local/%d", client, id)), gen.LocalAgentUpdate{ExtensionName: new("x")})
	return err
}

// addEvent makes an event of an agent, and returns its path in the API.
func (n *neighbourhood) addEvent(
	ctx context.Context, client string, id int, receiver string, kind gen.EventType,
) (string, error) {
	path := fmt.Sprintf("/client/%s/agent/local/%d/event/", client, id)
	e, err := lab.Call[gen.AgentEvent](ctx, n.operator, http.StatusCreated, http.MethodPost, n.url(path),
		gen.AgentEventCreate{URL: receiver, Method: gen.RequestMethodPOST, EventType: kind})
	return fmt.Sprintf("%s%s%d", lab.APIPath, path, e.ID), err
}
