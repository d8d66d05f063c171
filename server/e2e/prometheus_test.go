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

// Prometheus accepts the alerts, and each fires as alerts_test.yaml expects.
func TestAlertsFireAsExpected(t *testing.T) {
	promtool := installed(t, "promtool", "prometheus")
	for _, args := range [][]string{{"check", "rules", "alerts.yaml"}, {"test", "rules", "alerts_test.yaml"}} {
		cmd := exec.Command(promtool, args...)
		cmd.Dir = "../monitoring"
		if out, err := cmd.CombinedOutput(); err != nil {
			t.Errorf("promtool %s: %v\n%s", strings.Join(args, " "), err, out)
		}
	}
}

// alerts_test.yaml makes each alert fire.
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

// alertRules returns the expressions of alerts.yaml, by the names of the alerts.
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

// panels returns the queries of the dashboard, by the title of the panel and the letter of the query. Their variables
// are set to the installation pbx and a period of an hour.
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

// prometheus is a real Prometheus that scrapes replicas.
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

// scrape starts a Prometheus that scrapes replicas as the installation pbx, and the first of them also as another
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
	p.expect("targets", "count by (namespace) (up == 1)",
		map[string]string{"pbx": strconv.Itoa(len(replicas)), "other": "1"})
	return p
}

// metrics returns the address of a process's metrics.
func (p *process) metrics(t *testing.T) string {
	t.Helper()
	found := regexp.MustCompile(`metrics=http://(.*)/metrics`).FindStringSubmatch(p.Log.String())
	if found == nil {
		t.Fatalf("the log has no address of metrics:\n%s", p.Log)
	}
	return found[1]
}

// query returns the result of a query: numbers, by the values of the labels.
func (p prometheus) query(query string) (found map[string]string, err error) {
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

// labels returns the values of the labels, except the job's.
func labels(of map[string]string) string {
	var values []string
	for _, name := range slices.Sorted(maps.Keys(of)) {
		if name != "job" && name != "__name__" {
			values = append(values, of[name])
		}
	}
	return strings.Join(values, " ")
}

// expect waits until the result of a query is as expected.
func (p prometheus) expect(what, query string, want map[string]string) {
	p.t.Helper()
	var found map[string]string
	var err error
	ok := becomesTrue(func() bool {
		found, err = p.query(query)
		return err == nil && maps.EqualFunc(found, want, isWanted)
	})
	if !ok {
		p.t.Errorf("%s: found %v (%v), want %v: %s", what, found, err, want, query)
	}
}

// isWanted compares a number with the expected one: a number; ~ and a number for a count over a time, which Prometheus
// estimates; + for any number above 0; = for any number.
func isWanted(found, want string) bool {
	n, err := strconv.ParseFloat(found, 64)
	switch {
	case err != nil || want == "=":
		return err == nil
	case want == "+":
		return n > 0
	case want[0] == '~':
		minimum, _ := strconv.ParseFloat(want[1:], 64)
		return n >= minimum*0.99 && n <= minimum*1.4
	}
	return found == want
}

// Prometheus scrapes two replicas, and runs the queries of the dashboard and the alerts. Values of the shared store
// occur once, and the counters of both replicas are added.
func TestPrometheusAddsUpReplicas(t *testing.T) {
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
	one.awaitFinished(1)
	// The second replica repairs this at its start.
	if _, err := open(t, store).Exec("UPDATE lanes SET pending = pending + 1"); err != nil {
		t.Fatal(err)
	}
	two := replicaOf(t, store, env)
	eventually(t, "the lane is repaired", func() bool { return strings.Contains(two.Log.String(), "lanes repaired") })
	p := scrape(t, one.process, two.process)
	makeFailures(t, one, two, r)
	equal(t, "checked panels", len(pbxPanels), len(panels(t)))
	equal(t, "checked alerts", len(pbxAlerts), len(alertRules(t)))
	p.expectPanels(pbxPanels)
	p.expectAlerts(pbxAlerts)

	stopped := two.metrics(t)
	two.signal(t, syscall.SIGKILL)
	p.expectAlerts(map[string]map[string]string{
		"ReplicaDown": {stopped + " pbx": "0"}, "Down": {}, "BreakersOpen": {"pbx": "1", "other": "1"},
	})
	p.expectPanels(map[string]panel{
		"Pending A": {unchanged, map[string]string{"": "3"}}, "Version A": {unchanged, map[string]string{version: "1"}},
	})
}

func replicaOf(t *testing.T, store string, env []string) replica {
	t.Helper()
	p := serve(t, store, env...)
	p.mayLogErrors = true // the repair of a lane is an error in the log
	return replica{p, newAPI(t, p)}
}

// makeFailures leaves three deliveries pending, two of them in progress, and finishes others in every way. Both
// replicas take part.
func makeFailures(t *testing.T, one, two replica, r *receiver) {
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
		a.createEvent(gen.AgentTypeLocal, id, url, gen.RequestMethodGET, gen.EventTypeAgentLogin)
		a.signIn(id)
	}
	for _, a := range []replica{one, two} {
		resp, err := a.GetDeliveryWithResponse(t.Context(), pbxClient, 1<<40)
		must(t, http.StatusNotFound, resp, err)
	}
}

// panel is the expected result of a panel's query, within another query.
type panel struct {
	in   string
	want map[string]string
}

func (p prometheus) expectPanels(want map[string]panel) {
	p.t.Helper()
	queries := panels(p.t)
	for _, name := range slices.Sorted(maps.Keys(want)) {
		p.expect("dashboard, "+name, fmt.Sprintf(want[name].in, queries[name]), want[name].want)
	}
}

func (p prometheus) expectAlerts(want map[string]map[string]string) {
	p.t.Helper()
	rules := alertRules(p.t)
	for _, name := range slices.Sorted(maps.Keys(want)) {
		p.expect("alert "+name, rules["Agentevents"+name], want[name])
	}
}

const (
	unchanged = "%s"
	perHour   = "3600 * (%s)" // converts a rate per second
	counted   = "count(%s)"
	orZero    = "(%s) or vector(0)"
)

// pbxPanels are the results of the dashboard's queries after makeFailures.
var pbxPanels = map[string]panel{
	"Store A":                  {unchanged, map[string]string{"": "1"}},
	"Oldest due A":             {unchanged, map[string]string{"": "0"}},
	"Pending A":                {unchanged, map[string]string{"": "3"}},
	"In flight A":              {unchanged, map[string]string{"": "2"}},
	"Breakers open A":          {unchanged, map[string]string{"": "1"}},
	"Events disabled A":        {unchanged, map[string]string{"": "1"}},
	"Lanes repaired A":         {unchanged, map[string]string{"": "1"}},
	"Version A":                {unchanged, map[string]string{"v1.2.3-e2e": "2"}},
	"Status changes A":         {perHour, map[string]string{"agent-login": "~7", "agent-logout": "0"}},
	"From change to arrival A": {unchanged, map[string]string{"first": "+", "later": "="}},
	"From change to arrival B": {unchanged, map[string]string{"first": "+", "later": "="}},
	"Attempts A": {
		perHour, map[string]string{"delivered": "~2", "retry": "+", "failed": "~1", "gone": "~1"},
	},
	"Finished deliveries A": {
		perHour, map[string]string{"delivered": "~2", "failed": "~2", "cancelled": "0"},
	},
	"Lanes due, by state of their receiver A":   {unchanged, map[string]string{"ready": "0", "waiting": "1"}},
	"Oldest due, by state of its receiver A":    {unchanged, map[string]string{"ready": "0", "waiting": "+"}},
	"Requests A":                                {counted, map[string]string{"": "+"}},
	"Refused and failed requests A":             {counted, map[string]string{"": "+"}},
	"Request duration A":                        {counted, map[string]string{"": "+"}},
	"Memory A":                                  {counted, map[string]string{"": "2"}},
	"Memory B":                                  {counted, map[string]string{"": "2"}},
	"CPU A":                                     {counted, map[string]string{"": "2"}},
	"Goroutines and open files A":               {counted, map[string]string{"": "2"}},
	"Goroutines and open files B":               {counted, map[string]string{"": "2"}},
	"Breaker openings and expired deliveries A": {unchanged, map[string]string{"": "~1"}},
	"Breaker openings and expired deliveries B": {orZero, map[string]string{"": "0"}},
	"Breaker openings and expired deliveries C": {orZero, map[string]string{"": "0"}},
	"Write-ahead log A":                         {orZero, map[string]string{"": "0"}}, // PostgreSQL has its own log
	"Write-ahead log B":                         {orZero, map[string]string{"": "0"}},

	"Clients at their limit of pending deliveries A": {unchanged, map[string]string{"": "0"}},
}

// pbxAlerts are the results of the alerts' expressions after makeFailures.
var pbxAlerts = map[string]map[string]string{
	"Down": {}, "ReplicaDown": {}, "StoreDown": {}, "DeliveriesLate": {}, "DeliveriesFail": {}, "DeliveriesExpired": {},
	"BreakersOpen": {"pbx": "1", "other": "1"}, "BreakersOpenOften": {},
	"EventsDisabled": {"pbx": "1", "other": "1"},
	"LanesRepaired":  {"pbx": "1"}, "RequestsFail": {}, "CheckpointsFail": {}, "WALGrows": {},
	"PendingLimitReached": {}, "SecretsUnreadable": {},
}
