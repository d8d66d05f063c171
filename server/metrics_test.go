package main

import (
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"
)

func (p *program) scrape() scrapedMetrics {
	p.Helper()
	return parseMetrics(p.get(p.metricsURL() + "/metrics"))
}

func (p *program) metricsURL() string {
	p.Helper()
	found := regexp.MustCompile(`metrics=(http://.*)/metrics`).FindStringSubmatch(p.log.String())
	if found == nil {
		p.Fatalf("the log has no URL of metrics:\n%s", p.log)
	}
	return found[1]
}

func (p *program) get(url string) string {
	p.Helper()
	resp, err := p.api.Get(url)
	if err != nil {
		p.Fatal(err)
	}
	defer resp.Body.Close()
	body, err := io.ReadAll(resp.Body)
	if err != nil || resp.StatusCode != http.StatusOK {
		p.Fatalf("GET %s: %d %s, %v", url, resp.StatusCode, body, err)
	}
	return string(body)
}

// waitForMetrics waits until a scrape has all these lines.
func (p *program) waitForMetrics(want ...string) scrapedMetrics {
	p.Helper()
	ticker := time.NewTicker(10 * time.Millisecond)
	defer ticker.Stop()
	for end := time.Now().Add(time.Minute); ; <-ticker.C {
		s := p.scrape()
		missing := slices.DeleteFunc(slices.Clone(want), s.has)
		if len(missing) == 0 {
			return s
		}
		if time.Now().After(end) {
			p.Fatalf("missing are %q in\n%s", missing, s.text)
		}
	}
}

// logIn creates a local agent of a client with an event, and logs it in.
func (p *program) logIn(client string, agent int, url string) {
	p.Helper()
	path := fmt.Sprintf("/client/%s/agent/local/%d", client, agent)
	p.put("/client/"+client, `{}`)
	p.put(path, `{"extension_name":"x"}`)
	p.post(path+"/event/", `{"url":"`+url+`","method":"GET","event_type":"agent-login"}`)
	p.put(path+"/status", `{"agent_status":"available"}`)
}

// scriptedReceiver answers by the path: /200 with that status, /500-200 with the second status from the second request
// on, and /hold after release.
func scriptedReceiver(t *testing.T) (url string, release func()) {
	held := make(chan struct{})
	var mu sync.Mutex
	times := map[string]int{}
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		statuses := strings.Split(r.URL.Path[1:], "-")
		if statuses[0] == "hold" {
			<-held
			return
		}
		mu.Lock()
		status, _ := strconv.Atoi(statuses[min(times[r.URL.Path], len(statuses)-1)])
		times[r.URL.Path]++
		mu.Unlock()
		w.WriteHeader(status)
	}))
	release = sync.OnceFunc(func() { close(held) })
	t.Cleanup(server.Close)
	t.Cleanup(release)
	return server.URL, release
}

// closedPort returns the URL of a port without a listener.
func closedPort(t *testing.T) string {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	return "http://" + l.Addr().String() + "/"
}

func startWithMetrics(t *testing.T) *program {
	t.Helper()
	return start(t, "AGENTEVENTS_METRICS_ADDR=127.0.0.1:0", "AGENTEVENTS_RETRY_SCHEDULE=100ms",
		"AGENTEVENTS_RETRY_JITTER=0%")
}

// Guide, dashboard and alerts name only metrics that exist. Guide and dashboard name all of them.
func TestMetrics(t *testing.T) {
	p := startWithMetrics(t)
	url, release := scriptedReceiver(t)
	p.logIn("12", 1, url+"/200?secret=tiger")
	p.waitForMetrics(`agentevents_deliveries_total{state="delivered"} 1`)
	p.logIn("12", 2, url+"/500-200")
	p.waitForMetrics(`agentevents_deliveries_total{state="delivered"} 2`)
	p.logIn("12", 3, url+"/400")
	p.logIn("12", 4, url+"/410")
	p.logIn("13", 1, closedPort(t)) // fails five times, which opens the breaker
	p.waitForMetrics(`agentevents_attempts_total{verdict="gone"} 1`, "agentevents_breakers_open 1")
	p.put("/client/14", `{}`)
	p.put("/client/14/limit/", `{"pending_delivery":{"limit":1}}`)
	p.logIn("14", 1, url+"/hold")
	p.get(p.url + "/docs/")
	s := p.waitForMetrics(strings.Split(afterTraffic, "\n")...)
	release()
	p.waitForMetrics("agentevents_attempts_in_flight 0", "agentevents_deliveries_pending 1")
	t.Run("guide", func(t *testing.T) { compareWithGuide(t, s) })
	t.Run("dashboard", func(t *testing.T) { compareWithDashboard(t, s) })
	t.Run("alerts", func(t *testing.T) { compareWithAlerts(t, s) })
	t.Run("labels", func(t *testing.T) { checkNoClientLabels(t, s, url) })
}

const afterTraffic = `agentevents_store_up 1
agentevents_status_changes_total{event_type="agent-login"} 6
agentevents_status_changes_total{event_type="agent-logout"} 0
agentevents_attempts_total{verdict="delivered"} 2
agentevents_attempts_total{verdict="retry"} 6
agentevents_attempts_total{verdict="failed"} 1
agentevents_attempts_total{verdict="gone"} 1
agentevents_attempts_in_flight 1
agentevents_arrival_seconds_count{attempt="first"} 1
agentevents_arrival_seconds_count{attempt="later"} 1
agentevents_arrival_seconds_bucket{attempt="first",le="10"} 1
agentevents_arrival_seconds_bucket{attempt="later",le="10"} 1
agentevents_deliveries_total{state="delivered"} 2
agentevents_deliveries_total{state="failed"} 2
agentevents_deliveries_total{state="cancelled"} 0
agentevents_deliveries_pending 2
agentevents_lanes_due{receiver_state="ready"} 0
agentevents_lanes_due{receiver_state="waiting"} 1
agentevents_oldest_due_seconds{receiver_state="ready"} 0
agentevents_breakers_open 1
agentevents_breaker_openings_total 1
agentevents_deliveries_expired_total 0
agentevents_events_disabled 1
agentevents_clients_at_pending_limit 1
agentevents_lanes_repaired_total 0
agentevents_secrets_unreadable_total 0
agentevents_http_requests_total{code="200",operation="putLocalAgentStatus"} 6
agentevents_http_request_seconds_count{operation="putLocalAgentStatus"} 6
agentevents_http_requests_total{code="200",operation="none"} 1`

func TestProfilesAreServedWithMetricsOnly(t *testing.T) {
	p := startWithMetrics(t)
	for path, want := range map[string]string{
		"": "goroutine", "goroutine?debug=1": "goroutine profile:", "cmdline": "", "symbol": "num_symbols",
		"heap?debug=1":       "heap profile:",
		"trace?seconds=0.01": "", "profile?seconds=1": "",
	} {
		if got := p.get(p.metricsURL() + "/debug/pprof/" + path); !strings.Contains(got, want) {
			t.Errorf("%s: %s", path, got)
		}
	}
	for _, path := range []string{"/metrics", "/debug/pprof/"} {
		resp, err := http.Get(p.url + path)
		if err != nil {
			t.Fatal(err)
		}
		if _ = resp.Body.Close(); resp.StatusCode != http.StatusNotFound {
			t.Errorf("%s is served on the API's address: %d", path, resp.StatusCode)
		}
	}
	p.stop()
	p.waitForExit(time.Minute)
}

func TestServeReportsMetricsAddressInUse(t *testing.T) {
	taken, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer taken.Close()
	code, _, stderr := runCommand(t, []string{
		"AGENTEVENTS_ADDR=127.0.0.1:0", "AGENTEVENTS_METRICS_ADDR=" + taken.Addr().String(),
		"AGENTEVENTS_DATABASE_URL=sqlite:" + filepath.Join(t.TempDir(), "test.db"),
	}, "serve")
	if want := "agentevents: listen for metrics: listen tcp " + taken.Addr().String(); code != exitFailed ||
		!strings.HasPrefix(stderr, want) {
		t.Errorf("exit code %d, standard error %q", code, stderr)
	}
}
