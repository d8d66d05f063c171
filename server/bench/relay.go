package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"os/signal"
	"strconv"
	"strings"
	"sync/atomic"
	"syscall"

	"github.com/agentevents/agentevents/gen"
	"github.com/agentevents/agentevents/server/lab"
	"github.com/agentevents/agentevents/webhook"
)

const (
	// relayVariable makes this program a relay. It has the URLs of the receivers; where the program has its database,
	// the relay has its ledger, if any.
	relayVariable = "BENCH_RELAY"
	// relayWorkers is how many forms a relay sends at the same time.
	relayWorkers = 32
	// relayQueue is how many may wait for each worker before an answer has to wait.
	relayQueue = 8192
)

// relay is the least that takes a status change by HTTP and sends it to receivers by HTTP: it signs nothing, forgets
// what fails, and stores nothing, unless it has a ledger.
type relay struct {
	receivers []string
	ledger    *ledger // may be nil
	client    *http.Client
	queues    []chan change // by agent, which keeps the order of its changes
	sequence  atomic.Int64
}

// serveRelay serves as a relay until SIGTERM, as lab starts and stops a server, if the environment says so. It returns
// whether it does.
func serveRelay() bool {
	urls := os.Getenv(relayVariable)
	if urls == "" {
		return false
	}
	ctx, stop := signal.NotifyContext(context.Background(), syscall.SIGTERM)
	defer stop()
	r := &relay{
		receivers: strings.Split(urls, ","),
		client:    &http.Client{Transport: &http.Transport{MaxIdleConnsPerHost: relayWorkers}},
	}
	addr, err := r.open(os.Getenv("AGENTEVENTS_DATABASE_URL"))
	if err != nil {
		fmt.Fprintln(os.Stderr, "relay:", err)
		return true
	}
	fmt.Fprintf(os.Stderr, "http://%s%s\n", addr, lab.APIPath)
	<-ctx.Done()
	return true
}

func (r *relay) open(ledgerURL string) (addr string, err error) {
	if ledgerURL != "" {
		if r.ledger, err = openLedger(ledgerURL); err != nil {
			return "", err
		}
	}
	for range relayWorkers {
		queue := make(chan change, relayQueue)
		r.queues = append(r.queues, queue)
		go r.forward(queue)
	}
	mux := http.NewServeMux()
	mux.HandleFunc("GET /readyz", func(http.ResponseWriter, *http.Request) {})
	mux.HandleFunc("POST /oauth/token", func(w http.ResponseWriter, _ *http.Request) {
		fmt.Fprint(w, `{"access_token":"any"}`)
	})
	mux.HandleFunc("PUT "+lab.APIPath+"/client/{client}/agent/local/{agent}/status", r.put)
	l, err := net.Listen("tcp", "127.0.0.1:0") //nolint:noctx // does not wait
	if err != nil {
		return "", err
	}
	go func() { _ = http.Serve(l, mux) }() // until the process ends
	return l.Addr().String(), nil
}

// put takes a change.
func (r *relay) put(w http.ResponseWriter, req *http.Request) {
	var u gen.AgentStatusUpdate
	id, err := strconv.ParseInt(req.PathValue("agent"), 10, 64)
	c := change{agent: &agent{client: req.PathValue("client"), id: id}, sequence: r.sequence.Add(1)}
	if err = errors.Join(err, json.NewDecoder(req.Body).Decode(&u)); err == nil {
		c.status = u.AgentStatus
		err = r.ledger.take(c)
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

// forward sends the changes of a queue to all receivers.
func (r *relay) forward(queue <-chan change) {
	for c := range queue {
		for i, url := range r.receivers {
			req, err := formRequest(c, url, i)
			if err != nil {
				continue
			}
			if resp, err := r.client.Do(req); err == nil {
				_, _ = io.Copy(io.Discard, resp.Body)
				_ = resp.Body.Close()
			}
		}
		r.ledger.sent(c)
	}
}

// formRequest is the request for a change to a receiver, with the same form as the program's.
func formRequest(c change, url string, receiver int) (*http.Request, error) {
	form := webhook.Encode(gen.AgentEventData{
		AgentStatus: c.status, AgentType: gen.AgentTypeLocal, EventSource: gen.EventSourceAPI,
		AgentID: strconv.FormatInt(c.id, 10), ExtensionName: extension(c.id),
	})
	//nolint:noctx // until the process ends
	req, err := http.NewRequest(http.MethodPost, url+c.path(receiver), strings.NewReader(form))
	if err != nil {
		return nil, err
	}
	sequence := strconv.FormatInt(c.sequence, 10)
	req.Header.Set("Content-Type", "application/x-www-form-urlencoded")
	req.Header.Set("webhook-id", "msg_"+sequence+"@"+req.URL.Host)
	req.Header.Set("agentevents-sequence", sequence)
	return req, nil
}

// extension is the name that an agent has.
func extension(id int64) string { return strconv.FormatInt(id, 10) + "@example.com" }
