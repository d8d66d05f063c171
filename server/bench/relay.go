package main

import (
	"context"
	"database/sql"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"strconv"
	"strings"
	"sync/atomic"

	_ "github.com/jackc/pgx/v5/stdlib" // the driver pgx
	_ "github.com/mattn/go-sqlite3"    // the driver sqlite3

	"github.com/agentevents/agentevents/gen"
	"github.com/agentevents/agentevents/server/lab"
	"github.com/agentevents/agentevents/webhook"
)

const (
	// relayVariable has URLs of receivers, and makes this program a relay to them.
	relayVariable = "BENCH_RELAY"
	// relayWorkers is how many forms a relay sends at the same time.
	relayWorkers = 32
	// relayQueue is how many may wait for each worker before an answer has to wait.
	relayQueue = 8192
	// maxBatch is how many entries of a ledger share a commit at most.
	maxBatch = 256
)

// relay is the least that takes a status change by HTTP and sends it to receivers by HTTP: it signs nothing, forgets
// what fails, and stores nothing, unless it has a ledger.
type relay struct {
	receivers []string
	ledger    chan<- entry // nil if there is none
	client    *http.Client
	queues    [relayWorkers]chan *change // by agent, which keeps the order of its changes
	sequence  atomic.Int64
}

// serveRelay serves as a relay until ctx ends, as lab starts and stops a server. A database is for its ledger.
func serveRelay(ctx context.Context, urls []string) (err error) {
	r := &relay{
		receivers: urls, client: &http.Client{Transport: &http.Transport{MaxIdleConnsPerHost: relayWorkers}},
	}
	if url := os.Getenv("AGENTEVENTS_DATABASE_URL"); url != "" {
		if r.ledger, err = openLedger(ctx, url); err != nil {
			return err
		}
	}
	for i := range r.queues {
		r.queues[i] = make(chan *change, relayQueue)
		go r.forward(r.queues[i])
	}
	mux := http.NewServeMux()
	mux.HandleFunc("PUT "+lab.APIPath+"/client/{client}/agent/local/{agent}/status", r.put)
	mux.HandleFunc("/", func(w http.ResponseWriter, _ *http.Request) { fmt.Fprint(w, `{"access_token":"any"}`) })
	l, err := net.Listen("tcp", "127.0.0.1:0") //nolint:noctx // does not wait
	if err != nil {
		return err
	}
	go func() { _ = http.Serve(l, mux) }() // until the process ends
	fmt.Fprintf(os.Stderr, "http://%s%s\n", l.Addr(), lab.APIPath)
	<-ctx.Done()
	return nil
}

// put takes a change.
func (r *relay) put(w http.ResponseWriter, req *http.Request) {
	var u gen.AgentStatusUpdate
	id, err := strconv.ParseInt(req.PathValue("agent"), 10, 64)
	err = errors.Join(err, json.NewDecoder(req.Body).Decode(&u))
	a := &agent{client: &client{name: req.PathValue("client")}, id: id}
	c := &change{agent: a, status: u.AgentStatus, sequence: r.sequence.Add(1)}
	if err == nil && r.ledger != nil {
		durable := make(chan error)
		r.ledger <- entry{c, durable}
		err = <-durable
	}
	if err != nil {
		http.Error(w, err.Error(), http.StatusServiceUnavailable)
		return
	}
	r.queues[id%relayWorkers] <- c
	w.Header().Set("Content-Type", "application/json")
	fmt.Fprintf(w, `{"agent_status":%q,"sequence":%d,"changed":true,"deliveries":%d}`,
		c.status, c.sequence, len(r.receivers))
}

// forward sends the changes of a queue to all receivers, with the same form as the program's.
func (r *relay) forward(queue <-chan *change) {
	for c := range queue {
		id, sequence := strconv.FormatInt(c.id, 10), strconv.FormatInt(c.sequence, 10)
		form := webhook.Encode(gen.AgentEventData{
			AgentStatus: c.status, AgentType: gen.AgentTypeLocal, EventSource: gen.EventSourceAPI,
			AgentID: id, ExtensionName: c.extension(),
		})
		for i, url := range r.receivers {
			//nolint:noctx // until the process ends
			req, err := http.NewRequest(http.MethodPost, url+c.path(i), strings.NewReader(form))
			if err != nil {
				continue
			}
			req.Header.Set("Content-Type", "application/x-www-form-urlencoded")
			req.Header.Set("webhook-id", "msg_"+sequence+"@"+req.URL.Host)
			req.Header.Set("agentevents-sequence", sequence)
			if resp, err := r.client.Do(req); err == nil {
				_, _ = io.Copy(io.Discard, resp.Body)
				_ = resp.Body.Close()
			}
		}
		if r.ledger != nil {
			r.ledger <- entry{change: c}
		}
	}
}

// entry is a change for the ledger: one that was taken or, without a channel, one that was sent.
type entry struct {
	*change
	durable chan error
}

// openLedger makes a ledger in an empty database, the least that keeps what a relay has taken: a row per change, with
// one column that says whether it was sent, and no index. Entries that wait at the same time share a commit.
func openLedger(ctx context.Context, url string) (chan<- entry, error) {
	driver, name := "pgx", url+"&default_query_exec_mode=simple_protocol" // which prepares no statements
	if strings.HasPrefix(url, "sqlite:") {
		driver, name = "sqlite3", "file:"+sqliteFile(url)+"?_journal_mode=WAL&_synchronous=FULL"
	}
	db, err := sql.Open(driver, name)
	if err != nil {
		return nil, err
	}
	db.SetMaxOpenConns(1)
	_, err = db.ExecContext(ctx, "CREATE TABLE ledger (sequence INTEGER PRIMARY KEY, client TEXT NOT NULL, "+
		"agent BIGINT NOT NULL, status TEXT NOT NULL, sent INTEGER NOT NULL DEFAULT 0)")
	queue := make(chan entry, relayWorkers*relayQueue)
	go keepLedger(context.WithoutCancel(ctx), db, queue)
	return queue, err
}

// keepLedger commits what waits, batch by batch.
func keepLedger(ctx context.Context, db *sql.DB, queue <-chan entry) {
	for e := range queue {
		batch := []entry{e}
		for range min(len(queue), maxBatch-1) {
			batch = append(batch, <-queue)
		}
		var rows []string
		for _, e := range batch {
			rows = append(rows, fmt.Sprintf("(%d, '%s', %d, '%s')", e.sequence, e.name, e.id, e.status))
		}
		_, err := db.ExecContext(ctx, "INSERT INTO ledger (sequence, client, agent, status) VALUES "+
			strings.Join(rows, ", ")+" ON CONFLICT (sequence) DO UPDATE SET sent = 1")
		for _, e := range batch {
			if e.durable != nil {
				e.durable <- err
			}
		}
	}
}
