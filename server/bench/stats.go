package main

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"os"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
)

// profileSeconds is how long a processor profile lasts, from when the load begins.
const profileSeconds = 10

// withStats gives a program its metrics and profiles.
const withStats = "AGENTEVENTS_METRICS_ADDR=127.0.0.1:0"

// profileVariables do so if profiles are asked for, which cost the program a little.
func (b *bench) profileVariables() []string {
	if b.profiles == "" {
		return nil
	}
	return []string{withStats}
}

// notInFileName is what the name of a profile has no use for.
var notInFileName = regexp.MustCompile(`[^a-zA-Z0-9]+`)

// profiled runs a function, and writes a profile of a program's processor time meanwhile if it is asked for.
func (b *bench) profiled(ctx context.Context, statsURL, what string, fn func() error) error {
	if b.profiles == "" || statsURL == "" {
		return fn()
	}
	written := make(chan error, 1)
	go func() {
		profile, err := fetch(ctx, fmt.Sprintf("%s/debug/pprof/profile?seconds=%d", statsURL, profileSeconds))
		name := notInFileName.ReplaceAllString(what, "-") + ".pprof"
		written <- errors.Join(err, os.MkdirAll(b.profiles, 0o750),
			os.WriteFile(filepath.Join(b.profiles, name), profile, 0o600))
	}()
	return errors.Join(fn(), <-written)
}

func fetch(ctx context.Context, url string) ([]byte, error) {
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, url, http.NoBody)
	if err != nil {
		return nil, err
	}
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		return nil, err
	}
	defer resp.Body.Close()
	body, err := io.ReadAll(resp.Body)
	if err == nil && resp.StatusCode != http.StatusOK {
		err = fmt.Errorf("%s: %s", url, resp.Status)
	}
	return body, err
}

// fetchMetrics returns the metrics of a program, by their names with their labels.
func fetchMetrics(ctx context.Context, statsURL string) (map[string]float64, error) {
	body, err := fetch(ctx, statsURL+"/metrics")
	values := map[string]float64{}
	for line := range bytes.Lines(body) {
		name, number, _ := strings.Cut(strings.TrimSpace(string(line)), " ")
		if v, err := strconv.ParseFloat(number, 64); err == nil {
			values[name] = v
		}
	}
	return values, err
}
