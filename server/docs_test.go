package main

import (
	"context"
	"maps"
	"net/http"
	"net/url"
	"os"
	"os/exec"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/chromedp/cdproto/network"
	"github.com/chromedp/chromedp"
	"github.com/chromedp/chromedp/kb"

	"github.com/agentevents/agentevents/server/lab"
)

func TestDocuments(t *testing.T) {
	s := newSite(t)
	file, err := os.ReadFile("../openapi.yaml")
	if err != nil {
		t.Fatal(err)
	}
	for path, want := range map[string]struct{ mediaType, part string }{
		"/openapi.yaml":              {"application/yaml", strings.TrimSpace(string(file))},
		"/openapi.json":              {"application/json", `"operationId":"putLocalAgentStatus"`},
		"/docs":                      {"text/html; charset=utf-8", `<div id="swagger-ui">`},
		"/docs/":                     {"text/html; charset=utf-8", `<div id="swagger-ui">`},
		"/docs/start.js":             {"text/javascript; charset=utf-8", "SwaggerUIBundle"},
		"/docs/swagger-ui-bundle.js": {"text/javascript; charset=utf-8", "SwaggerUIBundle"},
		"/docs/swagger-ui.css":       {"text/css; charset=utf-8", ".swagger-ui"},
		"/docs/favicon-32x32.png":    {"image/png", "PNG"},
	} {
		g := s.send(s.request("GET", path, nil))
		if typ := g.header.Get("Content-Type"); g.status != http.StatusOK || typ != want.mediaType || !strings.Contains(g.body, want.part) {
			t.Errorf("%s: %d %s %.200s", path, g.status, typ, g.body)
		}
	}
	g := s.send(s.request("GET", "/", nil))
	if g.status != http.StatusFound || g.header.Get("Location") != "/docs/" {
		t.Errorf("/: %d to %s", g.status, g.header.Get("Location"))
	}
}

// browser starts a headless Chromium. The test is skipped where there is none, but in CI.
func browser(t *testing.T) context.Context {
	t.Helper()
	path, err := exec.LookPath("chromium")
	if err != nil && os.Getenv("CI") != "" {
		t.Fatal("there is no chromium, which CI must have: ", err)
	}
	if err != nil {
		t.Skip("there is no chromium to try the documentation in (apt-get install chromium)")
	}
	ctx, cancel := chromedp.NewExecAllocator(t.Context(), append(chromedp.DefaultExecAllocatorOptions[:],
		chromedp.ExecPath(path), chromedp.NoSandbox, chromedp.DisableGPU, chromedp.UserDataDir(t.TempDir()),
		chromedp.Flag("disable-quic", true), chromedp.Flag("disable-component-update", true),
		chromedp.WindowSize(1280, 4000))...)
	t.Cleanup(cancel)
	ctx, cancel = chromedp.NewContext(ctx)
	t.Cleanup(cancel)
	return ctx
}

// hosts returns what tells the hosts that a page has asked for anything.
func hosts(ctx context.Context, t *testing.T) func() []string {
	t.Helper()
	var mu sync.Mutex
	asked := map[string]bool{}
	err := chromedp.Listen(ctx, func(event any) {
		sent, ok := event.(*network.EventRequestWillBeSent)
		if !ok || strings.HasPrefix(sent.Request.URL, "data:") {
			return
		}
		mu.Lock()
		defer mu.Unlock()
		if u, err := url.Parse(sent.Request.URL); err == nil {
			asked[u.Host] = true
		}
	})
	if err != nil {
		t.Fatal(err)
	}
	return func() []string {
		mu.Lock()
		defer mu.Unlock()
		return slices.Sorted(maps.Keys(asked))
	}
}

// Somebody reads the documentation in a browser and tries two operations out.
func TestDocumentationInABrowser(t *testing.T) {
	ctx := browser(t)
	s := newSite(t)
	asked := hosts(ctx, t)
	ctx, cancel := context.WithTimeout(ctx, time.Minute) // for the browser runs already
	defer cancel()
	if err := chromedp.Do(ctx, chromedp.Navigate(s.URL+"/docs/")); err != nil {
		t.Fatal(err)
	}
	if err := logIn(ctx, lab.OperatorID, lab.OperatorSecret); err != nil {
		t.Fatal(err)
	}
	for _, c := range []struct{ operation, client, status string }{{"putClient", "12", "201"}, {"getClient", "12", "200"}} {
		shown, err := tryOut(ctx, "#operations-client-"+c.operation, c.client)
		if err != nil {
			t.Fatalf("%s: %v", c.operation, err)
		}
		if !strings.Contains(shown, c.status) || !strings.Contains(shown, "Ringme") {
			t.Errorf("%s shows %q", c.operation, shown)
		}
	}
	s.expect(s.ask("GET", "/client/12", ""), http.StatusOK, `{"id":"12","name":"Ringme","blocked":false}`)
	if all := asked(); len(all) != 1 || "http://"+all[0] != s.URL {
		t.Errorf("the page asks %q, and is at %s", all, s.URL)
	}
}

// logIn fills in Swagger UI's Authorize, which gets a token by HTTP Basic.
func logIn(ctx context.Context, id, secret string) error {
	return chromedp.Do(ctx,
		chromedp.Click(chromedp.CSS(".scheme-container .authorize")),
		chromedp.SendKeys(chromedp.CSS(".modal-ux input[id^=client_id_]"), id),
		chromedp.SendKeys(chromedp.CSS(".modal-ux input[id^=client_secret_]"), secret),
		chromedp.Click(chromedp.CSS(`.modal-ux button[aria-label="Apply given OAuth2 credentials"]`)),
		chromedp.WaitVisible(chromedp.CSS(`.modal-ux button[aria-label="Remove authorization"]`)),
		chromedp.Click(chromedp.CSS(".modal-ux .close-modal")),
	)
}

// tryOut opens an operation, puts the client's id in place of the example's 12, executes it and returns the answer that
// is shown.
func tryOut(ctx context.Context, operation, client string) (shown string, err error) {
	at := func(within string) chromedp.CSS { return chromedp.CSS(operation + " " + within) }
	err = chromedp.Do(ctx,
		chromedp.Click(at(".opblock-summary-control")),
		chromedp.Click(at(".try-out__btn")),
		chromedp.SendKeys(at("input[placeholder=client_id]"), kb.End+strings.Repeat(kb.Backspace, len("12"))+client),
		chromedp.Click(at(".execute")),
		chromedp.WaitVisible(at(".live-responses-table .response-col_status")),
	)
	if err != nil {
		return "", err
	}
	return chromedp.Run(ctx, chromedp.Text(at(".live-responses-table")))
}
