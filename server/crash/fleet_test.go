package main

import (
	"bytes"
	"io"
	"math/rand/v2"
	"net"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"testing"
	"time"

	"github.com/agentevents/agentevents/store/pgtest"
)

// TestReplicas is the second part of make crash, in short. Which troubles there are is chance, and no matter of this test.
func TestReplicas(t *testing.T) {
	binary := build(t)
	tmp := temporary(t)
	openDir(t, tmp)
	var out bytes.Buffer
	args := []string{"-binary", binary, "-replicas", "3", "-lasts", "30s"}
	if url := os.Getenv(pgtest.ServerVariable); url != "" {
		args = append(args, "-postgres", url)
	}
	err := run(t.Context(), args, &out, io.Discard, false)
	t.Logf("\n%s", out.String())
	pgtest.Need(t, err)
	for _, row := range []string{
		`replicas +3\n`, `changes answered 200 +[1-9]`, `requests arrived +[1-9]`, `each follower of the feed saw +[1-9]`, `lost +0\n`,
		`out of order +0\n`, `needless duplicates +0\n`, `mismatched +0\n`, `complaints +0\n`,
		`lanes that waited at a return +[1-9]`, `late to a receiver that was back +0\n`,
	} {
		if !regexp.MustCompile(row).MatchString(out.String()) {
			t.Errorf("there is no %q", row)
		}
	}
	isEmpty(t, tmp)
}

// openDir lets any user into a test's directory, such as the one that runs PostgreSQL when root runs the tests.
func openDir(t *testing.T, dir string) {
	t.Helper()
	for _, d := range []string{filepath.Dir(dir), dir} {
		if err := os.Chmod(d, 0o755); err != nil {
			t.Fatal(err)
		}
	}
}

// What a trouble excuses: a request of its replica or, if it is the database's, of any, when it was between it and the next.
func TestTroubleExcuses(t *testing.T) {
	start := time.Now()
	at := func(second, sender int) *arrival {
		return &arrival{sender: sender, at: start.Add(time.Duration(second) * time.Second)}
	}
	for name, c := range map[string]struct {
		blow          blow
		before, again *arrival
		want          bool
	}{
		"between":                     {killed, at(1, 2), at(9, 1), true},
		"it had begun before":         {frozenLong, at(5, 2), at(9, 1), true},
		"it was over":                 {frozenLong, at(7, 2), at(9, 1), false},
		"it began later":              {frozenLong, at(1, 2), at(3, 1), false},
		"another replica":             {killed, at(1, 1), at(9, 2), false},
		"nobody knows which":          {killed, at(1, 0), at(9, 2), true},
		"the database":                {restarted, at(1, 1), at(9, 2), true},
		"the database, after it":      {restarted, at(7, 1), at(9, 2), false},
		"a stop in order is no cause": {stopped, at(1, 2), at(9, 1), false},
	} {
		x := &trouble{blow: c.blow, replica: 2, began: start.Add(4 * time.Second), ended: start.Add(6 * time.Second)}
		if got := x.excuses(c.before, c.again); got != c.want {
			t.Errorf("%s: %t", name, got)
		}
	}
}

// The judgement goes by the book's troubles.
func TestJudgeReplicas(t *testing.T) {
	book, now := newLedger(), time.Now()
	book.troubles = []*trouble{{blow: killed, replica: 1, began: now, ended: now.Add(time.Second)}}
	r := rules{excused: book.excused, counted: true, times: book.times}
	first, again := got(1, 1, 1, 1, 200), got(1, 1, 1, 1, 200)
	first.sender, first.at, again.sender, again.at = 1, now, 2, now.Add(6*time.Second)
	if v := judge([]debt{owed(1, 1)}, []*arrival{first, again}, r); len(v.faults) > 0 || v.duplicates != 1 {
		t.Errorf("%d duplicates, faults %v", v.duplicates, v.faults)
	}
	first.sender = 3
	if v := judge([]debt{owed(1, 1)}, []*arrival{first, again}, r); v.count(needless) != 1 {
		t.Errorf("faults %v", v.faults)
	}
	again.attempt = 2
	book.timedOut([]attempt{{first.id, 1}})
	if v := judge([]debt{owed(1, 1)}, []*arrival{first, again}, r); len(v.faults) > 0 || v.duplicates != 1 {
		t.Errorf("after a timeout: %d duplicates, faults %v", v.duplicates, v.faults)
	}
	overtaken := []*arrival{got(1, 1, 1, 1, 200), got(1, 2, 1, 1, 200), got(1, 1, 1, 1, 200)}
	for i, a := range overtaken {
		a.at = now.Add(time.Duration(i) * time.Second)
	}
	if v := judge([]debt{owed(1, 1), owed(1, 2)}, overtaken, r); v.count(needless) != 1 {
		t.Errorf("what was overtaken comes late: faults %v", v.faults)
	}
}

// The seed alone decides about the blows, and in a deck there is each of them.
func TestDealer(t *testing.T) {
	deal := func(seed uint64, private bool) (strokes []stroke) {
		d := &dealer{random: rand.New(rand.NewPCG(seed, 0)), replicas: 3, private: private}
		for range 28 {
			strokes = append(strokes, d.next())
		}
		return strokes
	}
	all := deal(7, true)
	if !slices.Equal(all, deal(7, true)) || slices.Equal(all, deal(8, true)) {
		t.Error("the seed does not decide")
	}
	for b := range blows {
		is := func(s stroke) bool { return s.blow == b }
		if !slices.ContainsFunc(all[:14], is) {
			t.Errorf("%v: not in the deck", b)
		}
		if mine := b == restarted || b == crashed; mine && slices.ContainsFunc(deal(7, false), is) {
			t.Errorf("%v of somebody else's server", b)
		}
	}
}

// A follower of the feed tells what it did not see, and what it saw too often.
func TestFollower(t *testing.T) {
	for name, c := range map[string]struct {
		seen []int64
		want int
	}{
		"all":     {[]int64{1, 2, 4}, 0},
		"skipped": {[]int64{1, 4}, 2},
		"twice":   {[]int64{1, 2, 2, 4}, 1},
	} {
		w := &follower{session: session{book: newLedger()}, seen: c.seen}
		w.compare([]int64{1, 2, 4})
		if len(w.book.faults) != c.want {
			t.Errorf("%s: %v", name, w.book.faults)
		}
	}
}

// What is cut off hears nothing until that is mended, and then all of it.
func TestProxy(t *testing.T) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	p, err := newProxy("tcp", l.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	defer p.close()
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
	mend := p.cut()
	if _, err := near.Write([]byte("held up")); err != nil {
		t.Fatal(err)
	}
	heard := make(chan string)
	go func() {
		text := make([]byte, 7)
		_, _ = io.ReadFull(far, text)
		heard <- string(text)
	}()
	select {
	case <-heard:
		t.Error("it heard what is cut off")
	default:
	}
	mend()
	if text := <-heard; text != "held up" {
		t.Errorf("it heard %q", text)
	}
}
