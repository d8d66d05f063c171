package e2e

import (
	"encoding/json"
	"fmt"
	"io"
	"maps"
	"net/http"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"testing"

	"go.yaml.in/yaml/v3"

	"github.com/agentevents/agentevents/gen"
	"github.com/agentevents/agentevents/server/lab"
	"github.com/agentevents/agentevents/store/pgtest"
)

// The alerts are what Prometheus takes, and each fires when alerts_test.yaml says so.
func TestAlertRules(t *testing.T) {
	promtool := installed(t, "promtool", "prometheus")
	for _, args := range [][]string{{"check", "rules", "alerts.yaml"}, {"test", "rules", "alerts_test.yaml"}} {
		cmd := exec.Command(promtool, args...)
		cmd.Dir = "../monitoring"
		if out, err := cmd.CombinedOutput(); err != nil {
			t.Errorf("promtool %s: %v\n%s", strings.Join(args, " "), err, out)
		}
	}
}

// Each alert is one that alerts_test.yaml makes fire.
func TestEveryAlertIsTested(t *testing.T) {
	tests, err := os.ReadFile("../monitoring/alerts_test.yaml")
	if err != nil {
		t.Fatal(err)
	}
	for name := range alertRules(t) {
		if !strings.Contains(string(tests), `ALERTS{alertname="`+name+`"`) {
			t.Errorf("alerts_test.yaml does not make %s fire", name)
		}
	}
}

// alertRules are the expressions of alerts.yaml, by the names of the alerts.
func alertRules(t *testing.T) map[string]string {
	t.Helper()
	var file struct {
		Groups []struct {
			Rules []struct{ Alert, Expr string }
		}
	}
	text, err := os.ReadFile("../monitoring/alerts.yaml")
	if err == nil {
		err = yaml.Unmarshal(text, &file)
	}
	if err != nil {
		t.Fatal(err)
	}
	rules := map[string]string{}
	for _, r := range file.Groups[0].Rules {
		rules[r.Alert] = r.Expr
	}
	return rules
}

// panels are the expressions of the dashboard as it asks for them, by the title of the panel and the letter of the
// query. It shows the installation pbx, and counts over an hour.
func panels(t *testing.T) map[string]string {
	t.Helper()
	var dashboard struct {
		Panels []struct {
			Title   string
			Targets []struct{ RefID, Expr string }
		}
	}
	text, err := os.ReadFile("../monitoring/dashboard.json")
	if err == nil {
		err = json.Unmarshal(text, &dashboard)
	}
	if err != nil {
		t.Fatal(err)
	}
	variables := strings.NewReplacer("$namespace", "pbx", "$job", "agentevents", "$instance", ".*",
		"$__rate_interval", "1h", "$__range_s", "3600", "$__range", "1h")
	queries := map[string]string{}
	for _, p := range dashboard.Panels {
		for _, q := range p.Targets {
			queries[p.Title+" "+q.RefID] = variables.Replace(q.Expr)
		}
	}
	return queries
}

// prometheus is a real one that scrapes replicas.
type prometheus struct {
	t   *testing.T
	url string
}

const prometheusConfig = `
global: {scrape_interval: 1s, evaluation_interval: 1s}
rule_files: [%q]
scrape_configs:
  - job_name: agentevents
    static_configs:
      - {targets: [%s], labels: {namespace: pbx}}
      - {targets: [%s], labels: {namespace: other}}
`

// scrape starts a Prometheus that scrapes replicas, as the installation pbx, and the first one alone, as another
// installation.
func scrape(t *testing.T, replicas ...*process) prometheus {
	t.Helper()
	program, dir, addr := installed(t, "prometheus", "prometheus"), t.TempDir(), freePort(t)
	rules, err := filepath.Abs("../monitoring/alerts.yaml")
	if err != nil {
		t.Fatal(err)
	}
	var targets []string
	for _, p := range replicas {
		targets = append(targets, p.metrics(t))
	}
	config := fmt.Sprintf(prometheusConfig, rules, strings.Join(targets, ", "), targets[0])
	if err := os.WriteFile(filepath.Join(dir, "prometheus.yml"), []byte(config), 0o600); err != nil {
		t.Fatal(err)
	}
	cmd := exec.Command(program, "--config.file=prometheus.yml", "--storage.tsdb.path=data",
		"--web.listen-address="+addr)
	cmd.Dir = dir
	background(t, cmd)
	p := prometheus{t, "http://" + addr}
	eventually(t, "Prometheus listens", func() bool { return listens(p.url) })
	p.finds("targets", "count by (namespace) (up == 1)",
		map[string]string{"pbx": strconv.Itoa(len(replicas)), "other": "1"})
	return p
}

// metrics is the host and port where a process is scraped.
func (p *process) metrics(t *testing.T) string {
	t.Helper()
	found := regexp.MustCompile(`metrics=http://(.*)/metrics`).FindStringSubmatch(p.Log.String())
	if found == nil {
		t.Fatalf("it does not say where it measures:\n%s", p.Log)
	}
	return found[1]
}

// ask returns what a query finds now: numbers, by the values of the labels.
func (p prometheus) ask(query string) (found map[string]string, err error) {
	resp, err := http.Get(p.url + "/api/v1/query?query=" + url.QueryEscape(query))
	if err != nil {
		return nil, err
	}
	defer resp.Body.Close()
	body, err := io.ReadAll(resp.Body)
	if err != nil || resp.StatusCode != http.StatusOK {
		return nil, fmt.Errorf("%d %s, %w", resp.StatusCode, body, err)
	}
	var answer struct {
		Data struct {
			Result []struct {
				Metric map[string]string
				Value  [2]any
			}
		}
	}
	if err := json.Unmarshal(body, &answer); err != nil {
		return nil, err
	}
	found = map[string]string{}
	for _, r := range answer.Data.Result {
		found[labels(r.Metric)] = fmt.Sprint(r.Value[1])
	}
	return found, nil
}

// labels are the values of the labels, but for the job's.
func labels(of map[string]string) string {
	var values []string
	for _, name := range slices.Sorted(maps.Keys(of)) {
		if name != "job" && name != "__name__" {
			values = append(values, of[name])
		}
	}
	return strings.Join(values, " ")
}

// finds waits until a query finds what it is to, and nothing else.
func (p prometheus) finds(what, query string, want map[string]string) {
	p.t.Helper()
	var found map[string]string
	var err error
	so := becomesTrue(func() bool {
		found, err = p.ask(query)
		return err == nil && maps.EqualFunc(found, want, isWanted)
	})
	if !so {
		p.t.Errorf("%s: found %v (%v), want %v: %s", what, found, err, want, query)
	}
}

// isWanted compares a number with what is wanted: a number; ~ and one that is counted over a time, as Prometheus
// estimates it; + for any that is more than 0; = for any.
func isWanted(found, want string) bool {
	n, err := strconv.ParseFloat(found, 64)
	switch {
	case err != nil || want == "=":
		return err == nil
	case want == "+":
		return n > 0
	case want[0] == '~':
		least, _ := strconv.ParseFloat(want[1:], 64)
		return n >= least*0.99 && n <= least*1.4
	}
	return found == want
}

// TestPrometheusScrapesReplicas has Prometheus scrape two replicas, and asks it what the dashboard and the alerts ask:
// what both see of the store is there once, and what each of them has done is added up.
func TestPrometheusScrapesReplicas(t *testing.T) {
	pgtest.PostgresOnly(t, "a file has one server")
	t.Parallel()
	store, r := newStore(t), newReceiver(t)
	env := []string{
		"AGENTEVENTS_METRICS_ADDR=127.0.0.1:0", "AGENTEVENTS_RETRY_SCHEDULE=100ms", "AGENTEVENTS_RETRY_JITTER=0%",
		"AGENTEVENTS_TIMEOUT=1m",
	}
	one := replicaOf(t, store, env)
	one.putClient()
	one.login(r, 1)
	one.api.ended(1)
	// The next one repairs this at its start.
	if _, err := open(t, store).Exec("UPDATE lanes SET pending = pending + 1"); err != nil {
		t.Fatal(err)
	}
	two := replicaOf(t, store, env)
	eventually(t, "the lane is repaired", func() bool { return strings.Contains(two.Log.String(), "lanes repaired") })
	p := scrape(t, one.process, two.process)
	trouble(t, one, two, r)
	equal(t, "panels that are looked at", len(pbxPanels), len(panels(t)))
	equal(t, "alerts that are looked at", len(pbxAlerts), len(alertRules(t)))
	p.showsPanels(pbxPanels)
	p.showsAlerts(pbxAlerts)

	away := two.metrics(t)
	two.signal(t, syscall.SIGKILL)
	p.showsAlerts(map[string]map[string]string{
		"ReplicaDown": {away + " pbx": "0"}, "Down": {}, "BreakersOpen": {"pbx": "1", "other": "1"},
	})
	p.showsPanels(map[string]shown{
		"Pending A": {asItIs, map[string]string{"": "3"}}, "Version A": {asItIs, map[string]string{version: "1"}},
	})
}

func replicaOf(t *testing.T, store string, env []string) replica {
	t.Helper()
	p := serve(t, store, env...)
	p.troubled = true // a lane that is repaired is an error
	return replica{p, newAPI(t, p)}
}

// trouble has three deliveries be pending, two of them under way, and others end in every way. Both replicas take part.
func trouble(t *testing.T, one, two replica, r *receiver) {
	t.Helper()
	r.hold(func(a *lab.Arrival) bool {
		return formValue(a.Form(), "agent_id") == "2" || formValue(a.Form(), "agent_id") == "3"
	})
	one.login(r, 2, 4)
	two.login(r, 3, 5)
	statuses := newScriptedReceiver(t, func(a *lab.Arrival) lab.Reply {
		status, _ := strconv.Atoi(a.Path[1:])
		return lab.Reply{Status: status}
	})
	for i, url := range []string{statuses.URL + "/400", statuses.URL + "/410", "http://" + freePort(t)} {
		a, id := []replica{one, two}[i%2], int64(6+i)
		a.putAgent(gen.AgentTypeLocal, id, "x")
		a.register(gen.AgentTypeLocal, id, url, gen.RequestMethodGET, gen.EventTypeAgentLogin)
		a.signIn(id)
	}
	for _, a := range []replica{one, two} {
		resp, err := a.GetDeliveryWithResponse(t.Context(), pbxClient, 1<<40)
		must(t, http.StatusNotFound, resp, err)
	}
}

// shown is what a panel shows when its query stands in another.
type shown struct {
	in   string
	want map[string]string
}

func (p prometheus) showsPanels(want map[string]shown) {
	p.t.Helper()
	asked := panels(p.t)
	for _, name := range slices.Sorted(maps.Keys(want)) {
		p.finds("dashboard, "+name, fmt.Sprintf(want[name].in, asked[name]), want[name].want)
	}
}

func (p prometheus) showsAlerts(want map[string]map[string]string) {
	p.t.Helper()
	rules := alertRules(p.t)
	for _, name := range slices.Sorted(maps.Keys(want)) {
		p.finds("alert "+name, rules["Agentevents"+name], want[name])
	}
}

const (
	asItIs  = "%s"
	anHour  = "3600 * (%s)" // what happens in an hour, of what happens in a second
	counted = "count(%s)"
	orZero  = "(%s) or vector(0)"
)

// pbxPanels is what the dashboard shows after the trouble.
var pbxPanels = map[string]shown{
	"Store A":                  {asItIs, map[string]string{"": "1"}},
	"Oldest due A":             {asItIs, map[string]string{"": "0"}},
	"Pending A":                {asItIs, map[string]string{"": "3"}},
	"In flight A":              {asItIs, map[string]string{"": "2"}},
	"Breakers open A":          {asItIs, map[string]string{"": "1"}},
	"Registrations disabled A": {asItIs, map[string]string{"": "1"}},
	"Lanes mended A":           {asItIs, map[string]string{"": "1"}},
	"Version A":                {asItIs, map[string]string{"v1.2.3-e2e": "2"}},
	"Status changes A":         {anHour, map[string]string{"agent-login": "~7", "agent-logout": "0"}},
	"From change to arrival A": {asItIs, map[string]string{"first": "+", "later": "="}},
	"From change to arrival B": {asItIs, map[string]string{"first": "+", "later": "="}},
	"Attempts A": {
		anHour, map[string]string{"delivered": "~2", "retry": "+", "failed": "~1", "gone": "~1"},
	},
	"Deliveries that ended A": {
		anHour, map[string]string{"delivered": "~2", "failed": "~2", "cancelled": "0"},
	},
	"Lanes due, by receiver A":               {asItIs, map[string]string{"ready": "0", "waiting": "1"}},
	"Oldest due, by receiver A":              {asItIs, map[string]string{"ready": "0", "waiting": "+"}},
	"Requests A":                             {counted, map[string]string{"": "+"}},
	"Requests that were refused or failed A": {counted, map[string]string{"": "+"}},
	"Time of requests A":                     {counted, map[string]string{"": "+"}},
	"Memory A":                               {counted, map[string]string{"": "2"}},
	"Memory B":                               {counted, map[string]string{"": "2"}},
	"Processor A":                            {counted, map[string]string{"": "2"}},
	"Goroutines and open files A":            {counted, map[string]string{"": "2"}},
	"Goroutines and open files B":            {counted, map[string]string{"": "2"}},
	"Breakers that opened, deliveries that expired A": {asItIs, map[string]string{"": "~1"}},
	"Breakers that opened, deliveries that expired B": {orZero, map[string]string{"": "0"}},
	"Write-ahead log A": {orZero, map[string]string{"": "0"}}, // PostgreSQL's is its own
	"Write-ahead log B": {orZero, map[string]string{"": "0"}},
}

// pbxAlerts is what the expressions of alerts find after the trouble.
var pbxAlerts = map[string]map[string]string{
	"Down": {}, "ReplicaDown": {}, "StoreDown": {}, "DeliveriesLate": {}, "DeliveriesFail": {}, "DeliveriesExpired": {},
	"BreakersOpen": {"pbx": "1", "other": "1"}, "BreakersOpenOften": {},
	"EventsDisabled": {"pbx": "1", "other": "1"},
	"LanesRepaired":  {"pbx": "1"}, "RequestsFail": {}, "CheckpointsFail": {}, "WALGrows": {},
}
