package main

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/agentevents/agentevents/server/lab"
	"github.com/agentevents/agentevents/store/benchfill"
)

// Moments.

func afterChanges(ctx context.Context, r *replica, s *stroke) error {
	return grows(ctx, s, func() int { return r.tally.of(statusSet) })
}

// afterRequests is when some have arrived: the last is being answered, and not recorded yet.
func afterRequests(ctx context.Context, r *replica, s *stroke) error {
	return grows(ctx, s, r.record.Count)
}

func grows(ctx context.Context, s *stroke, count func() int) error {
	want := count() + 1 + s.random.IntN(200)
	return until(ctx, patience, func() bool { return count() >= want })
}

func afterTime(ctx context.Context, _ *replica, s *stroke) error {
	return lab.Pause(ctx, s.upTo(300*time.Millisecond))
}

// whileHeld is when the first receiver holds some requests.
func whileHeld(ctx context.Context, r *replica, s *stroke) error {
	r.hold(true)
	want := min(1+s.random.IntN(3), r.agents/4)
	return until(ctx, patience, func() bool {
		now, _ := r.inFlight(r.began)
		return len(now) >= want
	})
}

// Faults and recoveries.

func startServer(ctx context.Context, r *replica, s *stroke) error {
	r.hold(r.single() && s.random.IntN(4) > 0)
	return r.start(ctx)
}

func killServer(ctx context.Context, r *replica, _ *stroke) error { return r.kill(ctx) }

func stopServer(ctx context.Context, r *replica, _ *stroke) error { return r.stop(ctx) }

func undoFault(_ context.Context, r *replica, _ *stroke) error { return r.undo() }

// prompt is how soon after a start everything has arrived again that was in flight at a kill. The server promises a
// second. What differs from that is the end of a lease, more than a minute.
const prompt = 5 * time.Second

// killTwice kills a server, and again when what was in flight has come again.
func killTwice(ctx context.Context, r *replica, _ *stroke) error {
	err := r.kill(ctx)
	r.hold(false)
	if err := errors.Join(err, r.start(ctx)); err != nil {
		return err
	}
	began, again := time.Now(), r.began
	_, cut := r.inFlight(again)
	r.tally.add(heldTwice, len(cut))
	err = until(ctx, prompt, func() bool {
		_, cut = r.inFlight(again)
		return len(cut) == 0
	})
	r.longestAgain = max(r.longestAgain, time.Since(began))
	if errors.Is(err, errLate) {
		r.record.Wrong(lateStart, "what was in flight at a kill did not come again within %v: %v", prompt, cut)
		err = nil
	}
	return errors.Join(err, r.kill(ctx))
}

// killStarting kills a server before it is ready again, or hardly later.
func killStarting(ctx context.Context, r *replica, s *stroke) error {
	if err := errors.Join(r.kill(ctx), r.killEarly(ctx, r.url, s)); err != nil {
		return err
	}
	return r.gone(ctx)
}

// killEarly starts a server and kills it after a part of the time that a start takes.
func (c *crash) killEarly(ctx context.Context, url string, s *stroke) error {
	server, err := c.launch(ctx, url)
	if err != nil {
		return err
	}
	err = lab.Pause(ctx, s.upTo(c.startTook))
	return errors.Join(err, server.Explain(server.Kill()))
}

// killStopping sends SIGTERM and kills the server shortly after, if it has not stopped in order by then.
func killStopping(ctx context.Context, r *replica, s *stroke) error {
	server, stopped := r.life.Swap(nil), make(chan error, 1)
	go func() { stopped <- server.Stop() }()
	select {
	case err := <-stopped:
		return errors.Join(server.Explain(err), r.gone(ctx))
	case <-time.After(s.upTo(60 * time.Millisecond)):
	}
	killed := server.Kill()
	if err := <-stopped; killed != nil && err != nil {
		return server.Explain(errors.Join(killed, err))
	}
	return r.gone(ctx)
}

// killNew kills a server while it makes a store. Whatever is there then, the next start is one like any other.
func killNew(ctx context.Context, r *replica, s *stroke) error {
	url := fmt.Sprintf("sqlite:%s/new-%d.db", r.dir, r.tally.of(s.name))
	if err := r.killEarly(ctx, url, s); err != nil {
		return err
	}
	server, err := r.launch(ctx, url)
	if err != nil {
		return err
	}
	return errors.Join(server.Explain(errors.Join(server.Ready(ctx), server.Stop())), r.verify(ctx, url))
}

// startSecond starts another server on a file that one serves, which must be refused.
func startSecond(ctx context.Context, r *replica, _ *stroke) error {
	server, err := r.launch(ctx, r.url)
	if err != nil {
		return err
	}
	if server.Ready(ctx) == nil {
		r.record.Wrong(complaint, "a second server serves a file that another one does")
	}
	return ignoreEnd(server.Kill())
}

// damageLane kills a server and makes the row of a lane wrong. The safety net, which looks when a server starts, has to
// find that.
func damageLane(ctx context.Context, r *replica, _ *stroke) error {
	if err := r.kill(ctx); err != nil {
		return err
	}
	r.tally.add(laneDamaged, 1)
	r.damagedLife = len(r.logs)
	return benchfill.DamageLane(ctx, r.database.DB)
}

func freezeServer(_ context.Context, r *replica, _ *stroke) (err error) {
	r.undo, err = r.life.Load().Freeze()
	return err
}

func cutOff(_ context.Context, r *replica, _ *stroke) error {
	r.undo = r.proxy.cut()
	return nil
}

// endConnections ends a server's connections to the database, or those of all.
func endConnections(ctx context.Context, r *replica, _ *stroke) error {
	_, err := r.database.ExecContext(ctx, "SELECT pg_terminate_backend(pid) FROM pg_stat_activity "+
		"WHERE datname = current_database() AND pid <> pg_backend_pid() AND ($1 = '' OR application_name = $1)",
		r.application())
	return err
}

func restartDatabase(ctx context.Context, r *replica, _ *stroke) error {
	return r.database.cluster.Restart(ctx)
}

func crashDatabase(ctx context.Context, r *replica, _ *stroke) error {
	return r.database.cluster.Crash(ctx)
}
