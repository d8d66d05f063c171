package main

import (
	"encoding/json"
	"maps"
	"os"
	"regexp"
	"slices"
	"strings"
	"testing"

	"go.yaml.in/yaml/v3"
)

// scrapedMetrics are the metrics of one scrape.
type scrapedMetrics struct {
	text   string
	kinds  map[string]string              // of each metric
	labels map[string]map[string][]string // of each series, with their values
}

var (
	typeLine   = regexp.MustCompile(`^# TYPE (\w+) (\w+)$`)
	sampleLine = regexp.MustCompile(`^(\w+)(?:\{(.*)\})? \S+$`)
	labelPair  = regexp.MustCompile(`(\w+)="([^"]*)"`)
)

func parseMetrics(text string) scrapedMetrics {
	s := scrapedMetrics{text, map[string]string{}, map[string]map[string][]string{}}
	for line := range strings.SplitSeq(text, "\n") {
		if found := typeLine.FindStringSubmatch(line); found != nil {
			s.kinds[found[1]] = found[2]
		}
		found := sampleLine.FindStringSubmatch(line)
		if found == nil {
			continue
		}
		if s.labels[found[1]] == nil {
			// Prometheus adds these labels
			s.labels[found[1]] = map[string][]string{"instance": nil, "job": nil, "namespace": nil}
		}
		for _, l := range labelPair.FindAllStringSubmatch(found[2], -1) {
			s.labels[found[1]][l[1]] = append(s.labels[found[1]][l[1]], l[2])
		}
	}
	return s
}

// has reports whether the scrape has a line.
func (s scrapedMetrics) has(line string) bool { return strings.Contains(s.text, "\n"+line+"\n") }

// ownNames returns the names of the program's own metrics.
func (s scrapedMetrics) ownNames() []string {
	all := slices.Sorted(maps.Keys(s.kinds))
	return slices.DeleteFunc(all, func(name string) bool { return !strings.HasPrefix(name, "agentevents_") })
}

// labelsOf returns the labels of a metric, without those that a histogram adds.
func (s scrapedMetrics) labelsOf(name string) []string {
	if s.kinds[name] == "histogram" {
		name += "_count"
	}
	all := slices.Sorted(maps.Keys(s.labels[name]))
	return slices.DeleteFunc(all, func(l string) bool { return l == "instance" || l == "job" || l == "namespace" })
}

// compareWithGuide checks that the guide has each metric with its type and labels.
func compareWithGuide(t *testing.T, s scrapedMetrics) {
	var want []string
	for _, name := range s.ownNames() {
		row := "| `" + name + "` | " + s.kinds[name] + " | "
		if labels := s.labelsOf(name); len(labels) > 0 {
			row += "`" + strings.Join(labels, "`, `") + "` "
		}
		want = append(want, row+"|")
	}
	compareRows(t, guideRows(t, "\\| `agentevents_\\w+` \\|[^|]*\\|[^|]*\\|"), want)
}

// compareWithDashboard checks that the dashboard shows each metric, by queries whose series and labels exist.
func compareWithDashboard(t *testing.T, s scrapedMetrics) {
	var dashboard struct {
		Panels []struct {
			Title   string
			Targets []struct{ Expr string }
		}
	}
	data, err := os.ReadFile("monitoring/dashboard.json")
	if err == nil {
		err = json.Unmarshal(data, &dashboard)
	}
	if err != nil {
		t.Fatal(err)
	}
	var used []string
	for _, p := range dashboard.Panels {
		for _, target := range p.Targets {
			used = append(used, s.compare(t, p.Title, target.Expr)...)
		}
	}
	for _, name := range s.ownNames() {
		if !slices.Contains(used, name) {
			t.Errorf("%s is not on the dashboard", name)
		}
	}
}

// compareWithAlerts checks that the alerts have texts, and queries whose series and labels exist.
func compareWithAlerts(t *testing.T, s scrapedMetrics) {
	var rules struct {
		Groups []struct {
			Rules []struct {
				Alert, Expr string
				Annotations struct{ Summary, Description string }
				Labels      struct{ Severity string }
			}
		}
	}
	data, err := os.ReadFile("monitoring/alerts.yaml")
	if err == nil {
		err = yaml.Unmarshal(data, &rules)
	}
	if err != nil {
		t.Fatal(err)
	}
	for _, r := range rules.Groups[0].Rules {
		if used := s.compare(t, r.Alert, r.Expr); len(used) == 0 {
			t.Errorf("%s uses no metric: %s", r.Alert, r.Expr)
		}
		if r.Annotations.Summary == "" || r.Annotations.Description == "" || r.Labels.Severity == "" {
			t.Errorf("%s lacks a summary, a description or a severity: %+v", r.Alert, r)
		}
	}
}

var (
	inQuery  = regexp.MustCompile(`\b((?:agentevents|go|process)_\w+)(?:\{([^}]*)\})?`)
	selector = regexp.MustCompile(`(\w+)\s*(=~|!~|!=|=)\s*"([^"]*)"`)
	grouping = regexp.MustCompile(`by \(([^)]*)\)`)
)

// compare checks that the series and labels in a query exist, and returns the names of its metrics.
func (s scrapedMetrics) compare(t *testing.T, where, query string) (metrics []string) {
	t.Helper()
	for _, found := range inQuery.FindAllStringSubmatch(query, -1) {
		series := found[1]
		if s.labels[series] == nil {
			t.Errorf("%s: there is no %s: %s", where, series, query)
			continue
		}
		wanted := selector.FindAllStringSubmatch(found[2], -1)
		for _, by := range grouping.FindAllStringSubmatch(query, -1) {
			for name := range strings.SplitSeq(by[1], ", ") {
				wanted = append(wanted, []string{"", name, "", ""})
			}
		}
		for _, w := range wanted {
			values, ok := s.labels[series][w[1]]
			if !ok || w[2] == "=" && !slices.Contains(values, w[3]) {
				t.Errorf("%s: %s has no label %s of %q: %s", where, series, w[1], w[3], query)
			}
		}
		metrics = append(metrics, s.metricOf(series))
	}
	return metrics
}

// metricOf returns the metric of a series.
func (s scrapedMetrics) metricOf(series string) string {
	for _, suffix := range []string{"_bucket", "_count", "_sum"} {
		if name, cut := strings.CutSuffix(series, suffix); cut && s.kinds[name] == "histogram" {
			return name
		}
	}
	return series
}

// checkNoClientLabels checks that no label has a client's id or a part of a URL.
func checkNoClientLabels(t *testing.T, s scrapedMetrics, url string) {
	for series, labels := range s.labels {
		for name, values := range labels {
			for _, value := range values {
				if strings.Contains(name, "client") || strings.Contains(value, "tiger") ||
					strings.Contains(url, value) && len(value) > 3 ||
					slices.Contains([]string{"12", "13", "14"}, value) {
					t.Errorf("%s{%s=%q}", series, name, value)
				}
			}
		}
	}
}
