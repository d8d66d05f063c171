package main

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"net/http"
	"slices"
	"strings"
	"time"

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
	own       = "@me"              // the client, for its own application
	script    = "/fordel/show.php" // the path of the receiver in the manual
)

// story is what its steps need.
type story struct {
	server, receiver string                      // URLs
	pbx              *client.ClientWithResponses // the operator
	crm              *client.ClientWithResponses // an application of the client
	application      gen.ApplicationSecret
	arrivals         chan *lab.Arrival
	out              *printer
}

// step is one step: it says what happens, makes it happen, and says what was seen.
type step struct {
	text string
	do   func(ctx context.Context) (seen string, err error)
}

func (s *story) steps() []step {
	available := gen.AgentStatusUpdate{AgentStatus: gen.AgentStatusValueAvailable}
	byPhone := gen.AgentStatusUpdate{AgentStatus: gen.AgentStatusValueLoggedOut, EventSource: gen.EventSourcePhone}
	remoteByPhone := gen.AgentStatusUpdate{AgentStatus: gen.AgentStatusValueAvailable, EventSource: gen.EventSourcePhone}
	login := gen.AgentEventCreate{URL: s.receiver, Method: gen.RequestMethodGET, EventType: gen.EventTypeAgentLogin}
	logout := gen.AgentEventCreate{URL: s.receiver, Method: gen.RequestMethodPOST, EventType: gen.EventTypeAgentLogout}
	return []step{
		{"The PBX gets a token. It is an operator, who may do everything; the server was started with its secret.", s.operator},
		{"The PBX makes its client 12 known.", s.makeClient},
		{"For the client's CRM it makes an application, which may manage events.", s.makeApplication},
		{"The CRM gets a token. It sees nothing of other clients, and changes neither agents nor their status.", s.tenant},
		{"The client has a local agent 136, which is assigned to the internal number 000*094.", s.makeLocal},
		{"An event is added to this agent that is generated when it enters the queue.", s.addLocal(login)},
		{"The agent logs in to the queue.", s.setLocal(available, 1, "the receiver has printed the manual's lines")},
		{"The agent logs in once more, and nothing is sent.", s.repeatLocal(available)},
		{"Another event is added, for the logout and by POST.", s.addLocal(logout)},
		// One agent's events arrive at one receiver in the order of the changes.
		{
			"The agent logs out by a command dialled on its phone.",
			s.setLocal(byPhone, 2, "it is the next one after the login: the second login has sent nothing"),
		},
		{"The client also has a remote agent 7, on an external number.", s.makeRemote},
		{"An event for its login is added in the same way.", s.addRemote(login)},
		{"The remote agent logs in, from its phone.", s.setRemote(remoteByPhone, 3, "the number came through as it is")},
	}
}

// play plays the example of the manual, and what follows from it.
func (s *story) play(ctx context.Context) error {
	s.out.begin(s.server, s.receiver)
	for i, step := range s.steps() {
		s.out.step(i+1, step.text)
		seen, err := s.try(ctx, step)
		if err != nil {
			return fmt.Errorf("step %d: %w", i+1, err)
		}
		s.out.saw(seen)
	}
	return nil
}

func (s *story) try(ctx context.Context, step step) (string, error) {
	ctx, cancel := context.WithTimeout(ctx, patience)
	defer cancel()
	return step.do(ctx)
}

func (s *story) operator(ctx context.Context) (seen string, err error) {
	s.pbx, seen, err = s.login(ctx, "OPERATOR", lab.OperatorID, lab.OperatorSecret)
	return seen, err
}

func (s *story) tenant(ctx context.Context) (seen string, err error) {
	s.crm, seen, err = s.login(ctx, "CRM", s.application.ID, s.application.Secret)
	return seen, err
}

// login returns a client with a token for an application, which has a name in commands.
func (s *story) login(ctx context.Context, name, id, secret string) (*client.ClientWithResponses, string, error) {
	announce := client.WithRequestEditorFn(func(_ context.Context, r *http.Request) error { return s.out.command(r, s.server) })
	root, err := client.NewClientWithResponses(s.server+lab.APIPath, announce)
	if err != nil {
		return nil, "", err
	}
	resp, err := root.RequestTokenWithFormdataBodyWithResponse(ctx, gen.TokenRequest{
		GrantType: gen.TokenRequestGrantTypeClientCredentials, ClientID: id, ClientSecret: secret,
	})
	if err := lab.Answered(http.StatusOK, resp, err); err != nil {
		return nil, "", err
	}
	token := resp.JSON200.AccessToken
	s.out.name(token, name)
	api, err := client.NewClientWithResponses(s.server+lab.APIPath, authorized(token), announce)
	return api, fmt.Sprintf("200, a token for %d s; from here on %s=%s", resp.JSON200.ExpiresIn, name, token), err
}

// authorized makes requests with a token.
func authorized(token string) client.ClientOption {
	return client.WithRequestEditorFn(func(_ context.Context, req *http.Request) error {
		req.Header.Set("Authorization", "Bearer "+token)
		return nil
	})
}

func (s *story) makeClient(ctx context.Context) (string, error) {
	name := "Ringme"
	resp, err := s.pbx.PutClientWithResponse(ctx, pbxClient, gen.ClientUpdate{Name: &name})
	if err := lab.Answered(http.StatusCreated, resp, err); err != nil {
		return "", err
	}
	return "201, there is a client " + resp.JSON201.ID, nil
}

func (s *story) makeApplication(ctx context.Context) (string, error) {
	a := gen.ApplicationCreate{Name: "CRM", Access: gen.AccessLevelCallAPI}
	resp, err := s.pbx.CreateApplicationWithResponse(ctx, pbxClient, nil, a)
	if err := lab.Answered(http.StatusCreated, resp, err); err != nil {
		return "", err
	}
	s.application = *resp.JSON201
	return fmt.Sprintf("201, its id is %s and its secret, shown this once, %s", s.application.ID, s.application.Secret), nil
}

func (s *story) makeLocal(ctx context.Context) (string, error) {
	name := extension
	resp, err := s.pbx.PutLocalAgentWithResponse(ctx, pbxClient, local, gen.LocalAgentUpdate{ExtensionName: &name})
	if err := lab.Answered(http.StatusCreated, resp, err); err != nil {
		return "", err
	}
	return sawAgent(resp.JSON201.ID, resp.JSON201.ExtensionName, extension, resp.JSON201.AgentStatus)
}

func (s *story) makeRemote(ctx context.Context) (string, error) {
	name := number
	resp, err := s.pbx.PutRemoteAgentWithResponse(ctx, pbxClient, remote, gen.RemoteAgentUpdate{AgentNumber: &name})
	if err := lab.Answered(http.StatusCreated, resp, err); err != nil {
		return "", err
	}
	return sawAgent(resp.JSON201.ID, resp.JSON201.AgentNumber, number, resp.JSON201.AgentStatus)
}

func sawAgent(id int64, name, want string, status gen.AgentStatusValue) (string, error) {
	if name != want || status != gen.AgentStatusValueLoggedOut {
		return "", fmt.Errorf("agent %d is %q and %s, and not %q and logged_out", id, name, status, want)
	}
	return fmt.Sprintf("201, agent %d is %s, %s", id, name, status), nil
}

func (s *story) addLocal(e gen.AgentEventCreate) func(context.Context) (string, error) {
	return func(ctx context.Context) (string, error) {
		resp, err := s.crm.CreateLocalAgentEventWithResponse(ctx, own, local, nil, e)
		if err := lab.Answered(http.StatusCreated, resp, err); err != nil {
			return "", err
		}
		return s.sawEvent(e, resp.JSON201.ID, resp.Body)
	}
}

func (s *story) addRemote(e gen.AgentEventCreate) func(context.Context) (string, error) {
	return func(ctx context.Context) (string, error) {
		resp, err := s.crm.CreateRemoteAgentEventWithResponse(ctx, own, remote, nil, e)
		if err := lab.Answered(http.StatusCreated, resp, err); err != nil {
			return "", err
		}
		return s.sawEvent(e, resp.JSON201.ID, resp.Body)
	}
}

// sawEvent prints the answer as the manual does, and compares every character: the order of its fields is the manual's.
func (s *story) sawEvent(e gen.AgentEventCreate, id int64, body []byte) (string, error) {
	var answer bytes.Buffer
	if err := json.Indent(&answer, bytes.TrimSpace(body), "", "  "); err != nil {
		return "", err
	}
	want := fmt.Sprintf("{\n  \"url\": %q,\n  \"id\": %d,\n  \"method\": %q,\n  \"event_type\": %q\n}",
		e.URL, id, e.Method, e.EventType)
	if answer.String() != want {
		return "", fmt.Errorf("the answer is\n%s\nand not\n%s", answer.String(), want)
	}
	s.out.block("System response:", want)
	return fmt.Sprintf("201, event %d is registered", id), nil
}

func (s *story) putLocal(ctx context.Context, u gen.AgentStatusUpdate) (*gen.AgentStatus, error) {
	resp, err := s.pbx.PutLocalAgentStatusWithResponse(ctx, pbxClient, local, u)
	if err := lab.Answered(http.StatusOK, resp, err); err != nil {
		return nil, err
	}
	return resp.JSON200, nil
}

// setLocal changes the local agent's status, which makes the change with that sequence and one delivery.
func (s *story) setLocal(u gen.AgentStatusUpdate, sequence int64, remark string) func(context.Context) (string, error) {
	return func(ctx context.Context) (string, error) {
		status, err := s.putLocal(ctx, u)
		if err != nil {
			return "", err
		}
		return s.arrives(ctx, status, sequence, data(gen.AgentTypeLocal, u, "136", "extension_name", extension), remark)
	}
}

func (s *story) setRemote(u gen.AgentStatusUpdate, sequence int64, remark string) func(context.Context) (string, error) {
	return func(ctx context.Context) (string, error) {
		resp, err := s.pbx.PutRemoteAgentStatusWithResponse(ctx, pbxClient, remote, u)
		if err := lab.Answered(http.StatusOK, resp, err); err != nil {
			return "", err
		}
		return s.arrives(ctx, resp.JSON200, sequence, data(gen.AgentTypeRemote, u, "7", "agent_number", number), remark)
	}
}

func (s *story) repeatLocal(u gen.AgentStatusUpdate) func(context.Context) (string, error) {
	return func(ctx context.Context) (string, error) {
		status, err := s.putLocal(ctx, u)
		if err != nil {
			return "", err
		}
		if status.Changed || status.Deliveries != 0 || status.Sequence != 1 {
			return "", fmt.Errorf("the answer is %+v, and not: nothing changed", *status)
		}
		return fmt.Sprintf("200, changed: %t, deliveries: %d; what the receiver gets next will prove it",
			status.Changed, status.Deliveries), nil
	}
}

// data is the AgentEventData of a change, in the order of the manual's example.
func data(kind gen.AgentType, u gen.AgentStatusUpdate, id, nameKey, name string) []lab.Pair {
	source := u.EventSource
	if source == "" {
		source = gen.EventSourceAPI
	}
	return []lab.Pair{
		{Key: "agent_status", Value: string(u.AgentStatus)},
		{Key: "agent_type", Value: string(kind)},
		{Key: "event_source", Value: string(source)},
		{Key: "agent_id", Value: id},
		{Key: nameKey, Value: name},
	}
}

// arrives compares the answer to a status with that of a change with one delivery, waits for the next request at the
// receiver, prints what the manual's script would, and compares that. A login is sent by GET, a logout by POST.
func (s *story) arrives(
	ctx context.Context, status *gen.AgentStatus, sequence int64, want []lab.Pair, remark string,
) (string, error) {
	if !status.Changed || status.Deliveries != 1 || status.Sequence != sequence {
		return "", fmt.Errorf("the answer is %+v, and not: changed, with 1 delivery and the sequence %d", *status, sequence)
	}
	method := http.MethodGet
	if status.AgentStatus == gen.AgentStatusValueLoggedOut {
		method = http.MethodPost
	}
	select {
	case a := <-s.arrivals:
		s.out.block("The receiver's log, after a "+a.Method+":", phpLog(a.At, lab.Pairs(a.Form())))
		if a.Method != method || a.Sequence != sequence || !slices.Equal(lab.Pairs(a.Form()), want) {
			return "", fmt.Errorf("this should have come, as the change %d and by %s:\n%s",
				sequence, method, strings.TrimSpace(phpLog(a.At, want)))
		}
	case <-ctx.Done():
		return "", fmt.Errorf("the receiver got nothing: %w", ctx.Err())
	}
	return fmt.Sprintf("200, changed: %t, deliveries: %d; %s", status.Changed, status.Deliveries, remark), nil
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
