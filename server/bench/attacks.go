package main

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"net"
	"net/http"
	"net/url"
	"os"
	"strings"
	"sync"
	"time"

	"github.com/agentevents/agentevents/server/lab"
)

const (
	tokenPath = "/oauth/token"
	// maxFlips is how many changes of an agent a bulk request has.
	maxFlips = 200
)

// attack is a way to do harm. README.md explains each.
type attack struct {
	name    string
	env     []string // variables of the program
	parties int      // clients that attack; 0 means 1
	agents  int      // of each of them; 0 means 1
	events  int      // of each of these agents; 0 means 2
	flips   int      // of the first agent, which the operator makes before
	reply   lab.Reply
	workers int     // requests at a time
	pace    float64 // requests per second, at most; 0 for as fast as they are answered
	shoot   func(context.Context, *striker) ([]byte, error)
}

// attacks returns all of them.
func attacks() []attack {
	fails := lab.Reply{Status: http.StatusInternalServerError}
	return []attack{
		{name: "none"},
		{name: "items", workers: 5, pace: 100, shoot: items},
		{name: "fields", workers: 24, pace: 100, shoot: fields},
		{name: "bulks", events: 100, reply: fails, workers: 4, shoot: bulk},
		{name: "flips", agents: 10, events: 100, workers: 32, shoot: flip},
		{
			name: "event", flips: 40_000, reply: fails, workers: 1, pace: 1,
			shoot: changeEvent,
		},
		{
			name: "history", agents: 20, env: []string{"AGENTEVENTS_KEEP_ROWS=4000"},
			workers: 1, pace: 5, shoot: bulk,
		},
		{name: "connections", workers: 10, pace: 5025, shoot: connect},
		{name: "polls", workers: 2000, pace: 1000, shoot: poll},
		{name: "pages", events: 100, flips: maxFlips, reply: fails, workers: 4, shoot: page},
		{name: "tokens", workers: 8, pace: 2000, shoot: requestToken},
		{name: "paths", workers: 8, pace: 2000, shoot: unknownPath},
		{
			name: "forbidden", env: []string{"AGENTEVENTS_METRICS_ADDR=127.0.0.1:0"},
			workers: 4, pace: 200, shoot: forbidden,
		},
		{name: "passwords", workers: 8, pace: 1000, shoot: guess},
		{
			name: "tests", parties: 16, reply: lab.Reply{Hold: make(chan struct{})}, workers: 64,
			pace: 1000, shoot: test,
		},
	}
}

func attackNames() (names []string) {
	for _, a := range attacks() {
		names = append(names, a.name)
	}
	return names
}

// striker is a connection of an attack.
type striker struct {
	*neighbourhood
	*client
	lab.Wire
	number, shots int
}

// strike attacks until ctx ends, and counts what the attack got.
func (n *neighbourhood) strike(ctx context.Context) {
	var group sync.WaitGroup
	began := time.Now()
	for i := range n.workers {
		s := &striker{neighbourhood: n, client: n.attackers[i%len(n.attackers)], number: i}
		s.Dial = func() (net.Conn, error) { return dialFrom(ctx, i, n.addr) }
		group.Go(func() {
			for ; ctx.Err() == nil; s.shots++ {
				if n.pace > 0 {
					due := float64(s.shots*n.workers+i) / n.pace * float64(time.Second)
					_ = lab.Pause(ctx, time.Until(began.Add(time.Duration(due))))
				}
				answer, err := n.shoot(ctx, s)
				n.count(ctx, answer, err)
			}
		})
	}
	group.Wait()
	<-ctx.Done()
}

// count counts an answer, or each change and each error of a bulk request's.
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

// send makes a call with the attacker's token.
func (s *striker) send(method, path, body string) ([]byte, error) {
	return s.Wire.Call(s.request(s.client.token, method, path, body))
}

// own is the path of the attacker's resource.
func (s *striker) own(path string) string { return lab.APIPath + "/client/" + s.client.name + path }

var manyItems = "[" + strings.Repeat("{},", 349_000) + "{}]"

func items(_ context.Context, s *striker) ([]byte, error) {
	return s.send(http.MethodPut, s.own("/status/"), manyItems)
}

var manyFields = sync.OnceValue(func() string {
	var b strings.Builder
	for i := 0; b.Len() < 1<<20-20; i++ {
		fmt.Fprintf(&b, `"%x":0,`, i)
	}
	return "{" + b.String() + `"z":0}`
})

func fields(_ context.Context, s *striker) ([]byte, error) {
	return s.send(http.MethodPost, s.own("/delivery/redeliver"), manyFields())
}

func bulk(_ context.Context, s *striker) ([]byte, error) {
	return s.send(http.MethodPut, s.own("/status/"), flips(maxFlips, len(s.client.agents)))
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

func flip(_ context.Context, s *striker) ([]byte, error) {
	a := s.client.agents[s.number%len(s.client.agents)]
	status := []string{"available", "logged_out"}[s.shots%2]
	return s.send(http.MethodPut, lab.APIPath+a.apiPath()+"/status", fmt.Sprintf(`{"agent_status":%q}`, status))
}

// changeEvent parks an event's deliveries, sends them again, and moves and deletes the event, one at a time.
func changeEvent(_ context.Context, s *striker) ([]byte, error) {
	state, url := `{"state":%q}`, fmt.Sprintf(`{"url":%q}`, s.urls[s.got.accepted.Load()/2%2]+"/"+s.client.name+"/1/1")
	switch s.got.accepted.Load() % 6 {
	case 0, 4:
		return s.send(http.MethodPut, s.event+"/state", fmt.Sprintf(state, "disabled"))
	case 1:
		return s.send(http.MethodPut, s.event+"/state", fmt.Sprintf(state, "enabled"))
	case 2, 3:
		return s.send(http.MethodPut, s.event, url)
	default:
		return s.send(http.MethodDelete, s.event, "")
	}
}

// connect opens a connection, and sends nothing.
func connect(ctx context.Context, s *striker) ([]byte, error) {
	c, err := s.Dial()
	if err == nil {
		go func() {
			if _, err := c.Read(make([]byte, 1)); ctx.Err() == nil {
				s.count(ctx, nil, err)
			}
		}()
	}
	return nil, err
}

func poll(_ context.Context, s *striker) ([]byte, error) {
	return s.send(http.MethodGet, s.own("/status_change/?start=newest&wait=2"), "")
}

func page(_ context.Context, s *striker) ([]byte, error) {
	path := []string{"/delivery/?limit=1000", "/agent/local/1/status_change/?limit=1000"}[s.shots%2]
	return s.send(http.MethodGet, s.own(path), "")
}

func requestToken(_ context.Context, s *striker) ([]byte, error) {
	return s.Wire.Call(s.request("", http.MethodPost, tokenPath, s.client.form))
}

// guess requests a token for an application that there is not.
func guess(_ context.Context, s *striker) ([]byte, error) {
	form := url.Values{
		"grant_type": {"client_credentials"}, "client_id": {fmt.Sprintf("%032x", rand.Uint64())}, //nolint:gosec // any
		"client_secret": {fmt.Sprintf("%032x", rand.Uint64())}, //nolint:gosec // any
	}
	return s.Wire.Call(s.request("", http.MethodPost, tokenPath, form.Encode()))
}

// unknownPath requests a path of almost 8 KiB, which is not even UTF-8.
func unknownPath(_ context.Context, s *striker) ([]byte, error) {
	return s.Wire.Call(s.request("", http.MethodGet, "/"+strings.Repeat("%ff", 2700), ""))
}

// forbidden has the server connect to its own metrics, by the name of the machine, or to an address of a cloud.
func forbidden(_ context.Context, s *striker) ([]byte, error) {
	host, _ := os.Hostname()
	_, port, _ := strings.Cut(strings.TrimPrefix(s.stats, "http://"), ":")
	urls := []string{"http://169.254.169.254/", "http://" + host + ":" + port + "/metrics"}
	if s.shots%3 < 2 {
		return s.send(http.MethodPut, s.event, fmt.Sprintf(`{"url":%q}`, urls[s.shots%3]))
	}
	return s.send(http.MethodPost, s.event+"/test", "")
}

func test(_ context.Context, s *striker) ([]byte, error) {
	return s.send(http.MethodPost, s.event+"/test", "")
}
