package e2e

import (
	"encoding/json"
	"fmt"
	"net/http"
	"net/url"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/getkin/kin-openapi/openapi3"

	"github.com/agentevents/agentevents/server/lab"
)

// checkLists signs in with what make run has printed for an application, and checks that every list that requires an
// access level shows something at the examples of its path parameters.
func checkLists(t *testing.T, printed, application, access string) {
	t.Helper()
	how := regexp.MustCompile(`(?s)open (http://\S+)/docs,.*` + application + ` +id (\S+)  secret (\S+)`)
	found := how.FindStringSubmatch(printed)
	if found == nil {
		t.Fatalf("it does not say how to sign in as the %s:\n%s", application, printed)
	}
	server := found[1]
	token, err := lab.Token(http.DefaultClient, server, found[2], found[3])
	if err != nil {
		t.Fatal(err)
	}
	paths := lists(t, server, access)
	if len(paths) == 0 {
		t.Fatalf("the document has no list that requires %s", access)
	}
	for _, path := range paths {
		req, err := http.NewRequestWithContext(t.Context(), http.MethodGet, server+path, http.NoBody)
		if err != nil {
			t.Fatal(err)
		}
		req.Header.Set("Authorization", "Bearer "+token)
		if n, err := items(req); n == 0 || err != nil {
			t.Errorf("%s has %d items (%v)", path, n, err)
		}
	}
}

// lists returns the paths of the lists that require an access level.
func lists(t *testing.T, server, access string) (paths []string) {
	t.Helper()
	at, err := url.Parse(server + "/openapi.json")
	if err != nil {
		t.Fatal(err)
	}
	document, err := openapi3.NewLoader().LoadFromURI(at)
	if err != nil {
		t.Fatal(err)
	}
	for path, item := range document.Paths.Map() {
		if item.Get == nil || item.Get.Extensions["x-access"] != access {
			continue
		}
		answer := item.Get.Responses.Status(http.StatusOK).Value.Content.Get("application/json")
		if answer == nil || !answer.Schema.Value.Type.Is("array") {
			continue
		}
		for _, p := range slices.Concat(item.Parameters, item.Get.Parameters) {
			path = strings.ReplaceAll(path, "{"+p.Value.Name+"}", fmt.Sprint(p.Value.Example))
		}
		paths = append(paths, document.Servers[0].URL+path)
	}
	return paths
}

// items counts what a list shows.
func items(req *http.Request) (int, error) {
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		return 0, err
	}
	defer resp.Body.Close()
	var all []any
	err = json.NewDecoder(resp.Body).Decode(&all)
	return len(all), err
}
