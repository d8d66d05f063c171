package main

import (
	"context"
	"fmt"
	"io"
	"net"
	"net/http"
	"slices"
	"strings"
	"sync"
	"time"
)

// received lists the events that a program must cause, sorted.
const received = `POST agent_status=available agent_type=local event_source=api agent_id=136 ` +
	`extension_name=000*094@ringme.ru agent_number=
POST agent_status=available agent_type=remote event_source=api agent_id=7 extension_name= agent_number=Доб. *7@Юг`

// keys are the fields of AgentEventData.
var keys = []string{"agent_status", "agent_type", "event_source", "agent_id", "extension_name", "agent_number"}

// receiver answers every request with 200, and records it.
type receiver struct {
	url  string
	http *http.Server
	show io.Writer

	mu    sync.Mutex
	lines []string
}

func newReceiver(ctx context.Context, address string) (*receiver, error) {
	l, err := (&net.ListenConfig{}).Listen(ctx, "tcp", address)
	if err != nil {
		return nil, fmt.Errorf("start the receiver: %w", err)
	}
	r := &receiver{url: "http://" + l.Addr().String() + "/", show: io.Discard}
	r.http = &http.Server{Handler: r, ReadHeaderTimeout: 10 * time.Second}
	go func() { _ = r.http.Serve(l) }() // until close
	return r, nil
}

func (r *receiver) close() { _ = r.http.Close() }

// ServeHTTP implements http.Handler.
func (r *receiver) ServeHTTP(_ http.ResponseWriter, req *http.Request) {
	fields := []string{req.Method}
	for _, key := range keys {
		fields = append(fields, key+"="+req.FormValue(key))
	}
	text := strings.Join(fields, " ")
	r.mu.Lock()
	defer r.mu.Unlock()
	r.lines = append(r.lines, text)
	fmt.Fprintln(r.show, text)
}

// sorted returns the recorded events, sorted, since the order between agents is undefined.
func (r *receiver) sorted() string {
	r.mu.Lock()
	defer r.mu.Unlock()
	return strings.Join(slices.Sorted(slices.Values(r.lines)), "\n")
}

// receive prints events until ctx ends.
func receive(ctx context.Context, address string, stdout io.Writer) error {
	r, err := newReceiver(ctx, address)
	if err != nil {
		return err
	}
	defer r.close()
	r.mu.Lock()
	r.show = stdout
	r.mu.Unlock()
	fmt.Fprintf(stdout, "Receiving at %s until interrupted\n", r.url)
	<-ctx.Done()
	return nil
}
