package main

import (
	"bytes"
	"cmp"
	"context"
	"database/sql"
	"errors"
	"fmt"
	"net/http"
	"net/url"
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
	tokenPath = "/oauth/token"
	// turns is how many times the quiet client is alone, and then alongside the attack.
	turns = 3
	// settling is the time after an attack that counts for neither.
	settling = 500 * time.Millisecond
)

// neighbourhood measures what a quiet client notices of an attack.
type neighbourhood struct {
	*measurement
	attack
	quiet           *client
	attackers       []*client
	began           time.Time
	alone, attacked []span
	disk, logged    float64      // bytes by which store and log have grown in the attacks
	first           atomic.Int64 // change of the quiet client
	accepted        atomic.Int64 // requests or changes of the attack
	refused, cut    atomic.Int64

	mu       sync.Mutex
	calls    []call  // of the quiet client
	failures []error // of these calls
}

// call is the time of a call of the quiet client, from when it was due.
type call struct {
	due  time.Time
	took time.Duration
}

// neighbours has a scenario for each attack.
func neighbours(m *measurement) (all []scenario, err error) {
	quiet := m.client("quiet").addAgents(m.agents, 0, 1, m.urls[:1])
	for _, a := range attacks() {
		if !slices.Contains(m.attacks, a.title) && m.attacks[0] != "all" {
			continue
		}
		n := &neighbourhood{measurement: m, attack: a, quiet: quiet}
		urls := slices.Repeat(m.urls[1:2], cmp.Or(a.events, 2)/2) // each is one of a login and one of a logout
		for i := range cmp.Or(a.clients, 1) {
			c := m.client(fmt.Sprintf("%s-%d", a.title, i))
			n.attackers = append(n.attackers, c.addAgents(cmp.Or(a.agents, 1), 1, len(urls), urls))
		}
		all = append(all, scenario{
			clients: append([]*client{quiet}, n.attackers...), phases: []phase{{do: n.play}}, finish: n.finish,
			env: append([]string{"AGENTEVENTS_LOG_LEVEL=info"}, a.env...), // the default
		})
	}
	return all, nil
}

// play takes turns, while the quiet client makes its calls all the time.
func (n *neighbourhood) play(ctx context.Context) error {
	n.log.Printf("%s, attack %s", n.where, n.title)
	if err := n.prepare(ctx); err != nil {
		return err
	}
	living, stop := context.WithCancel(ctx)
	defer stop()
	group, living := errgroup.WithContext(living)
	n.began = time.Now()
	for _, a := range n.quiet.agents {
		group.Go(func() error { return n.change(living, a) })
		group.Go(func() error { return n.read(living, a) })
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

// prepare makes the applications of the clients, and the changes that attackers have made before.
func (n *neighbourhood) prepare(ctx context.Context) error {
	operator := &http.Client{Transport: &lab.Operator{URL: "http://" + n.addr, Token: n.token}}
	for _, c := range n.scenario.clients {
		path := "http://" + n.addr + lab.APIPath + "/client/" + c.name
		made, err := lab.Call[gen.ApplicationSecret](ctx, operator, http.StatusCreated, http.MethodPost,
			path+"/application/", gen.ApplicationCreate{Name: c.name, Access: gen.AccessLevelAll})
		if err != nil {
			return err
		}
		c.form = url.Values{
			"grant_type": {"client_credentials"}, "client_id": {made.ID}, "client_secret": {made.Secret},
		}.Encode()
		if c.token, err = lab.Token(http.DefaultClient, "http://"+n.addr, made.ID, made.Secret); err != nil {
			return err
		}
		events, err := lab.Call[[]gen.AgentEvent](ctx, operator, http.StatusOK, http.MethodGet,
			path+"/agent/local/1/event/", nil)
		if err != nil || len(events) == 0 {
			return errors.Join(err, errors.New("there is no event"))
		}
		c.event = fmt.Sprintf("%s%s/event/%d", lab.APIPath, c.agents[0].apiPath(), events[0].ID)
	}
	for _, c := range n.attackers {
		c.reply.Store(&n.answer)
		for range n.before / 200 {
			_, err := lab.Call[any](ctx, operator, http.StatusOK, http.MethodPut,
				"http://"+n.addr+lab.APIPath+"/client/"+c.name+"/status/", flips(200, 1))
			if err != nil {
				return err
			}
		}
	}
	return nil
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
	striking, stop := context.WithCancel(ctx)
	defer time.AfterFunc(n.lasts, stop).Stop() // a deadline would end connections before it ends striking
	from = time.Now()
	n.strike(striking)
	n.attacked = append(n.attacked, span{from, from.Add(n.lasts)})
	grown, err := n.diskUsage(ctx)
	n.disk, n.logged = n.disk+grown-disk, n.logged+float64(n.output.Len()-logged)
	return errors.Join(err, lab.Pause(ctx, settling))
}

// each calls a function at the agent's part of the rate until ctx ends, with a connection and when it was due.
func (n *neighbourhood) each(ctx context.Context, a *agent, do func(w *lab.Wire, tick int, due time.Time)) error {
	w := &lab.Wire{Addr: n.addr}
	defer w.Close()
	for tick := int(a.id); ; tick += len(n.quiet.agents) {
		due := n.began.Add(time.Duration(float64(tick) / n.rate * float64(time.Second)))
		if lab.Pause(ctx, time.Until(due)) != nil {
			return nil
		}
		do(w, tick, due)
	}
}

// change changes the status of an agent of the quiet client.
func (n *neighbourhood) change(ctx context.Context, a *agent) error {
	return n.each(ctx, a, func(w *lab.Wire, _ int, due time.Time) {
		c := n.next(a)
		c.sent = due
		if c.sequence = sequenceIn(n.call(w, due, c.request, `"changed":true`)); c.sequence == 0 {
			return
		}
		n.first.CompareAndSwap(0, c.sequence)
		n.mu.Lock()
		n.quiet.sent = append(n.quiet.sent, c)
		n.mu.Unlock()
	})
}

// read makes the other calls for an agent. The first change must stay in the feed.
func (n *neighbourhood) read(ctx context.Context, a *agent) error {
	return n.each(ctx, a, func(w *lab.Wire, tick int, _ time.Time) {
		get := func(path, want string) {
			n.call(w, time.Now(), n.request(a.token, http.MethodGet, path, ""), want)
		}
		own, first := lab.APIPath+"/client/"+a.name, n.first.Load()
		get(lab.APIPath+a.apiPath(), `"id":`)
		get(lab.APIPath+a.apiPath()+"/status", `"agent_status":`)
		get(own+"/delivery/?limit=20", "[")
		if first > 0 {
			get(fmt.Sprintf("%s/status_change/?limit=1&after=%d", own, first-1), fmt.Sprintf(`"sequence":%d,`, first))
		}
		switch tick % 20 {
		case 1:
			n.call(w, time.Now(), n.request("", http.MethodPost, tokenPath, a.form), `"access_token":`)
		case 2:
			n.call(w, time.Now(), n.request(a.token, http.MethodPost, a.event+"/test", ""), `"delivered"`)
		}
	})
}

// call makes a call of the quiet client, and returns the answer, or nil after an error.
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
		n.failures = append(n.failures, fmt.Errorf("%.80q: %w", request, err))
		return nil
	}
	return body
}

// finish prints the figures. The quiet client must get each answer and each delivery.
func (n *neighbourhood) finish() {
	v := values{
		"errors": float64(len(n.failures)), "disk-B": n.disk, "log-B": n.logged, "peak-B": n.used.peak,
		"accepted": float64(n.accepted.Load()), "refused": float64(n.refused.Load()),
		"cut": float64(n.cut.Load()),
	}
	n.addLatencies(v, "alone", n.alone)
	count := n.addLatencies(v, "attacked", n.attacked)
	for _, of := range []string{"call", "arrival"} {
		v[of+"-ratio"] = v[of+"-attacked-p99-ns"] / v[of+"-alone-p99-ns"]
	}
	n.print("attack="+n.title, count, v)
	n.log.Printf("%s, attack %s: calls %.1f, arrivals %.1f times as long, %.0f errors, %.0f MiB of memory", n.where,
		n.title, v["call-ratio"], v["arrival-ratio"], v["errors"], n.used.peak/(1<<20))
	n.neverIf(len(n.failures) > 0, "%s, attack %s: %d errors of the quiet client, such as %v", n.where, n.title,
		len(n.failures), n.failures[:min(len(n.failures), 3)])
	isTest := func(a *lab.Arrival) bool { return a.Sequence == 0 }
	if n.quiet.arrived = slices.DeleteFunc(n.quiet.arrived, isTest); len(n.failures) == 0 {
		n.check(n.quiet) // after a failure, a change may have been stored without an answer
	}
}

// addLatencies adds the p99 of calls in some spans, and of the time from a change to its arrival. It returns the number
// of these calls.
func (n *neighbourhood) addLatencies(v values, when string, spans []span) int {
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
	v["call-"+when+"-p99-ns"], v["arrival-"+when+"-p99-ns"] = percentile(took, 99), percentile(arrived, 99)
	return len(took)
}

// diskUsage is the size of the database, without PostgreSQL's write-ahead log.
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
