package main

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"net/url"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"time"

	"github.com/agentevents/agentevents/server/lab"
)

// timeout is what replicas are given for an attempt, so that a lease is short.
const timeout = 2 * time.Second

// replica is one of the servers that share a database.
type replica struct {
	fleet  *fleet
	number int // from 1
	proxy  *proxy
	busy   atomic.Bool // it is in trouble

	mu     sync.Mutex
	server *lab.Server // nil while it is down
	http   *http.Client
	logs   []*lab.Log // of all its lives
}

// application is the name that the database knows it by.
func (r *replica) application() string { return fmt.Sprintf("replica-%d", r.number) }

// databaseURL leads through the proxy.
func (r *replica) databaseURL() string {
	u, err := url.Parse(r.fleet.url)
	if err != nil {
		return r.fleet.url // which says what is wrong to whoever connects
	}
	u.Host = r.proxy.listener.Addr().String()
	q := u.Query()
	q.Set("application_name", r.application())
	u.RawQuery = q.Encode()
	return u.String()
}

// start starts it. While the database is in trouble a start may fail, and is tried again.
func (r *replica) start(ctx context.Context) error {
	for {
		began := time.Now()
		s, err := r.tryStart(ctx)
		if err == nil {
			r.serve(s)
			return nil
		}
		err = fmt.Errorf("replica %d: %w", r.number, s.Explain(err))
		if ctx.Err() != nil || !r.fleet.book.troubled(0, began) {
			return err
		}
		if err := r.fleet.pause(ctx, 100*time.Millisecond); err != nil {
			return err
		}
	}
}

func (r *replica) tryStart(ctx context.Context) (*lab.Server, error) {
	s, err := lab.Start(context.WithoutCancel(ctx), r.fleet.binary, r.databaseURL(),
		"AGENTEVENTS_TIMEOUT="+timeout.String(),
		"AGENTEVENTS_RETRY_SCHEDULE="+schedule,
		"AGENTEVENTS_LOG_LEVEL=debug",
		"GORACE=atexit_sleep_ms=0", // else the race detector makes every exit a second longer
	)
	if err != nil {
		return &lab.Server{Log: &lab.Log{}}, err
	}
	r.mu.Lock()
	r.logs = append(r.logs, s.Log)
	r.mu.Unlock()
	if err := s.Ready(ctx); err != nil {
		return s, errors.Join(err, ignoreEnd(s.Kill()))
	}
	return s, nil
}

// ignoreEnd is for a server that may have ended by itself.
func ignoreEnd(err error) error {
	if err != nil && strings.Contains(err.Error(), "ended by itself") {
		return nil
	}
	return err
}

// serve lets it have requests.
func (r *replica) serve(s *lab.Server) {
	base := &http.Transport{MaxIdleConnsPerHost: 64}
	r.mu.Lock()
	defer r.mu.Unlock()
	r.server = s
	r.http = &http.Client{Timeout: patience, Transport: &lab.Operator{URL: s.URL, Base: watcher{base, r.fleet.book}}}
}

// away lets it have no more requests, and returns the server.
func (r *replica) away() *lab.Server {
	r.mu.Lock()
	defer r.mu.Unlock()
	s := r.server
	r.server = nil
	return s
}

// running is the server, nil while it is down.
func (r *replica) running() *lab.Server {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.server
}

// address is where it has requests, empty while it is down.
func (r *replica) address() (host string, c *http.Client) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.server == nil {
		return "", nil
	}
	return strings.TrimPrefix(r.server.URL, "http://"), r.http
}

// abandon ends what still runs.
func (r *replica) abandon() error {
	if s := r.away(); s != nil {
		return ignoreEnd(s.Kill())
	}
	return nil
}

// stop stops it in order. Without a database it cannot write what it has counted, and says so by its exit code.
func (r *replica) stop() error {
	began, s := time.Now(), r.running()
	err := s.Stop()
	r.away()
	if err == nil || r.fleet.book.troubled(r.number, began) {
		return nil
	}
	return fmt.Errorf("replica %d: %w", r.number, s.Explain(err))
}

// complain tells what it printed that it should never have to. Errors of the database it may.
func (r *replica) complain() {
	for _, log := range r.logs {
		for line := range strings.SplitSeq(log.String(), "\n") {
			if strings.Contains(line, "panic") || strings.Contains(line, "DATA RACE") || strings.Contains(line, "lanes mended") {
				r.fleet.book.wrong(complaint, "replica %d printed: %s", r.number, line)
			}
		}
	}
}

// hit is a blow, and what it takes to get up again.
func (r *replica) hit(ctx context.Context, s stroke) error {
	r.fleet.book.times.server(r.number, false)
	defer r.fleet.book.times.server(r.number, true)
	switch s.blow {
	case killed, stopped:
		if err := r.end(s.blow); err != nil {
			return err
		}
		if err := r.fleet.pause(ctx, s.lasts); err != nil {
			return err
		}
		return r.start(ctx)
	case ended:
		r.fleet.atDatabase.Lock()
		defer r.fleet.atDatabase.Unlock()
		defer r.fleet.book.over(r.fleet.book.trouble(s.blow, r.number))
		return r.fleet.endConnections(ctx, r.application())
	case cutOff:
		defer r.fleet.book.over(r.fleet.book.trouble(s.blow, r.number))
		defer r.proxy.cut()()
		return r.fleet.pause(ctx, s.lasts)
	}
	return r.freeze(ctx, s)
}

// end ends it for a while.
func (r *replica) end(b blow) error {
	defer r.fleet.book.over(r.fleet.book.trouble(b, r.number))
	if b == stopped {
		return r.stop()
	}
	err := r.running().Kill() // before it is taken away: who holds a connection is asked until then
	r.away()
	return err
}

func (r *replica) freeze(ctx context.Context, s stroke) error {
	defer r.fleet.book.over(r.fleet.book.trouble(s.blow, r.number))
	pid := r.running().PID()
	if err := syscall.Kill(pid, syscall.SIGSTOP); err != nil {
		return fmt.Errorf("freeze replica %d: %w", r.number, err)
	}
	err := r.fleet.pause(ctx, s.lasts)
	return errors.Join(err, syscall.Kill(pid, syscall.SIGCONT))
}
