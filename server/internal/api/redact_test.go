package api

import (
	"net/http"
	"strings"
	"testing"

	"github.com/agentevents/agentevents/gen"
)

func TestStripURLLeavesSchemeHostAndPort(t *testing.T) {
	for raw, want := range map[string]string{
		"https://somehost.com/fordel/show.php":    "https://somehost.com",
		"https://u:p@somehost.com:8443/a?b=c&d#e": "https://somehost.com:8443",
		"http://token@host/":                      "http://host",
		"http://[::1]:80/?":                       "http://[::1]:80",
		"http://host/%zz?secret":                  "",
		"mailto:secret":                           "",
	} {
		if got := stripURL(raw); got != want {
			t.Errorf("%s: got %s, want %s", raw, got, want)
		}
	}
}

// A token of access level read_only gets scheme, host and port of a URL alone, also of one that was corrected since,
// and no answer that quotes it. Other tokens get all of it.
func TestReadOnlyGetsNoSecretsOfURLs(t *testing.T) {
	t.Parallel()
	ts := newTestServer(t)
	ts.receivers.setStatus(http.StatusOK)
	ts.withClient()
	a := ts.client("12").local(136)
	for _, method := range []gen.RequestMethod{gen.RequestMethodGET, gen.RequestMethodPOST} {
		_, err := ts.store.CreateEvent(t.Context(), a.key, gen.AgentEventCreate{
			URL: "https://user:hidden@somehost.com/services/hidden?token=hidden", Method: method,
			EventType: gen.EventTypeAgentLogin,
		})
		ts.must(err)
	}
	a.login()
	d := ts.claim()
	ts.put("/client/12/agent/local/136/event/1", `{"url":"https://u:hidden@somehost.com/other/hidden?token=hidden"}`)
	ts.record(d, http.StatusNotFound, "Cannot GET /services/hidden")
	for _, event := range []string{"1", "2"} {
		ts.send(scenario{request: "POST /client/12/agent/local/136/event/" + event + "/test"})
	}
	for _, path := range []string{
		"/agent/local/136/event/", "/agent/local/136/event/1", "/agent/local/136/event/1/test",
		"/agent/local/136/event/2/test",
		"/delivery/", "/delivery/1", "/delivery/2",
	} {
		reader := ts.send(scenario{request: "GET /client/12" + path, header: readOnlyToken.header()})
		if text := string(reader.body); reader.status != http.StatusOK || strings.Contains(text, "hidden") ||
			strings.Contains(text, "webhook-signature") || !strings.Contains(text, "https://somehost.com") {
			t.Errorf("%s: %d %s", path, reader.status, text)
		}
		if other := ts.send(scenario{
			request: "GET /client/12" + path, header: callAPIToken.header(),
		}); !strings.Contains(string(other.body), "token=hidden") {
			t.Errorf("%s: %d %s", path, other.status, other.body)
		}
	}
}
