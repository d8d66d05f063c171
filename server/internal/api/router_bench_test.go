package api

import (
	"log/slog"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/agentevents/agentevents/gen"
	"github.com/agentevents/agentevents/server/internal/contract"
	"github.com/agentevents/agentevents/server/internal/telemetry"
	"github.com/agentevents/agentevents/webhook"
)

// BenchmarkRequest measures a request without net/http. GetUser does not read the store.
func BenchmarkRequest(b *testing.B) {
	router := newBenchmarkRouter(b, slog.New(slog.DiscardHandler))
	for name, s := range map[string]scenario{
		"GetUser":    {request: "GET /user"},
		"GetEvent":   {request: "GET /client/12/agent/local/136/event/1"},
		"ListEvents": {request: "GET /client/12/agent/local/136/event/"},
		"PutStatus":  {request: "PUT /client/12/agent/local/136/status", body: `{"agent_status":"logged_out"}`},
		"PutStatuses": {
			request: "PUT /client/12/status",
			body:    `[{"agent_type":"local","agent_id":136,"agent_status":"logged_out"}]`,
		},
		"Unknown": {request: "GET /client/12/nothing"},
	} {
		b.Run(name, func(b *testing.B) { benchmarkRequest(b, router, s) })
	}
}

func benchmarkRequest(b *testing.B, router http.Handler, s scenario) {
	method, target, _ := strings.Cut(s.request, " ")
	b.ReportAllocs()
	for b.Loop() {
		r, err := http.NewRequestWithContext(b.Context(), method, contract.BasePath+target, s.bodyReader())
		if err != nil {
			b.Fatal(err)
		}
		r.Header["Authorization"] = []string{"Bearer " + operatorToken.token}
		r.Header["Content-Type"] = []string{"application/json"}
		w := discardResponse{header: http.Header{}}
		router.ServeHTTP(&w, r)
		if w.status == 0 || w.status >= 500 {
			b.Fatal(w.status)
		}
	}
}

// discardResponse discards an answer.
type discardResponse struct {
	header http.Header
	status int
}

func (u *discardResponse) Header() http.Header            { return u.header }
func (u *discardResponse) Write(body []byte) (int, error) { return len(body), nil }
func (u *discardResponse) WriteHeader(status int)         { u.status = status }

func newBenchmarkRouter(b *testing.B, log *slog.Logger) http.Handler {
	ts := newTestServer(b)
	ts.withAgents()
	ts.client("12").local(136).event(gen.RequestMethodGET, gen.EventTypeAgentLogin)
	router, err := NewRouter(Options{
		Store: ts.store, Guard: webhook.NewGuard(nil), Sender: webhook.NewSender(webhook.SenderOptions{}), Log: log,
		Heartbeat: time.Now, Metrics: telemetry.NewMetrics(ts.store, "test", "test"),
	})
	ts.must(err)
	return router
}
