package api

import (
	"bytes"
	"flag"
	"fmt"
	"log/slog"
	"math/rand/v2"
	"net/http"
	"net/http/httptest"
	"testing"
	"time"

	"github.com/agentevents/agentevents/server/internal/contract"
	"github.com/agentevents/agentevents/server/lab"
	"github.com/agentevents/agentevents/store"
	"github.com/agentevents/agentevents/store/benchfill"
	"github.com/agentevents/agentevents/store/pgtest"
	"github.com/agentevents/agentevents/webhook"
)

var growthDeliveries = flag.Int("growth", 100_000,
	"`deliveries` of the large store of BenchmarkGrowth; a million take 1 GB on each engine, and minutes to fill")

// grownPages are pages of 100 rows that a store of any size has. Their paths are relative to the client's.
var grownPages = []struct {
	name string
	path func(g *grownServer) string
}{
	{"newest", func(*grownServer) string { return "/delivery/?limit=100" }},
	{"middle", func(g *grownServer) string { return fmt.Sprintf("/delivery/?limit=100&before=%d", g.middle()) }},
	{"agent", func(g *grownServer) string {
		return fmt.Sprintf("/delivery/?limit=100&agent_type=local&agent_id=%d", g.agent)
	}},
	{"event", func(g *grownServer) string { return fmt.Sprintf("/delivery/?limit=100&event_id=%d", g.event) }},
	{"failed", func(*grownServer) string { return "/delivery/?limit=100&state=failed" }},
	{"agent and failed", func(g *grownServer) string {
		return fmt.Sprintf("/delivery/?limit=100&state=failed&agent_type=local&agent_id=%d", g.agent)
	}},
	{"until", func(*grownServer) string {
		return "/delivery/?limit=100&until=" + time.Now().Add(-10*24*time.Hour).UTC().Format(time.RFC3339)
	}},
	{"feed", func(g *grownServer) string { return fmt.Sprintf("/status_change/?limit=100&after=%d", g.middle()) }},
	{"changes of an agent", func(g *grownServer) string {
		return fmt.Sprintf("/agent/local/%d/status_change/?limit=100", g.agent)
	}},
	{"newest of any client", func(g *grownServer) string {
		g.client = benchfill.Client(g.random.IntN(g.Clients()))
		return "/delivery/?limit=100"
	}},
}

// BenchmarkGrowth compares pages of the delivery log and the feed in a store of 1,000 deliveries with the same pages in
// a large store (-growth).
//
//	go test -run xxx -bench Growth -benchtime 1000x -count 6 -timeout 0 ./server/internal/api -growth 10000000 \
//		| tee growth.txt
//	benchstat -col /deliveries growth.txt
func BenchmarkGrowth(b *testing.B) {
	engine := "sqlite"
	if pgtest.OnPostgres() {
		engine = "postgres"
	}
	var servers []*grownServer
	for _, g := range benchfill.Grow(b, *growthDeliveries) {
		servers = append(servers, serveGrown(b, g))
	}
	for _, p := range grownPages {
		for _, g := range servers {
			b.Run(fmt.Sprintf("engine=%s/page=%s/deliveries=%d", engine, p.name, g.Deliveries), func(b *testing.B) {
				for b.Loop() {
					g.read(b, p.path)
				}
			})
		}
	}
}

// Each page of BenchmarkGrowth has rows in both stores.
func TestGrownPagesHaveRows(t *testing.T) {
	for _, filled := range benchfill.Grow(t, 20_000) {
		g := serveGrown(t, filled)
		for _, p := range grownPages {
			g.read(t, p.path)
		}
	}
}

// grownServer serves a filled store.
type grownServer struct {
	benchfill.Grown
	url          string
	token        string
	random       *rand.Rand
	client       string // of the current request
	agent, event int64  // of this client
}

func serveGrown(t testing.TB, filled benchfill.Grown) *grownServer {
	t.Helper()
	s, err := store.Open(t.Context(), store.Options{URL: filled.URL, KeepRows: 1_000_000_000})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := s.Close(); err != nil {
			t.Error(err)
		}
	})
	if err := s.EnsureOperator(t.Context(), lab.OperatorID, lab.OperatorSecret); err != nil {
		t.Fatal(err)
	}
	router, err := NewRouter(Options{
		Store: s, Guard: webhook.NewGuard(nil), Sender: webhook.NewSender(webhook.SenderOptions{}),
		Log: slog.New(slog.DiscardHandler), Heartbeat: time.Now,
	})
	if err != nil {
		t.Fatal(err)
	}
	server := httptest.NewServer(router)
	t.Cleanup(server.Close)
	token, err := lab.Token(server.Client(), server.URL, lab.OperatorID, lab.OperatorSecret)
	if err != nil {
		t.Fatal(err)
	}
	return &grownServer{Grown: filled, url: server.URL, token: token, random: rand.New(rand.NewPCG(1, 2))}
}

// middle returns the number of a random row from the middle of the store.
func (g *grownServer) middle() int { return g.Deliveries/4 + g.random.IntN(10)*g.Deliveries/20 }

// read requests a page of a random client and of one of its ten busiest agents. The page must have rows.
func (g *grownServer) read(t testing.TB, path func(*grownServer) string) {
	t.Helper()
	clients := g.Clients()
	g.client, g.agent, g.event, _ = g.Agent(clients/2 + g.random.IntN(10)*clients)
	below := path(g) // may change g.client
	url := g.url + contract.BasePath + "/client/" + g.client + below
	r, err := http.NewRequestWithContext(t.Context(), http.MethodGet, url, http.NoBody)
	if err != nil {
		t.Fatal(err)
	}
	r.Header.Set("Authorization", "Bearer "+g.token)
	resp, err := http.DefaultClient.Do(r)
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	var body bytes.Buffer
	if _, err := body.ReadFrom(resp.Body); err != nil {
		t.Fatal(err)
	}
	if resp.StatusCode != http.StatusOK || !bytes.Contains(body.Bytes(), []byte(`"agent_id":`)) {
		t.Fatalf("%s: %s without rows: %s", r.URL, resp.Status, &body)
	}
}
