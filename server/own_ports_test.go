package main

import (
	"net/http"
	"regexp"
	"strings"
	"testing"

	"github.com/agentevents/agentevents/server/internal/contract"
)

// Even where loopback is allowed, no receiver is at the port of metrics and profiles. The API's own port is allowed.
func TestMetricsAreNoReceiver(t *testing.T) {
	p := start(t, "AGENTEVENTS_METRICS_ADDR=127.0.0.1:0")
	p.put("/client/12", `{}`)
	p.put("/client/12/agent/local/136", `{"extension_name":"a"}`)
	metrics := regexp.MustCompile(`metrics=(http://127\.0\.0\.1:\d+)/`).FindStringSubmatch(p.log.String())[1]
	for url, status := range map[string]int{
		metrics + "/metrics": http.StatusBadRequest,
		strings.Replace(metrics, "127.0.0.1", "localhost", 1) + "/metrics": http.StatusBadRequest,
		p.url + "/healthz": http.StatusCreated,
	} {
		resp, err := p.api.Post(p.url+contract.BasePath+"/client/12/agent/local/136/event/", "application/json",
			strings.NewReader(`{"url":"`+url+`","method":"GET","event_type":"agent-login"}`))
		if err != nil {
			t.Fatal(err)
		}
		if resp.Body.Close(); resp.StatusCode != status {
			t.Errorf("an event with the URL %s: %d, want %d", url, resp.StatusCode, status)
		}
	}
}
