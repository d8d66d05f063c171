package e2e

import (
	"net/http"
	"testing"

	"github.com/agentevents/agentevents/gen"
	"github.com/agentevents/agentevents/gen/client"
	"github.com/agentevents/agentevents/server/lab"
)

// api is the generated client, for client 12. Its methods end the test if a request fails.
type api struct {
	t *testing.T
	*client.ClientWithResponses
}

const pbxClient = "12"

func newAPI(t *testing.T, p *process) api {
	t.Helper()
	c, err := client.NewClientWithResponses(p.URL+lab.APIPath,
		client.WithHTTPClient(&http.Client{Transport: &lab.Operator{URL: p.URL}}))
	if err != nil {
		t.Fatal(err)
	}
	return api{t, c}
}

func (a api) putClient() {
	a.t.Helper()
	resp, err := a.PutClientWithResponse(a.t.Context(), pbxClient, gen.ClientUpdate{})
	must(a.t, http.StatusCreated, resp, err)
	equal(a.t, "id of the client", resp.JSON201.ID, pbxClient)
}

func (a api) putAgent(kind gen.AgentType, id int64, name string) {
	a.t.Helper()
	if kind == gen.AgentTypeRemote {
		resp, err := a.PutRemoteAgentWithResponse(a.t.Context(), pbxClient, id,
			gen.RemoteAgentUpdate{AgentNumber: &name})
		must(a.t, http.StatusCreated, resp, err)
		equal(a.t, "agent_number", resp.JSON201.AgentNumber, name)
		return
	}
	resp, err := a.PutLocalAgentWithResponse(a.t.Context(), pbxClient, id, gen.LocalAgentUpdate{ExtensionName: &name})
	must(a.t, http.StatusCreated, resp, err)
	equal(a.t, "extension_name", resp.JSON201.ExtensionName, name)
}

func (a api) createEvent(
	kind gen.AgentType, id int64, url string, method gen.RequestMethod, eventType gen.EventType,
) (event int64) {
	a.t.Helper()
	e := gen.AgentEventCreate{URL: url, Method: method, EventType: eventType}
	var created *gen.AgentEvent
	if kind == gen.AgentTypeRemote {
		resp, err := a.CreateRemoteAgentEventWithResponse(a.t.Context(), pbxClient, id, nil, e)
		must(a.t, http.StatusCreated, resp, err)
		created = resp.JSON201
	} else {
		resp, err := a.CreateLocalAgentEventWithResponse(a.t.Context(), pbxClient, id, nil, e)
		must(a.t, http.StatusCreated, resp, err)
		created = resp.JSON201
	}
	equal(a.t, "event", *created, gen.AgentEvent{URL: url, ID: created.ID, Method: method, EventType: eventType})
	return created.ID
}

// deleteEvent deletes an event of a local agent.
func (a api) deleteEvent(id, event int64) {
	a.t.Helper()
	resp, err := a.DeleteLocalAgentEventWithResponse(a.t.Context(), pbxClient, id, event)
	must(a.t, http.StatusNoContent, resp, err)
}

func (a api) set(kind gen.AgentType, id int64, change gen.AgentStatusUpdate) gen.AgentStatus {
	a.t.Helper()
	if kind == gen.AgentTypeRemote {
		resp, err := a.PutRemoteAgentStatusWithResponse(a.t.Context(), pbxClient, id, change)
		must(a.t, http.StatusOK, resp, err)
		return *resp.JSON200
	}
	resp, err := a.PutLocalAgentStatusWithResponse(a.t.Context(), pbxClient, id, change)
	must(a.t, http.StatusOK, resp, err)
	return *resp.JSON200
}

// login creates local agents, each with a login event by GET and a logout event by POST at a receiver, and logs them
// in.
func (a api) login(r *receiver, ids ...int64) {
	a.t.Helper()
	for _, id := range ids {
		a.putAgent(gen.AgentTypeLocal, id, "x")
		a.createEvent(gen.AgentTypeLocal, id, r.URL, gen.RequestMethodGET, gen.EventTypeAgentLogin)
		a.createEvent(gen.AgentTypeLocal, id, r.URL, gen.RequestMethodPOST, gen.EventTypeAgentLogout)
		a.set(gen.AgentTypeLocal, id, gen.AgentStatusUpdate{AgentStatus: gen.AgentStatusValueAvailable})
	}
}

func (a api) logout(id int64) {
	a.t.Helper()
	a.set(gen.AgentTypeLocal, id, gen.AgentStatusUpdate{AgentStatus: gen.AgentStatusValueLoggedOut})
}
