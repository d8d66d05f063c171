package main

import (
	"database/sql"
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

	"github.com/agentevents/agentevents/store/pgtest"
)

func (p *program) scrape() scraped {
	p.Helper()
	return read(p.get(p.metricsURL() + "/metrics"))
}

func (p *program) metricsURL() string {
	p.Helper()
	found := regexp.MustCompile(`metrics=(http://.*)/metrics`).FindStringSubmatch(p.log.String())
	if found == nil {
		p.Fatalf("it does not say where it measures:\n%s", p.log)
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

// measures waits until the answer has all of these lines.
func (p *program) measures(want ...string) scraped {
	p.Helper()
	look := time.NewTicker(10 * time.Millisecond)
	defer look.Stop()
	for end := time.Now().Add(time.Minute); ; <-look.C {
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

// login makes a local agent of a client, with a registration, log in.
func (p *program) login(client string, agent int, url string) {
	p.Helper()
	path := fmt.Sprintf("/client/%s/agent/local/%d", client, agent)
	p.put("/client/"+client, `{}`)
	p.put(path, `{"extension_name":"x"}`)
	p.post(path+"/event/", `{"url":"`+url+`","method":"GET","event_type":"agent-login"}`)
	p.put(path+"/status", `{"agent_status":"available"}`)
}

// fickle answers as the path says: with a status, with another one from the second time on (500-200), or when it is
// let go.
func fickle(t *testing.T) (url string, letGo func()) {
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
	letGo = sync.OnceFunc(func() { close(held) })
	t.Cleanup(server.Close)
	t.Cleanup(letGo)
	return server.URL, letGo
}

// closedPort is a URL where nobody listens.
func closedPort(t *testing.T) string {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	return "http://" + l.Addr().String() + "/"
}

func startMeasured(t *testing.T) *program {
	t.Helper()
	return start(t, "AGENTEVENTS_METRICS_ADDR=127.0.0.1:0", "AGENTEVENTS_RETRY_SCHEDULE=100ms", "AGENTEVENTS_RETRY_JITTER=0%")
}

// What operators are given (README, dashboard, alerts) is about what the program really tells, and tells all of it.
func TestMetrics(t *testing.T) {
	p := startMeasured(t)
	url, letGo := fickle(t)
	p.login("12", 1, url+"/200?secret=tiger")
	p.measures(`agentevents_deliveries_total{state="delivered"} 1`)
	p.login("12", 2, url+"/500-200")
	p.measures(`agentevents_deliveries_total{state="delivered"} 2`)
	p.login("12", 3, url+"/400")
	p.login("12", 4, url+"/410")
	p.login("13", 1, closedPort(t)) // for five attempts
	p.measures(`agentevents_attempts_total{verdict="gone"} 1`, "agentevents_breakers_open 1")
	p.login("14", 1, url+"/hold")
	p.get(p.url + "/docs/")
	s := p.measures(strings.Split(afterTraffic, "\n")...)
	letGo()
	p.measures("agentevents_attempts_in_flight 0", "agentevents_deliveries_pending 1")
	t.Run("README", func(t *testing.T) { compareWithREADME(t, s) })
	t.Run("dashboard", func(t *testing.T) { compareWithDashboard(t, s) })
	t.Run("alerts", func(t *testing.T) { compareWithAlerts(t, s) })
	t.Run("labels", func(t *testing.T) { nobodyIsNamed(t, s, url) })
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
agentevents_lanes_due{receiver="ready"} 0
agentevents_lanes_due{receiver="waiting"} 1
agentevents_oldest_due_seconds{receiver="ready"} 0
agentevents_breakers_open 1
agentevents_breaker_openings_total 1
agentevents_deliveries_expired_total 0
agentevents_registrations_disabled 1
agentevents_lanes_mended_total 0
agentevents_http_requests_total{code="200",operation="putLocalAgentStatus"} 6
agentevents_http_request_seconds_count{operation="putLocalAgentStatus"} 6
agentevents_http_requests_total{code="200",operation="none"} 1`

func TestProfiles(t *testing.T) {
	p := startMeasured(t)
	for path, want := range map[string]string{
		"": "goroutine", "goroutine?debug=1": "goroutine profile:", "cmdline": "", "symbol": "num_symbols", "heap?debug=1": "heap profile:",
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
			t.Errorf("%s is served to clients, too: %d", path, resp.StatusCode)
		}
	}
	p.stop()
	p.ends(time.Minute)
}

// What the store cannot tell is left out, and the rest is told.
func TestMetricsOfAStoreThatIsGone(t *testing.T) {
	s := newSite(t)
	m := newMetrics(s.store)
	s.closeStore()
	got := measured(t, m)
	if !got.has("agentevents_store_up 0") || !got.has("agentevents_attempts_in_flight 0") ||
		!got.has(`agentevents_deliveries_total{state="failed"} 0`) {
		t.Errorf("got\n%s", got.text)
	}
	for _, name := range []string{"pending", "lanes_due", "oldest_due_seconds", "breakers_open", "registrations_disabled"} {
		if got.labels["agentevents_"+name] != nil {
			t.Errorf("%s cannot be known", name)
		}
	}
}

// Nor does it take long to say that nothing can be written.
func TestMetricsOfAStoreThatHangs(t *testing.T) {
	t.Parallel()
	pgtest.SQLiteOnly(t, "there it is one writer whom all wait for")
	s := newSite(t)
	db, err := sql.Open("sqlite3", strings.TrimPrefix(s.store.URL, "sqlite:"))
	if err != nil {
		t.Fatal(err)
	}
	defer db.Close()
	conn, err := db.Conn(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	if _, err := conn.ExecContext(t.Context(), "BEGIN IMMEDIATE"); err != nil {
		t.Fatal(err)
	}
	m, began := newMetrics(s.store), time.Now()
	got := measured(t, m)
	if !got.has("agentevents_store_up 0") || !got.has("agentevents_breakers_open 0") {
		t.Errorf("got\n%s", got.text)
	}
	if took := time.Since(began); took >= 5*time.Second { // as long as SQLite itself waits for its writer
		t.Errorf("it took %v", took)
	}
}

func measured(t *testing.T, m *metrics) scraped {
	t.Helper()
	w := httptest.NewRecorder()
	m.handler(newLog(t.Output(), config{})).ServeHTTP(w, httptest.NewRequest(http.MethodGet, "/metrics", http.NoBody))
	if w.Code != http.StatusOK {
		t.Fatalf("%d %s", w.Code, w.Body)
	}
	return read(w.Body.String())
}

func TestMetricsAddressIsTaken(t *testing.T) {
	taken, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer taken.Close()
	code, _, stderr := call(t, []string{
		"AGENTEVENTS_ADDR=127.0.0.1:0", "AGENTEVENTS_METRICS_ADDR=" + taken.Addr().String(),
		"AGENTEVENTS_DATABASE_URL=sqlite:" + filepath.Join(t.TempDir(), "test.db"),
	}, "serve")
	if want := "agentevents: listen for metrics: listen tcp " + taken.Addr().String(); code != exitFailed || !strings.HasPrefix(stderr, want) {
		t.Errorf("exit code %d, standard error %q", code, stderr)
	}
}
