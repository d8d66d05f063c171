package api

import (
	"net/http"
	"strings"
	"testing"

	"github.com/agentevents/agentevents/gen"
)

func TestStripURLRemovesUserAndQuery(t *testing.T) {
	for raw, want := range map[string]string{
		"https://somehost.com/fordel/show.php":    "https://somehost.com/fordel/show.php",
		"https://u:p@somehost.com:8443/a?b=c&d#e": "https://xxxxx@somehost.com:8443/a?xxxxx#e",
		"http://token@host/":                      "http://xxxxx@host/",
		"http://host/?":                           "http://host/?",
		"http://host/%zz?secret":                  "xxxxx",
		"http://host/a%2Fb?%zz":                   "http://host/a%2Fb?xxxxx",
	} {
		if got := stripURL(raw); got != want {
			t.Errorf("%s: got %s, want %s", raw, got, want)
		}
	}
}

// A token of access level read_only never gets the user or the query of a URL. Other tokens get both.
func TestReadOnlyGetsNoSecretsOfURLs(t *testing.T) {
	t.Parallel()
	ts := newTestServer(t)
	ts.receivers.setStatus(http.StatusOK)
	ts.withClient()
	a := ts.client("12").local(136)
	for _, method := range []gen.RequestMethod{gen.RequestMethodGET, gen.RequestMethodPOST} {
		_, err := ts.store.CreateEvent(t.Context(), a.key, gen.AgentEventCreate{
			URL: "https://user:hidden@somehost.com/x?token=hidden", Method: method, EventType: gen.EventTypeAgentLogin,
		})
		ts.must(err)
	}
	a.login()
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
			strings.Contains(text, "webhook-signature") || !strings.Contains(text, "somehost.com/x?xxxxx") {
			t.Errorf("%s: %d %s", path, reader.status, text)
		}
		if other := ts.send(scenario{
			request: "GET /client/12" + path, header: callAPIToken.header(),
		}); !strings.Contains(string(other.body), "token=hidden") {
			t.Errorf("%s: %d %s", path, other.status, other.body)
		}
	}
}
