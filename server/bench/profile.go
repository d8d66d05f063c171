package main

import (
	"context"
	"fmt"
	"io"
	"net/http"
	"os"
	"path/filepath"
	"regexp"

	"golang.org/x/sync/errgroup"
)

// profileLasts is for how many seconds a processor profile is taken, from when the load begins.
const profileLasts = 10

// profiled runs a function at a site and meanwhile has a profile of its processor time written, and afterwards one of
// what it has allocated, if that is asked for and the site can be profiled. The files have the names of the workload and of
// the measure.
func (h *house) profiled(ctx context.Context, at *site, workload string, m *measure, fn func(context.Context) error) error {
	if h.profiles == "" || at.profiles == "" {
		return fn(ctx)
	}
	name := unnamed.ReplaceAllString(fmt.Sprintf("%s %s %d", workload, m.whose(), m.Round), "-")
	group, during := errgroup.WithContext(ctx)
	group.Go(func() error { return fn(during) })
	group.Go(func() error {
		return h.fetch(during, fmt.Sprintf("%s/debug/pprof/profile?seconds=%d", at.profiles, profileLasts), name+".cpu")
	})
	if err := group.Wait(); err != nil {
		return err
	}
	return h.fetch(ctx, at.profiles+"/debug/pprof/allocs", name+".allocs")
}

// unnamed is what no name of a file has.
var unnamed = regexp.MustCompile(`[^a-zA-Z0-9]+`)

func (h *house) fetch(ctx context.Context, url, name string) error {
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, url, http.NoBody)
	if err != nil {
		return err
	}
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		return err
	}
	defer resp.Body.Close()
	body, err := io.ReadAll(resp.Body)
	if err == nil && resp.StatusCode != http.StatusOK {
		err = fmt.Errorf("%s: %s", url, resp.Status)
	}
	if err != nil {
		return err
	}
	if err := os.MkdirAll(h.profiles, 0o750); err != nil {
		return err
	}
	return os.WriteFile(filepath.Join(h.profiles, name+".pprof"), body, 0o600)
}
