package api

import (
	"encoding/json"
	"fmt"
	"maps"
	"net/url"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/agentevents/agentevents/gen"
	"github.com/agentevents/agentevents/webhook"
)

const (
	otherURL = "https://other.example/logout"
	// fixedSecret is the secret of scenarios that compare signatures.
	fixedSecret = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw"
)

// withLog creates a delivery in each state. Local agent 136 has 1 (delivered), 3 (pending after an attempt) and 4
// (parked). Remote agent 7 has 2 (failed), 5 (pending) and 6 (cancelled). Deliveries 5 and 6 have the same change.
func (ts *testServer) withLog() {
	ts.withLogin()
	local, remote := ts.client("12").local(136), ts.client("12").remote(7)
	ts.receiverAnswers(200, "thanks")
	ts.setTime("2017-05-30T16:00:00Z")
	remote.login()
	ts.receiverAnswers(404, "what?")
	ts.setTime("2017-05-30T17:00:00Z")
	local.eventAt(otherURL, gen.RequestMethodPOST, gen.EventTypeAgentLogout).logout()
	ts.receiverAnswers(503, "")
	ts.setTime("2017-05-30T18:00:00Z")
	local.setEventState(1, gen.AgentEventStateValueDisabled).login()
	ts.setTime("2017-05-30T19:00:00Z")
	remote.event(gen.RequestMethodPOST, gen.EventTypeAgentLogin).logout().login()
	ts.must(ts.store.DeleteEvent(ts.Context(), remote.key, 4))
	ts.fixRandomValues()
}

// withNeighbour is withLog, and creates client 13 with delivery 7.
func (ts *testServer) withNeighbour() {
	ts.withLog()
	ts.client("13").local(136).event(gen.RequestMethodGET, gen.EventTypeAgentLogin).login()
	ts.fixRandomValues()
}

func (a agentFixture) eventAt(url string, method gen.RequestMethod, typ gen.EventType) agentFixture {
	a.Helper()
	_, err := a.store.CreateEvent(a.Context(), a.key, gen.AgentEventCreate{URL: url, Method: method, EventType: typ})
	a.must(err)
	return a
}

// setEventState enables or disables an event.
func (a agentFixture) setEventState(event int64, state gen.AgentEventStateValue) agentFixture {
	a.Helper()
	_, err := a.store.SetEventState(a.Context(), a.key, event, state)
	a.must(err)
	return a
}

// fixRandomValues replaces random webhook ids and secrets by known ones.
func (ts *testServer) fixRandomValues() {
	ts.Helper()
	ts.exec("UPDATE deliveries SET webhook_id = 'msg_' || id")
	ts.exec("UPDATE secrets SET secret = ?", fixedSecret)
}

// claim claims the first due delivery, as the dispatcher does.
func (ts *testServer) claim() webhook.Delivery {
	ts.Helper()
	ts.fixRandomValues()
	limits := webhook.ClaimLimits{Lanes: 1, PerReceiver: 1, Take: func(string, int64) bool { return true }}
	claimed, _, err := ts.store.Claim(ts.Context(), limits)
	ts.must(err)
	if len(claimed) != 1 {
		ts.Fatalf("%d deliveries are due at %v", len(claimed), ts.now())
	}
	return claimed[0]
}

// receiverAnswers records an attempt at the first due delivery. A retry is due 5 s later.
func (ts *testServer) receiverAnswers(status int, text string) {
	ts.Helper()
	ts.record(ts.claim(), status, text)
}

func (ts *testServer) record(d webhook.Delivery, status int, text string) {
	ts.Helper()
	request, err := webhook.NewRequest(ts.Context(), d, "agentevents", ts.now())
	ts.must(err)
	_, err = ts.store.Record(ts.Context(), d, webhook.Outcome{Delay: 5 * time.Second, Attempt: webhook.Attempt{
		StartedAt: ts.now(), Duration: 12500 * time.Microsecond, Status: status, Excerpt: text,
		Verdict: webhook.Judge(status, nil), Signature: request.Header.Get("webhook-signature"),
	}}, false)
	ts.must(err)
}

// loggedDelivery is a delivery in the form of lists.
type loggedDelivery struct {
	id, agent, event, sequence  int
	state, kind, method, url    string
	typ                         string
	attempts, replays           int
	at, from                    string // time of creation and, if different, the start of the retry window
	finished, next, lastAttempt string
}

func (e loggedDelivery) String() string {
	text := fmt.Sprintf(`{"id":%d,"state":%q,"agent_type":%q,"agent_id":%d,"event_id":%d,"event_type":%q,`+
		`"sequence":%d,`+
		`"webhook_id":"msg_%d","method":%q,"url":%q,"attempts":%d,"replays":%d,"created_at":%q,"changed_at":%q,`+
		`"expires_at":%q`,
		e.id, e.state, e.kind, e.agent, e.event, e.typ, e.sequence, e.id, e.method, e.url, e.attempts, e.replays, e.at,
		e.at,
		expiryOf(e.at, e.from))
	reason := map[string]string{"cancelled": "its event was deleted"}[e.state]
	for _, field := range [][2]string{{"finished_at", e.finished}, {"reason", reason}, {"next_attempt_at", e.next}} {
		if field[1] != "" {
			text += fmt.Sprintf(`,%q:%q`, field[0], field[1])
		}
	}
	if e.lastAttempt != "" {
		text += `,"last_attempt":` + e.lastAttempt
	}
	return text + "}"
}

// expiryOf returns the end of the retry window that begins at the latest of some times.
func expiryOf(times ...string) string {
	at, _ := time.Parse(time.RFC3339, slices.Max(times))
	return at.Add(24 * time.Hour).Format("2006-01-02T15:04:05.000Z")
}

func attemptJSON(number int, at string, status int, verdict, answer string) string {
	text := fmt.Sprintf(`{"number":%d,"started_at":%q,"duration_ms":12.5,"status":%d,"verdict":%q`, number, at, status,
		verdict)
	if answer != "" {
		text += fmt.Sprintf(`,"answer":%q`, answer)
	}
	return text + "}"
}

func arrayJSON(items ...fmt.Stringer) string {
	texts := make([]string, len(items))
	for i, item := range items {
		texts[i] = item.String()
	}
	return "[" + strings.Join(texts, ",") + "]"
}

// The deliveries of withLog.
var (
	logDelivered = loggedDelivery{
		id: 1, state: "delivered", kind: "local", agent: 136, event: 1, sequence: 1, typ: "agent-login", method: "GET",
		url:      exampleURL,
		attempts: 1, at: exampleTime, finished: exampleTime,
		lastAttempt: attemptJSON(1, exampleTime, 200, "delivered", "thanks"),
	}
	logFailed = loggedDelivery{
		id: 2, state: "failed", kind: "remote", agent: 7, event: 2, sequence: 2, typ: "agent-login", method: "GET",
		url:      exampleURL,
		attempts: 1, at: "2017-05-30T16:00:00.000Z", finished: "2017-05-30T16:00:00.000Z",
		lastAttempt: attemptJSON(1, "2017-05-30T16:00:00.000Z", 404, "failed", "what?"),
	}
	logPending = loggedDelivery{
		id: 3, state: "pending", kind: "local", agent: 136, event: 3, sequence: 3, typ: "agent-logout", method: "POST",
		url: otherURL, attempts: 1, at: "2017-05-30T17:00:00.000Z", next: "2017-05-30T17:00:05.000Z",
		lastAttempt: attemptJSON(1, "2017-05-30T17:00:00.000Z", 503, "retry", ""),
	}
	logParked = loggedDelivery{
		id: 4, state: "parked", kind: "local", agent: 136, event: 1, sequence: 4, typ: "agent-login", method: "GET",
		url: exampleURL,
		at:  "2017-05-30T18:00:00.000Z",
	}
	logNew = loggedDelivery{
		id: 5, state: "pending", kind: "remote", agent: 7, event: 2, sequence: 6, typ: "agent-login", method: "GET",
		url: exampleURL,
		at:  "2017-05-30T19:00:00.000Z", next: "2017-05-30T19:00:00.000Z",
	}
	logCancelled = loggedDelivery{
		id: 6, state: "cancelled", kind: "remote", agent: 7, event: 4, sequence: 6, typ: "agent-login", method: "POST",
		url: exampleURL,
		at:  "2017-05-30T19:00:00.000Z", finished: "2017-05-30T19:00:00.000Z",
	}
)

// shownRequest is the request in the details of a delivery.
type shownRequest struct {
	of      loggedDelivery
	attempt int
	at      string // time of the attempt
	replay  bool
}

const (
	localForm  = "&agent_type=local&event_source=api&agent_id=136&extension_name=000%2A094%40ringme.ru"
	remoteForm = "&agent_type=remote&event_source=api&agent_id=7&agent_number=%2B7+%28812%29+336-42-42"
)

func (s shownRequest) String() string {
	form := map[string]string{
		"agent-login": "agent_status=available", "agent-logout": "agent_status=logged_out",
	}[s.of.typ] +
		map[string]string{"local": localForm, "remote": remoteForm}[s.of.kind]
	url, headers := s.of.url, s.headers(form)
	var body, data string
	if s.of.method == "POST" {
		headers["Content-Type"] = "application/x-www-form-urlencoded"
		body, data = `"body":`+jsonOf(form)+",", " --data-raw '"+form+"'"
	} else {
		url += "?" + form
	}
	curl := "curl -X " + s.of.method
	for _, name := range slices.Sorted(maps.Keys(headers)) {
		curl += " -H '" + name + ": " + headers[name] + "'"
	}
	curl += data + " -g --path-as-is '" + url + "'"
	return fmt.Sprintf(`{"method":%q,"url":%s,"headers":%s,%s"data":%s,"curl":%s}`,
		s.of.method, jsonOf(url), jsonOf(headers), body, formPairsJSON(form), jsonOf(curl))
}

// formPairsJSON returns a form as a JSON object, in the order of the pairs.
func formPairsJSON(form string) string {
	var pairs []string
	for pair := range strings.SplitSeq(form, "&") {
		name, value, _ := strings.Cut(pair, "=")
		plain, _ := url.QueryUnescape(value)
		pairs = append(pairs, jsonOf(name)+":"+jsonOf(plain))
	}
	return "{" + strings.Join(pairs, ",") + "}"
}

func (s shownRequest) headers(form string) map[string]string {
	at, _ := time.Parse(time.RFC3339, s.at)
	id := "msg_" + strconv.Itoa(s.of.id)
	signature, _ := webhook.Sign(id, at, form, fixedSecret)
	headers := map[string]string{
		"Accept": "*/*", "User-Agent": "agentevents", "agentevents-attempt": strconv.Itoa(s.attempt),
		"agentevents-changed-at": s.of.at,
		"agentevents-epoch":      testEpoch, "agentevents-event-type": s.of.typ,
		"agentevents-sequence": strconv.Itoa(s.of.sequence), "webhook-id": id,
		"webhook-signature": signature, "webhook-timestamp": strconv.FormatInt(at.Unix(), 10),
	}
	if s.replay {
		headers["agentevents-replay"] = "true"
	}
	return headers
}

func jsonOf(value any) string {
	text, _ := json.Marshal(value)
	return string(text)
}

// detailJSON returns the details of a delivery. waiting may be empty.
func detailJSON(e loggedDelivery, attempts, waiting string, request shownRequest) string {
	if waiting != "" {
		waiting = `"waiting":` + waiting + ","
	}
	return fmt.Sprintf(`{"delivery":%s,"attempts":[%s],%s"request":%s}`, e, attempts, waiting, request)
}

func waitingJSON(reason, until string, delivery int) string {
	text := `{"reason":` + jsonOf(reason)
	if until != "" {
		text += `,"until":` + jsonOf(until)
	}
	if delivery > 0 {
		text += `,"delivery_id":` + strconv.Itoa(delivery)
	}
	return text + "}"
}
