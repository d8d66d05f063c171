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

	"github.com/jackc/pgx/v5"
)

// errAway says that a replica or the database was away. Whether the request was carried out is not known.
var errAway = errors.New("away")

// router makes requests of the replicas: mostly of one, and of another one after an error and now and then, so that not
// everybody waits for one that is frozen.
type router struct {
	fleet  *fleet
	mu     sync.Mutex
	random *rand.Rand
	home   int
}

// Do implements client.HTTPRequestDoer. After an error whatever the request did is done and to be seen.
func (r *router) Do(req *http.Request) (*http.Response, error) {
	ctx := req.Context()
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
	if ctx.Err() != nil {
		return nil, ctx.Err()
	}
	return nil, errors.Join(r.fleet.decided(ctx, to), fmt.Errorf("%w: replica %d: %w", errAway, to.number, err))
}

// pick takes a replica that is not known to be down, a frozen one too.
func (r *router) pick(ctx context.Context) (*replica, string, *http.Client, error) {
	for {
		to := r.next()
		if host, c := to.address(); host != "" {
			return to, host, c, nil
		}
		r.leave()
		select {
		case <-ctx.Done():
			return nil, "", nil, ctx.Err()
		case <-time.After(time.Millisecond):
		}
	}
}

func (r *router) next() *replica {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.random.IntN(20) == 0 {
		return r.fleet.replicas[r.random.IntN(len(r.fleet.replicas))]
	}
	return r.fleet.replicas[r.home]
}

// leave looks for another home.
func (r *router) leave() {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.home = r.random.IntN(len(r.fleet.replicas))
}

// decided waits until the database has ended all that a replica had begun by now, one way or the other.
func (f *fleet) decided(ctx context.Context, r *replica) error {
	limit := time.Now().Add(silence)
	var began *time.Time
	for {
		var open bool
		err := f.ask(ctx, func(conn *pgx.Conn) error {
			if began == nil {
				if err := conn.QueryRow(ctx, "SELECT clock_timestamp()").Scan(&began); err != nil {
					return err
				}
			}
			return conn.QueryRow(ctx, "SELECT EXISTS (SELECT 1 FROM pg_stat_activity WHERE application_name = $1 "+
				"AND xact_start <= $2)", r.application(), *began).Scan(&open)
		})
		switch {
		case err == nil && !open:
			return nil
		case time.Now().After(limit):
			return errors.Join(fmt.Errorf("a transaction of replica %d does not end", r.number), err)
		}
		if err := f.pause(ctx, 20*time.Millisecond); err != nil {
			return err
		}
	}
}

// watcher looks at what servers answer when something is wrong: it is 503, and says when to come again.
type watcher struct {
	http.RoundTripper
	book *ledger
}

func (w watcher) RoundTrip(r *http.Request) (*http.Response, error) {
	resp, err := w.RoundTripper.RoundTrip(r)
	switch {
	case err != nil || resp.StatusCode < http.StatusInternalServerError:
	case resp.StatusCode != http.StatusServiceUnavailable:
		w.book.wrong(complaint, "%s %s was answered %s", r.Method, r.URL.Path, resp.Status)
	case resp.Header.Get("Retry-After") == "":
		w.book.wrong(complaint, "%s %s was answered 503 without Retry-After", r.Method, r.URL.Path)
	default:
		w.book.refuse()
	}
	return resp, err
}
