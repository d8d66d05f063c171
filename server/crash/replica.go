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
	"time"

	"github.com/agentevents/agentevents/server/lab"
)

// checks is after how many lives of the only server its store is verified.
const checks = 10

// replica is one of the servers, or the only one, through all its lives.
type replica struct {
	crash  *crash
	number int    // from 1
	url    string // of the database, as it sees it
	proxy  *proxy // to PostgreSQL
	busy   atomic.Bool
	undo   func() error // ends the fault that it has
	began  time.Time    // its last start

	mu     sync.Mutex
	server *lab.Server // nil while it is down
	http   *http.Client
	logs   []*lab.Log // of all its lives
}

// newReplica prepares a server, with a proxy to the database if that is PostgreSQL.
func newReplica(c *crash, number int) (*replica, error) {
	r := &replica{crash: c, number: number, url: c.database.url}
	if c.single() {
		return r, nil
	}
	u, err := url.Parse(r.url)
	if err != nil {
		return r, err
	}
	r.proxy, err = newProxy(c.database.network, c.database.address)
	if err != nil {
		return r, err
	}
	u.Host = r.proxy.listener.Addr().String()
	q := u.Query()
	q.Set("application_name", r.application())
	u.RawQuery = q.Encode()
	r.url = u.String()
	return r, nil
}

// application is the name that the database knows it by.
func (r *replica) application() string { return fmt.Sprintf("replica-%d", r.number) }

// launch starts a server on a database.
func (c *crash) launch(ctx context.Context, url string) (*lab.Server, error) {
	env := []string{"AGENTEVENTS_RETRY_SCHEDULE=" + schedule, "AGENTEVENTS_TIMEOUT=1m"} // only a kill ends what is held
	if !c.single() {
		env = append(env[:1], "AGENTEVENTS_TIMEOUT="+timeout.String(), "AGENTEVENTS_LOG_LEVEL=debug")
	}
	return lab.Start(context.WithoutCancel(ctx), c.binary, url, env...)
}

// start starts it, with receivers that leave some requests without an answer, or not. While the database has a fault a start
// may fail, and is tried again.
func (r *replica) start(ctx context.Context, holds bool) error {
	if r.crash.single() {
		r.crash.hold(holds)
		if n := len(r.logs); n > 0 && n%checks == 0 {
			if err := r.crash.verify(ctx, r.url); err != nil {
				return err
			}
		}
	}
	for {
		r.began = time.Now()
		s, err := r.crash.launch(ctx, r.url)
		if err != nil {
			return err
		}
		r.logs = append(r.logs, s.Log)
		err = s.Ready(ctx)
		if err == nil {
			r.serve(s)
			return nil
		}
		err = fmt.Errorf("server %d: %w", r.number, s.Explain(errors.Join(err, ignoreEnd(s.Kill()))))
		if ctx.Err() != nil || !r.crash.timeline.troubled(0, r.began, everything) {
			return err
		}
		if err := pause(ctx, 100*time.Millisecond); err != nil {
			return err
		}
	}
}

// ignoreEnd is for a server that may have ended by itself.
func ignoreEnd(err error) error {
	if errors.Is(err, lab.ErrEnded) {
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
	r.http = &http.Client{Timeout: patience, Transport: &lab.Operator{URL: s.URL, Base: watcher{base, r.crash}}}
}

// leave lets it have no more requests, and returns the server.
func (r *replica) leave() *lab.Server {
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

// kill is kill -9. The process that owns a connection is found until it is gone.
func (r *replica) kill(ctx context.Context) error {
	s := r.running()
	err := s.Kill()
	r.leave()
	return errors.Join(s.Explain(err), r.settle(ctx))
}

// stop stops it in order. Without a database it cannot write what it has counted, and reports that by its exit code.
func (r *replica) stop(ctx context.Context) error {
	began, s := time.Now(), r.running()
	err := s.Stop()
	if r.leave(); err != nil && !r.crash.timeline.troubled(r.number, began, everything) {
		return fmt.Errorf("server %d: %w", r.number, s.Explain(err))
	}
	return r.settle(ctx)
}

// settle waits until everything is noted that it has sent, if it is the only one.
func (r *replica) settle(ctx context.Context) error {
	if !r.crash.single() {
		return nil
	}
	return r.crash.settle(ctx)
}

// abandon ends what still runs.
func (r *replica) abandon() error {
	if r.proxy != nil {
		r.proxy.close()
	}
	if s := r.leave(); s != nil {
		return ignoreEnd(s.Kill())
	}
	return nil
}
