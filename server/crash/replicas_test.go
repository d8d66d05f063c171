package main

import (
	"bytes"
	"errors"
	"io"
	"math/rand/v2"
	"net"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"sync/atomic"
	"testing"
	"time"

	"github.com/agentevents/agentevents/server/lab"
	"github.com/agentevents/agentevents/store/benchfill"
	"github.com/agentevents/agentevents/store/pgtest"
)

// TestReplicas runs the second part of make crash for a short time. It checks no counts of faults, which are random.
func TestReplicas(t *testing.T) {
	binary := build(t)
	tmp := temporary(t)
	openDir(t, tmp)
	var out bytes.Buffer
	args := []string{"-binary", binary, "-replicas", "3", "-lasts", "30s"}
	if url := os.Getenv(pgtest.ServerVariable); url != "" {
		args = append(args, "-postgres", url)
	}
	err := run(t.Context(), args, &out, io.Discard)
	t.Logf("\n%s", out.String())
	pgtest.Need(t, err)
	for _, row := range []string{
		`changes of status +[1-9]`, `requests arrived +[1-9]`, `each follower of the feed saw +[1-9]`, `lost +0\n`,
		`out of order +0\n`, `needless duplicates +0\n`, `mismatched +0\n`, `complaints +0\n`,
		`lanes that waited at the end of an outage +[1-9]`, `late +0\n`,
	} {
		if !regexp.MustCompile(row).MatchString(out.String()) {
			t.Errorf("there is no %q", row)
		}
	}
	isEmpty(t, tmp)
}

// openDir lets other users enter a directory: if root runs the tests, another user runs PostgreSQL.
func openDir(t *testing.T, dir string) {
	t.Helper()
	for _, d := range []string{filepath.Dir(dir), dir} {
		if err := os.Chmod(d, 0o755); err != nil {
			t.Fatal(err)
		}
	}
}

// A fault between two arrivals permits duplicates of its server. A fault of the database permits them of any server.
func TestFaultPermitsDuplicates(t *testing.T) {
	start := time.Now()
	at := func(second, server int) *lab.Arrival {
		number := new(atomic.Int32)
		number.Store(int32(server))
		return &lab.Arrival{Peer: number, At: start.Add(time.Duration(second) * time.Second), Status: 200}
	}
	inFlight := at(1, 2)
	inFlight.Status = 0
	for name, c := range map[string]struct {
		fault         string
		before, again *lab.Arrival
		want          bool
	}{
		"between":                   {"kill -9", at(1, 2), at(9, 1), true},
		"it began before the first": {"suspension of about a lease", at(5, 2), at(9, 1), true},
		"it was over":               {"suspension of about a lease", at(7, 2), at(9, 1), false},
		"it began later":            {"suspension of about a lease", at(1, 2), at(3, 1), false},
		"another server":            {"kill -9", at(1, 1), at(9, 2), false},
		"it is not known which":     {"kill -9", at(1, 0), at(9, 2), true},
		"the database":              {"restart of the database", at(1, 1), at(9, 2), true},
		"the database, after it":    {"restart of the database", at(7, 1), at(9, 2), false},
		"a stop permits none":       {"stop in order", at(1, 2), at(9, 1), false},
		"nor of confirmed requests": {"stopped in order", at(1, 2), at(9, 1), false},
		"but of requests in flight": {"stopped in order", inFlight, at(9, 1), true},
	} {
		f := named(t, c.fault)
		x := &incident{
			duplicates: f.duplicates, number: 2, from: start.Add(4 * time.Second), to: start.Add(6 * time.Second),
		}
		if f.all {
			x.number = everyServer
		}
		l := timeline{incidents: []*incident{x}}
		if got := l.permits(c.before, c.again); got != c.want {
			t.Errorf("%s: %t", name, got)
		}
	}
}

// named returns the fault of a name.
func named(t *testing.T, name string) *fault {
	t.Helper()
	for _, f := range slices.Concat(sqliteFaults, postgresFaults, clusterFaults) {
		if f.name == name {
			return &f
		}
	}
	t.Fatalf("there is no fault %q", name)
	return nil
}

// The rules permit duplicates by faults of the sender, and by timeouts in the delivery log.
func TestRulesPermitDuplicates(t *testing.T) {
	now := time.Now()
	first, again := got(1, 1, 1, 200), got(1, 1, 1, 200)
	number := new(atomic.Int32)
	first.Peer = number
	judge := func(server int32, arrivals ...*lab.Arrival) lab.Verdict {
		number.Store(server)
		c := newCrash(options{replicas: 3}, "", nil)
		c.timeline.incidents = []*incident{{duplicates: anyRequest, number: 1, from: now, to: now.Add(time.Second)}}
		if again.Attempt == 2 {
			c.timeouts = map[benchfill.Attempt]benchfill.Exchange{{WebhookID: first.ID, Number: 1}: {}}
		}
		v := lab.Check(lab.History{
			Expected: []*lab.Expected{expected(1, 1), expected(1, 2)}, Arrivals: arrivals, OrderKey: orderKeyOf,
		}, c.rules())
		return v
	}
	next := got(1, 2, 1, 200)
	for i, a := range []*lab.Arrival{first, again, next} {
		a.At = now.Add(time.Duration(6*i) * time.Second)
		a.Ended = a.At
	}
	if v := judge(1, first, again, next); len(v.Faults) > 0 || v.Duplicates != 1 {
		t.Errorf("%d duplicates, violations %v", v.Duplicates, v.Faults)
	}
	if v := judge(3, first, again, next); v.Count(lab.Needless) != 1 {
		t.Errorf("a server without a fault: violations %v", v.Faults)
	}
	if v := judge(1, first, next, again); v.Count(lab.Needless) != 1 {
		t.Errorf("a repetition after the next delivery: violations %v", v.Faults)
	}
	again.Attempt = 2
	if v := judge(3, first, again, next); len(v.Faults) > 0 || v.Duplicates != 1 {
		t.Errorf("after a timeout: %d duplicates, violations %v", v.Duplicates, v.Faults)
	}
}

// The order depends on the seed alone, and has each element once in each round.
func TestShuffledRounds(t *testing.T) {
	order := func(seed uint64) (all []mode) {
		next := shuffled(rand.New(rand.NewPCG(seed, 0)), outages)
		for range 6 * len(outages) {
			all = append(all, next())
		}
		return all
	}
	all := order(7)
	if !slices.Equal(all, order(7)) || slices.Equal(all, order(8)) {
		t.Error("the order does not depend on the seed alone")
	}
	for round := range slices.Chunk(all, len(outages)) {
		for _, m := range outages {
			if !slices.Contains(round, m) {
				t.Errorf("%v is not in the round %v", m, round)
			}
		}
	}
}

// A follower of the feed reports changes that it did not see, or saw twice.
func TestFollowerFindsLostAndRepeatedChanges(t *testing.T) {
	for name, c := range map[string]struct {
		seen []int64
		want int
	}{
		"all":     {[]int64{1, 2, 4}, 0},
		"skipped": {[]int64{1, 4}, 2},
		"twice":   {[]int64{1, 2, 2, 4}, 1},
	} {
		f := &follower{crash: newCrash(options{}, "", nil), seen: c.seen}
		f.compare([]int64{1, 2, 4})
		if _, faults := f.record.Close(); len(faults) != c.want {
			t.Errorf("%s: %v", name, faults)
		}
	}
}

// A proxy with a locked gate passes no data. After the unlock, it passes all of it.
func TestProxyHoldsBackData(t *testing.T) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	p, err := newProxy(l.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	defer p.listener.Close()
	near, err := net.Dial("tcp", p.listener.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	defer near.Close()
	far, err := l.Accept()
	if err != nil {
		t.Fatal(err)
	}
	defer far.Close()
	p.gate.Lock()
	if _, err := near.Write([]byte("payload")); err != nil {
		t.Fatal(err)
	}
	text := make([]byte, 7)
	_ = far.SetReadDeadline(time.Now().Add(200 * time.Millisecond))
	if n, err := far.Read(text); !errors.Is(err, os.ErrDeadlineExceeded) {
		t.Errorf("a locked gate passes %q (%v)", text[:n], err)
	}
	_ = far.SetReadDeadline(time.Time{})
	p.gate.Unlock()
	if _, err := io.ReadFull(far, text); err != nil || string(text) != "payload" {
		t.Errorf("after the unlock, %q arrives (%v)", text, err)
	}
}
