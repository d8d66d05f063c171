package main

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"math"
	"math/rand/v2"
	"net"
	"net/http"
	"net/url"
	"os"
	"strings"
	"sync"
	"syscall"
	"time"

	"github.com/agentevents/agentevents/server/lab"
)

// attack is a way to harm other clients. README.md explains each.
type attack struct {
	title   string
	clients int // that attack; 0 means 1
	agents  int // of each client; 0 means 1
	events  int // of each agent; 0 means 2
	before  int // changes of the first agent that have been made
	answer  lab.Reply
	env     []string                // variables of the program
	workers int                     // connections with one request at a time
	pace    float64                 // requests per second, at most; 0 for as fast as they are answered
	most    int                     // requests of a turn; 0 for any number
	shot    func(s *striker) []byte // its next request
}

// attacks returns all of them. Each is bounded by its pace or by its workers.
func attacks() []attack {
	fails := lab.Reply{Status: http.StatusInternalServerError}
	return []attack{
		{title: "none"},
		{title: "items", workers: 5, pace: 100, shot: func(s *striker) []byte {
			return s.own(http.MethodPut, "/status/", manyItems())
		}},
		{title: "fields", workers: 24, pace: 100, shot: func(s *striker) []byte {
			return s.own(http.MethodPost, "/delivery/redeliver", manyFields())
		}},
		{title: "bulks", events: 100, answer: fails, workers: 4, shot: func(s *striker) []byte {
			return s.own(http.MethodPut, "/status/", flips(20, 1))
		}},
		{title: "flips", agents: 10, events: 100, workers: 32, shot: (*striker).flip},
		{title: "event", before: 40_000, answer: fails, workers: 1, pace: 1, shot: (*striker).changeEvent},
		{
			title: "history", agents: 20, env: []string{"AGENTEVENTS_KEEP_ROWS=4000"}, workers: 1, pace: 5,
			shot: func(s *striker) []byte { return s.own(http.MethodPut, "/status/", flips(200, 20)) },
		},
		{title: "connections", workers: 10, pace: 5025, most: min(10_050, maxOpenFiles()/2)}, // without a request
		{title: "polls", workers: 2000, pace: 1000, shot: func(s *striker) []byte {
			return s.own(http.MethodGet, "/status_change/?start=newest&wait=2", "")
		}},
		{title: "pages", events: 100, before: 200, answer: fails, workers: 4, shot: func(s *striker) []byte {
			list := []string{"/delivery/", "/agent/local/1/status_change/"}[s.shots%2]
			return s.own(http.MethodGet, list+"?limit=1000", "")
		}},
		{title: "tokens", workers: 8, pace: 2000, shot: func(s *striker) []byte { return s.tokenRequest(s.by.form) }},
		{title: "passwords", workers: 8, pace: 1000, shot: (*striker).guess},
		{title: "paths", workers: 8, pace: 2000, shot: func(s *striker) []byte { // of almost 8 KiB
			return s.request("", http.MethodGet, "/"+strings.Repeat("%ff", 2700), "")
		}},
		{
			title: "forbidden", env: []string{"AGENTEVENTS_METRICS_ADDR=127.0.0.1:0"}, workers: 4, pace: 200,
			shot: (*striker).reachInside,
		},
		{
			title: "tests", clients: 16, answer: lab.Reply{Hold: make(chan struct{})}, workers: 64, pace: 1000,
			shot: func(s *striker) []byte { return s.send(http.MethodPost, s.by.event+"/test", "") },
		},
	}
}

// maxOpenFiles is how many files and connections this process may have.
func maxOpenFiles() int {
	var limit syscall.Rlimit
	if err := syscall.Getrlimit(syscall.RLIMIT_NOFILE, &limit); err != nil {
		return 0
	}
	return int(min(limit.Cur, math.MaxInt32)) //nolint:gosec // bounded
}

func attackTitles() (titles []string) {
	for _, a := range attacks() {
		titles = append(titles, a.title)
	}
	return titles
}

// striker is a connection of an attack, of one of its clients.
type striker struct {
	*neighbourhood
	by            *client
	number, shots int
}

// strike attacks until ctx ends, and counts what the attack got. It comes from ten addresses, which are not the quiet
// client's.
func (n *neighbourhood) strike(ctx context.Context) {
	var group sync.WaitGroup
	began := time.Now()
	for i := range n.workers {
		s := &striker{neighbourhood: n, by: n.attackers[i%len(n.attackers)], number: i}
		local := net.Dialer{LocalAddr: &net.TCPAddr{IP: net.IPv4(127, 0, 0, byte(2+i%10))}}
		w := lab.Wire{Dial: func() (net.Conn, error) {
			c, err := local.DialContext(ctx, "tcp", n.addr)
			if err == nil {
				context.AfterFunc(ctx, func() { _ = c.Close() })
			}
			return c, err
		}}
		group.Go(func() {
			for ; ctx.Err() == nil && (n.most == 0 || s.shots < n.most/n.workers); s.shots++ {
				if n.pace > 0 {
					due := float64(s.shots*n.workers+i) / n.pace * float64(time.Second)
					_ = lab.Pause(ctx, time.Until(began.Add(time.Duration(due))))
				}
				n.shoot(ctx, s, &w)
			}
		})
	}
	group.Wait()
	<-ctx.Done()
}

// shoot makes a request, or opens a connection that stays idle.
func (n *neighbourhood) shoot(ctx context.Context, s *striker, w *lab.Wire) {
	if n.shot != nil {
		answer, err := w.Call(n.shot(s))
		n.count(ctx, answer, err)
		return
	}
	c, err := w.Dial()
	n.count(ctx, nil, err)
	if err == nil {
		go func() {
			if _, err := c.Read(make([]byte, 1)); ctx.Err() == nil {
				n.count(ctx, nil, err)
			}
		}()
	}
}

// count counts an answer, or each change and each error of a bulk request's.
func (n *neighbourhood) count(ctx context.Context, answer []byte, err error) {
	var status *lab.StatusError
	switch {
	case err == nil:
		n.accepted.Add(int64(max(1, bytes.Count(answer, []byte(`"changed":true`)))))
		n.refused.Add(int64(bytes.Count(answer, []byte(`"error":`))))
	case errors.As(err, &status):
		n.refused.Add(1)
	case ctx.Err() == nil:
		n.cut.Add(1)
	}
}

func (s *striker) send(method, path, body string) []byte {
	return s.request(s.by.token, method, path, body)
}

// own is a request below the path of the client.
func (s *striker) own(method, path, body string) []byte {
	return s.send(method, lab.APIPath+"/client/"+s.by.name+path, body)
}

func (s *striker) tokenRequest(form string) []byte {
	return s.request("", http.MethodPost, tokenPath, form)
}

// guess requests a token for an application that does not exist.
func (s *striker) guess() []byte {
	return s.tokenRequest(url.Values{
		"grant_type": {"client_credentials"}, "client_id": {fmt.Sprintf("%032x", rand.Uint64())}, //nolint:gosec // any
		"client_secret": {"guessed-0123456789"},
	}.Encode())
}

// manyItems and manyFields are bodies of 1 MiB, with empty entries and with unknown fields.
var (
	manyItems  = sync.OnceValue(func() string { return "[" + strings.Repeat("{},", 349_000) + "{}]" })
	manyFields = sync.OnceValue(func() string {
		var b strings.Builder
		for i := 0; b.Len() < 1<<20-20; i++ {
			fmt.Fprintf(&b, `"%x":0,`, i)
		}
		return "{" + b.String() + `"z":0}`
	})
)

// flips is a bulk request that logs agents in and out in turn.
func flips(n, agents int) string {
	var all []string
	for i := range n {
		all = append(all, fmt.Sprintf(`{"agent_type":"local","agent_id":%d,"agent_status":%q}`, i%agents+1,
			[]string{"available", "logged_out"}[i/agents%2]))
	}
	return "[" + strings.Join(all, ",") + "]"
}

func (s *striker) flip() []byte {
	a := s.by.agents[s.number%len(s.by.agents)]
	return s.send(http.MethodPut, lab.APIPath+a.apiPath()+"/status",
		fmt.Sprintf(`{"agent_status":%q}`, []string{"available", "logged_out"}[s.shots%2]))
}

// changeEvent parks an event's deliveries, sends them again, moves them there and back, and deletes the event.
func (s *striker) changeEvent() []byte {
	state := func(state string) []byte {
		return s.send(http.MethodPut, s.by.event+"/state", fmt.Sprintf(`{"state":%q}`, state))
	}
	move := func(to string) []byte { return s.send(http.MethodPut, s.by.event, fmt.Sprintf(`{"url":%q}`, to)) }
	switch s.accepted.Load() {
	case 0, 4:
		return state("disabled")
	case 1:
		return state("enabled")
	case 2:
		return move(s.urls[0] + "/" + s.by.name + "/0/1")
	case 3:
		return move(s.urls[1] + "/" + s.by.name + "/1/1")
	}
	return s.send(http.MethodDelete, s.by.event, "")
}

// reachInside has the server send to an address of clouds, and to its own metrics by the name of the machine.
func (s *striker) reachInside() []byte {
	host, _ := os.Hostname()
	_, port, _ := strings.Cut(strings.TrimPrefix(s.stats, "http://"), ":")
	to := []string{"http://169.254.169.254/", "http://" + host + ":" + port + "/metrics"}
	if s.shots%3 == 2 {
		return s.send(http.MethodPost, s.by.event+"/test", "")
	}
	return s.send(http.MethodPut, s.by.event, fmt.Sprintf(`{"url":%q}`, to[s.shots%3]))
}
