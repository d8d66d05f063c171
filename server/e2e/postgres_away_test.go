package e2e

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"os"
	"slices"
	"sync"
	"syscall"
	"testing"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"

	"github.com/agentevents/agentevents/gen"
	"github.com/agentevents/agentevents/store/pgtest"
)

// The database becomes unavailable in several ways while statuses change. During that, the server answers 503 with
// Retry-After and is not ready. Afterwards it recovers, and no delivery is lost or out of order.
func TestServerRecoversWhenItsDatabaseReturns(t *testing.T) {
	pgtest.SQLiteOnly(t, "it starts its own PostgreSQL")
	t.Parallel()
	// The few connections can be exhausted. Commits survive a crash of the database's process without fsync.
	c := pgtest.ForTest(t, pgtest.Options{Settings: map[string]string{
		"fsync": "off", "full_page_writes": "off", "max_connections": "40",
	}})
	url, err := c.Create(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	r := newReceiver(t)
	p := serve(t, url, "AGENTEVENTS_RETRY_SCHEDULE=100ms")
	p.mayLogErrors = true
	api := newAPI(t, p)
	api.putClient()
	l := &load{api: api, process: p, receiver: r, url: url}
	for id := range int64(4) {
		api.login(r, id+1)
	}
	for _, outage := range []struct {
		name  string
		cause func(*testing.T, *load, *pgtest.Cluster)
	}{
		{"restarted", func(t *testing.T, l *load, c *pgtest.Cluster) { stopAndStart(t, l, c, os.Interrupt) }},
		{"crashed", func(t *testing.T, l *load, c *pgtest.Cluster) { stopAndStart(t, l, c, syscall.SIGQUIT) }},
		{"all connections ended", endConnections},
		{"all connections in use", takeConnections},
	} {
		t.Run(outage.name, func(t *testing.T) { l.during(t, func() { outage.cause(t, l, c) }) })
	}
	if err := c.Halt(os.Interrupt); err != nil {
		t.Fatal(err)
	}
	equal(t, "exit code without a database", p.stop(t), 0)
	if err := c.Launch(t.Context()); err != nil {
		t.Fatal(err)
	}
	if faults, _, code := command(t, databaseAt(url), "verify"); code != 0 {
		t.Errorf("verify: exit code %d\n%s", code, faults)
	}
}

func stopAndStart(t *testing.T, l *load, c *pgtest.Cluster, how os.Signal) {
	if err := c.Halt(how); err != nil {
		t.Fatal(err)
	}
	l.checkOutage(t)
	if err := c.Launch(t.Context()); err != nil {
		t.Fatal(err)
	}
}

// endConnections ends all connections repeatedly, each time after an accepted change.
func endConnections(t *testing.T, l *load, _ *pgtest.Cluster) {
	conn := l.connect(t)
	for range 10 {
		before := l.accepted()
		eventually(t, "a change is accepted", func() bool { return l.accepted() > before })
		endAll(t, conn)
	}
}

// endAll ends all connections of the server, and returns their number.
func endAll(t *testing.T, conn *pgx.Conn) (n int) {
	t.Helper()
	err := conn.QueryRow(t.Context(), "SELECT count(pg_terminate_backend(pid, 60000)) FROM pg_stat_activity "+
		"WHERE application_name = 'agentevents'").Scan(&n)
	if err != nil {
		t.Fatal(err)
	}
	return n
}

// takeConnections opens all free connections of the database.
func takeConnections(t *testing.T, l *load, _ *pgtest.Cluster) {
	var taken []*pgx.Conn
	defer func() {
		for _, one := range taken {
			_ = one.Close(context.Background())
		}
	}()
	conn := l.connect(t)
	l.quietly(func() {
		eventually(t, "no connection is left", func() bool {
			for one := l.take(t); one != nil; one = l.take(t) {
				taken = append(taken, one)
			}
			return endAll(t, conn) == 0
		})
	})
	l.checkOutage(t)
}

// quietly runs a function without concurrent requests.
func (l *load) quietly(action func()) {
	l.pause.Lock()
	defer l.pause.Unlock()
	action()
}

// take opens a connection. It returns nil if none is free.
func (l *load) take(t *testing.T) *pgx.Conn {
	t.Helper()
	one, err := pgx.Connect(t.Context(), l.url+"&application_name=test")
	var refused *pgconn.PgError
	if errors.As(err, &refused) && refused.Code == "53300" {
		return nil
	}
	if err != nil {
		t.Fatal(err)
	}
	return one
}

// load changes statuses as a PBX does: it repeats a request that got 503.
type load struct {
	api
	process  *process
	receiver *receiver
	url      string // URL of the database
	pause    sync.RWMutex

	mu       sync.Mutex
	changes  []change
	refused  int
	problems []string
}

// change is an accepted change.
type change struct{ agent, sequence int64 }

func (l *load) connect(t *testing.T) *pgx.Conn {
	t.Helper()
	conn, err := pgx.Connect(t.Context(), l.url+"&application_name=test")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = conn.Close(context.Background()) })
	return conn
}

// during runs a function under load, and then checks that the server has recovered.
func (l *load) during(t *testing.T, action func()) {
	stop := make(chan struct{})
	var agents sync.WaitGroup
	for id := int64(1); id <= 4; id++ {
		agents.Go(func() { l.toggle(id, stop) })
	}
	end := sync.OnceFunc(func() { close(stop); agents.Wait() })
	defer end()
	before := l.accepted()
	eventually(t, "statuses change", func() bool { return l.accepted() > before+20 })
	action()
	eventually(t, "the server is ready", l.process.ready)
	before = l.accepted()
	eventually(t, "statuses change after the outage", func() bool { return l.accepted() > before+20 })
	end()
	if l.process.ended() {
		t.Fatal("the server has ended")
	}
	l.checkArrivals(t)
}

var opposite = map[gen.AgentStatusValue]gen.AgentStatusValue{
	gen.AgentStatusValueAvailable: gen.AgentStatusValueLoggedOut,
	gen.AgentStatusValueLoggedOut: gen.AgentStatusValueAvailable,
}

// toggle logs an agent in and out until stop is closed.
func (l *load) toggle(agent int64, stop <-chan struct{}) {
	to := gen.AgentStatusValueAvailable
	for {
		select {
		case <-stop:
			return
		default:
		}
		l.pause.RLock()
		resp, err := l.PutLocalAgentStatusWithResponse(context.Background(), pbxClient, agent,
			gen.AgentStatusUpdate{AgentStatus: to})
		l.pause.RUnlock()
		switch {
		case err != nil:
			l.problem(fmt.Sprint("a request failed: ", err))
			return
		case resp.StatusCode() == http.StatusOK:
			l.accept(change{agent, resp.JSON200.Sequence})
			to = opposite[to]
		default:
			l.refuse(resp.HTTPResponse)
		}
	}
}

func (l *load) accept(c change) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.changes = append(l.changes, c)
}

// refuse checks the server's answer during an outage.
func (l *load) refuse(resp *http.Response) {
	if resp.StatusCode != http.StatusServiceUnavailable || resp.Header.Get("Retry-After") == "" {
		l.problem(
			fmt.Sprintf("%s %s got %s with %v", resp.Request.Method, resp.Request.URL.Path, resp.Status,
				resp.Header),
		)
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	l.refused++
}

func (l *load) problem(text string) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.problems = append(l.problems, text)
}

func (l *load) accepted() int {
	l.mu.Lock()
	defer l.mu.Unlock()
	return len(l.changes)
}

// checkOutage checks the server's behaviour during an outage.
func (l *load) checkOutage(t *testing.T) {
	t.Helper()
	eventually(t, "the server is not ready", func() bool { return !l.process.ready() })
	l.mu.Lock()
	before := l.refused
	l.mu.Unlock()
	eventually(t, "the load is refused", func() bool {
		l.mu.Lock()
		defer l.mu.Unlock()
		return l.refused > before+4
	})
	if resp, err := http.Get(l.process.URL + "/healthz"); err != nil || resp.StatusCode != http.StatusOK {
		t.Errorf("/healthz fails: %v, %v", resp, err)
	} else {
		_ = resp.Body.Close()
	}
	resp, err := l.GetLocalAgentStatusWithResponse(t.Context(), pbxClient, 1)
	if err != nil {
		t.Fatal(err)
	}
	if resp.StatusCode() == http.StatusOK {
		t.Error("the server read a status without its database")
	} else {
		l.refuse(resp.HTTPResponse)
	}
}

// checkArrivals waits until every accepted change has arrived, and checks the order of first arrivals.
func (l *load) checkArrivals(t *testing.T) {
	t.Helper()
	l.mu.Lock()
	defer l.mu.Unlock()
	for _, problem := range l.problems {
		t.Error(problem)
	}
	l.problems = nil
	eventually(t, "all changes have arrived", func() bool { return len(l.missing()) == 0 })
	requests := l.receiver.arrivals()
	last, seen := map[string]int64{}, map[string]bool{}
	for _, a := range requests {
		agent := formValue(a.Form(), "agent_id")
		if !seen[a.ID] && a.Sequence < last[agent] {
			t.Errorf("change %d of agent %s arrived after %d", a.Sequence, agent, last[agent])
		}
		seen[a.ID], last[agent] = true, max(last[agent], a.Sequence)
	}
	t.Logf("%d changes so far, %d requests, %d of them repeated, %d refused", len(l.changes), len(requests),
		len(requests)-len(seen), l.refused)
}

// missing returns the changes that have not arrived.
func (l *load) missing() []change {
	arrived := map[int64]bool{}
	for _, a := range l.receiver.arrivals() {
		arrived[a.Sequence] = true
	}
	return slices.DeleteFunc(slices.Clone(l.changes), func(c change) bool { return arrived[c.sequence] })
}
