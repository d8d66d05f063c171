package main_test

import (
	"net/http"
	"net/http/httptest"
	"regexp"
	"strconv"
	"strings"
	"testing"

	"github.com/agentevents/agentevents/gen"
	"github.com/agentevents/agentevents/server/lab"
)

// What needs somebody's attention is a line of the log at level warn, which says whose it is, and of the receiver's URL nothing
// that may be secret.
func testLines(t *testing.T, bin programs) {
	p := bin.serve(t, newStore(t), "AGENTEVENTS_LOG_LEVEL=warn", "AGENTEVENTS_RETRY_SCHEDULE=100ms", "AGENTEVENTS_RETRY_JITTER=0%")
	a := newAPI(t, p)
	a.putClient()
	statuses := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, req *http.Request) {
		status, _ := strconv.Atoi(req.URL.Query().Get("status"))
		w.WriteHeader(status)
	}))
	t.Cleanup(statuses.Close)
	for _, secret := range []string{"line-user", "line-password", "line-path", "line-query"} {
		lab.Tell(secret)
	}
	dead := "http://" + freePort(t)
	for i, url := range []string{statuses.URL + "/line-path?line-query&status=400", statuses.URL + "/line-path?line-query&status=410", dead + "/line-path?line-query"} {
		id, hidden := int64(i+1), strings.Replace(url, "http://", "http://line-user:line-password@", 1)
		a.putAgent(gen.AgentTypeLocal, id, "x")
		a.register(gen.AgentTypeLocal, id, hidden, gen.RequestMethodGET, gen.EventTypeAgentLogin)
		a.signIn(id)
	}
	const about = ` client=12 agent_type=local agent_id=`
	for _, line := range []string{
		`level=WARN msg="delivery failed"` + about + `1 event=1 delivery=1 sequence=1 webhook_id=msg_\w+ receiver=` + statuses.URL + ` attempt=1 status=400`,
		`level=WARN msg="delivery failed"` + about + `2 event=2 delivery=2 sequence=2 webhook_id=msg_\w+ receiver=` + statuses.URL + ` attempt=1 status=410`,
		`level=WARN msg="event disabled"` + about + `2 event=2 .* receiver=` + statuses.URL + ` reason="the receiver answered 410 Gone"`,
		`level=WARN msg="breaker open" client=12 receiver=` + dead + ` failures=5 error="the receiver refused the connection"`,
	} {
		is := regexp.MustCompile("(?m)" + line + "$")
		eventually(t, line, func() bool { return is.MatchString(p.out.String()) })
	}
	equal(t, "exit code", p.stop(t), 0)
	equal(t, "failures", strings.Count(p.out.String(), "delivery failed"), 2)
	equal(t, "openings", strings.Count(p.out.String(), "breaker open"), 1)
}
