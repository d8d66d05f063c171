package api

import (
	"io"
	"log/slog"
	"net/http"
	"net/netip"
	"strings"
	"testing"

	"github.com/agentevents/agentevents/gen"
	"github.com/agentevents/agentevents/server/internal/contract"
	"github.com/agentevents/agentevents/server/internal/servertest"
	"github.com/agentevents/agentevents/server/internal/telemetry"
	"github.com/agentevents/agentevents/store"
	"github.com/agentevents/agentevents/webhook"
)

// withBounds has the server keep other bounds, of requests in progress and of polls. Nil stands for the default.
func (ls *liveServer) withBounds(requests, polls *requestBounds) *liveServer {
	ls.Helper()
	guard := webhook.NewGuard(webhook.GuardOptions{})
	o := Options{
		Store: ls.store, Guard: guard, Sender: webhook.NewSender(webhook.SenderOptions{Guard: guard}),
		Log: telemetry.NewLog(ls.log, slog.LevelInfo, false), Heartbeat: ls.heartbeat,
	}
	h := newHandlers(o)
	if requests != nil {
		h.requests = newClientLimiter(*requests)
	}
	if polls != nil {
		h.polls = newClientLimiter(*polls)
	}
	router, err := h.router(o)
	if err != nil {
		ls.Fatal(err)
	}
	ls.Config.Handler = router
	return ls
}

// begin sends the head of a request, and returns when the server waits for its body, of two bytes.
func (raw *rawConn) begin(request, authorization string) *rawConn {
	raw.Helper()
	raw.send("%s HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\nContent-Length: 2\r\n"+
		"Expect: 100-continue\r\nAuthorization: %s\r\n\r\n", request, authorization)
	if line, err := raw.in.ReadString('\n'); err != nil || !strings.HasPrefix(line, "HTTP/1.1 100 ") {
		raw.Fatalf("%s: %q, %v", request, line, err)
	}
	if _, err := raw.in.ReadString('\n'); err != nil {
		raw.Fatal(err)
	}
	return raw
}

// withClients makes clients, each with local agent 136, and returns the header Authorization of each.
func (ls *liveServer) withClients(clients ...string) map[string]string {
	ls.Helper()
	tokens := map[string]string{"": ls.operatorToken()}
	for _, client := range clients {
		ls.expect(ls.call("PUT", "/client/"+client, `{}`), http.StatusCreated, "")
		ls.expect(ls.call("PUT", agentOf(client), `{"extension_name":"136"}`), http.StatusCreated, "")
		tokens[client] = ls.clientToken(client, gen.AccessLevelAll)
	}
	return tokens
}

func agentOf(client string) string { return "/client/" + client + "/agent/local/136" }

func TestRequestsInProgressAreBounded(t *testing.T) {
	t.Parallel()
	const own = `{"message":"too many requests of the client are in progress; try again","status":"too_many_requests"}`
	const all = `{"message":"too many requests are in progress; try again","status":"server_busy"}`
	ls := newLiveServer(t)
	tokens := ls.withClients("12", "13", "14")
	address := ls.withBounds(&requestBounds{all: 3, clients: 2, perClient: 1}, nil).serveWith(patientLimits())
	begin := func(token, client string) *rawConn {
		return ls.dial(address).begin("PUT "+contract.BasePath+agentOf(client), tokens[token])
	}
	get := func(what, token, client string, status int, body string) {
		t.Helper()
		ls.dial(address).send("GET %s HTTP/1.1\r\nHost: x\r\nAuthorization: %s\r\n\r\n",
			contract.BasePath+agentOf(client), tokens[token]).wantAnswer(what, status, body)
	}
	inProgress := []*rawConn{begin("12", "12")}
	get("the client's second", "12", "12", http.StatusTooManyRequests, own)
	inProgress = append(inProgress, begin("13", "13"))
	get("another client's", "14", "14", http.StatusServiceUnavailable, all)
	get("an operator's", "", "14", http.StatusOK, "")
	inProgress = append(inProgress, begin("", "14"))
	get("an operator's, if all is used", "", "14", http.StatusServiceUnavailable, all)
	for _, raw := range inProgress {
		raw.send("{}").wantAnswer("a request in progress", http.StatusOK, "")
		raw.send(healthy).wantAnswer("the next one", http.StatusOK, "")
	}
	get("one after the others", "14", "14", http.StatusOK, "")
	if ls.logs("level=ERROR") {
		t.Errorf("the log has an error: %s", ls.log)
	}
}

// The answer says when to try again, and the request does not count for the hour.
func TestRefusedInProgressIsNotCounted(t *testing.T) {
	ls := newLiveServer(t)
	tokens := ls.withClients("12")
	for status, bounds := range map[int]requestBounds{
		http.StatusTooManyRequests:    {all: 9, clients: 9, perClient: 0},
		http.StatusServiceUnavailable: {all: 9, clients: 0, perClient: 9},
	} {
		ls.withBounds(&bounds, nil)
		g := ls.callAs(tokens["12"], "GET", agentOf("12"), "")
		after, left := g.header.Get("Retry-After"), g.header.Get("X-RateLimit-Remaining")
		if g.status != status || after != "1" || left != "100000" {
			t.Errorf("%d %v, want %d", g.status, g.header, status)
		}
	}
}

// A poll that would be one too many answers at once. The test counts the polls that wait, so it is not parallel.
func TestWaitingPollsAreBounded(t *testing.T) {
	ls := newLiveServer(t)
	tokens := ls.withClients("12", "13", "14")
	one := requestBounds{all: 1, clients: 1, perClient: 1} // polls that wait are no requests in progress
	address := ls.withBounds(&one, &requestBounds{all: 3, clients: 2, perClient: 1}).serveWith(patientLimits())
	poll := func(token, client string) *rawConn {
		return ls.dial(address).send("GET %s/client/%s/status_change/?wait=30 HTTP/1.1\r\nHost: x\r\n"+
			"Authorization: %s\r\n\r\n", contract.BasePath, client, tokens[token])
	}
	var waiting []*rawConn
	waits := func(token, client string) {
		t.Helper()
		waiting = append(waiting, poll(token, client))
		servertest.AwaitPolls(t, len(waiting))
	}
	waits("12", "12")
	poll("12", "12").wantAnswer("the client's second", http.StatusOK, "[]")
	waits("13", "13")
	poll("14", "14").wantAnswer("another client's", http.StatusOK, "[]")
	waits("", "14")
	poll("", "14").wantAnswer("an operator's, if all is used", http.StatusOK, "[]")
	login := gen.AgentStatusUpdate{AgentStatus: gen.AgentStatusValueAvailable}
	for _, client := range []string{"12", "13", "14"} {
		k := store.AgentKey{Client: client, Type: gen.AgentTypeLocal, ID: 136}
		if _, err := ls.store.SetStatus(t.Context(), k, login); err != nil {
			t.Fatal(err)
		}
	}
	for _, raw := range waiting {
		raw.wantAnswer("a poll that waits", http.StatusOK, "")
	}
	servertest.AwaitPolls(t, 0)
	waiting = nil
	tokens["12"] = "Bearer x"
	poll("12", "12").wantAnswer("one with an unknown token", http.StatusUnauthorized, "")
}

// healthy is a request without a token.
const healthy = "GET /healthz HTTP/1.1\r\nHost: x\r\n\r\n"

// serveConnections is serveWith with a limit of open connections, which holds in all and for one address.
func (ls *liveServer) serveConnections(limit int) string {
	ls.Helper()
	limits := patientLimits()
	limits.Connections, limits.ConnectionsPerAddress = limit, limit
	return ls.serveWith(limits)
}

// Requests in progress keep their connections, whatever else connects.
func TestIdleConnectionsGiveWay(t *testing.T) {
	t.Parallel()
	ls := newLiveServer(t)
	tokens := ls.withClients("12")
	address := ls.serveConnections(3)
	busy := ls.dial(address).begin("PUT "+contract.BasePath+agentOf("12"), tokens["12"])
	idle := ls.dial(address).send(healthy)
	idle.wantAnswer("one that is idle then", http.StatusOK, "")
	silent := ls.dial(address)
	for range 20 {
		ls.dial(address).send(healthy).wantAnswer("one more", http.StatusOK, "")
	}
	idle.wantClose("the one that was idle longest")
	silent.wantClose("one that sent nothing")
	busy.send("{}").wantAnswer("the one in progress", http.StatusOK, "")
}

// What a stranger begins keeps no connection.
func TestStrangersKeepNoConnection(t *testing.T) {
	t.Parallel()
	ls := newLiveServer(t)
	address := ls.serveConnections(1)
	head := strings.TrimSuffix(healthy, "\r\n")
	agentPath := contract.BasePath + agentOf("12")
	for what, text := range map[string]string{
		"nothing":                 "",
		"a head that stops":       head,
		"a form that stops":       "POST /oauth/token HTTP/1.1\r\nHost: x\r\nContent-Length: 9\r\n\r\ngrant",
		"a body without a token":  "PUT " + agentPath + " HTTP/1.1\r\nHost: x\r\nContent-Length: 9\r\n\r\n",
		"a request after another": healthy + head,
		"a malformed head":        "GET\r\n\r\n",
	} {
		raw := ls.dial(address).send("%s", text)
		ls.dial(address).send(healthy).wantAnswer("after "+what, http.StatusOK, "")
		_, _ = io.Copy(io.Discard, raw.in) // ends when the server has closed the connection
	}
}

// If no connection is idle, a new one is closed without an answer.
func TestConnectionsAreRefused(t *testing.T) {
	t.Parallel()
	ls := newLiveServer(t)
	tokens := ls.withClients("12")
	address := ls.serveConnections(1)
	first := ls.dial(address).begin("PUT "+contract.BasePath+agentOf("12"), tokens["12"])
	ls.dial(address).wantClose("the second")
	first.send("{}").wantAnswer("the first", http.StatusOK, "")
	first.send(healthy).wantAnswer("the first, idle since", http.StatusOK, "")
	ls.dial(address).send(healthy).wantAnswer("the third", http.StatusOK, "")
}

// A trusted proxy has the connections of many clients.
func TestProxyHasNoBoundOfItsOwn(t *testing.T) {
	t.Parallel()
	ls := newLiveServer(t)
	limits := patientLimits()
	limits.ConnectionsPerAddress, limits.TrustedProxies = 1, []netip.Prefix{netip.MustParsePrefix("127.0.0.0/8")}
	address := ls.serveWith(limits)
	var open []*rawConn
	for range 10 {
		open = append(open, ls.dial(address))
	}
	for _, raw := range open {
		raw.send(healthy).wantAnswer("one of the proxy's", http.StatusOK, "")
	}
}
