package main

import (
	"bytes"
	"cmp"
	"context"
	"database/sql"
	"errors"
	"fmt"
	"net/http"
	"os"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"golang.org/x/sync/errgroup"

	"github.com/agentevents/agentevents/gen"
	"github.com/agentevents/agentevents/server/lab"
)

const (
	// turns is how many times the quiet client is alone, and then alongside the attack.
	turns = 3
	// settling is the time after an attack that counts for neither.
	settling = 500 * time.Millisecond
	// testAgent is the agent of an event that only gets test deliveries.
	testAgent = 9999
)

// neighbourhood measures what a quiet client notices of an attack. The quiet client makes the same calls all the time.
type neighbourhood struct {
	*measurement
	attack
	operator      *http.Client
	quiet         *client
	quietForm     string // the request for a token
	test          string // path of the event for test deliveries
	attackers     []application
	began         time.Time
	alone, beside []span
	disk, logged  float64 // bytes by which store and log have grown in the attacks
	got           struct{ accepted, refused, cut atomic.Int64 }

	mu     sync.Mutex
	calls  []call  // of the quiet client
	errors []error // of these calls
}

// call is the time of one call, from when it was due.
type call struct {
	due  time.Time
	took time.Duration
}

// application is one of a client, with the form that requests a token.
type application struct{ client, token, form string }

// neighbours has a scenario for each attack.
func neighbours(m *measurement) (all []scenario, err error) {
	quiet := m.client("quiet").addAgents(m.agents, 0, 1, m.urls[:1])
	for _, a := range attacks() {
		if !slices.Contains(m.attacks, a.name) && m.attacks[0] != "all" {
			continue
		}
		n := &neighbourhood{measurement: m, attack: a, quiet: quiet}
		all = append(all, scenario{
			clients: []*client{quiet}, env: append([]string{"AGENTEVENTS_LOG_LEVEL=info"}, a.env...),
			phases: []phase{{do: n.play}}, finish: n.finish,
		})
	}
	return all, nil
}

// play takes turns, while the quiet client makes its calls.
func (n *neighbourhood) play(ctx context.Context) error {
	n.log.Printf("%s, attack %s", n.where, n.attack.name)
	if err := n.prepareClients(ctx); err != nil {
		return err
	}
	living, stop := context.WithCancel(ctx)
	defer stop()
	group, living := errgroup.WithContext(living)
	n.began = time.Now()
	for _, a := range n.quiet.agents {
		group.Go(func() error { return n.live(living, a) })
	}
	err := lab.Pause(living, settling)
	for range turns {
		if err == nil {
			err = n.turn(living)
		}
	}
	stop()
	return errors.Join(err, group.Wait(), n.quiet.await(ctx, deliveries(n.quiet.sent)))
}

// prepareClients makes the applications of both clients, and what the attack needs.
func (n *neighbourhood) prepareClients(ctx context.Context) error {
	n.operator = &http.Client{Transport: &lab.Operator{URL: "http://" + n.addr, Token: n.token}}
	own, err := n.addApplication(ctx, "quiet")
	if err != nil {
		return err
	}
	n.quiet.token, n.quietForm = own.token, own.form
	if err := n.addAgent(ctx, "quiet", testAgent); err != nil {
		return err
	}
	if n.test, err = n.addEvent(ctx, "quiet", testAgent, n.urls[0]+"/tests/0/0", gen.EventTypeAgentLogin); err != nil {
		return err
	}
	if err := n.addAttacker(ctx, "attacker"); err != nil || n.prepare == nil {
		return err
	}
	return n.prepare(n, ctx)
}

// turn has the quiet client alone, and then alongside the attack.
func (n *neighbourhood) turn(ctx context.Context) error {
	from := time.Now()
	if err := lab.Pause(ctx, n.lasts); err != nil {
		return err
	}
	n.alone = append(n.alone, span{from, time.Now()})
	disk, err := n.diskUsage(ctx)
	if err != nil {
		return err
	}
	logged := n.output.Len()
	striking, stop := context.WithTimeout(ctx, n.lasts)
	defer stop()
	from = time.Now()
	n.strike(striking)
	n.beside = append(n.beside, span{from, from.Add(n.lasts)})
	grown, err := n.diskUsage(ctx)
	n.disk, n.logged = n.disk+grown-disk, n.logged+float64(n.output.Len()-logged)
	return errors.Join(err, lab.Pause(ctx, settling))
}

// live makes the calls of an agent of the quiet client until ctx ends: it changes its status at a rate, and reads what
// programs read after each change.
func (n *neighbourhood) live(ctx context.Context, a *agent) error {
	w := &lab.Wire{Addr: n.addr}
	defer w.Close()
	every := time.Duration(float64(time.Second) * float64(len(n.quiet.agents)) / n.rate)
	first := int64(0)
	for tick := 0; ; tick++ {
		due := n.began.Add(every*time.Duration(tick) + every*time.Duration(a.id-1)/time.Duration(len(n.quiet.agents)))
		if lab.Pause(ctx, time.Until(due)) != nil {
			return nil
		}
		c := n.next(a)
		c.sent = due
		if c.sequence = sequenceIn(n.call(w, due, c.request, `"changed":true`)); c.sequence > 0 {
			first = cmp.Or(first, c.sequence)
			n.mu.Lock()
			n.quiet.sent = append(n.quiet.sent, c)
			n.mu.Unlock()
		}
		for _, r := range n.routine(a, tick, first) {
			n.call(w, time.Now(), r.request, r.want)
		}
	}
}

// routine are the calls after a change, each with what its answer must have. The first change must stay in the feed.
func (n *neighbourhood) routine(a *agent, tick int, first int64) (all []read) {
	add := func(token, method, path, body, want string) {
		all = append(all, read{n.request(token, method, path, body), want})
	}
	own := lab.APIPath + "/client/" + a.name
	add(a.token, http.MethodGet, lab.APIPath+a.apiPath(), "", `"id"`)
	add(a.token, http.MethodGet, lab.APIPath+a.apiPath()+"/status", "", `"sequence"`)
	add(a.token, http.MethodGet, own+"/delivery/?limit=20", "", `"state"`)
	add(a.token, http.MethodGet, fmt.Sprintf("%s/status_change/?limit=1&after=%d", own, first-1), "",
		fmt.Sprintf(`"sequence":%d`, first))
	if tick%10 == 0 {
		add("", http.MethodPost, tokenPath, n.quietForm, "access_token")
	}
	if tick%5 == 0 && a.id == 1 {
		add(a.token, http.MethodPost, n.test+"/test", "", `"verdict":"delivered"`)
	}
	return all
}

// read is a request, and what its answer must have.
type read struct {
	request []byte
	want    string
}

// call makes a call of the quiet client, and returns the answer, nil after an error.
func (n *neighbourhood) call(w *lab.Wire, due time.Time, request []byte, want string) []byte {
	body, err := w.Call(request)
	took := time.Since(due)
	if err == nil && !bytes.Contains(body, []byte(want)) {
		err = fmt.Errorf("the answer has no %s: %.200s", want, body)
	}
	n.mu.Lock()
	defer n.mu.Unlock()
	n.calls = append(n.calls, call{due, took})
	if err != nil {
		line, _, _ := bytes.Cut(request, []byte(" HTTP"))
		n.errors = append(n.errors, fmt.Errorf("%s: %w", line, err))
		return nil
	}
	return body
}

// finish prints the figures. The quiet client must get every answer, and its deliveries.
func (n *neighbourhood) finish() {
	v := values{
		"errors": float64(len(n.errors)), "disk-B": n.disk, "log-B": n.logged, "peak-B": n.used.peak,
		"accepted": float64(n.got.accepted.Load()), "refused": float64(n.got.refused.Load()),
		"cut": float64(n.got.cut.Load()),
	}
	var calls [2]int
	for i, spans := range [][]span{n.alone, n.beside} {
		var took, arrived []float64
		for _, s := range spans {
			arrived = append(arrived, n.quiet.latencies(s)...)
			for _, c := range n.calls {
				if s.has(c.due) {
					took = append(took, float64(c.took))
				}
			}
		}
		slices.Sort(took)
		slices.Sort(arrived)
		when := []string{"alone", "beside"}[i]
		v["call-"+when+"-p99-ns"], v["arrival-"+when+"-p99-ns"] = percentile(took, 99), percentile(arrived, 99)
		calls[i] = len(took)
	}
	for _, of := range []string{"call", "arrival"} {
		v[of+"-ratio"] = v[of+"-beside-p99-ns"] / v[of+"-alone-p99-ns"]
	}
	n.print("attack="+n.attack.name, calls[1], v)
	n.neverIf(len(n.errors) > 0, "%s, attack %s: %d errors of the quiet client, such as %v", n.where, n.attack.name,
		len(n.errors), n.errors[:min(len(n.errors), 3)])
	if len(n.errors) == 0 { // a change without an answer may arrive or not
		n.check(n.quiet)
	}
}

// diskUsage is the size of the database.
func (n *neighbourhood) diskUsage(ctx context.Context) (size float64, err error) {
	if n.engine == "sqlite" {
		for _, suffix := range []string{"", "-wal"} {
			info, err := os.Stat(sqliteFile(n.store) + suffix)
			if err != nil {
				return 0, err
			}
			size += float64(info.Size())
		}
		return size, nil
	}
	db, err := sql.Open("pgx", n.store)
	if err != nil {
		return 0, err
	}
	defer db.Close()
	err = db.QueryRowContext(ctx, "SELECT pg_database_size(current_database())").Scan(&size)
	return size, err
}
