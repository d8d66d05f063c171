package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"sync"
	"time"

	"github.com/agentevents/agentevents/server/lab"
)

// house is what the workloads are run in.
type house struct {
	binary    string
	dir       string
	out       io.Writer
	began     time.Time
	receivers *remote
	generator *process

	wanted   []string // engines, by their names
	started  []*engine
	repeats  int    // rounds of what is held against floors
	profiles string // the directory for profiles, empty for none

	mu       sync.Mutex // of what follows
	terminal bool       // whether a line of progress can be overwritten
	told     time.Time  // when there was one
}

// open runs a function with a directory and the processes that all workloads need.
func (h *house) open(ctx context.Context, fn func() error) (err error) {
	if h.dir, err = os.MkdirTemp("", "agentevents-bench-"); err != nil {
		return err
	}
	defer func() { err = errors.Join(err, os.RemoveAll(h.dir)) }()
	if h.receivers, err = startReceivers(ctx); err != nil {
		return err
	}
	defer func() { err = errors.Join(err, h.receivers.stop()) }()
	if h.generator, err = startProcess(ctx, generatorRole); err != nil {
		return err
	}
	defer func() { err = errors.Join(err, h.generator.stop(), h.stop()) }()
	return fn()
}

// say prints a line of progress.
func (h *house) say(format string, args ...any) { h.progress(true, format, args...) }

// quiet is how long there is no line of what goes on where none can be overwritten.
const quiet = 10 * time.Second

// progress says how far it is, in a line that is to stay or in one that the next one overwrites. Where that cannot be,
// there is one of these now and then.
func (h *house) progress(stay bool, format string, args ...any) {
	h.mu.Lock()
	defer h.mu.Unlock()
	if !stay && time.Since(h.told) < map[bool]time.Duration{true: 100 * time.Millisecond, false: quiet}[h.terminal] {
		return
	}
	h.told = time.Now()
	begin, end := "", "\n"
	if h.terminal {
		begin = "\r\x1b[K"
		end = map[bool]string{true: "\n"}[stay]
	}
	fmt.Fprintf(h.out, "%s%5.0f s  %s%s", begin, time.Since(h.began).Seconds(), fmt.Sprintf(format, args...), end)
}

// serve runs a function beside the server on a store, given by its URL, which may be told more by variables (NAME=VALUE).
func (h *house) serve(ctx context.Context, url string, fn func(*caller) error, env ...string) error {
	s, err := lab.Start(ctx, h.binary, url, append(env, "AGENTEVENTS_LOG_LEVEL=warn")...)
	if err != nil {
		return err
	}
	if err = s.Ready(ctx); err == nil {
		var c *caller
		if c, err = newCaller(s.URL); err == nil {
			c.log, c.pid = s.Log, s.PID()
			err = fn(c)
		}
	}
	if err = errors.Join(err, s.Stop()); err != nil {
		return s.Explain(err)
	}
	return nil
}

// prepare makes a store of an engine by a function. The rounds work on copies of it, so that each begins with the same,
// and with a server that knows nothing of the one before.
func (h *house) prepare(ctx context.Context, e *engine, name string, fn func(*caller) error) (url string, err error) {
	if url, err = e.create(ctx, name); err != nil {
		return "", err
	}
	return url, h.serve(ctx, url, fn)
}

// round runs a function beside a server on a copy of such a store.
func (h *house) round(ctx context.Context, e *engine, prepared string, fn func(*caller) error, env ...string) (err error) {
	url, err := e.copy(ctx, prepared)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, e.drop(context.WithoutCancel(ctx), url)) }()
	return h.serve(ctx, url, fn, env...)
}

func copyFile(to, from string) (err error) {
	in, err := os.Open(filepath.Clean(from))
	if err != nil {
		return err
	}
	defer in.Close()
	out, err := os.OpenFile(filepath.Clean(to), os.O_CREATE|os.O_EXCL|os.O_WRONLY, 0o600)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, out.Close()) }()
	if _, err = io.Copy(out, in); err != nil {
		return err
	}
	return out.Sync() // else the first who writes durably waits for all of it
}
