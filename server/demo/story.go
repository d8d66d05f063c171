package main

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"slices"
	"strings"
	"time"

	"github.com/agentevents/agentevents/server/lab"
)

const (
	local     = "/client/12/agent/local/136"
	remote    = "/client/12/agent/remote/7"
	asLocal   = `{"extension_name":"000*094@ringme.ru"}`
	asRemote  = `{"agent_number":"+7 (812) 336-42-42"}`
	available = `{"agent_status":"available"}`
	script    = "/fordel/show.php" // the path of the receiver in the manual
)

// story plays the example. After an error its methods do nothing.
type story struct {
	server, receiver string // URLs
	arrivals         chan *lab.Arrival
	out              *printer
	ctx              context.Context // of the step
	tokens           map[string]string
	err              error
}

// play plays the example of the manual, and what follows from it.
func (s *story) play(ctx context.Context) error {
	s.out.begin(s.server, s.receiver)
	s.tokens = map[string]string{}
	for _, part := range []func(){s.access, s.local, s.remote} {
		ctx, cancel := context.WithTimeout(ctx, patience)
		s.ctx = ctx
		part()
		cancel()
	}
	return s.err
}

func (s *story) access() {
	s.step("The PBX gets a token. It is an operator and may do everything; the server was started with its secret.")
	s.token("OPERATOR", lab.OperatorID, lab.OperatorSecret)

	s.step("The PBX makes its client 12 known.")
	s.call(http.MethodPut, "/client/12", `{"name":"Ringme"}`, 201, `"id":"12"`)
	s.saw("201, there is a client 12")

	s.step("For the client's CRM it makes an application, which may manage events.")
	const crm = `{"access":"call_api","name":"CRM"}`
	made := s.call(http.MethodPost, "/client/12/application/", crm, 201)
	s.saw("201, its id is %s and its secret, shown this once, %s", made["id"], made["secret"])

	s.step("The CRM gets a token. It sees nothing of other clients, and changes neither agents nor their status.")
	s.token("CRM", fmt.Sprint(made["id"]), fmt.Sprint(made["secret"]))
}

func (s *story) local() {
	s.step("The client has a local agent 136, which is assigned to the internal number 000*094.")
	s.call(http.MethodPut, local, asLocal, 201, `"extension_name":"000*094@ringme.ru"`, `"logged_out"`)
	s.saw("201, agent 136 is 000*094@ringme.ru, logged_out")

	s.step("An event is added to this agent that is generated when it enters the queue.")
	s.event("local/136", 1, http.MethodGet, "agent-login")

	s.step("The agent logs in to the queue.")
	s.call(http.MethodPut, local+"/status", available, 200, `"changed":true`, `"deliveries":1`, `"sequence":1`)
	s.arrives(http.MethodGet, 1, "available", "local", "api", "136", "extension_name", "000*094@ringme.ru")
	s.saw("200, changed: true, deliveries: 1; the receiver has printed the manual's lines")

	s.step("The agent logs in once more, and nothing is sent.")
	s.call(http.MethodPut, local+"/status", available, 200, `"changed":false`, `"deliveries":0`, `"sequence":1`)
	s.saw("200, changed: false, deliveries: 0; what the receiver gets next will prove it")

	s.step("Another event is added, for the logout and by POST.")
	s.event("local/136", 2, http.MethodPost, "agent-logout")

	s.step("The agent logs out by a command dialled on its phone.")
	const logout = `{"agent_status":"logged_out","event_source":"phone"}`
	s.call(http.MethodPut, local+"/status", logout, 200, `"changed":true`, `"deliveries":1`, `"sequence":2`)
	// One agent's events arrive at one receiver in the order of the changes.
	s.arrives(http.MethodPost, 2, "logged_out", "local", "phone", "136", "extension_name", "000*094@ringme.ru")
	s.saw("200, changed: true, deliveries: 1; it is the next one after the login: the second login has sent nothing")
}

func (s *story) remote() {
	s.step("The client also has a remote agent 7, on an external number.")
	s.call(http.MethodPut, remote, asRemote, 201, `"agent_number":"+7 (812) 336-42-42"`, `"logged_out"`)
	s.saw("201, agent 7 is +7 (812) 336-42-42, logged_out")

	s.step("An event for its login is added in the same way.")
	s.event("remote/7", 3, http.MethodGet, "agent-login")

	s.step("The remote agent logs in, from its phone.")
	const login = `{"agent_status":"available","event_source":"phone"}`
	s.call(http.MethodPut, remote+"/status", login, 200, `"changed":true`, `"deliveries":1`, `"sequence":3`)
	s.arrives(http.MethodGet, 3, "available", "remote", "phone", "7", "agent_number", "+7 (812) 336-42-42")
	s.saw("200, changed: true, deliveries: 1; the number came through as it is")
}

func (s *story) step(text string) {
	if s.err == nil {
		s.out.step(text)
	}
}

func (s *story) saw(format string, args ...any) {
	if s.err == nil {
		s.out.saw(format, args...)
	}
}

// request makes a request of the API with a token, shown as a command, and returns the answer, which must have a
// status.
func (s *story) request(token, method, path, contentType, body string, status int) (answer []byte) {
	if s.err != nil {
		return nil
	}
	req, err := http.NewRequestWithContext(s.ctx, method, s.server+lab.APIPath+path, strings.NewReader(body))
	if s.err = err; err != nil {
		return nil
	}
	req.Header.Set("Content-Type", contentType)
	if token != "" {
		req.Header.Set("Authorization", "Bearer "+s.tokens[token])
	}
	if s.err = s.out.command(req, s.server); s.err != nil {
		return nil
	}
	resp, err := http.DefaultClient.Do(req)
	if s.err = err; err != nil {
		return nil
	}
	defer resp.Body.Close()
	answer, s.err = io.ReadAll(resp.Body)
	if s.err == nil && resp.StatusCode != status {
		s.err = &lab.StatusError{Status: resp.StatusCode, Want: status, Body: string(answer)}
	}
	return answer
}

// call makes a request as the operator and returns the fields of the answer, in which there must be certain parts.
func (s *story) call(method, path, body string, status int, parts ...string) (fields map[string]any) {
	answer := s.request("OPERATOR", method, path, "application/json", body, status)
	for _, part := range parts {
		if s.err == nil && !bytes.Contains(answer, []byte(part)) {
			s.err = fmt.Errorf("the answer is %s, without %s", answer, part)
		}
	}
	if s.err == nil {
		s.err = json.Unmarshal(answer, &fields)
	}
	return fields
}

// token gets a token for an application, which has a name in commands.
func (s *story) token(name, id, secret string) {
	form := url.Values{"grant_type": {"client_credentials"}, "client_id": {id}, "client_secret": {secret}}
	const kind = "application/x-www-form-urlencoded"
	var answer struct {
		AccessToken string `json:"access_token"`
		ExpiresIn   int    `json:"expires_in"`
	}
	content := s.request("", http.MethodPost, "/oauth/token", kind, form.Encode(), 200)
	if s.err == nil {
		s.err = json.Unmarshal(content, &answer)
	}
	s.tokens[name] = answer.AccessToken
	s.saw("200, a token for %d s; from here on %s=%s", answer.ExpiresIn, name, answer.AccessToken)
	s.out.name(answer.AccessToken, name)
}

// event registers an event, and compares every character of the answer: the order of its fields is the manual's.
func (s *story) event(agent string, id int, method, eventType string) {
	path := "/client/@me/agent/" + agent + "/event/"
	body := fmt.Sprintf(`{"url":%q,"method":%q,"event_type":%q}`, s.receiver, method, eventType)
	got := s.request("CRM", http.MethodPost, path, "application/json", body, 201)
	want := fmt.Sprintf("{\n  \"url\": %q,\n  \"id\": %d,\n  \"method\": %q,\n  \"event_type\": %q\n}",
		s.receiver, id, method, eventType)
	var answer bytes.Buffer
	if s.err == nil {
		s.err = json.Indent(&answer, bytes.TrimSpace(got), "", "  ")
	}
	if s.err == nil && answer.String() != want {
		s.err = fmt.Errorf("the answer is\n%s\nand not\n%s", answer.String(), want)
	}
	if s.err == nil {
		s.out.block("System response:", want)
	}
	s.saw("201, event %d is registered", id)
}

// arrives waits for the next request at the receiver, prints what the manual's script would, and compares it with the
// AgentEventData of a change, in the order of the manual's example.
func (s *story) arrives(method string, sequence int64, status, kind, source, id, nameKey, name string) {
	if s.err != nil {
		return
	}
	want := []lab.Pair{
		{Key: "agent_status", Value: status},
		{Key: "agent_type", Value: kind},
		{Key: "event_source", Value: source},
		{Key: "agent_id", Value: id},
		{Key: nameKey, Value: name},
	}
	select {
	case a := <-s.arrivals:
		got := lab.Pairs(a.Form())
		s.out.block("The receiver's log, after a "+a.Method+":", phpLog(a.At, got))
		if a.Method != method || a.Sequence != sequence || !slices.Equal(got, want) {
			s.err = fmt.Errorf("expected is change %d, by %s:\n%s", sequence, method, phpLog(a.At, want))
		}
	case <-s.ctx.Done():
		s.err = errors.New("the receiver got nothing")
	}
}

// receive is the receiver's program.
func (s *story) receive(a *lab.Arrival) lab.Reply {
	if a.Path != script {
		return lab.Reply{Status: http.StatusBadRequest}
	}
	s.arrivals <- a
	return lab.Reply{}
}

// quiet returns an error for a request that no step has waited for.
func (s *story) quiet() error {
	select {
	case a := <-s.arrivals:
		return fmt.Errorf("the receiver got one more request: %v", a)
	default:
		return nil
	}
}

// phpLog is what the manual's PHP script leaves in the log of its web server.
func phpLog(at time.Time, pairs []lab.Pair) string {
	var b strings.Builder
	line := func(text string) { fmt.Fprintf(&b, "[%s] %s\n", at.Format(time.ANSIC), text) }
	line("------")
	for _, p := range pairs {
		line(p.Key + " => " + p.Value)
	}
	return b.String()
}
