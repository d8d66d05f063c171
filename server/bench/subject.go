package main

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"net/http"
	"strings"

	"github.com/agentevents/agentevents/server/lab"
)

// subject is what is measured: the program on an engine, or a floor that it is held against.
type subject interface {
	name() string
	// serve starts it anew, with none of the changes of before, and runs a function beside it.
	serve(ctx context.Context, fn func(*site) error) error
}

// base is where the API is.
const base = "/api/ver1.0/client/"

// site is a subject that runs.
type site struct {
	addr     string // HOST:PORT
	token    string
	receiver string  // its URL where it is itself the receiver
	pid      int     // of its process, 0 if it has none of its own
	database int     // of its database server's first process, likewise
	caller   *caller // of the program
	profiles string  // the URL of where it can be profiled, empty if it cannot
}

// processors is the processor time of all its processes, in seconds.
func (s *site) processors() float64 { return processor(s.pid) + processors(s.database) }

// put is the request for a change.
func (s *site) put(t told) []byte {
	return s.request(http.MethodPut, fmt.Sprintf("%s%s/agent/local/%d/status", base, t.client, t.agent), fmt.Sprintf(`{"agent_status":%q}`, t.status))
}

// request is what goes over the wire for a call.
func (s *site) request(method, path, body string) []byte {
	content := ""
	if body != "" {
		content = fmt.Sprintf("Content-Type: application/json\r\nContent-Length: %d\r\n", len(body))
	}
	return fmt.Appendf(nil, "%s %s HTTP/1.1\r\nHost: %s\r\nAuthorization: Bearer %s\r\n%s\r\n%s",
		method, path, s.addr, s.token, content, body)
}

// The names of the floors.
const (
	rawName    = "raw"
	relayName  = "relay"
	ledgerName = "ledger-" // and the engine
)

// raw is the receiver itself, which the generator sends the forms to.
type raw struct{ url string }

func (raw) name() string { return rawName }

func (r raw) serve(_ context.Context, fn func(*site) error) error {
	return fn(&site{addr: host(r.url), receiver: r.url})
}

func host(url string) string { return strings.TrimPrefix(url, "http://") }

// relayed is a Relay, with a ledger if it has an engine for that.
type relayed struct {
	urls   []string
	engine *engine
}

func (r relayed) name() string {
	if r.engine == nil {
		return relayName
	}
	return ledgerName + r.engine.name
}

func (r relayed) serve(ctx context.Context, fn func(*site) error) (err error) {
	p, err := startProcess(ctx, relayRole)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, p.stop()) }()
	s, x := site{pid: p.pid(), token: "none"}, Relaying{Receivers: r.urls}
	if r.engine != nil {
		if x.Ledger, err = r.engine.create(ctx, "ledger-"+rand.Text()); err != nil {
			return err
		}
		s.database = r.engine.pid()
	}
	if err := p.rpc.Call("Relay.Open", x, &s.addr); err != nil {
		return err
	}
	return fn(&s)
}

// program is agentevents on an engine, with a copy of a store.
type program struct {
	*house
	*engine
	prepared string // the URL of the store
}

func (p program) name() string { return p.engine.name }

func (p program) serve(ctx context.Context, fn func(*site) error) (err error) {
	return p.round(ctx, p.engine, p.prepared, func(c *caller) error {
		token, err := lab.Token(http.DefaultClient, c.url, lab.OperatorID, lab.OperatorSecret)
		if err != nil {
			return err
		}
		return fn(&site{
			addr: host(c.url), token: token, pid: c.pid, database: p.pid(), caller: c, profiles: c.measuring(),
		})
	}, p.variables()...)
}

// variables are what the program is told beside the usual.
func (h *house) variables() []string {
	if h.profiles == "" {
		return nil
	}
	return []string{"AGENTEVENTS_METRICS_ADDR=127.0.0.1:0"}
}
