package main

import (
	"bytes"
	"encoding/json"
	"io"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"net/netip"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/agentevents/agentevents/gen"
	"github.com/agentevents/agentevents/server/lab"
	"github.com/agentevents/agentevents/store"
	"github.com/agentevents/agentevents/store/pgtest"
	"github.com/agentevents/agentevents/webhook"
)

// site is the router on a store of its own, served on loopback. No dispatcher runs.
type site struct {
	testing.TB
	*httptest.Server
	store      *store.Store
	closeStore func()
	log        *transcript
	lag        atomic.Int64 // nanoseconds since the dispatcher's loop is said to have turned
}

func newSite(t testing.TB, proxies ...netip.Prefix) *site {
	t.Helper()
	s := &site{TB: t, log: &transcript{}}
	log := newLog(s.log, config{logLevel: slog.LevelDebug})
	s.openStore(log)
	guard := webhook.NewGuard([]netip.Prefix{netip.MustParsePrefix("127.0.0.0/8")})
	h := newHandlers(s.store, guard, webhook.NewSender(webhook.SenderOptions{Guard: guard}), nil, nil)
	h.proxies = proxies
	router, err := newRouter(h, s.lastTurn, log)
	if err != nil {
		t.Fatal(err)
	}
	s.Server = httptest.NewServer(router)
	s.Client().CheckRedirect = func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse }
	t.Cleanup(s.Close)
	t.Cleanup(func() { keepsSecrets(t, s.log.String()) })
	if err := s.store.EnsureOperator(t.Context(), lab.OperatorID, lab.OperatorSecret); err != nil {
		t.Fatal(err)
	}
	s.Client().Transport = &lab.Operator{URL: s.URL, Base: s.Client().Transport}
	return s
}

// keepsSecrets looks for secrets in what was logged.
func keepsSecrets(t testing.TB, log string) {
	t.Helper()
	if secret := lab.Secret(log); secret != "" {
		t.Errorf("the log has the secret %q:\n%s", secret, log)
	}
}

// operator returns the header Authorization of the operator.
func (s *site) operator() string {
	s.Helper()
	token, err := lab.Token(http.DefaultClient, s.URL, lab.OperatorID, lab.OperatorSecret)
	if err != nil {
		s.Fatal(err)
	}
	return "Bearer " + token
}

// tenant returns the header Authorization of a new application of a client.
func (s *site) tenant(client string, access gen.AccessLevel) string {
	s.Helper()
	made, err := s.store.CreateApplication(s.Context(), client, gen.ApplicationCreate{Name: "tenant", Access: access})
	if err != nil {
		s.Fatal(err)
	}
	token, err := lab.Token(http.DefaultClient, s.URL, made.ID, made.Secret)
	if err != nil {
		s.Fatal(err)
	}
	return "Bearer " + token
}

// askAs is ask with a header Authorization of its own.
func (s *site) askAs(authorization, method, path, body string) got {
	s.Helper()
	r := s.request(method, basePath+path, strings.NewReader(body))
	r.Header.Set("Authorization", authorization)
	r.Header.Set("Content-Type", "application/json")
	return s.send(r)
}

func (s *site) openStore(log *slog.Logger) {
	s.Helper()
	var err error
	s.store, err = store.Open(s.Context(), store.Options{URL: pgtest.URL(s), Log: log})
	if err != nil {
		s.Fatal(err)
	}
	s.closeStore = sync.OnceFunc(func() {
		if err := s.store.Close(); err != nil {
			s.Error(err)
		}
	})
	s.Cleanup(s.closeStore)
}

func (s *site) lastTurn() time.Time { return time.Now().Add(-time.Duration(s.lag.Load())) }

// got is an answer.
type got struct {
	status int
	header http.Header
	body   string
}

// ask makes a request of the API, with a JSON body unless that is empty.
func (s *site) ask(method, path, body string) got {
	s.Helper()
	r := s.request(method, basePath+path, strings.NewReader(body))
	if body != "" {
		r.Header.Set("Content-Type", "application/json")
	}
	return s.send(r)
}

func (s *site) request(method, path string, body io.Reader) *http.Request {
	s.Helper()
	r, err := http.NewRequestWithContext(s.Context(), method, s.URL+path, body)
	if err != nil {
		s.Fatal(err)
	}
	return r
}

func (s *site) send(r *http.Request) got {
	s.Helper()
	resp, err := s.Client().Do(r)
	if err != nil {
		s.Fatal(err)
	}
	defer resp.Body.Close()
	body, err := io.ReadAll(resp.Body)
	if err != nil {
		s.Fatal(err)
	}
	return got{resp.StatusCode, resp.Header, strings.TrimSpace(string(body))}
}

// expect compares an answer; an empty body is not looked at.
func (s *site) expect(g got, status int, body string) {
	s.Helper()
	if g.status != status || body != "" && g.body != body {
		s.Errorf("got %d %s\nwant %d %s", g.status, g.body, status, body)
	}
}

// refusal reads an answer as an error.
func (s *site) refusal(g got) (e gen.ErrorResponse) {
	s.Helper()
	if typ := g.header.Get("Content-Type"); typ != "application/json" {
		s.Errorf("the Content-Type of %d %s is %q", g.status, g.body, typ)
	}
	if err := json.Unmarshal([]byte(g.body), &e); err != nil || e.Message == "" {
		s.Errorf("%d %s is no error of the API (%v)", g.status, g.body, err)
	}
	return e
}

// withAgents makes what most tests need: client 12 with local agent 136 and remote agent 7.
func (s *site) withAgents() *site {
	s.Helper()
	s.expect(s.ask("PUT", "/client/12", `{}`), http.StatusCreated, "")
	s.expect(s.ask("PUT", "/client/12/agent/local/136", `{"extension_name":"000*094@ringme.ru"}`), http.StatusCreated, "")
	s.expect(s.ask("PUT", "/client/12/agent/remote/7", `{"agent_number":"+7 (812) 336-42-42"}`), http.StatusCreated, "")
	return s
}

// transcript is what was written to it so far.
type transcript struct {
	mu   sync.Mutex
	text bytes.Buffer
}

func (l *transcript) Write(p []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.text.Write(p)
}

func (l *transcript) String() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.text.String()
}
