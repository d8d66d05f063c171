package store

import (
	"context"
	"log/slog"
	"sync"
	"time"
)

// closeWait is how long the end of a store waits for a log that is not read.
const closeWait = time.Second

// aside is the handler of a log that may be written with a lock held, and by the goroutine that writes to the
// database: a log may not be read for any time, and then only what it is given waits. It is for lines that are few,
// since it keeps them all.
type aside struct {
	slog.Handler
	queue *asideQueue
}

type asideQueue struct {
	mu    sync.Mutex
	lines []func()
	idle  chan struct{} // closed when all is written; nil if nothing is being written
}

func newAside(log *slog.Logger) aside { return aside{log.Handler(), &asideQueue{}} }

// Handle implements slog.Handler.
func (a aside) Handle(ctx context.Context, r slog.Record) error {
	r, ctx = r.Clone(), context.WithoutCancel(ctx)
	a.queue.add(func() { _ = a.Handler.Handle(ctx, r) }) // there is no other log to say so
	return nil
}

// WithAttrs implements slog.Handler.
func (a aside) WithAttrs(attrs []slog.Attr) slog.Handler {
	return aside{a.Handler.WithAttrs(attrs), a.queue}
}

// WithGroup implements slog.Handler.
func (a aside) WithGroup(name string) slog.Handler { return aside{a.Handler.WithGroup(name), a.queue} }

func (q *asideQueue) add(line func()) {
	q.mu.Lock()
	defer q.mu.Unlock()
	q.lines = append(q.lines, line)
	if q.idle == nil {
		q.idle = make(chan struct{})
		go q.write()
	}
}

// write writes the lines in their order, until there are none.
func (q *asideQueue) write() {
	for line := q.next(); line != nil; line = q.next() {
		line()
	}
}

func (q *asideQueue) next() (line func()) {
	q.mu.Lock()
	defer q.mu.Unlock()
	if len(q.lines) == 0 {
		close(q.idle)
		q.idle, q.lines = nil, nil
		return nil
	}
	line, q.lines = q.lines[0], q.lines[1:]
	return line
}

// wait returns when all is written, or after a time.
func (q *asideQueue) wait(most time.Duration) {
	q.mu.Lock()
	idle := q.idle
	q.mu.Unlock()
	if idle == nil {
		return
	}
	select {
	case <-idle:
	case <-time.After(most):
	}
}
