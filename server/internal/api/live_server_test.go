package api

import (
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
	"github.com/agentevents/agentevents/server/internal/contract"
	"github.com/agentevents/agentevents/server/internal/telemetry"
	"github.com/agentevents/agentevents/server/lab"
	"github.com/agentevents/agentevents/store"
	"github.com/agentevents/agentevents/store/pgtest"
	"github.com/agentevents/agentevents/webhook"
)

// liveServer is the real server with its own store, the real clock, and receivers on loopback. No dispatcher runs.
type liveServer struct {
	testing.TB
	*httptest.Server
	store        *store.Store
	closeStore   func()
	log          *lab.Log
	heartbeatAge atomic.Int64 // nanoseconds since the simulated heartbeat of the dispatcher
}

func newLiveServer(t testing.TB, proxies ...netip.Prefix) *liveServer {
	t.Helper()
	ls := &liveServer{TB: t, log: &lab.Log{}}
	log := telemetry.NewLog(ls.log, slog.LevelDebug, false)
	ls.openStore(log)
	guard := webhook.NewGuard([]netip.Prefix{netip.MustParsePrefix("127.0.0.0/8")})
	router, err := NewRouter(Options{
		Store: ls.store, Guard: guard, Sender: webhook.NewSender(webhook.SenderOptions{Guard: guard}), Log: log,
		Heartbeat: ls.heartbeat, TrustedProxies: proxies,
	})
	if err != nil {
		t.Fatal(err)
	}
	ls.Server = httptest.NewServer(router)
	ls.Client().CheckRedirect = func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse }
	t.Cleanup(ls.Close)
	t.Cleanup(func() { checkNoSecrets(t, ls.log.String()) })
	if err := ls.store.EnsureOperator(t.Context(), lab.OperatorID, lab.OperatorSecret); err != nil {
		t.Fatal(err)
	}
	ls.Client().Transport = &lab.Operator{URL: ls.URL, Base: ls.Client().Transport}
	return ls
}

// checkNoSecrets fails the test if the log contains a secret.
func checkNoSecrets(t testing.TB, log string) {
	t.Helper()
	if secret := lab.Secret(log); secret != "" {
		t.Errorf("the log has the secret %q:\n%s", secret, log)
	}
}

// operatorToken returns an Authorization header of the operator.
func (ls *liveServer) operatorToken() string {
	ls.Helper()
	token, err := lab.Token(http.DefaultClient, ls.URL, lab.OperatorID, lab.OperatorSecret)
	if err != nil {
		ls.Fatal(err)
	}
	return "Bearer " + token
}

// clientToken returns an Authorization header of a new application of a client.
func (ls *liveServer) clientToken(client string, access gen.AccessLevel) string {
	ls.Helper()
	created, err := ls.store.CreateApplication(ls.Context(), client, gen.ApplicationCreate{Name: "CRM", Access: access})
	if err != nil {
		ls.Fatal(err)
	}
	token, err := lab.Token(http.DefaultClient, ls.URL, created.ID, created.Secret)
	if err != nil {
		ls.Fatal(err)
	}
	return "Bearer " + token
}

// callAs is call with another Authorization header.
func (ls *liveServer) callAs(authorization, method, path, body string) liveResponse {
	ls.Helper()
	r := ls.request(method, contract.BasePath+path, strings.NewReader(body))
	r.Header.Set("Authorization", authorization)
	r.Header.Set("Content-Type", "application/json")
	return ls.send(r)
}

func (ls *liveServer) openStore(log *slog.Logger) {
	ls.Helper()
	var err error
	ls.store, err = store.Open(ls.Context(), store.Options{URL: pgtest.URL(ls), Log: log})
	if err != nil {
		ls.Fatal(err)
	}
	ls.closeStore = sync.OnceFunc(func() {
		if err := ls.store.Close(); err != nil {
			ls.Error(err)
		}
	})
	ls.Cleanup(ls.closeStore)
}

func (ls *liveServer) heartbeat() time.Time {
	return time.Now().Add(-time.Duration(ls.heartbeatAge.Load()))
}

// liveResponse is an answer of a liveServer.
type liveResponse struct {
	status int
	header http.Header
	body   string
}

// call sends a request to the API. A body that is not empty is sent as JSON.
func (ls *liveServer) call(method, path, body string) liveResponse {
	ls.Helper()
	r := ls.request(method, contract.BasePath+path, strings.NewReader(body))
	if body != "" {
		r.Header.Set("Content-Type", "application/json")
	}
	return ls.send(r)
}

func (ls *liveServer) request(method, path string, body io.Reader) *http.Request {
	ls.Helper()
	r, err := http.NewRequestWithContext(ls.Context(), method, ls.URL+path, body)
	if err != nil {
		ls.Fatal(err)
	}
	return r
}

func (ls *liveServer) send(r *http.Request) liveResponse {
	ls.Helper()
	resp, err := ls.Client().Do(r)
	if err != nil {
		ls.Fatal(err)
	}
	defer resp.Body.Close()
	body, err := io.ReadAll(resp.Body)
	if err != nil {
		ls.Fatal(err)
	}
	return liveResponse{resp.StatusCode, resp.Header, strings.TrimSpace(string(body))}
}

// expect compares an answer. It ignores the body if the expected one is empty.
func (ls *liveServer) expect(g liveResponse, status int, body string) {
	ls.Helper()
	if g.status != status || body != "" && g.body != body {
		ls.Errorf("got %d %s\nwant %d %s", g.status, g.body, status, body)
	}
}

// errorOf parses an answer as an error of the API.
func (ls *liveServer) errorOf(g liveResponse) (e gen.ErrorResponse) {
	ls.Helper()
	if typ := g.header.Get("Content-Type"); typ != "application/json" {
		ls.Errorf("the Content-Type of %d %s is %q", g.status, g.body, typ)
	}
	if err := json.Unmarshal([]byte(g.body), &e); err != nil || e.Message == "" {
		ls.Errorf("%d %s is not an error of the API (%v)", g.status, g.body, err)
	}
	return e
}

// withAgents creates client 12 with local agent 136 and remote agent 7.
func (ls *liveServer) withAgents() *liveServer {
	ls.Helper()
	ls.expect(ls.call("PUT", "/client/12", `{}`), http.StatusCreated, "")
	ls.expect(ls.call("PUT", "/client/12/agent/local/136", `{"extension_name":"000*094@ringme.ru"}`),
		http.StatusCreated, "")
	ls.expect(ls.call("PUT", "/client/12/agent/remote/7", `{"agent_number":"+7 (812) 336-42-42"}`), http.StatusCreated,
		"")
	return ls
}
