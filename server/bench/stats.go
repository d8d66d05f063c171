package main

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"net/http"
	"strconv"
	"strings"
)

// withStats gives a program its metrics and profiles.
const withStats = "AGENTEVENTS_METRICS_ADDR=127.0.0.1:0"

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
func fetchMetrics(ctx context.Context, url string) (map[string]float64, error) {
	body, err := fetch(ctx, url+"/metrics")
	values := map[string]float64{}
	for text := range bytes.Lines(body) {
		name, number, _ := strings.Cut(strings.TrimSpace(string(text)), " ")
		if v, err := strconv.ParseFloat(number, 64); err == nil {
			values[name] = v
		}
	}
	return values, err
}
