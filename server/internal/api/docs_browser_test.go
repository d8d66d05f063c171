package api

import (
	"context"
	"encoding/json"
	"fmt"
	"maps"
	"net/http"
	"net/http/httptest"
	"net/url"
	"os"
	"os/exec"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/chromedp/cdproto/log"
	"github.com/chromedp/cdproto/network"
	"github.com/chromedp/cdproto/runtime"
	"github.com/chromedp/chromedp"
	"github.com/chromedp/chromedp/kb"
	"github.com/getkin/kin-openapi/openapi3"

	"github.com/agentevents/agentevents/gen"
	"github.com/agentevents/agentevents/server/internal/contract"
	"github.com/agentevents/agentevents/server/lab"
)

// In a browser, the documentation page signs in, runs operations, and runs every list operation with its default
// fields.
func TestDocumentationInABrowser(t *testing.T) {
	b := openBrowser(t)
	ls := newLiveServer(t)
	application := ls.withExamples()
	proxy := httptest.NewServer(http.StripPrefix("/pbx", ls.Config.Handler))
	t.Cleanup(proxy.Close)
	b.open(t, ls.URL+"/docs")
	t.Run("wrong secret", func(t *testing.T) { testWrongSecret(t, b) })
	t.Run("operator", func(t *testing.T) {
		b.signIn(t, lab.OperatorID, lab.OperatorSecret)
		testTwoOperations(t, b, ls)
		testLists(t, b, listOperations(t, "operator"))
		b.signOut(t)
	})
	t.Run("application of the client", func(t *testing.T) {
		b.signIn(t, application.ID, application.Secret)
		testLists(t, b, listOperations(t, "read_only"))
	})
	t.Run("behind a proxy with a prefix", func(t *testing.T) {
		b.open(t, proxy.URL+"/pbx/docs")
		b.signIn(t, application.ID, application.Secret)
		testLists(t, b, listOperations(t, "read_only")[:1])
	})
	want := slices.Sorted(slices.Values([]string{hostOf(t, ls.URL), hostOf(t, proxy.URL)}))
	if got := b.hosts(); !slices.Equal(got, want) {
		t.Errorf("the page sends requests to %q, want %q", got, want)
	}
	if found := b.consoleErrors(); len(found) > 0 {
		t.Errorf("the console has the errors %q", found)
	}
}

func testWrongSecret(t *testing.T, b *browser) {
	b.do(t,
		chromedp.Click(authorizeButton),
		chromedp.SendKeys(clientID, lab.OperatorID),
		chromedp.SendKeys(clientSecret, "wrong"+kb.Enter),
		chromedp.WaitVisible(chromedp.CSS(".modal-ux .errors")),
	)
	if dialog := b.text(t, ".modal-ux"); !strings.Contains(dialog,
		"there is no application with this id and this secret") {
		t.Errorf("the dialog shows %q", dialog)
	}
	b.do(t, chromedp.Click(chromedp.CSS(".modal-ux .close-modal")))
}

func testTwoOperations(t *testing.T, b *browser, ls *liveServer) {
	for _, c := range []struct{ operation, status string }{{"putClient", "201"}, {"getClient", "200"}} {
		at := "#operations-client-" + c.operation + " "
		b.press(t, at+".opblock-summary-control", at+".try-out__btn")
		// The page reads a field when the focus leaves it.
		typed := kb.End + strings.Repeat(kb.Backspace, len("@me")) + "13" + kb.Tab
		b.do(t, chromedp.SendKeys(chromedp.CSS(at+"input[placeholder=client_id]"), typed))
		b.press(t, at+".execute")
		b.do(t, chromedp.WaitVisible(chromedp.CSS(at+liveStatus)))
		shown := b.text(t, at+".live-responses-table")
		if !strings.Contains(shown, c.status) || !strings.Contains(shown, "Ringme") {
			t.Errorf("%s shows %q", c.operation, shown)
		}
	}
	ls.expect(ls.call("GET", "/client/13", ""), http.StatusOK, `{"id":"13","name":"Ringme","blocked":false}`)
}

// testLists runs list operations with their default fields.
func testLists(t *testing.T, b *browser, all []*openapi3.Operation) {
	for _, list := range all {
		at := fmt.Sprintf("#operations-%s-%s ", list.Tags[0], list.OperationID)
		b.press(t, at+".opblock-summary-control", at+".try-out__btn", at+".execute")
		b.do(t, chromedp.WaitVisible(chromedp.CSS(at+liveStatus)))
		status, body := strings.TrimSpace(b.text(t, at+liveStatus)),
			b.text(t, at+".live-responses-table .highlight-code code")
		var items []any
		if err := json.Unmarshal([]byte(body), &items); status != "200" || err != nil || len(items) == 0 {
			t.Errorf("%s shows %s %.300s (%v)", list.OperationID, status, body, err)
		}
		b.press(t, at+".opblock-summary-control") // collapsed, it does not slow the page down
	}
}

// listOperations returns the operations that answer an array and require an access level. It fails if there is none.
func listOperations(t *testing.T, access string) (all []*openapi3.Operation) {
	t.Helper()
	document, err := contract.Load()
	if err != nil {
		t.Fatal(err)
	}
	for _, path := range document.Paths.InMatchingOrder() {
		get := document.Paths.Value(path).Get
		if get == nil || get.Extensions["x-access"] != access {
			continue
		}
		answer := get.Responses.Status(http.StatusOK).Value.Content.Get("application/json")
		if answer != nil && answer.Schema.Value.Type.Is("array") {
			all = append(all, get)
		}
	}
	if len(all) == 0 {
		t.Fatalf("the document has no list that requires %s", access)
	}
	return all
}

// withExamples creates what the examples of path parameters name, and one item for every list of client 12. It returns
// an application of this client.
func (ls *liveServer) withExamples() gen.ApplicationSecret {
	ls.Helper()
	receiver := httptest.NewServer(http.HandlerFunc(func(http.ResponseWriter, *http.Request) {}))
	ls.Cleanup(receiver.Close)
	ls.withAgents()
	for i, agent := range []string{"/client/12/agent/local/136", "/client/12/agent/remote/7"} {
		event := fmt.Sprintf(`{"url":%q,"method":"GET","event_type":"agent-login"}`, receiver.URL)
		ls.expect(ls.call("POST", agent+"/event/", event), http.StatusCreated, "")
		ls.expect(ls.call("POST", fmt.Sprintf("%s/event/%d/test", agent, i+1), ""), http.StatusOK, "")
		ls.expect(ls.call("PUT", agent+"/status", `{"agent_status":"available"}`), http.StatusOK, "")
	}
	ls.expect(ls.call("POST", "/client/12/delivery/redeliver", `{}`), http.StatusAccepted, "")
	created,
		err := ls.store.CreateApplication(ls.Context(), "12", gen.ApplicationCreate{
		Name: "CRM", Access: gen.AccessLevelAll,
	})
	if err != nil {
		ls.Fatal(err)
	}
	return created
}

const (
	authorizeButton = chromedp.CSS(".scheme-container .authorize")
	clientID        = chromedp.CSS(".modal-ux input[id^=client_id_]")
	clientSecret    = chromedp.CSS(".modal-ux input[id^=client_secret_]")
	liveStatus      = ".live-responses-table .response .response-col_status"
)

// browser is a page of Chromium.
type browser struct {
	ctx context.Context

	mu     sync.Mutex
	sent   map[string]bool // hosts of requests
	logged []string        // errors in the console, except those about HTTP statuses
}

// openBrowser starts a headless Chromium. Without one, the test is skipped; in CI it fails.
func openBrowser(t *testing.T) *browser {
	t.Helper()
	path, err := exec.LookPath("chromium")
	if err != nil && os.Getenv("CI") != "" {
		t.Fatal("CI requires chromium: ", err)
	}
	if err != nil {
		t.Skip("this test requires chromium (apt-get install chromium)")
	}
	ctx, cancel := chromedp.NewExecAllocator(t.Context(), append(chromedp.DefaultExecAllocatorOptions[:],
		chromedp.ExecPath(path), chromedp.NoSandbox, chromedp.DisableGPU, chromedp.UserDataDir(t.TempDir()),
		chromedp.Flag("disable-quic", true), chromedp.Flag("disable-component-update", true),
		chromedp.WindowSize(1280, 900))...)
	t.Cleanup(cancel)
	ctx, cancel = chromedp.NewContext(ctx)
	t.Cleanup(cancel)
	b := &browser{sent: map[string]bool{}}
	if err := chromedp.Listen(ctx, b.record); err != nil {
		t.Fatal(err)
	}
	b.ctx, cancel = context.WithTimeout(ctx, 10*time.Minute)
	t.Cleanup(cancel)
	return b
}

func (b *browser) record(event any) {
	b.mu.Lock()
	defer b.mu.Unlock()
	switch e := event.(type) {
	case *network.EventRequestWillBeSent:
		if u, err := url.Parse(e.Request.URL); err == nil && u.Host != "" {
			b.sent[u.Host] = true
		}
	case *log.EventEntryAdded:
		if e.Entry.Level != log.EntryLevelVerbose && e.Entry.Source != log.EntrySourceNetwork {
			b.logged = append(b.logged, e.Entry.Text)
		}
	case *runtime.EventConsoleAPICalled:
		if e.Type == runtime.ConsoleAPICalledTypeError {
			b.logged = append(b.logged, fmt.Sprint(e.Args))
		}
	case *runtime.EventExceptionThrown:
		b.logged = append(b.logged, e.ExceptionDetails.Text)
	}
}

func (b *browser) hosts() []string {
	b.mu.Lock()
	defer b.mu.Unlock()
	return slices.Sorted(maps.Keys(b.sent))
}

func (b *browser) consoleErrors() []string {
	b.mu.Lock()
	defer b.mu.Unlock()
	return slices.Clone(b.logged)
}

func hostOf(t *testing.T, text string) string {
	t.Helper()
	u, err := url.Parse(text)
	if err != nil {
		t.Fatal(err)
	}
	return u.Host
}

func (b *browser) do(t *testing.T, steps ...chromedp.Action[chromedp.Void]) {
	t.Helper()
	if err := chromedp.Do(b.ctx, steps...); err != nil {
		t.Fatal(err)
	}
}

// press clicks elements in order, each when it is visible. It uses a script: an element may move between the search for
// it and a click of the mouse.
func (b *browser) press(t *testing.T, selectors ...string) {
	t.Helper()
	for _, selector := range selectors {
		b.do(t, chromedp.WaitVisible(chromedp.CSS(selector)))
		click := chromedp.Evaluate[any](fmt.Sprintf("document.querySelector(%q).click()", selector))
		if _, err := chromedp.Run(b.ctx, click); err != nil {
			t.Fatalf("%s: %v", selector, err)
		}
	}
}

func (b *browser) text(t *testing.T, selector string) string {
	t.Helper()
	text, err := chromedp.Run(b.ctx, chromedp.Text(chromedp.CSS(selector)))
	if err != nil {
		t.Fatalf("%s: %v", selector, err)
	}
	return text
}

func (b *browser) open(t *testing.T, page string) {
	t.Helper()
	b.do(t, chromedp.Navigate(page), chromedp.WaitVisible(authorizeButton))
}

func (b *browser) signIn(t *testing.T, id, secret string) {
	t.Helper()
	b.do(t,
		chromedp.Click(authorizeButton),
		chromedp.SendKeys(clientID, id),
		chromedp.SendKeys(clientSecret, secret),
		chromedp.Click(chromedp.CSS(".modal-ux .auth-btn-wrapper .authorize")),
		chromedp.WaitVisible(chromedp.CSS(`.modal-ux button[aria-label="Remove authorization"]`)),
		chromedp.Click(chromedp.CSS(".modal-ux .close-modal")),
		chromedp.WaitNotPresent(chromedp.CSS(".modal-ux")),
	)
}

func (b *browser) signOut(t *testing.T) {
	t.Helper()
	b.do(t,
		chromedp.Click(authorizeButton),
		chromedp.Click(chromedp.CSS(`.modal-ux button[aria-label="Remove authorization"]`)),
		chromedp.WaitVisible(clientID),
		chromedp.Click(chromedp.CSS(".modal-ux .close-modal")),
		chromedp.WaitNotPresent(chromedp.CSS(".modal-ux")),
	)
}
