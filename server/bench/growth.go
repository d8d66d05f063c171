package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"math/rand/v2"
	"os"
	"path/filepath"
	"slices"
	"sync"
	"time"

	"github.com/agentevents/agentevents/gen"
	"github.com/agentevents/agentevents/store"
	"github.com/agentevents/agentevents/store/cluster"
	"github.com/agentevents/agentevents/store/benchfill"
	"github.com/agentevents/agentevents/webhook"
)

const (
	// few is how much a small store has of everything.
	few = 1000
	// fewPairs and fewBusy are how many of its agents have events, and how many have changes.
	fewPairs, fewBusy = few / 2, few / 100
	// page is how many rows of a log or feed are asked for, which are there in any store.
	page = 100
)

// large fills a small store and a large one, and does the same in both in turn: what a status change takes, a claim, or a
// page of a log is not to grow with the store. It does so with as many agents and clients in each, in the large one among
// all those others, and then with any, of which a large store cannot have all in memory. It first asks the store itself,
// without server and receivers, whose time would hide what the store's is, and then servers on both for the pages, which is
// how anybody gets them. SQLite is measured first, then PostgreSQL where it is there.
type large struct {
	benchfill.Size
	rounds   int
	postgres string
}

func (*large) name() string { return "growth" }

func (w *large) flags(f *flag.FlagSet) {
	f.IntVar(&w.Agents, "growth-agents", 1_000_000, "`agents` of the large store; the small one has 1000 of all")
	f.IntVar(&w.Events, "growth-events", 1_000_000, "its `events`")
	f.IntVar(&w.Deliveries, "growth-deliveries", 10_000_000, "its `deliveries`; a million takes 1 GB on each engine and, with the checks, some 5 minutes")
	f.IntVar(&w.rounds, "growth-rounds", 1000, "how `often` everything is done in each store")
	f.StringVar(&w.postgres, "growth-postgres", os.Getenv(cluster.ServerVariable),
		"`URL` of a PostgreSQL server to make databases in; without it one is started, where its programs are")
}

func (w *large) run(ctx context.Context, h *house) (*report, error) {
	if w.Pairs() < fewPairs || w.Busy()/w.Clients() < fewBusy {
		return nil, fmt.Errorf("that is no large store: it has fewer than %d events, or than %d deliveries of a client", few, few)
	}
	out := &report{Workload: w.name(), What: fmt.Sprintf(
		"a store with %d agents, %d events and %d deliveries, and one with %d of each.", w.Agents, w.Events, w.Deliveries, few)}
	if slices.Contains(h.wanted, sqliteName) {
		err := w.measure(ctx, h, out, "SQLite", func(name string) (string, error) {
			return "sqlite:" + filepath.Join(h.dir, name+".db"), nil
		})
		if err != nil {
			return nil, err
		}
	}
	if !slices.Contains(h.wanted, postgresName) {
		return out, nil
	}
	return out, w.onPostgres(ctx, h, out)
}

func (w *large) onPostgres(ctx context.Context, h *house, out *report) error {
	server, stop, err := w.server(ctx)
	if errors.Is(err, cluster.ErrNone) {
		h.say("growth: %v", err)
		return nil
	}
	if err != nil {
		return err
	}
	err = w.measure(ctx, h, out, "PostgreSQL", func(string) (string, error) { return server.Create(ctx) })
	return errors.Join(err, stop())
}

// roomy are settings of a PostgreSQL server that is to hold gigabytes, and has a machine for it: memory for what is asked for
// most, and few copies of whole pages in its log.
var roomy = map[string]string{"shared_buffers": "2GB", "max_wal_size": "8GB", "checkpoint_timeout": "30min"}

// server is the PostgreSQL server of the configuration, or one that is started.
func (w *large) server(ctx context.Context) (server *cluster.Server, stop func() error, err error) {
	if w.postgres != "" {
		return cluster.At(w.postgres), func() error { return nil }, nil
	}
	c, err := cluster.Start(ctx, cluster.Options{Settings: roomy})
	if err != nil {
		return nil, nil, err
	}
	return c.Server, c.Stop, nil
}

// measure does everything in two stores of one engine, and looks at the end whether they are sound.
func (w *large) measure(
	ctx context.Context, h *house, out *report, engine string, create func(name string) (url string, err error),
) (err error) {
	all := make([]*grown, 2)
	defer func() {
		for _, g := range all {
			if g != nil {
				err = errors.Join(err, g.close())
			}
		}
	}()
	for i, size := range []benchfill.Size{{Agents: few, Events: few, Deliveries: few}, w.Size} {
		url, err := create([]string{"small", "large"}[i])
		if err != nil {
			return err
		}
		if all[i], err = grow(ctx, h, engine, url, size); err != nil {
			return err
		}
	}
	h.say("growth: %s: %d rounds", engine, w.rounds)
	for range w.rounds {
		for _, g := range all {
			if err := g.round(ctx); err != nil {
				return err
			}
		}
		slices.Reverse(all)
	}
	slices.SortFunc(all, func(a, b *grown) int { return a.size.Deliveries - b.size.Deliveries })
	h.say("growth: %s: %d rounds by the API", engine, w.rounds)
	if err := h.ask(ctx, all[0], all[1], w.rounds); err != nil {
		return err
	}
	out.growth(engine, all[0].times, all[1].times)
	for _, g := range all {
		h.say("growth: %s: looks whether all is well with %d deliveries", engine, g.size.Deliveries)
		err = errors.Join(err, g.verify(ctx, out, engine))
	}
	return err
}

// grown is a store that was filled.
type grown struct {
	*store.Store
	closed    sync.Once
	url       string
	size      benchfill.Size
	random    *rand.Rand
	available map[store.AgentKey]bool
	times     []timed
}

// timed is how long something took.
type timed struct {
	of    string
	times []time.Duration
}

// grow makes a store and fills it.
func grow(ctx context.Context, h *house, engine, url string, size benchfill.Size) (*grown, error) {
	err := benchfill.Fill(ctx, url, size, time.Now(), func(done, of int) {
		if done%1_000_000 == 0 || done == of {
			h.say("growth: %s: %d of %d deliveries", engine, done, of)
		}
	})
	if err != nil {
		return nil, err
	}
	s, err := store.Open(ctx, store.Options{URL: url})
	if err != nil {
		return nil, err
	}
	return &grown{
		Store: s, url: url, size: size, available: map[store.AgentKey]bool{},
		random: rand.New(rand.NewPCG(1, 2)), //nolint:gosec // nobody is to be surprised
	}, nil
}

// close may be called again.
func (g *grown) close() (err error) {
	g.closed.Do(func() { err = g.Close() })
	return err
}

// round does everything once.
func (g *grown) round(ctx context.Context) error {
	pairs := g.size.Pairs()
	one, another := g.random.IntN(fewPairs)*(pairs/fewPairs), g.random.IntN(pairs)
	for _, turn := range []struct {
		agent     int
		of, claim string
		fresh     bool
	}{
		{one, "a status change with its delivery", "a claim of what has changed", true},
		{one, "a status change with its delivery", "a claim among all lanes", false},
		{another, "a status change of any agent", "a claim of any agent's", true},
	} {
		if err := g.deliver(ctx, turn.agent, turn.of, turn.claim, turn.fresh); err != nil {
			return err
		}
	}
	for _, l := range g.lists() {
		if err := g.page(l.of, func() (int, error) { return l.read(ctx, g.Store) }); err != nil {
			return err
		}
	}
	return nil
}

// deliver changes the status of an agent and claims and records its delivery.
func (g *grown) deliver(ctx context.Context, agent int, change, claim string, fresh bool) (err error) {
	k, _ := g.agent(agent)
	g.available[k] = !g.available[k]
	to := gen.AgentStatusValueLoggedOut
	if g.available[k] {
		to = gen.AgentStatusValueAvailable
	}
	var st gen.AgentStatus
	g.time(change, func() {
		st, err = g.SetStatus(ctx, k, gen.AgentStatusUpdate{AgentStatus: to})
	})
	if err != nil || st.Deliveries != 1 {
		return errors.Join(err, fmt.Errorf("the change of %v has %d deliveries", k, st.Deliveries))
	}
	var claimed []webhook.Delivery
	g.time(claim, func() {
		room := webhook.Room{Fresh: fresh, Lanes: 64, PerReceiver: 32, Take: func(int64) bool { return true }}
		claimed, _, err = g.Claim(ctx, room)
	})
	if err != nil || len(claimed) != 1 {
		return errors.Join(err, fmt.Errorf("%s: %d deliveries", claim, len(claimed)))
	}
	g.time("a result", func() {
		a := webhook.Attempt{StartedAt: time.Now(), Duration: time.Millisecond, Status: 200, Verdict: webhook.Delivered}
		_, err = g.Record(ctx, claimed[0], webhook.Outcome{Attempt: a}, false)
	})
	return err
}

// agent is an agent by its number, with one of its events.
func (g *grown) agent(n int) (k store.AgentKey, event int64) {
	client, id, login, _ := g.size.Agent(n)
	return store.AgentKey{Client: client, Type: gen.AgentTypeLocal, ID: id}, login
}

func (g *grown) time(of string, fn func()) {
	i := slices.IndexFunc(g.times, func(t timed) bool { return t.of == of })
	if i < 0 {
		i = len(g.times)
		g.times = append(g.times, timed{of: of})
	}
	began := time.Now()
	fn()
	g.times[i].times = append(g.times[i].times, time.Since(began))
}

// verify notes what should never be in a database.
func (g *grown) verify(ctx context.Context, out *report, engine string) error {
	return store.Verify(ctx, store.Options{URL: g.url}, func(c store.Check) {
		if c.Count > 0 {
			out.Wrong = append(out.Wrong, fmt.Sprintf("%s, %d deliveries: %s: %q", engine, g.size.Deliveries, c.Name, c.Faults))
		}
	})
}
