package store_test

import (
	"context"
	"net/http"
	"net/http/httptest"
	"net/netip"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/agentevents/agentevents/gen"
	"github.com/agentevents/agentevents/store"
	"github.com/agentevents/agentevents/webhook"
)

// BenchmarkDelivery measures status changes of 32 concurrent callers, each delivered to a receiver on loopback. It
// reports the statements and transactions for each delivery.
func BenchmarkDelivery(b *testing.B) {
	f := open(b)
	realTime(f)
	var arrived atomic.Int64
	receiver := httptest.NewServer(http.HandlerFunc(func(http.ResponseWriter, *http.Request) { arrived.Add(1) }))
	defer receiver.Close()
	keys := benchAgents(b, f, receiver.URL)
	stop := dispatch(b, f)
	defer stop()
	var statements, transactions atomic.Int64
	f.WatchStatements(func(_ bool, statement string) {
		if strings.Contains(statement, "clock_timestamp") || statement == "BEGIN IMMEDIATE" {
			transactions.Add(1)
		} else if statement != "COMMIT" {
			statements.Add(1)
		}
	})
	b.ResetTimer()
	start := time.Now()
	statusChange(b, f, keys)
	for arrived.Load() < int64(b.N) {
		time.Sleep(time.Millisecond)
	}
	b.ReportMetric(float64(statements.Load())/float64(b.N), "statements/delivery")
	b.ReportMetric(float64(transactions.Load())/float64(b.N), "transactions/delivery")
	b.ReportMetric(float64(b.N)/time.Since(start).Seconds(), "deliveries/s")
}

// realTime opens the store with a real clock, as the program does.
func realTime(f *fixture) {
	f.check(f.Close())
	s, err := store.Open(f.ctx, store.Options{URL: f.url})
	f.check(err)
	f.Store = s
}

func benchAgents(b *testing.B, f *fixture, url string) (keys []store.AgentKey) {
	f.agent()
	name := "x"
	for id := range int64(500) {
		k := store.AgentKey{Client: "12", Type: gen.AgentTypeRemote, ID: id + 1}
		_, _, err := f.PutAgent(f.ctx, k, store.AgentUpdate{Name: &name})
		f.check(err)
		f.createEvents(k, url, gen.EventTypeAgentLogin, gen.EventTypeAgentLogout)
		keys = append(keys, k)
	}
	return keys
}

// dispatch runs a dispatcher until stop is called.
func dispatch(b *testing.B, f *fixture) (stop func()) {
	guard := webhook.NewGuard(webhook.GuardOptions{Allow: []netip.Prefix{netip.MustParsePrefix("127.0.0.0/8")}})
	d := webhook.NewDispatcher(webhook.DispatcherOptions{
		Outbox: f.Store, Sender: webhook.NewSender(webhook.SenderOptions{Guard: guard}),
		Schedule: webhook.DefaultSchedule(),
	})
	ctx, cancel := context.WithCancel(b.Context())
	var running sync.WaitGroup
	running.Go(func() { d.Run(ctx) })
	return func() { cancel(); running.Wait() }
}

// statusChange changes statuses b.N times.
func statusChange(b *testing.B, f *fixture, keys []store.AgentKey) {
	var next atomic.Int64
	var callers sync.WaitGroup
	for range 32 {
		callers.Go(func() {
			for i := next.Add(1) - 1; i < int64(b.N); i = next.Add(1) - 1 {
				status := gen.AgentStatusValueAvailable
				if i/int64(len(keys))%2 == 1 {
					status = gen.AgentStatusValueLoggedOut
				}
				_, err := f.SetStatus(f.ctx, keys[i%int64(len(keys))], gen.AgentStatusUpdate{AgentStatus: status})
				if err != nil {
					b.Error(err)
				}
			}
		})
	}
	callers.Wait()
}
