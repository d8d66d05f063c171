package main

import (
	"context"
	"time"

	"github.com/jackc/pgx/v5"
)

// strike deals blows until the time is over and all replicas are up again.
func (f *fleet) strike(ctx context.Context) error {
	d := &dealer{random: f.random(0, -1), replicas: len(f.replicas), private: f.cluster != nil}
	began, printed := time.Now(), time.Time{}
	for time.Since(began) < f.lasts {
		s := d.next()
		if err := f.deal(ctx, s); err != nil {
			return err
		}
		if err := f.pause(ctx, s.pause); err != nil {
			return err
		}
		if f.out.terminal || time.Since(printed) > f.lasts/10 {
			printed = time.Now()
			changes, requests := f.book.sofar()
			f.out.passing(time.Since(began), f.lasts, s.blow, changes, requests)
		}
	}
	f.blows.Wait()
	return f.life.trouble()
}

// pause waits, or returns what has gone wrong.
func (f *fleet) pause(ctx context.Context, d time.Duration) error {
	select {
	case <-time.After(d):
		return f.life.trouble()
	case err := <-f.life.broken:
		return err
	case <-ctx.Done():
		return ctx.Err()
	}
}

// deal begins a blow as soon as there is somebody who is not in trouble.
func (f *fleet) deal(ctx context.Context, s stroke) error {
	if s.blow.ofDatabase() {
		f.blows.Go(func() { f.broke(f.hitDatabase(ctx, s.blow)) })
		return nil
	}
	r, err := f.free(ctx, s.replica)
	if err != nil {
		return err
	}
	f.blows.Go(func() {
		defer r.busy.Store(false)
		f.broke(r.hit(ctx, s))
	})
	return nil
}

// free waits for a replica that is not in trouble, from a certain one on, and takes it.
func (f *fleet) free(ctx context.Context, from int) (*replica, error) {
	for {
		for i := range f.replicas {
			r := f.replicas[(from-1+i)%len(f.replicas)]
			if r.busy.CompareAndSwap(false, true) {
				return r, nil
			}
		}
		if err := f.pause(ctx, 10*time.Millisecond); err != nil {
			return nil, err
		}
	}
}

func (f *fleet) broke(err error) {
	if err == nil {
		return
	}
	select {
	case f.life.broken <- err:
	default: // one is enough
	}
}

// hitDatabase is a blow that all replicas have.
func (f *fleet) hitDatabase(ctx context.Context, b blow) error {
	f.atDatabase.Lock()
	defer f.atDatabase.Unlock()
	defer f.book.over(f.book.trouble(b, 0))
	f.book.times.database(false)
	defer f.book.times.database(true)
	switch b {
	case restarted:
		return f.pgtest.Restart(ctx)
	case crashed:
		return f.pgtest.Crash(ctx)
	}
	return f.endConnections(ctx, "")
}

// endConnections ends a replica's connections, or everybody's.
func (f *fleet) endConnections(ctx context.Context, application string) error {
	return f.ask(ctx, func(conn *pgx.Conn) error {
		_, err := conn.Exec(ctx, "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE datname = current_database() "+
			"AND pid <> pg_backend_pid() AND ($1 = '' OR application_name = $1)", application)
		return err
	})
}
