package api

import (
	"log/slog"
	"net/http"
	"net/http/httptest"
	"os"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/agentevents/agentevents/server/internal/contract"
	"github.com/agentevents/agentevents/server/internal/telemetry"
)

func TestDocumentationIsServed(t *testing.T) {
	ls := newLiveServer(t)
	file, err := os.ReadFile("../../../openapi.yaml")
	if err != nil {
		t.Fatal(err)
	}
	for path, want := range map[string]struct{ mediaType, part string }{
		"/openapi.yaml":              {"application/yaml", strings.TrimSpace(string(file))},
		"/openapi.json":              {"application/json", `"operationId":"putLocalAgentStatus"`},
		"/docs/":                     {"text/html; charset=utf-8", `<div id="swagger-ui">`},
		"/docs/start.js":             {"text/javascript; charset=utf-8", "SwaggerUIBundle"},
		"/docs/start.css":            {"text/css; charset=utf-8", ".sign-in"},
		"/docs/swagger-ui-bundle.js": {"text/javascript; charset=utf-8", "SwaggerUIBundle"},
		"/docs/swagger-ui.css":       {"text/css; charset=utf-8", ".swagger-ui"},
		"/docs/favicon-32x32.png":    {"image/png", "PNG"},
	} {
		g := ls.send(ls.request("GET", path, nil))
		if typ := g.header.Get("Content-Type"); g.status != http.StatusOK || typ != want.mediaType ||
			!strings.Contains(g.body, want.part) {
			t.Errorf("%s: %d %s %.200s", path, g.status, typ, g.body)
		}
	}
	for _, path := range []string{"/", "/docs"} {
		g := ls.send(ls.request("GET", path, nil))
		if g.status != http.StatusFound || g.header.Get("Location") != "docs/" {
			t.Errorf("%s: %d to %s", path, g.status, g.header.Get("Location"))
		}
	}
}

// The served version is the one in the file VERSION. None of its libraries has a known vulnerability.
func TestSwaggerUIMatchesItsVersionFile(t *testing.T) {
	record, err := os.ReadFile("docs/swagger-ui/VERSION")
	if err != nil {
		t.Fatal(err)
	}
	want := regexp.MustCompile(`^swagger-ui-dist (5\.\d+\.\d+)\nsha512-`).FindStringSubmatch(string(record))
	if want == nil {
		t.Fatalf("VERSION is %s", record)
	}
	ls := newLiveServer(t)
	bundle := ls.send(ls.request("GET", "/docs/swagger-ui-bundle.js", nil)).body
	if !strings.Contains(bundle, `PACKAGE_VERSION:"`+want[1]+`"`) {
		t.Errorf("the bundle is not that of %s", want[1])
	}
	if !regexp.MustCompile(`DOMPurify\.version="(3\.4\.(1[7-9]|[2-9]\d)|3\.[5-9]|[4-9])`).MatchString(bundle) {
		t.Errorf("DOMPurify is older than 3.4.17: %q",
			regexp.MustCompile(`DOMPurify\.version="[^"]*"`).FindString(bundle))
	}
}

// Every answer has the headers that restrict what a browser does with it.
func TestEveryAnswerHasBrowserHeaders(t *testing.T) {
	ls := newLiveServer(t)
	measured := httptest.NewServer(BrowserHeaders(telemetry.NewMetrics(ls.store, "test",
		"test").Handler(telemetry.NewLog(ls.log, slog.LevelInfo, false))))
	t.Cleanup(measured.Close)
	const none, tail = "default-src 'none'", "; base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
	const docs = none + "; script-src 'self'; style-src 'self'; connect-src 'self'; img-src 'self' data:"
	for url, want := range map[string]string{
		ls.URL + "/": none, ls.URL + "/docs": none, ls.URL + "/docs/": docs, ls.URL + "/docs/start.js": docs, ls.URL +
			"/docs/nothing": docs,
		ls.URL + "/openapi.yaml": none, ls.URL + "/openapi.json": none, ls.URL + "/nothing": none, ls.URL +
			"/healthz": none,
		ls.URL + contract.BasePath + "/client/": none, ls.URL + contract.BasePath + "/client/99": none, ls.URL +
			contract.BasePath + "/oauth/token": none,
		measured.URL + "/metrics": none, measured.URL + "/nothing": none, measured.URL + "/debug/pprof/cmdline": none,
		measured.URL + "/debug/pprof/": none + "; style-src 'unsafe-inline'", measured.URL +
			"/debug/pprof/nothing": none,
	} {
		resp, err := ls.Client().Get(url)
		if err != nil {
			t.Fatal(err)
		}
		resp.Body.Close()
		checkBrowserHeaders(t, url, resp.Header, want+tail)
	}
}

func checkBrowserHeaders(t testing.TB, url string, h http.Header, policy string) {
	t.Helper()
	for name, want := range map[string]string{
		"Content-Security-Policy": policy, "X-Content-Type-Options": "nosniff", "Referrer-Policy": "no-referrer",
	} {
		if got := h[name]; !slices.Equal(got, []string{want}) {
			t.Errorf("%s: %s is %q, want %q", url, name, got, want)
		}
	}
}
