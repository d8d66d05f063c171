package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
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
}

// say prints a line of progress.
func (h *house) say(format string, args ...any) {
	fmt.Fprintf(h.out, "%5.0f s  %s\n", time.Since(h.began).Seconds(), fmt.Sprintf(format, args...))
}

// serve runs a function beside the server on a store, which may be told more by variables (NAME=VALUE).
func (h *house) serve(ctx context.Context, file string, fn func(*caller) error, env ...string) error {
	s, err := lab.Start(ctx, h.binary, file, append(env, "AGENTEVENTS_LOG_LEVEL=warn")...)
	if err != nil {
		return err
	}
	if err = s.Ready(ctx); err == nil {
		var c *caller
		if c, err = newCaller(s.URL); err == nil {
			c.log = s.Log
			err = fn(c)
		}
	}
	if err = errors.Join(err, s.Stop()); err != nil {
		return fmt.Errorf("%w\n\nthe server's last lines:\n%s", err, s.Log.Tail(20))
	}
	return nil
}

// prepare makes a store by a function and returns its file. The rounds work on copies of it, so that each begins with
// the same, and with a server that knows nothing of the one before.
func (h *house) prepare(ctx context.Context, name string, fn func(*caller) error) (string, error) {
	file := filepath.Join(h.dir, name+".db")
	return file, h.serve(ctx, file, fn)
}

// round runs a function beside a server on a copy of a store.
func (h *house) round(ctx context.Context, prepared string, fn func(*caller) error) (err error) {
	dir, err := os.MkdirTemp(h.dir, "round-")
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, os.RemoveAll(dir)) }()
	file := filepath.Join(dir, "agentevents.db")
	if err := copyFile(file, prepared); err != nil {
		return err
	}
	return h.serve(ctx, file, fn)
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
	_, err = io.Copy(out, in)
	return err
}
