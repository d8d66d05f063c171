package main

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"os/exec"
	"strconv"
	"strings"
	"sync/atomic"
	"syscall"

	"github.com/agentevents/agentevents/gen"
	"github.com/agentevents/agentevents/server/lab"
	"github.com/agentevents/agentevents/webhook"
)

const (
	// relayArgument starts this program as a relay, with the URL of its ledger (empty for none) and those of the
	// receivers.
	relayArgument = "relay"
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

// startRelay starts a relay as a process of its own, and runs a function beside it.
func startRelay(ctx context.Context, urls []string, ledgerURL string, fn func(addr string, pid int) error) (err error) {
	self, err := os.Executable()
	if err != nil {
		return err
	}
	args := append([]string{relayArgument, ledgerURL}, urls...)
	cmd := exec.CommandContext(ctx, self, args...) //nolint:gosec // this program itself
	cmd.Stderr = os.Stderr
	cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true} // Ctrl-C is for this process, which ends that one
	in, err := cmd.StdinPipe()
	if err != nil {
		return err
	}
	out, err := cmd.StdoutPipe()
	if err != nil {
		return err
	}
	if err := cmd.Start(); err != nil {
		return fmt.Errorf("start the relay: %w", err)
	}
	defer func() { err = errors.Join(err, in.Close(), cmd.Wait()) }()
	addr, err := bufio.NewReader(out).ReadString('\n')
	if err != nil {
		return fmt.Errorf("start the relay: %w", err)
	}
	return fn(strings.TrimSpace(addr), cmd.Process.Pid)
}

// serveRelay serves as a relay until its input ends, if the arguments say so, and tells whether they do.
func serveRelay(args []string, in io.Reader, out io.Writer) bool {
	if len(args) < 3 || args[0] != relayArgument {
		return false
	}
	r := &relay{
		receivers: args[2:], client: &http.Client{Transport: &http.Transport{MaxIdleConnsPerHost: relayWorkers}},
	}
	addr, err := r.open(args[1])
	if err != nil {
		fmt.Fprintln(os.Stderr, "relay:", err)
		return true
	}
	fmt.Fprintln(out, addr)
	_, _ = io.Copy(io.Discard, in)
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
	c := change{client: req.PathValue("client"), agent: id, sequence: r.sequence.Add(1)}
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
		AgentID: strconv.FormatInt(c.agent, 10), ExtensionName: extension(c.agent),
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
