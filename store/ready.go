package store

import (
	"context"
	"sync"
	"time"

	"github.com/agentevents/agentevents/store/internal/sqldb"
	"github.com/agentevents/agentevents/store/internal/sqlite"
)

const (
	probeEvery = time.Second     // at most, however many ask
	probeWait  = 3 * time.Second // for one probe
	troubleFor = 2 * time.Second // in which a write has failed, so that the next one is not relied on
)

// Ready returns nil when a change would be stored, and an error when it would not, when that is not known before ctx
// ends, or when secrets cannot be read. It writes once a second at most.
func (s *Store) Ready(ctx context.Context) error {
	switch {
	case s.closed.Load():
		return failure(sqlite.ErrClosed)
	case s.locked.Load():
		return ErrLocked
	}
	if err := s.engine.checkWritable(); err != nil {
		return notAvailable(err)
	}
	if err := s.downtimes.recent(troubleFor); err != nil {
		return notAvailable(err)
	}
	return s.probe.ask(ctx, s.monotonic, s.tryOut)
}

// tryOut writes what a change writes, in space that must be had first, and reads the end of what a change adds to.
func (s *Store) tryOut(ctx context.Context) error {
	if err := s.engine.checkFiles(ctx); err != nil {
		s.downtimes.note(ctx, err)
		return notAvailable(err)
	}
	err := s.writes.Try(ctx, func(tx *sqldb.Tx) error {
		if err := s.engine.allocate(tx, s.now()); err != nil {
			return err
		}
		_, _, err := sqldb.Get[int64](tx, "SELECT coalesce((SELECT max(id) FROM status_changes), 0) + "+
			"coalesce((SELECT max(id) FROM deliveries), 0) + coalesce((SELECT max(id) FROM lanes), 0)")
		return err
	})
	s.downtimes.note(ctx, err)
	return failure(err)
}

// probe is a look whether the store takes a write, which all share who ask within a second.
type probe struct {
	mu     sync.Mutex
	begun  time.Time
	result error
	flight chan struct{} // closed when the one that is under way has ended; nil without any
}

// ask returns what the last probe has found, or the one that it begins, or joins.
func (p *probe) ask(ctx context.Context, now func() time.Time, look func(context.Context) error) error {
	flight := p.join(now(), look)
	if flight != nil {
		select {
		case <-flight:
		case <-ctx.Done():
			return ctx.Err()
		}
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.result
}

// join returns when the probe that is under way ends, nil when the last is new enough.
func (p *probe) join(now time.Time, look func(context.Context) error) chan struct{} {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.flight == nil && (p.begun.IsZero() || now.Sub(p.begun) >= probeEvery) {
		p.begun, p.flight = now, make(chan struct{})
		go p.run(look)
	}
	return p.flight
}

func (p *probe) run(look func(context.Context) error) {
	ctx, cancel := context.WithTimeout(context.Background(), probeWait)
	defer cancel()
	err := look(ctx)
	p.mu.Lock()
	defer p.mu.Unlock()
	close(p.flight)
	p.result, p.flight = err, nil
}

// wait returns when no probe is under way.
func (p *probe) wait() {
	p.mu.Lock()
	flight := p.flight
	p.mu.Unlock()
	if flight != nil {
		<-flight
	}
}
