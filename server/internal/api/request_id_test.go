package api

import (
	"net/http"
	"regexp"
	"strings"
	"testing"

	"github.com/agentevents/agentevents/server/internal/contract"
)

func TestInvalidRequestIDIsReplaced(t *testing.T) {
	ls := newLiveServer(t)
	for id, kept := range map[string]bool{
		"7b0e1c5b9f6d4a32": true, "a.B_c-9": true, strings.Repeat("x", 64): true,
		"": false, strings.Repeat("x", 65): false, "a b": false, "a\tb": false, `"`: false, "ж": false,
	} {
		for _, path := range []string{
			contract.BasePath + "/client/", contract.BasePath + "/client/none", "/nowhere", "/healthz",
		} {
			r := ls.request("GET", path, nil)
			r.Header.Set("X-Request-Id", id)
			g := ls.send(r)
			have := g.header.Get("X-Request-Id")
			if (have == id) != kept || !regexp.MustCompile(`^[A-Za-z0-9._-]{1,64}$`).MatchString(have) {
				t.Errorf("%s: X-Request-Id %q became %q", path, id, have)
			}
			if strings.Contains(g.body, have) || !strings.Contains(ls.log.String(), "request_id="+have) {
				t.Errorf("%s: the id %s is in the body or not in the log", path, have)
			}
		}
	}
}

func TestRequestsAreLoggedWithoutSecrets(t *testing.T) {
	ls := newLiveServer(t)
	r := ls.request("PUT", contract.BasePath+"/client/12?token=secret1&limit=secret2",
		strings.NewReader(`{"name":"secret3"}`))
	r.Header.Set("Content-Type", "application/json")
	r.Header.Set("X-Request-Id", "id-1")
	ls.expect(ls.send(r), http.StatusCreated, "")
	ls.callAs("Bearer secret4", "GET", "/client/12", "")
	ls.call("POST", "/client/secret/?x=secret5", `{"name":`)
	_, log, _ := strings.Cut(ls.log.String(), "\n") // the first line is about the token
	line, rest, _ := strings.Cut(log, "\n")
	want := regexp.MustCompile(`^time=\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z level=INFO msg=request method=PUT ` +
		`path=/api/ver1.0/client/12 operation=putClient status=201 bytes=45 duration_ms=[0-9.]+ ` +
		`application=lab client=\"\" address=127.0.0.1 request_id=id-1$`)
	if !want.MatchString(line) {
		t.Errorf("logged %s", line)
	}
	if leak := regexp.MustCompile(`secret\d`).FindString(line + rest); leak != "" {
		t.Errorf("%s is in the log:\n%s", leak, line+rest)
	}
}
