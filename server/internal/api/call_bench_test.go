package api

import (
	"fmt"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"

	"github.com/labstack/echo/v4"

	"github.com/agentevents/agentevents/server/internal/contract"
	"github.com/agentevents/agentevents/server/lab"
	"github.com/agentevents/agentevents/store/pgtest"
)

// callConnections is the number of concurrent connections for each processor.
const callConnections = 16

// calls are requests that change nothing, with the names of their benchmarks. Their paths are relative to the client's.
var calls = []struct{ name, method, path, body string }{
	{"GetEvent", http.MethodGet, "/agent/local/136/event/1", ""},
	{"ListEvents", http.MethodGet, "/agent/local/136/event/", ""},
	{"PutStatusUnchanged", http.MethodPut, "/agent/local/136/status", `{"agent_status":"logged_out"}`},
	{"ListDeliveries", http.MethodGet, "/delivery/?limit=100", ""},
}

// BenchmarkCall compares the API with a bare handler of the same web framework that answers the same bytes. The
// connections call concurrently, so the rate of requests is a second divided by the time of an operation.
//
//	go test -run xxx -bench Call -count 6 ./server/internal/api | tee calls.txt
//	benchstat -col /on calls.txt
func BenchmarkCall(b *testing.B) {
	server := httptest.NewServer(newBenchmarkRouter(b, slog.New(slog.DiscardHandler)))
	defer server.Close()
	addr := hostPort(server.URL)
	createCallData(b, addr)
	on := "sqlite"
	if pgtest.OnPostgres() {
		on = "postgres"
	}
	for _, c := range calls {
		request := wireRequest(c.method, c.path, c.body)
		body := callOnce(b, addr, request)
		bare := echo.New()
		bare.Any("/*", func(c echo.Context) error { return c.JSONBlob(http.StatusOK, body) })
		floor := httptest.NewServer(bare)
		for _, s := range []struct{ on, url string }{{"bare", floor.URL}, {on, server.URL}} {
			b.Run("call="+c.name+"/on="+s.on, func(b *testing.B) { callConcurrently(b, hostPort(s.url), request) })
		}
		floor.Close()
	}
}

// hostPort returns HOST:PORT of a URL without a path.
func hostPort(url string) string { return strings.TrimPrefix(url, "http://") }

// createCallData gives the agent ten events, and its client a hundred deliveries.
func createCallData(b *testing.B, addr string) {
	b.Helper()
	for i := range 9 {
		eventType := []string{"agent-logout", "agent-login"}[i%2]
		callOnce(b, addr, wireRequest(http.MethodPost, "/agent/local/136/event/", fmt.Sprintf(
			`{"url":"https://crm%d.example/","method":"POST","event_type":%q}`, i, eventType)))
	}
	for i := range 20 {
		status := fmt.Sprintf(`{"agent_status":%q}`, []string{"available", "logged_out"}[i%2])
		callOnce(b, addr, wireRequest(http.MethodPut, "/agent/local/136/status", status))
	}
}

// wireRequest returns the bytes of a request of the operator.
func wireRequest(method, path, body string) []byte {
	return fmt.Appendf(nil, "%s %s/client/12%s HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer %s\r\n"+
		"Content-Type: application/json\r\nContent-Length: %d\r\n\r\n%s",
		method, contract.BasePath, path, operatorToken.token, len(body), body)
}

// callOnce sends a request and returns the body of its answer.
func callOnce(b *testing.B, addr string, request []byte) []byte {
	b.Helper()
	w := lab.Wire{Addr: addr}
	defer w.Close()
	body, err := w.Call(request)
	if err != nil {
		b.Fatal(err)
	}
	return append([]byte{}, body...)
}

// callConcurrently sends a request repeatedly, on all connections.
func callConcurrently(b *testing.B, addr string, request []byte) {
	b.SetParallelism(callConnections)
	b.RunParallel(func(pb *testing.PB) {
		w := lab.Wire{Addr: addr}
		defer w.Close()
		for pb.Next() {
			if _, err := w.Call(request); err != nil {
				b.Error(err)
				return
			}
		}
	})
}
