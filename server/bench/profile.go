package main

import (
	"context"
	"fmt"
	"io"
	"net/http"
	"os"
	"path/filepath"
)

// profileLasts is for how many seconds a processor profile is taken, from when the load begins.
const profileLasts = 10

// profile writes a site's processor profile and then one of what it has allocated into files with a name, if that is
// asked for and the site can be profiled.
func (h *house) profile(ctx context.Context, at *site, name string) error {
	if h.profiles == "" || at.profiles == "" {
		return nil
	}
	err := h.fetch(ctx, fmt.Sprintf("%s/debug/pprof/profile?seconds=%d", at.profiles, profileLasts), name+".cpu")
	if err != nil {
		return err
	}
	return h.fetch(ctx, at.profiles+"/debug/pprof/allocs", name+".allocs")
}

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
	return os.WriteFile(filepath.Join(h.profiles, name+".pprof"), body, 0o600)
}
