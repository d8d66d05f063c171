package main

import (
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"strconv"
	"strings"
	"sync/atomic"

	"github.com/agentevents/agentevents/gen"
	"github.com/agentevents/agentevents/webhook"
)

const (
	// relayWorkers is how many forms a relay sends together.
	relayWorkers = 32
	// relayQueue is how many may wait for each of its workers before an answer has to.
	relayQueue = 8192
)

// Relay is the least that takes a change of a status by HTTP and tells receivers of it by HTTP: it signs nothing, forgets
// what fails, and stores nothing, unless it has a ledger. Its exported methods are called from another process.
type Relay struct {
	receivers []string
	ledger    *ledger // may be nil
	client    *http.Client
	waiting   []chan told
	sequence  atomic.Int64
}

// told is a form that is to be sent to all receivers.
type told struct {
	client   string
	agent    int64
	status   gen.AgentStatusValue
	sequence int64
}

// Relaying is what a relay is for.
type Relaying struct {
	Receivers []string // their URLs
	Ledger    string   // the URL of an empty database for its ledger, empty for none
}

// Open begins to serve, and returns the address.
func (r *Relay) Open(x Relaying, addr *string) (err error) {
	r.receivers = x.Receivers
	if x.Ledger != "" {
		if r.ledger, err = openLedger(x.Ledger); err != nil {
			return err
		}
	}
	r.client = &http.Client{Transport: &http.Transport{MaxIdleConnsPerHost: relayWorkers}}
	for range relayWorkers {
		waiting := make(chan told, relayQueue)
		r.waiting = append(r.waiting, waiting)
		go r.work(waiting)
	}
	mux := http.NewServeMux()
	mux.HandleFunc("PUT "+base+"{client}/agent/local/{agent}/status", r.put)
	*addr, err = listen(mux)
	return err
}

// put takes a change. An agent's go to one worker, which keeps their order.
func (r *Relay) put(w http.ResponseWriter, req *http.Request) {
	var u gen.AgentStatusUpdate
	agent, err := strconv.ParseInt(req.PathValue("agent"), 10, 64)
	if err == nil {
		err = json.NewDecoder(req.Body).Decode(&u)
	}
	if err != nil {
		http.Error(w, err.Error(), http.StatusBadRequest)
		return
	}
	t := told{req.PathValue("client"), agent, u.AgentStatus, r.sequence.Add(1)}
	if err := r.ledger.take(t); err != nil {
		http.Error(w, err.Error(), http.StatusServiceUnavailable)
		return
	}
	r.waiting[agent%relayWorkers] <- t
	w.Header().Set("Content-Type", "application/json")
	fmt.Fprintf(w, `{"agent_status":%q,"sequence":%d,"changed":true,"deliveries":%d}`, u.AgentStatus, t.sequence, len(r.receivers))
}

func (r *Relay) work(waiting <-chan told) {
	for t := range waiting {
		for _, receiver := range r.receivers {
			if req, err := t.post(receiver); err == nil {
				r.send(req)
			}
		}
		r.ledger.sent(t)
	}
}

func (r *Relay) send(req *http.Request) {
	resp, err := r.client.Do(req)
	if err != nil {
		return
	}
	_, _ = io.Copy(io.Discard, resp.Body)
	_ = resp.Body.Close()
}

// post is the request that tells a receiver, with the same form as the program's.
func (t told) post(receiver string) (*http.Request, error) {
	form := webhook.Encode(gen.AgentEventData{
		AgentStatus: t.status, AgentType: gen.AgentTypeLocal, EventSource: gen.EventSourceAPI,
		AgentID: strconv.FormatInt(t.agent, 10), ExtensionName: extension(t.agent),
	})
	url := receiver + "/" + t.client + "/" + strconv.FormatInt(t.agent, 10)
	req, err := http.NewRequest(http.MethodPost, url, strings.NewReader(form)) //nolint:noctx // until the process ends
	if err != nil {
		return nil, err
	}
	sequence := strconv.FormatInt(t.sequence, 10)
	req.Header.Set("Content-Type", "application/x-www-form-urlencoded")
	req.Header.Set("webhook-id", "msg_"+sequence+"@"+req.URL.Host)
	req.Header.Set("agentevents-sequence", sequence)
	return req, nil
}

// extension is the name that an agent has.
func extension(agent int64) string { return strconv.FormatInt(agent, 10) + "@example.com" }
