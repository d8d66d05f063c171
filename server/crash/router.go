package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"net/http"
	"strings"
	"sync"
	"time"

	"github.com/agentevents/agentevents/server/lab"
)

// errAway says that a server or the database was away. Whether the request was carried out is not known.
var errAway = errors.New("away")

// router makes requests of the servers: mostly of one, and of another one after an error and now and then, so that not
// everything waits for one that is frozen.
type router struct {
	*crash
	mu     sync.Mutex
	random *rand.Rand
	home   int
}

func (c *crash) router(number int) *router {
	return &router{crash: c, random: c.random(2, number), home: number % len(c.replicas)}
}

// Do implements lab.Doer. After errAway everything that the request may do is done and can be seen.
func (r *router) Do(req *http.Request) (*http.Response, error) {
	ctx, began := req.Context(), time.Now()
	to, s := r.pick()
	for ; s == nil; to, s = r.pick() {
		r.leave()
		if err := lab.Pause(ctx, time.Millisecond); err != nil {
			return nil, err
		}
	}
	out := req.Clone(ctx)
	out.URL.Host = strings.TrimPrefix(s.URL, "http://")
	out.Host = out.URL.Host
	resp, err := s.http.Do(out)
	if err == nil && resp.StatusCode != http.StatusServiceUnavailable {
		return resp, nil
	}
	if err == nil {
		err = errors.New(resp.Status)
		_, _ = io.Copy(io.Discard, resp.Body)
		_ = resp.Body.Close()
	}
	r.leave()
	switch {
	case ctx.Err() != nil:
		return nil, context.Cause(ctx)
	case !r.single():
		return nil, errors.Join(r.decided(ctx, to), fmt.Errorf("%w: server %d: %w", errAway, to.number, err))
	case !r.timeline.troubled(to.number, began, nothing):
		return nil, fmt.Errorf("without a fault: %w", err)
	}
	return nil, fmt.Errorf("%w: %w", errAway, err)
}

// pick takes a server, a frozen one too, of which the life is nil while it is down.
func (r *router) pick() (*replica, *life) {
	r.mu.Lock()
	defer r.mu.Unlock()
	to := r.replicas[r.home]
	if r.random.IntN(20) == 0 {
		to = r.replicas[r.random.IntN(len(r.replicas))]
	}
	return to, to.life.Load()
}

// leave looks for another home.
func (r *router) leave() {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.home = r.random.IntN(len(r.replicas))
}

// decided waits until PostgreSQL has ended everything that a server had begun by now, one way or the other.
func (c *crash) decided(ctx context.Context, r *replica) error {
	var began *time.Time
	var err error
	late := until(ctx, silence, func() bool {
		open := true
		if began == nil {
			err = c.database.QueryRowContext(ctx, "SELECT clock_timestamp()").Scan(&began)
		} else {
			err = c.database.QueryRowContext(ctx, "SELECT EXISTS (SELECT 1 FROM pg_stat_activity WHERE "+
				"application_name = $1 AND xact_start <= $2)", r.application(), began).Scan(&open)
		}
		return err == nil && !open
	})
	if errors.Is(late, errLate) {
		return fmt.Errorf("a transaction of server %d does not end (%w)", r.number, err)
	}
	return late
}

// watcher looks at what servers answer when something is wrong: it is 503, with Retry-After.
type watcher struct {
	http.RoundTripper
	*crash
}

// RoundTrip implements http.RoundTripper.
func (w watcher) RoundTrip(r *http.Request) (*http.Response, error) {
	resp, err := w.RoundTripper.RoundTrip(r)
	switch {
	case err != nil || resp.StatusCode < http.StatusInternalServerError:
	case resp.StatusCode != http.StatusServiceUnavailable || resp.Header.Get("Retry-After") == "":
		w.record.Wrong(complaint, "%s %s was answered %s, Retry-After %q",
			r.Method, r.URL.Path, resp.Status, resp.Header.Get("Retry-After"))
	default:
		w.tally.add(unavailable, 1)
	}
	return resp, err
}
