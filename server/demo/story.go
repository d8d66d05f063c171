package main

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"strings"
	"time"

	"github.com/agentevents/agentevents/gen"
	"github.com/agentevents/agentevents/server/lab"
)

// patience is how long a step may take that normally takes milliseconds.
const patience = 10 * time.Second

const (
	local    = "/client/12/agent/local/136"
	remote   = "/client/12/agent/remote/7"
	asLocal  = `{"extension_name":"000*094@ringme.ru"}`
	asRemote = `{"agent_number":"+7 (812) 336-42-42"}`
	script   = "/fordel/show.php" // the path of the receiver in the manual
)

// story makes requests of the API, and shows each as a step. After an error its methods do nothing.
type story struct {
	ctx              context.Context
	out              io.Writer
	server, receiver string // URLs
	record           *lab.Record
	tokens           map[string]string // by name
	steps, webhooks  int               // so far
	err              error
}

// play plays the example of the manual, and what follows from it.
func (s *story) play() error {
	fmt.Fprintf(s.out, "The server runs with an empty store in a temporary directory. For this demo it may send to\n"+
		"loopback, where a receiver waits at %s. In the commands:\n\n    SERVER=%s\n    API=$SERVER%s\n",
		s.receiver, s.server, lab.APIPath)

	s.token("The PBX gets a token. It is an operator and may do everything; the server was started with its secret.",
		"OPERATOR", lab.OperatorID, lab.OperatorSecret)
	s.put("The PBX makes its client 12 known.", "/client/12", `{"name":"Ringme"}`,
		"there is a client 12", `"id":"12"`)
	crm := request[gen.ApplicationSecret](s, "For the client's CRM it makes an application, which may manage events.",
		"OPERATOR", "POST", "/client/12/application/", `{"access":"call_api","name":"CRM"}`, 201)
	s.print("    ok: 201, its id is %s and its secret, shown this once, %s\n", crm.ID, crm.Secret)
	s.token("The CRM gets a token. It sees nothing of other clients, and changes neither agents nor their status.",
		"CRM", crm.ID, crm.Secret)

	s.put("The client has a local agent 136, which is assigned to the internal number 000*094.", local, asLocal,
		"agent 136 is 000*094@ringme.ru, logged_out", `"extension_name":"000*094@ringme.ru"`, `"logged_out"`)
	s.event("An event is added to this agent that is generated when it enters the queue.",
		"local/136", 1, "GET", "agent-login")
	s.set("The agent logs in to the queue.", local, `{"agent_status":"available"}`,
		"changed: true, deliveries: 1, sequence: 1", "the receiver has printed the manual's lines",
		"1 GET agent_status=available&agent_type=local&event_source=api&agent_id=136&extension_name=000*094@ringme.ru")
	s.set("The agent logs in once more, and nothing is sent.", local, `{"agent_status":"available"}`,
		"changed: false, deliveries: 0, sequence: 1", "what the receiver gets next will prove it", "")
	s.event("Another event is added, for the logout and by POST.", "local/136", 2, "POST", "agent-logout")
	// One agent's events arrive at one receiver in the order of the changes.
	s.set("The agent logs out by a command dialled on its phone.", local,
		`{"agent_status":"logged_out","event_source":"phone"}`, "changed: true, deliveries: 1, sequence: 2",
		"it is the next one after the login: the second login has sent nothing",
		"2 POST agent_status=logged_out&agent_type=local&event_source=phone&agent_id=136&"+
			"extension_name=000*094@ringme.ru")

	s.put("The client also has a remote agent 7, on an external number.", remote, asRemote,
		"agent 7 is +7 (812) 336-42-42, logged_out", `"agent_number":"+7 (812) 336-42-42"`, `"logged_out"`)
	s.event("An event for its login is added in the same way.", "remote/7", 3, "GET", "agent-login")
	s.set("The remote agent logs in, from its phone.", remote, `{"agent_status":"available","event_source":"phone"}`,
		"changed: true, deliveries: 1, sequence: 3", "the number came through as it is",
		"3 GET agent_status=available&agent_type=remote&event_source=phone&agent_id=7&agent_number=+7 (812) 336-42-42")
	return s.err
}

// step announces a step, and shows its command.
func (s *story) step(title, command string) {
	s.steps++
	s.print("\n%2d. %s\n%s\n", s.steps, title, indented(command))
}

// token gets a token for an application.
func (s *story) token(title, name, id, secret string) {
	s.step(title, fmt.Sprintf("curl \"$API/oauth/token\" -d grant_type=client_credentials \\\n"+
		"  -d client_id=%s -d client_secret=%s", id, secret))
	if s.err == nil {
		s.tokens[name], s.err = lab.Token(http.DefaultClient, s.server+lab.APIPath, id, secret)
	}
	s.print("    ok: 200, a token for an hour; from here on %s=%s\n", name, s.tokens[name])
}

// request makes a request with a token, of which the answer must have a status.
func request[T any](s *story, title, by, method, path, body string, status int) (answer T) {
	s.step(title, curl(by, method, path, body))
	if s.err == nil {
		as := &http.Client{Transport: &lab.Operator{Token: s.tokens[by]}, Timeout: patience}
		answer, s.err = lab.Call[T](s.ctx, as, status, method, s.server+lab.APIPath+path, body)
	}
	return answer
}

// curl is the command that makes a request.
func curl(by, method, path, body string) string {
	return fmt.Sprintf(`curl -X %s "$API%s" -H "Authorization: Bearer $%s" -H 'Content-Type: application/json' \
  -d '%s'`, method, path, by, body)
}

// put has the PBX make something, of which the answer says certain parts.
func (s *story) put(title, path, body, seen string, parts ...string) {
	answer := string(request[json.RawMessage](s, title, "OPERATOR", "PUT", path, body, 201))
	for _, part := range parts {
		s.must(strings.Contains(answer, part), "the answer is %s, without %s", answer, part)
	}
	s.print("    ok: 201, %s\n", seen)
}

// event has the CRM register an event, and compares every character of the answer: the order of its fields is the
// manual's.
func (s *story) event(title, agent string, id int, method, eventType string) {
	body := fmt.Sprintf(`{"url":%q,"method":%q,"event_type":%q}`, s.receiver, method, eventType)
	want := fmt.Sprintf(`{"url":%q,"id":%d,"method":%q,"event_type":%q}`, s.receiver, id, method, eventType)
	answer := request[json.RawMessage](s, title, "CRM", "POST", "/client/@me/agent/"+agent+"/event/", body, 201)
	var shown bytes.Buffer
	_ = json.Indent(&shown, answer, "", "  ") // it is JSON
	s.print("    System response:\n%s\n", indented(shown.String()))
	s.must(string(answer) == want, "the answer is not %s", want)
	s.print("    ok: 201, event %d is registered\n", id)
}

// set has the PBX set the status of an agent, looks at what the answer says, and waits for what the receiver gets, if
// anything: the change's sequence, the method, and AgentEventData in the order of the manual's example.
func (s *story) set(title, agent, body, says, seen, arrives string) {
	a := request[gen.AgentStatus](s, title, "OPERATOR", "PUT", agent+"/status", body, 200)
	said := fmt.Sprintf("changed: %t, deliveries: %d, sequence: %d", a.Changed, a.Deliveries, a.Sequence)
	s.must(said == says, "the answer says %s and not %s", said, says)
	if s.err == nil && arrives != "" {
		s.arrives(arrives)
	}
	s.print("    ok: 200, %s; %s\n", said, seen)
}

// arrives waits for the next request at the receiver, prints what the manual's script would, and compares it.
func (s *story) arrives(want string) {
	if s.err = lab.Until(s.ctx, patience, func() bool { return s.record.Count() > s.webhooks }); s.err != nil {
		s.err = fmt.Errorf("the receiver got nothing: %w", s.err)
		return
	}
	a := s.record.Arrivals()[s.webhooks]
	s.webhooks++
	s.print("    The receiver's log, after a %s:\n%s\n", a.Method, indented(phpLog(a.At, a.Form())))
	form, _ := url.QueryUnescape(a.Form()) // what cannot be read is empty
	got := fmt.Sprintf("%d %s %s", a.Sequence, a.Method, form)
	s.must(a.Path == script && got == want, "the receiver got %s at %s and not %s", got, a.Path, want)
}

// must ends the story with an error unless something is so.
func (s *story) must(so bool, format string, args ...any) {
	if s.err == nil && !so {
		s.err = fmt.Errorf(format, args...)
	}
}

// phpLog is what the manual's PHP script leaves in the log of its web server, of a form in its order.
func phpLog(at time.Time, form string) string {
	log := fmt.Sprintf("[%s] ------", at.Format(time.ANSIC))
	for element := range strings.SplitSeq(form, "&") {
		key, value, _ := strings.Cut(element, "=")
		value, _ = url.QueryUnescape(value) // likewise
		log += fmt.Sprintf("\n[%s] %s => %s", at.Format(time.ANSIC), key, value)
	}
	return log
}

// print prints to the story.
func (s *story) print(format string, args ...any) {
	if s.err == nil {
		fmt.Fprintf(s.out, format, args...)
	}
}

func indented(text string) string { return "      " + strings.ReplaceAll(text, "\n", "\n      ") }
