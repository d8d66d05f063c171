package api

import (
	"fmt"
	"log/slog"
	"maps"
	"net/http"
	"slices"
	"strings"
	"testing"

	"github.com/agentevents/agentevents/gen"
	"github.com/agentevents/agentevents/server/internal/auth"
	"github.com/agentevents/agentevents/server/internal/contract"
)

// The checks of a request run in this order. Each line corrects the error for which the server refused the line before.
func TestContractOrderOfRefusals(t *testing.T) {
	t.Parallel()
	ts := newTestServer(t)
	ts.withEvents()
	before := ts.dump()
	long := strings.Repeat("x", 1<<20+1)
	for _, path := range []struct{ method, otherClient, own, valid string }{
		{
			"POST", "/client/13/agent/local/x/event/", "/client/12/agent/local/x/event/",
			"/client/12/agent/local/136/event/",
		},
		{
			"PUT", "/client/13/agent/remote/0/event/y", "/client/@me/agent/remote/0/event/y",
			"/client/@me/agent/remote/7/event/2",
		},
		{"PUT", "/client/unknown/status", "/client/12/status", "/client/12/status"},
		{"PUT", "/client/a%20b/agent/local/-1", "/client/12/agent/local/-1", "/client/12/agent/local/136"},
		{
			"POST", "/client/13/delivery/redeliver?limit=x", "/client/12/delivery/redeliver?limit=x",
			"/client/12/delivery/redeliver",
		},
		{"POST", "/client/13/application/", "/client/12/application/", "/client/12/application/"},
	} {
		bare, _, _ := strings.Cut(path.otherClient, "?")
		for _, try := range []struct {
			method, path string
			as           *testToken
			typ, body    string
			status       int
			want         string
		}{
			{path.method, bare + "/no/such/path", nil, "text/plain", long, 404, ""},
			{"PATCH", path.otherClient, nil, "text/plain", long, 405, ""},
			{path.method, path.otherClient, nil, "text/plain", long, 401, ""},
			{path.method, path.otherClient, &expiredToken, "text/plain", long, 401, ""},
			{path.method, path.otherClient, &readOnlyToken, "text/plain", long, 403, "access_denied"},
			{path.method, path.own, &readOnlyToken, "text/plain", long, 403, "user_access_type_deny"},
			{path.method, path.own, &allToken, "text/plain", long, 413, ""},
			{path.method, path.own, &allToken, "text/plain", "x", 415, ""},
			{path.method, path.own, &allToken, "application/json", "x", 400, ""},
			{path.method, path.valid, &allToken, "application/json", `"x"`, 400, ""},
		} {
			header := map[string]string{"Authorization": "", "Content-Type": try.typ}
			if try.as != nil {
				header["Authorization"] = "Bearer " + try.as.token
			}
			resp, err := ts.do(scenario{request: try.method + " " + try.path, header: header, body: try.body})
			ts.must(err)
			if resp.status != try.status || !strings.Contains(string(resp.body), try.want) {
				t.Errorf("%s %s, a body of %d bytes: %d %s, want %d %s", try.method, try.path, len(try.body),
					resp.status, resp.body, try.status, try.want)
			}
		}
	}
	if !slices.Equal(before, ts.dump()) {
		t.Error("the store has changed")
	}
}

// openRoutes are the routes that are not in openapi.yaml. They require no token.
var openRoutes = []string{
	"GET /", "GET /docs", "GET /docs/", "GET /docs/favicon-32x32.png", "GET /docs/start.css", "GET /docs/start.js",
	"GET /docs/swagger-ui-bundle.js", "GET /docs/swagger-ui-bundle.js.LICENSE.txt", "GET /docs/swagger-ui.css",
	"GET /healthz", "GET /openapi.json", "GET /openapi.yaml", "GET /readyz", "HEAD /healthz", "HEAD /readyz",
}

// aliases are additional paths of operations. openapi.yaml has them only in prose.
var aliases = []string{"POST /oauth/token", "POST /oauth/token/"}

// The server has exactly the routes of openapi.yaml, with and without a trailing slash, openRoutes and aliases.
func TestContractHasEveryRoute(t *testing.T) {
	t.Parallel()
	ls := newLiveServer(t)
	o := Options{Store: ls.store, Log: slog.New(slog.DiscardHandler), Heartbeat: ls.heartbeat}
	routes, err := newHandlers(o).routes(o)
	if err != nil {
		t.Fatal(err)
	}
	var got []string
	for _, route := range routes.Routes() {
		got = append(got, route.Method+" "+route.Path)
	}
	want := slices.Concat(openRoutes, aliases)
	for _, e := range testDocument(t).operations {
		path := strings.NewReplacer("{", ":", "}", "").Replace(strings.TrimSuffix(contract.BasePath+e.path, "/"))
		want = append(want, e.method+" "+path, e.method+" "+path+"/")
	}
	slices.Sort(got)
	slices.Sort(want)
	for _, route := range got {
		if !slices.Contains(want, route) {
			t.Errorf("%s is not listed", route)
		}
	}
	if !slices.Equal(got, want) {
		t.Errorf("the routes are\n%s\nwant\n%s", strings.Join(got, "\n"), strings.Join(want, "\n"))
	}
	for _, route := range openRoutes {
		method, path, _ := strings.Cut(route, " ")
		r := ls.request(method, path, nil)
		r.Header.Set("Authorization", "Bearer unknown")
		if g := ls.send(r); g.status >= 400 {
			t.Errorf("%s: %d %s", route, g.status, g.body)
		}
	}
}

// Every operation declares its access level, and only requestToken requires no token.
func TestContractDeclaresSecurity(t *testing.T) {
	t.Parallel()
	c := testDocument(t)
	for _, e := range c.operations {
		security := &c.spec.Security
		if e.spec.Security != nil {
			security = e.spec.Security
		}
		level, err := auth.LevelOf(e.spec)
		want := "[map[bearer:[]]]"
		if e.id == "requestToken" {
			want = "[]"
		}
		if got := fmt.Sprint(*security); err != nil || got != want ||
			(level == auth.NoToken) != (e.id == "requestToken") {
			t.Errorf("%s is for %q by %s, want %s (%v)", e.id, level, got, want, err)
		}
		if e.method != http.MethodGet && level == gen.AccessLevelReadOnly {
			t.Errorf("%s is not a GET, but allows read_only", e.id)
		}
	}
	if s := c.spec.Components.SecuritySchemes; len(s) != 1 || s["bearer"] == nil ||
		s["bearer"].Value.Scheme != "bearer" {
		t.Errorf("the security schemes are %v, want http bearer alone", slices.Collect(maps.Keys(s)))
	}
}

// Viewers of openapi.yaml do not show x-access, so each description ends with it.
func TestContractDescribesAccess(t *testing.T) {
	t.Parallel()
	for _, e := range testDocument(t).operations {
		want := fmt.Sprintf("Requires access level %#q.", e.spec.Extensions["x-access"])
		if e.id == "requestToken" {
			want = "Requires no token."
		}
		if !strings.HasSuffix(e.spec.Description, "\n\n"+want+"\n") {
			t.Errorf("the description of %s does not end with %q", e.id, want)
		}
	}
}
