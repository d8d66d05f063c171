package main

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"net/http"
	"slices"
	"strings"

	"github.com/agentevents/agentevents/gen"
	"github.com/agentevents/agentevents/gen/client"
	"github.com/agentevents/agentevents/server/lab"
)

const (
	pbxClient = "12"
	local     = 136
	remote    = 7
	extension = "000*094@ringme.ru"
	number    = "+7 (812) 336-42-42"
	own       = "@me" // the client, for its own application
)

// story is what its steps need.
type story struct {
	server string
	pbx    *client.ClientWithResponses // the operator
	crm    *client.ClientWithResponses // an application of the client
	id     string                      // of this application
	secret string
	got    *receiver
	out    *printer
}

// tell plays the example of the manual, and what follows from it.
func tell(ctx context.Context, server string, r *receiver, out *printer) error {
	out.begin(server, r.url)
	s := &story{server: server, got: r, out: out}
	steps := []func(context.Context) error{
		s.operator, s.client, s.application, s.tenant,
		s.agent, s.event, s.logsIn, s.loginAgain, s.logoutEvent, s.logout,
		s.remoteAgent, s.remoteEvent, s.remoteLogin,
	}
	for i, step := range steps {
		if err := s.play(ctx, step); err != nil {
			return fmt.Errorf("step %d: %w", i+1, err)
		}
	}
	return nil
}

func (s *story) play(ctx context.Context, step func(context.Context) error) error {
	ctx, cancel := context.WithTimeout(ctx, patience)
	defer cancel()
	return step(ctx)
}

func (s *story) operator(ctx context.Context) (err error) {
	s.out.step("The PBX gets a token. It is an operator, who may do everything; the server was started with its secret.")
	s.pbx, err = s.login(ctx, "OPERATOR", lab.OperatorID, lab.OperatorSecret)
	return err
}

func (s *story) tenant(ctx context.Context) (err error) {
	s.out.step("The CRM gets a token. It sees nothing of other clients, and changes neither agents nor their status.")
	s.crm, err = s.login(ctx, "CRM", s.id, s.secret)
	return err
}

// login returns who speaks to the server with a token for an application. In commands it has a name.
func (s *story) login(ctx context.Context, name, id, secret string) (*client.ClientWithResponses, error) {
	announce := func(_ context.Context, req *http.Request) error { return s.out.command(req, s.server) }
	root, err := client.NewClientWithResponses(s.server+apiPath, client.WithRequestEditorFn(announce))
	if err != nil {
		return nil, err
	}
	resp, err := root.RequestTokenWithFormdataBodyWithResponse(ctx, gen.TokenRequest{
		GrantType: gen.TokenRequestGrantTypeClientCredentials, ClientID: id, ClientSecret: secret,
	})
	if err := answered(http.StatusOK, resp, err); err != nil {
		return nil, err
	}
	token := resp.JSON200.AccessToken
	s.out.saw("200, a token for %d s; from here on %s=%s", resp.JSON200.ExpiresIn, name, token)
	s.out.name(token, name)
	authorize := func(_ context.Context, req *http.Request) error {
		req.Header.Set("Authorization", "Bearer "+token)
		return nil
	}
	return client.NewClientWithResponses(s.server+apiPath,
		client.WithRequestEditorFn(authorize), client.WithRequestEditorFn(announce))
}

func (s *story) application(ctx context.Context) error {
	s.out.step("For the client's CRM it makes an application, which may manage events.")
	resp, err := s.pbx.CreateApplicationWithResponse(ctx, pbxClient, nil, gen.ApplicationCreate{Name: "CRM", Access: gen.AccessLevelCallAPI})
	if err := answered(http.StatusCreated, resp, err); err != nil {
		return err
	}
	s.id, s.secret = resp.JSON201.ID, resp.JSON201.Secret
	s.out.saw("201, its id is %s and its secret, shown this once, %s", s.id, s.secret)
	return nil
}

func (s *story) client(ctx context.Context) error {
	s.out.step("The PBX makes its client 12 known.")
	name := "Ringme"
	resp, err := s.pbx.PutClientWithResponse(ctx, pbxClient, gen.ClientUpdate{Name: &name})
	if err := answered(http.StatusCreated, resp, err); err != nil {
		return err
	}
	s.out.saw("201, there is a client %s", resp.JSON201.ID)
	return nil
}

func (s *story) agent(ctx context.Context) error {
	s.out.step("The client has a local agent 136, which is assigned to the internal number 000*094.")
	name := extension
	resp, err := s.pbx.PutLocalAgentWithResponse(ctx, pbxClient, local, gen.LocalAgentUpdate{ExtensionName: &name})
	if err := answered(http.StatusCreated, resp, err); err != nil {
		return err
	}
	return s.sawAgent(resp.JSON201.ID, resp.JSON201.ExtensionName, extension, resp.JSON201.AgentStatus)
}

func (s *story) sawAgent(id int64, name, want string, status gen.AgentStatusValue) error {
	if name != want || status != gen.AgentStatusValueLoggedOut {
		return fmt.Errorf("agent %d is %q and %s, and not %q and logged_out", id, name, status, want)
	}
	s.out.saw("201, agent %d is %s, %s", id, name, status)
	return nil
}

func (s *story) event(ctx context.Context) error {
	s.out.step("An event is added to this agent that is generated when it enters the queue.")
	e := gen.AgentEventCreate{URL: s.got.url, Method: gen.RequestMethodGET, EventType: gen.EventTypeAgentLogin}
	resp, err := s.crm.CreateLocalAgentEventWithResponse(ctx, own, local, nil, e)
	if err := answered(http.StatusCreated, resp, err); err != nil {
		return err
	}
	return s.sawEvent(e, resp.JSON201.ID, resp.Body)
}

// sawEvent prints the answer as the manual does, and compares it to the letter: the order of its fields is the manual's.
func (s *story) sawEvent(e gen.AgentEventCreate, id int64, body []byte) error {
	var answer bytes.Buffer
	if err := json.Indent(&answer, bytes.TrimSpace(body), "", "  "); err != nil {
		return err
	}
	want := fmt.Sprintf("{\n  \"url\": %q,\n  \"id\": %d,\n  \"method\": %q,\n  \"event_type\": %q\n}",
		e.URL, id, e.Method, e.EventType)
	if answer.String() != want {
		return fmt.Errorf("the answer is\n%s\nand not\n%s", answer.String(), want)
	}
	s.out.block("System response:", want)
	s.out.saw("201, event %d is registered", id)
	return nil
}

func (s *story) logsIn(ctx context.Context) error {
	s.out.step("The agent logs in to the queue.")
	change := gen.AgentStatusUpdate{AgentStatus: gen.AgentStatusValueAvailable}
	status, err := s.putLocal(ctx, change)
	if err != nil {
		return err
	}
	if err := changed(status, 1); err != nil {
		return err
	}
	return s.arrives(ctx, http.MethodGet, status, data(gen.AgentTypeLocal, change.AgentStatus, "api", "136", extension),
		"the receiver has printed the manual's lines")
}

func (s *story) loginAgain(ctx context.Context) error {
	s.out.step("The agent logs in once more, and nothing is sent.")
	status, err := s.putLocal(ctx, gen.AgentStatusUpdate{AgentStatus: gen.AgentStatusValueAvailable})
	if err != nil {
		return err
	}
	if status.Changed || status.Deliveries != 0 || status.Sequence != 1 {
		return fmt.Errorf("the answer is %+v, and not: nothing changed", *status)
	}
	s.out.saw("200, changed: %t, deliveries: %d; what the receiver gets next will prove it", status.Changed, status.Deliveries)
	return nil
}

func (s *story) logoutEvent(ctx context.Context) error {
	s.out.step("Another event is added, for the logout and by POST.")
	e := gen.AgentEventCreate{URL: s.got.url, Method: gen.RequestMethodPOST, EventType: gen.EventTypeAgentLogout}
	resp, err := s.crm.CreateLocalAgentEventWithResponse(ctx, own, local, nil, e)
	if err := answered(http.StatusCreated, resp, err); err != nil {
		return err
	}
	return s.sawEvent(e, resp.JSON201.ID, resp.Body)
}

func (s *story) logout(ctx context.Context) error {
	s.out.step("The agent logs out by a command dialled on its phone.")
	change := gen.AgentStatusUpdate{AgentStatus: gen.AgentStatusValueLoggedOut, EventSource: gen.EventSourcePhone}
	status, err := s.putLocal(ctx, change)
	if err != nil {
		return err
	}
	if err := changed(status, 2); err != nil {
		return err
	}
	// One agent's events arrive at one receiver in the order of the changes.
	return s.arrives(ctx, http.MethodPost, status, data(gen.AgentTypeLocal, change.AgentStatus, "phone", "136", extension),
		"it is the next one after the login: the second login has sent nothing")
}

func (s *story) putLocal(ctx context.Context, change gen.AgentStatusUpdate) (*gen.AgentStatus, error) {
	resp, err := s.pbx.PutLocalAgentStatusWithResponse(ctx, pbxClient, local, change)
	if err := answered(http.StatusOK, resp, err); err != nil {
		return nil, err
	}
	return resp.JSON200, nil
}

func (s *story) remoteAgent(ctx context.Context) error {
	s.out.step("The client also has a remote agent 7, on an external number.")
	name := number
	resp, err := s.pbx.PutRemoteAgentWithResponse(ctx, pbxClient, remote, gen.RemoteAgentUpdate{AgentNumber: &name})
	if err := answered(http.StatusCreated, resp, err); err != nil {
		return err
	}
	return s.sawAgent(resp.JSON201.ID, resp.JSON201.AgentNumber, number, resp.JSON201.AgentStatus)
}

func (s *story) remoteEvent(ctx context.Context) error {
	s.out.step("An event for its login is added in the same way.")
	e := gen.AgentEventCreate{URL: s.got.url, Method: gen.RequestMethodGET, EventType: gen.EventTypeAgentLogin}
	resp, err := s.crm.CreateRemoteAgentEventWithResponse(ctx, own, remote, nil, e)
	if err := answered(http.StatusCreated, resp, err); err != nil {
		return err
	}
	return s.sawEvent(e, resp.JSON201.ID, resp.Body)
}

func (s *story) remoteLogin(ctx context.Context) error {
	s.out.step("The remote agent logs in, from its phone.")
	change := gen.AgentStatusUpdate{AgentStatus: gen.AgentStatusValueAvailable, EventSource: gen.EventSourcePhone}
	resp, err := s.pbx.PutRemoteAgentStatusWithResponse(ctx, pbxClient, remote, change)
	if err := answered(http.StatusOK, resp, err); err != nil {
		return err
	}
	if err := changed(resp.JSON200, 3); err != nil {
		return err
	}
	return s.arrives(ctx, http.MethodGet, resp.JSON200, data(gen.AgentTypeRemote, change.AgentStatus, "phone", "7", number),
		"the number came through as it is")
}

// arrives waits for the next request at the receiver, prints what the manual's script would, and compares.
func (s *story) arrives(ctx context.Context, method string, status *gen.AgentStatus, want []pair, remark string) error {
	a, err := s.got.next(ctx)
	if err != nil {
		return err
	}
	s.out.block("The receiver's log, after a "+a.method+":", a.String())
	expected := arrival{at: a.at, method: method, sequence: fmt.Sprint(status.Sequence), pairs: want}
	if a.method != method || a.sequence != expected.sequence || !slices.Equal(a.pairs, want) {
		return fmt.Errorf("this should have come, as the change %s and by %s:\n%s",
			expected.sequence, method, strings.TrimSpace(expected.String()))
	}
	s.out.saw("200, changed: %t, deliveries: %d; %s", status.Changed, status.Deliveries, remark)
	return nil
}

// data is the AgentEventData of a change, in the order of the manual's example.
func data(kind gen.AgentType, status gen.AgentStatusValue, source, id, name string) []pair {
	key := "extension_name"
	if kind == gen.AgentTypeRemote {
		key = "agent_number"
	}
	return []pair{
		{"agent_status", string(status)},
		{"agent_type", string(kind)},
		{"event_source", source},
		{"agent_id", id},
		{key, name},
	}
}

// changed says whether the answer to a status is that of a change with one registration.
func changed(s *gen.AgentStatus, sequence int64) error {
	if !s.Changed || s.Deliveries != 1 || s.Sequence != sequence {
		return fmt.Errorf("the answer is %+v, and not: changed, with 1 delivery and the sequence %d", *s, sequence)
	}
	return nil
}

// answered says whether the server answered a request as it should.
func answered(want int, resp interface {
	StatusCode() int
	GetBody() []byte
}, err error,
) error {
	if err != nil {
		return err
	}
	if resp.StatusCode() != want {
		return fmt.Errorf("the answer is %d and not %d: %s", resp.StatusCode(), want, bytes.TrimSpace(resp.GetBody()))
	}
	return nil
}
