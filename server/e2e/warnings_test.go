package e2e

import (
	"regexp"
	"strconv"
	"strings"
	"testing"

	"github.com/agentevents/agentevents/gen"
	"github.com/agentevents/agentevents/server/lab"
)

// The log has failures that need attention at level warn, with their client and agent. It has no part of the receiver's
// URL that may be secret.
func TestWarningsNameClientAndAgent(t *testing.T) {
	t.Parallel()
	p := serve(t, newStore(t), "AGENTEVENTS_LOG_LEVEL=warn", "AGENTEVENTS_RETRY_SCHEDULE=100ms",
		"AGENTEVENTS_RETRY_JITTER=0%")
	a := newAPI(t, p)
	a.putClient()
	statuses := newScriptedReceiver(t, func(a *lab.Arrival) lab.Reply {
		status, _ := strconv.Atoi(formValue(a.Form(), "status"))
		return lab.Reply{Status: status}
	})
	for _, secret := range []string{"line-user", "line-password", "line-path", "line-query"} {
		lab.AddSecret(secret)
	}
	dead := "http://" + freePort(t)
	for i, at := range []string{statuses.URL, statuses.URL, dead} {
		id, hidden := int64(i+1),
			strings.Replace(at, "http://", "http://line-user:line-password@", 1)+"/line-path?line-query&status="
		a.putAgent(gen.AgentTypeLocal, id, "x")
		a.createEvent(gen.AgentTypeLocal, id, hidden+[]string{"400", "410", ""}[i], gen.RequestMethodGET,
			gen.EventTypeAgentLogin)
		a.signIn(id)
	}
	const of, about = ` receiver=`, ` client=12 agent_type=local agent_id=`
	for _, line := range []string{
		`level=WARN msg="delivery failed"` + about + `1 event=1 .*` + of + statuses.URL + ` attempt=1 status=400`,
		`level=WARN msg="delivery failed"` + about + `2 event=2 .*` + of + statuses.URL + ` attempt=1 status=410`,
		`level=WARN msg="event disabled"` + about + `2 event=2 .*` + of + statuses.URL +
			` reason="the receiver answered 410 Gone"`,
		`level=WARN msg="breaker opened" client=12 receiver=` + dead +
			` failures=5 error="the receiver refused the connection"`,
	} {
		is := regexp.MustCompile("(?m)" + line + "$")
		eventually(t, line, func() bool { return is.MatchString(p.Log.String()) })
	}
	equal(t, "exit code", p.stop(t), 0)
	equal(t, "failures", strings.Count(p.Log.String(), "delivery failed"), 2)
	equal(t, "openings", strings.Count(p.Log.String(), "breaker opened"), 1)
}
