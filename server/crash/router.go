package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"net/http"
	"sync"
	"time"
)

// errAway says that a server or the database was away. Whether the request was carried out is not known.
var errAway = errors.New("away")

// router makes requests of the servers: mostly of one, and of another one after an error and now and then, so that not
// everything waits for one that is frozen.
type router struct {
	crash  *crash
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
	to, host, c, err := r.pick(ctx)
	if err != nil {
		return nil, err
	}
	out := req.Clone(ctx)
	out.URL.Host, out.Host = host, host
	resp, err := c.Do(out)
	if err == nil && resp.StatusCode != http.StatusServiceUnavailable {
		return resp, nil
	}
	if err == nil {
		err = errors.New(resp.Status)
		_, _ = io.Copy(io.Discard, resp.Body)
		_ = resp.Body.Close()
	}
	r.leave()
	err = fmt.Errorf("%w: server %d: %w", errAway, to.number, err)
	switch {
	case ctx.Err() != nil:
		return nil, context.Cause(ctx)
	case !r.crash.single():
		return nil, errors.Join(r.crash.decided(ctx, to), err)
	case !r.crash.timeline.troubled(to.number, began, nothing):
		return nil, fmt.Errorf("without a fault: %v", err) //nolint:errorlint // it was not away
	}
	return nil, err
}

// pick takes a server that is not known to be down, a frozen one too.
func (r *router) pick(ctx context.Context) (to *replica, host string, c *http.Client, err error) {
	for {
		to = r.next()
		if host, c = to.address(); host != "" {
			return to, host, c, nil
		}
		r.leave()
		if err := pause(ctx, time.Millisecond); err != nil {
			return nil, "", nil, err
		}
	}
}

func (r *router) next() *replica {
	r.mu.Lock()
	defer r.mu.Unlock()
	all := r.crash.replicas
	if r.random.IntN(20) == 0 {
		return all[r.random.IntN(len(all))]
	}
	return all[r.home]
}

// leave looks for another home.
func (r *router) leave() {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.home = r.random.IntN(len(r.crash.replicas))
}

// decided waits until PostgreSQL has ended everything that a server had begun by now, one way or the other.
func (c *crash) decided(ctx context.Context, r *replica) error {
	var began *time.Time
	var err error
	late := until(ctx, silence, func() bool {
		var open bool
		if began == nil {
			err = c.database.QueryRowContext(ctx, "SELECT clock_timestamp()").Scan(&began)
		}
		if err == nil {
			err = c.database.QueryRowContext(ctx, "SELECT EXISTS (SELECT 1 FROM pg_stat_activity WHERE application_name = $1 "+
				"AND xact_start <= $2)", r.application(), began).Scan(&open)
		}
		return err == nil && !open
	})
	if errors.Is(late, errLate) {
		return errors.Join(fmt.Errorf("a transaction of server %d does not end", r.number), err)
	}
	return late
}

// watcher looks at what servers answer when something is wrong: it is 503, with Retry-After.
type watcher struct {
	http.RoundTripper
	crash *crash
}

// RoundTrip implements http.RoundTripper.
func (w watcher) RoundTrip(r *http.Request) (*http.Response, error) {
	resp, err := w.RoundTripper.RoundTrip(r)
	switch {
	case err != nil || resp.StatusCode < http.StatusInternalServerError:
	case resp.StatusCode != http.StatusServiceUnavailable:
		w.crash.record.Wrong(complaint, "%s %s was answered %s", r.Method, r.URL.Path, resp.Status)
	case resp.Header.Get("Retry-After") == "":
		w.crash.record.Wrong(complaint, "%s %s was answered 503 without Retry-After", r.Method, r.URL.Path)
	default:
		w.crash.tally.add(refused, 1)
	}
	return resp, err
}
