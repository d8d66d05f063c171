package api

import (
	"maps"
	"net/http"
	"net/url"
	"slices"
	"strings"
	"testing"

	"github.com/getkin/kin-openapi/openapi3"

	"github.com/agentevents/agentevents/gen/api"
	"github.com/agentevents/agentevents/server/internal/contract"
)

// pathsWithIDs returns the paths of openapi.yaml with ids in place of parameters.
func pathsWithIDs(t *testing.T) map[string]*openapi3.PathItem {
	t.Helper()
	document, err := contract.Load()
	if err != nil {
		t.Fatal(err)
	}
	ids := strings.NewReplacer("{client_id}", "12", "{agent_id}", "4000000000", "{event_id}", "4000000000")
	all := map[string]*openapi3.PathItem{}
	for path, item := range document.Paths.Map() {
		all[ids.Replace(path)] = item
	}
	return all
}

// bothForms returns a path without and with its trailing slash.
func bothForms(path string) []string {
	bare := strings.TrimSuffix(path, "/")
	return []string{bare, bare + "/"}
}

// A path with a trailing slash runs the same operation as the path without one, and gives the same answer.
func TestTrailingSlashIsOptional(t *testing.T) {
	ls := newLiveServer(t)
	for path, item := range pathsWithIDs(t) {
		for method, operation := range item.Operations() {
			var answers []liveResponse
			for _, form := range bothForms(path) {
				body := map[string]string{"GET": "", "DELETE": "", "PUT": "{}", "POST": "{}"}[method]
				answers = append(answers, ls.call(method, form, body))
				logged := (&url.URL{Path: contract.BasePath + form}).EscapedPath()
				if want := "path=" + logged + " operation=" +
					operation.OperationID + " "; !strings.Contains(ls.log.String(), want) {
					t.Errorf("%s %s: the log lacks %s", method, form, want)
				}
			}
			a, b := answers[0], answers[1]
			created := method == http.MethodPut && a.status == 201 && b.status == 200
			deleted := method == http.MethodDelete && a.status == 204 && b.status == 404
			differs := slices.Contains([]string{"rotateSecret", "redeliverMany"}, operation.OperationID) &&
				a.status == b.status
			// The operation with the other form of the path has rolled the secret back.
			rolledBack := operation.OperationID == "rollBackSecret" && a.status == 200 && b.status == 409
			if (a.status != b.status || a.body != b.body) && !created && !deleted && !differs && !rolledBack {
				t.Errorf("%s %s: %d %s, but with a slash %d %s", method, path, a.status, a.body, b.status, b.body)
			}
		}
	}
}

func TestUnsupportedMethodGets405(t *testing.T) {
	ls := newLiveServer(t)
	for path, item := range pathsWithIDs(t) {
		want := slices.Sorted(maps.Keys(item.Operations()))
		for _, method := range []string{"GET", "POST", "PUT", "DELETE", "PATCH", "HEAD", "PURGE"} {
			if slices.Contains(want, method) {
				continue
			}
			for _, form := range bothForms(path) {
				g := ls.call(method, form, "")
				allow := strings.Split(g.header.Get("Allow"), ", ")
				allow = slices.DeleteFunc(allow, func(m string) bool { return m == "OPTIONS" })
				slices.Sort(allow)
				if g.status != http.StatusMethodNotAllowed || !slices.Equal(allow, want) {
					t.Errorf("%s %s: %d, Allow %q, want %q", method, form, g.status, allow, want)
				}
				if method != http.MethodHead {
					ls.errorOf(g)
				}
			}
		}
	}
}

func TestUnknownPathGets404(t *testing.T) {
	ls := newLiveServer(t)
	for _, path := range []string{
		"/x", "/api", "/api/ver1.0", "/api/ver1.0/", "/api/ver1.0/client/12/x", "/api/ver1.0/client/12/agent/",
		"/api/ver1.0/client/12/agent/both/", "/api/ver1.0/client/12/agent/local/1/event/2/3", "/API/ver1.0/client/",
		"/docs/x", "/docs/../openapi.yaml",
	} {
		g := ls.send(ls.request("GET", path, nil))
		ls.expect(g, http.StatusNotFound, `{"message":"this path does not exist"}`)
		ls.errorOf(g)
	}
	// An escaped slash is part of the id.
	ls.expect(ls.call("GET", "/client/12%2Fagent%2Flocal", ""), http.StatusBadRequest, "")
}

// An operation that openapi.yaml lacks would be served without validation. Its registration fails.
func TestOperationWithoutMiddlewaresCannotBeRegistered(t *testing.T) {
	defer func() {
		if recover() == nil {
			t.Error("the registration of an operation without middlewares did not fail")
		}
	}()
	api.RegisterHandlersWithOptions(slashRouter{}, api.NewStrictHandler(handlers{}, nil), api.RegisterHandlersOptions{})
}
