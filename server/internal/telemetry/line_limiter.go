package telemetry

import (
	"context"
	"log/slog"
	"sync"
	"time"

	"golang.org/x/time/rate"
)

// How many lines of a kind are logged a second in the long run, and how many at once after a quiet time.
const (
	linesPerSecond = 20
	lineBurst      = 100
)

// LineLimiter bounds how many lines of a kind are logged, so that neither requests without a token nor receivers can
// fill the log. The log says how many were left out.
type LineLimiter struct {
	log     *slog.Logger
	rate    *rate.Limiter
	omitted *Tally
}

// NewLineLimiter returns a limiter of lines at level INFO, whose kind is named where lines were left out.
func NewLineLimiter(log *slog.Logger, kind string) *LineLimiter {
	return &LineLimiter{
		log:     log,
		rate:    rate.NewLimiter(linesPerSecond, lineBurst),
		omitted: NewTally(log.With("kind", kind), slog.LevelInfo, "lines omitted"),
	}
}

// Allow counts a line, and reports whether it may be logged.
func (l *LineLimiter) Allow() bool {
	if !l.log.Enabled(context.Background(), slog.LevelInfo) {
		return false
	}
	if l.rate.Allow() {
		return true
	}
	l.omitted.Add()
	return false
}

// Tally logs one line a second for what happens too often for a line each.
type Tally struct {
	log     *slog.Logger
	level   slog.Level
	message string

	mu    sync.Mutex
	count int // since the last line
}

// NewTally returns a tally that logs the number with a message.
func NewTally(log *slog.Logger, level slog.Level, message string) *Tally {
	return &Tally{log: log, level: level, message: message}
}

// Add counts one. If it is the first after a line, the next line follows in a second.
func (t *Tally) Add() {
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.count++; t.count == 1 {
		time.AfterFunc(time.Second, t.write)
	}
}

func (t *Tally) write() {
	t.mu.Lock()
	count := t.count
	t.count = 0
	t.mu.Unlock()
	t.log.Log(context.Background(), t.level, t.message, "count", count)
}
