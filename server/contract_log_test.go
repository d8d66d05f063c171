package main

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
	// fixedSecret signs what scenarios compare to the byte.
	fixedSecret = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw"
)

// withLog is a delivery in each state: of local 136, delivered (1), pending after an attempt (3) and parked (4); of
// remote 7, failed (2), pending (5) and cancelled (6), the last two of the same change.
func (w *world) withLog() {
	w.withLogin()
	local, remote := w.client("12").local(136), w.client("12").remote(7)
	w.answered(200, "thanks")
	w.set("2017-05-30T16:00:00Z")
	remote.login()
	w.answered(404, "what?")
	w.set("2017-05-30T17:00:00Z")
	local.eventAt(otherURL, gen.RequestMethodPOST, gen.EventTypeAgentLogout).logout()
	w.answered(503, "")
	w.set("2017-05-30T18:00:00Z")
	local.enabled(1, gen.AgentEventStateValueDisabled).login()
	w.set("2017-05-30T19:00:00Z")
	remote.event(gen.RequestMethodPOST, gen.EventTypeAgentLogin).logout().login()
	w.must(w.store.DeleteEvent(w.Context(), remote.key, 4))
	w.fix()
}

// withNeighbour has a delivery of another client, 7, besides.
func (w *world) withNeighbour() {
	w.withLog()
	w.client("13").local(136).event(gen.RequestMethodGET, gen.EventTypeAgentLogin).login()
	w.fix()
}

func (a agentFixture) eventAt(url string, method gen.RequestMethod, typ gen.EventType) agentFixture {
	a.Helper()
	_, err := a.store.CreateEvent(a.Context(), a.key, gen.AgentEventCreate{URL: url, Method: method, EventType: typ})
	a.must(err)
	return a
}

// enabled enables or disables an event.
func (a agentFixture) enabled(event int64, state gen.AgentEventStateValue) agentFixture {
	a.Helper()
	_, err := a.store.SetEventState(a.Context(), a.key, event, state)
	a.must(err)
	return a
}

// fix makes plain what is random: webhook-ids and secrets.
func (w *world) fix() {
	w.Helper()
	w.exec("UPDATE deliveries SET webhook_id = 'msg_' || id")
	w.exec("UPDATE secrets SET secret = ?", fixedSecret)
}

// claim takes the delivery that is the first to be due, as the dispatcher does.
func (w *world) claim() webhook.Delivery {
	w.Helper()
	w.fix()
	room := webhook.ClaimLimits{Lanes: 1, PerReceiver: 1, Take: func(int64) bool { return true }}
	claimed, _, err := w.store.Claim(w.Context(), room)
	w.must(err)
	if len(claimed) != 1 {
		w.Fatalf("%d deliveries are due at %v", len(claimed), w.now())
	}
	return claimed[0]
}

// answered has the first delivery that is due answered by its receiver. A further attempt is due 5 s later.
func (w *world) answered(status int, text string) {
	w.Helper()
	w.record(w.claim(), status, text)
}

func (w *world) record(d webhook.Delivery, status int, text string) {
	w.Helper()
	request, err := webhook.NewRequest(w.Context(), d, "agentevents", w.now())
	w.must(err)
	_, err = w.store.Record(w.Context(), d, webhook.Outcome{Delay: 5 * time.Second, Attempt: webhook.Attempt{
		StartedAt: w.now(), Duration: 12500 * time.Microsecond, Status: status, Excerpt: text,
		Verdict: webhook.Judge(status, nil), Signature: request.Header.Get("webhook-signature"),
	}}, false)
	w.must(err)
}

// entry is a delivery as the list has it.
type entry struct {
	id, agent, event, sequence  int
	state, kind, method, url    string
	typ                         string
	attempts, replays           int
	at, from                    string // when it was made and, where that differs, from when it is tried
	finished, next, lastAttempt string
}

func (e entry) String() string {
	text := fmt.Sprintf(`{"id":%d,"state":%q,"agent_type":%q,"agent_id":%d,"event_id":%d,"event_type":%q,"sequence":%d,`+
		`"webhook_id":"msg_%d","method":%q,"url":%q,"attempts":%d,"replays":%d,"created_at":%q,"changed_at":%q,"expires_at":%q`,
		e.id, e.state, e.kind, e.agent, e.event, e.typ, e.sequence, e.id, e.method, e.url, e.attempts, e.replays, e.at, e.at,
		dayAfter(e.at, e.from))
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

// dayAfter is when the retry window ends that began at the last of some times.
func dayAfter(times ...string) string {
	at, _ := time.Parse(time.RFC3339, slices.Max(times))
	return at.Add(24 * time.Hour).Format("2006-01-02T15:04:05.000Z")
}

func attempt(number int, at string, status int, verdict, answer string) string {
	text := fmt.Sprintf(`{"number":%d,"started_at":%q,"duration_ms":12.5,"status":%d,"verdict":%q`, number, at, status, verdict)
	if answer != "" {
		text += fmt.Sprintf(`,"answer":%q`, answer)
	}
	return text + "}"
}

func array(items ...fmt.Stringer) string {
	texts := make([]string, len(items))
	for i, item := range items {
		texts[i] = item.String()
	}
	return "[" + strings.Join(texts, ",") + "]"
}

// The deliveries of withLog.
var (
	logDelivered = entry{
		id: 1, state: "delivered", kind: "local", agent: 136, event: 1, sequence: 1, typ: "agent-login", method: "GET", url: seedURL,
		attempts: 1, at: seedTime, finished: seedTime, lastAttempt: attempt(1, seedTime, 200, "delivered", "thanks"),
	}
	logFailed = entry{
		id: 2, state: "failed", kind: "remote", agent: 7, event: 2, sequence: 2, typ: "agent-login", method: "GET", url: seedURL,
		attempts: 1, at: "2017-05-30T16:00:00.000Z", finished: "2017-05-30T16:00:00.000Z",
		lastAttempt: attempt(1, "2017-05-30T16:00:00.000Z", 404, "failed", "what?"),
	}
	logPending = entry{
		id: 3, state: "pending", kind: "local", agent: 136, event: 3, sequence: 3, typ: "agent-logout", method: "POST",
		url: otherURL, attempts: 1, at: "2017-05-30T17:00:00.000Z", next: "2017-05-30T17:00:05.000Z",
		lastAttempt: attempt(1, "2017-05-30T17:00:00.000Z", 503, "retry", ""),
	}
	logParked = entry{
		id: 4, state: "parked", kind: "local", agent: 136, event: 1, sequence: 4, typ: "agent-login", method: "GET", url: seedURL,
		at: "2017-05-30T18:00:00.000Z",
	}
	logNew = entry{
		id: 5, state: "pending", kind: "remote", agent: 7, event: 2, sequence: 6, typ: "agent-login", method: "GET", url: seedURL,
		at: "2017-05-30T19:00:00.000Z", next: "2017-05-30T19:00:00.000Z",
	}
	logCancelled = entry{
		id: 6, state: "cancelled", kind: "remote", agent: 7, event: 4, sequence: 6, typ: "agent-login", method: "POST", url: seedURL,
		at: "2017-05-30T19:00:00.000Z", finished: "2017-05-30T19:00:00.000Z",
	}
)

// shown is the request that the detail of a delivery shows.
type shown struct {
	of      entry
	attempt int
	at      string // when it was or would be sent
	replay  bool
}

const (
	localForm  = "&agent_type=local&event_source=api&agent_id=136&extension_name=000%2A094%40ringme.ru"
	remoteForm = "&agent_type=remote&event_source=api&agent_id=7&agent_number=%2B7+%28812%29+336-42-42"
)

func (s shown) String() string {
	form := map[string]string{"agent-login": "agent_status=available", "agent-logout": "agent_status=logged_out"}[s.of.typ] +
		map[string]string{"local": localForm, "remote": remoteForm}[s.of.kind]
	url, headers := s.of.url, s.headers(form)
	var body, data string
	if s.of.method == "POST" {
		headers["Content-Type"] = "application/x-www-form-urlencoded"
		body, data = `"body":`+quoted(form)+",", " --data-raw '"+form+"'"
	} else {
		url += "?" + form
	}
	curl := "curl -X " + s.of.method
	for _, name := range slices.Sorted(maps.Keys(headers)) {
		curl += " -H '" + name + ": " + headers[name] + "'"
	}
	curl += data + " -g --path-as-is '" + url + "'"
	return fmt.Sprintf(`{"method":%q,"url":%s,"headers":%s,%s"data":%s,"curl":%s}`,
		s.of.method, quoted(url), quoted(headers), body, pairsOf(form), quoted(curl))
}

// pairsOf is a form as the JSON object that shows its pairs, in their order.
func pairsOf(form string) string {
	var pairs []string
	for pair := range strings.SplitSeq(form, "&") {
		name, value, _ := strings.Cut(pair, "=")
		plain, _ := url.QueryUnescape(value)
		pairs = append(pairs, quoted(name)+":"+quoted(plain))
	}
	return "{" + strings.Join(pairs, ",") + "}"
}

func (s shown) headers(form string) map[string]string {
	at, _ := time.Parse(time.RFC3339, s.at)
	id := "msg_" + strconv.Itoa(s.of.id)
	signature, _ := webhook.Sign(id, at, form, fixedSecret)
	headers := map[string]string{
		"Accept": "*/*", "User-Agent": "agentevents", "agentevents-attempt": strconv.Itoa(s.attempt), "agentevents-changed-at": s.of.at,
		"agentevents-epoch": seedEpoch, "agentevents-event-type": s.of.typ, "agentevents-sequence": strconv.Itoa(s.of.sequence), "webhook-id": id,
		"webhook-signature": signature, "webhook-timestamp": strconv.FormatInt(at.Unix(), 10),
	}
	if s.replay {
		headers["agentevents-replay"] = "true"
	}
	return headers
}

func quoted(value any) string {
	text, _ := json.Marshal(value)
	return string(text)
}

// detail is all that is known of a delivery; waiting may be empty.
func detail(e entry, attempts, waiting string, request shown) string {
	if waiting != "" {
		waiting = `"waiting":` + waiting + ","
	}
	return fmt.Sprintf(`{"delivery":%s,"attempts":[%s],%s"request":%s}`, e, attempts, waiting, request)
}

func waits(reason, until string, delivery int) string {
	text := `{"reason":` + quoted(reason)
	if until != "" {
		text += `,"until":` + quoted(until)
	}
	if delivery > 0 {
		text += `,"delivery_id":` + strconv.Itoa(delivery)
	}
	return text + "}"
}
