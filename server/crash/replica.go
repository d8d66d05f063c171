package main

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"net/url"
	"slices"
	"strings"
	"sync/atomic"
	"time"

	"github.com/agentevents/agentevents/server/lab"
)

// checks is after how many lives of the only server its store is verified.
const checks = 10

// repairLine is what a server logs when it has repaired lanes.
const repairLine = "lanes repaired"

// replica is one of the servers, or the only one, through all its lives.
type replica struct {
	*crash
	number int    // from 1
	url    string // of the database, as it sees it
	proxy  *proxy // to PostgreSQL
	busy   atomic.Bool
	undo   func() error         // ends the fault that it has
	began  time.Time            // its last start
	life   atomic.Pointer[life] // nil while it is down
	logs   []*lab.Log           // of all its lives

	damagedLife int // how many lives it had had when a lane was damaged last; 0 for never
}

// life is a server that has requests.
type life struct {
	*lab.Server
	http http.Client
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
	if r.proxy, err = newProxy(c.database.network, c.database.address); err != nil {
		return r, err
	}
	u.Host = r.proxy.listener.Addr().String()
	q := u.Query()
	q.Set("application_name", r.application())
	u.RawQuery = q.Encode()
	r.url = u.String()
	return r, nil
}

// application is the name that the database knows it by, empty for all.
func (r *replica) application() string {
	if r.number == 0 {
		return ""
	}
	return fmt.Sprintf("replica-%d", r.number)
}

// launch starts a server on a database.
func (c *crash) launch(ctx context.Context, url string) (*lab.Server, error) {
	env := []string{"AGENTEVENTS_RETRY_SCHEDULE=" + schedule, "AGENTEVENTS_TIMEOUT=1m"} // only a kill ends what is held
	if !c.single() {
		env = append(env[:1], "AGENTEVENTS_TIMEOUT="+timeout.String(), "AGENTEVENTS_LOG_LEVEL=debug")
	}
	return lab.Start(context.WithoutCancel(ctx), c.binary, url, env...)
}

// start starts it. While the database has a fault a start may fail, and is tried again.
func (r *replica) start(ctx context.Context) error {
	for {
		r.began = time.Now()
		s, err := r.launch(ctx, r.url)
		if err != nil {
			return err
		}
		r.logs = append(r.logs, s.Log)
		if err = s.Ready(ctx); err == nil {
			base := watcher{&http.Transport{MaxIdleConnsPerHost: 64}, r.crash}
			r.life.Store(&life{s, http.Client{Timeout: patience, Transport: &lab.Operator{URL: s.URL, Base: base}}})
			return nil
		}
		err = errors.Join(s.Explain(err), ignoreEnd(s.Kill()))
		if ctx.Err() != nil || !r.timeline.troubled(0, r.began, everything) {
			return fmt.Errorf("server %d: %w", r.number, err)
		}
		if err := lab.Pause(ctx, 100*time.Millisecond); err != nil {
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

// kill is kill -9. Until the process is gone the owners of connections are found by it.
func (r *replica) kill(ctx context.Context) error {
	err := r.life.Load().Kill()
	return errors.Join(r.life.Swap(nil).Explain(err), r.gone(ctx))
}

// stop stops it in order. Without a database it cannot write what it has counted, and reports that by its exit code.
func (r *replica) stop(ctx context.Context) error {
	began := time.Now()
	err := r.life.Load().Stop()
	s := r.life.Swap(nil)
	if err != nil && !r.timeline.troubled(r.number, began, everything) {
		return fmt.Errorf("server %d: %w", r.number, s.Explain(err))
	}
	return r.gone(ctx)
}

// gone waits until everything is noted that the only server has sent, and verifies its store now and then.
func (r *replica) gone(ctx context.Context) error {
	if !r.single() {
		return nil
	}
	err := r.settle(ctx)
	if err == nil && len(r.logs)%checks == 0 && !r.damaged() {
		err = r.verify(ctx, r.url)
	}
	return err
}

// damaged says whether a lane may still be as the test has damaged it: no server has reported since that it repaired
// one, and the last ones may have been killed before they could.
func (r *replica) damaged() bool {
	return r.damagedLife > 0 && !slices.ContainsFunc(r.logs[r.damagedLife:], func(l *lab.Log) bool {
		return strings.Contains(l.String(), repairLine)
	})
}

// abandon ends what still runs.
func (r *replica) abandon() error {
	if r.proxy != nil {
		r.proxy.close()
	}
	if s := r.life.Swap(nil); s != nil {
		return ignoreEnd(s.Kill())
	}
	return nil
}

// complain notes what it printed that it should never have to, but for a number of lanes whose rows were damaged, which
// the safety net has to find. Errors of the database may happen to replicas.
func (r *replica) complain(damaged int) (left int) {
	for _, log := range r.logs {
		for line := range strings.SplitSeq(log.String(), "\n") {
			repaired := strings.Contains(line, repairLine)
			wrong := strings.Contains(line, "panic") || strings.Contains(line, "DATA RACE") ||
				strings.Contains(line, "level=ERROR") && r.single()
			if repaired && damaged > 0 {
				damaged--
			} else if repaired || wrong {
				r.record.Wrong(complaint, "server %d printed: %s", r.number, line)
			}
		}
	}
	return damaged
}
