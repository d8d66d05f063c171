package store_test

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"math/rand/v2"
	"slices"
	"testing"
	"time"

	"github.com/agentevents/agentevents/gen"
	"github.com/agentevents/agentevents/store"
	"github.com/agentevents/agentevents/store/benchfill"
	"github.com/agentevents/agentevents/store/pgtest"
	"github.com/agentevents/agentevents/webhook"
)

var growthDeliveries = flag.Int("growth", 100_000,
	"`deliveries` of the large store of BenchmarkGrowth; a million take 1 GB on each engine, and minutes to fill")

// familiarAgents is the number of agents that have a turn in the small store. In the large store, this number is spread
// over all agents. These agents are in memory after a while, and the others are not.
const familiarAgents = 500

// growthRounds are the rounds of BenchmarkGrowth: deliveries of familiar agents or of any, with a claim of fresh lanes
// or of all lanes.
var growthRounds = []struct {
	name   string
	agents func(g *grownStore) int
	fresh  bool
}{
	{"agents=familiar/claim=changed", (*grownStore).familiar, true},
	{"agents=familiar/claim=all", (*grownStore).familiar, false},
	{"agents=any/claim=changed", (*grownStore).any, true},
}

// BenchmarkGrowth compares a store with 1,000 deliveries with a large one (-growth). It measures the median time of a
// status change with its delivery, of the claim, and of the record of the result.
//
//	go test -run xxx -bench Growth -benchtime 1000x -count 6 -timeout 0 ./store -growth 10000000
func BenchmarkGrowth(b *testing.B) {
	var stores []*grownStore
	for _, g := range benchfill.Grow(b, *growthDeliveries) {
		stores = append(stores, openGrown(b, g))
	}
	for _, r := range growthRounds {
		for _, g := range stores {
			name := fmt.Sprintf("engine=%s/%s/deliveries=%d", engineName(), r.name, g.Size.Deliveries)
			b.Run(name, func(b *testing.B) {
				g.times = map[string][]time.Duration{}
				for b.Loop() {
					g.deliver(b, r.agents(g), r.fresh)
				}
				for of, times := range g.times {
					slices.Sort(times)
					b.ReportMetric(float64(times[len(times)/2]), "p50-ns/"+of)
				}
			})
		}
	}
}

func engineName() string {
	if pgtest.OnPostgres() {
		return "postgres"
	}
	return "sqlite"
}

// It sends one delivery in the small store and in the large one, and leaves both consistent.
func TestGrowthRoundSendsOneDelivery(t *testing.T) {
	for _, filled := range benchfill.Grow(t, 20_000) {
		g := openGrown(t, filled)
		for _, r := range growthRounds {
			for range 3 {
				g.deliver(t, r.agents(g), r.fresh)
			}
		}
		for _, of := range []string{"change", "claim", "result"} {
			if n := len(g.times[of]); n != 9 {
				t.Errorf("%d times of a %s are measured, want 9", n, of)
			}
		}
		err := store.Verify(t.Context(), store.Options{URL: g.URL}, func(c store.Check) {
			if c.Count > 0 {
				t.Errorf("%d deliveries: %s: %q", g.Size.Deliveries, c.Name, c.Violations)
			}
		})
		if err != nil {
			t.Error(err)
		}
	}
}

// grownStore is a filled store with measured times.
type grownStore struct {
	*store.Store
	benchfill.Grown
	random    *rand.Rand
	available map[store.AgentKey]bool
	times     map[string][]time.Duration // by operation
}

func openGrown(t testing.TB, g benchfill.Grown) *grownStore {
	t.Helper()
	s, err := store.Open(t.Context(), store.Options{URL: g.URL})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := s.Close(); err != nil {
			t.Error(err)
		}
	})
	return &grownStore{
		Store: s, Grown: g, random: rand.New(rand.NewPCG(1, 2)), available: map[store.AgentKey]bool{},
		times: map[string][]time.Duration{},
	}
}

// familiar returns the number of an agent that has a turn in both stores.
func (g *grownStore) familiar() int {
	return g.random.IntN(familiarAgents) * (g.Pairs() / familiarAgents)
}

func (g *grownStore) any() int { return g.random.IntN(g.Pairs()) }

// deliver changes the status of the n-th agent, claims the delivery and records its success.
func (g *grownStore) deliver(t testing.TB, n int, lately bool) {
	t.Helper()
	ctx := t.Context()
	g.measure(t, "change", func() error { return g.toggle(ctx, n) })
	var claimed []webhook.Delivery
	g.measure(t, "claim", func() (err error) {
		limits := webhook.ClaimLimits{
			Fresh: lately, Lanes: 64, PerReceiver: 32, Take: func(string, int64) bool { return true },
		}
		claimed, _, err = g.Claim(ctx, limits)
		if err == nil && len(claimed) != 1 {
			err = fmt.Errorf("%d deliveries are claimed, want 1", len(claimed))
		}
		return err
	})
	g.measure(t, "result", func() error {
		a := webhook.Attempt{
			StartedAt: time.Now(), Duration: time.Millisecond, Status: 200, Verdict: webhook.Delivered,
		}
		_, err := g.Record(ctx, claimed[0], webhook.Outcome{Attempt: a}, false)
		return err
	})
}

// toggle logs the n-th agent in or out.
func (g *grownStore) toggle(ctx context.Context, n int) error {
	client, id, _, _ := g.Size.Agent(n)
	k := store.AgentKey{Client: client, Type: gen.AgentTypeLocal, ID: id}
	status := gen.AgentStatusValueAvailable
	if g.available[k] {
		status = gen.AgentStatusValueLoggedOut
	}
	g.available[k] = !g.available[k]
	st, err := g.SetStatus(ctx, k, gen.AgentStatusUpdate{AgentStatus: status})
	if err == nil && st.Deliveries != 1 {
		err = errors.New("the change has no delivery")
	}
	return err
}

func (g *grownStore) measure(t testing.TB, of string, fn func() error) {
	t.Helper()
	began := time.Now()
	if err := fn(); err != nil {
		t.Fatalf("%s: %v", of, err)
	}
	g.times[of] = append(g.times[of], time.Since(began))
}
