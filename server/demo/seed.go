package main

import (
	"context"
	"errors"
	"net/http"

	"github.com/agentevents/agentevents/gen"
	"github.com/agentevents/agentevents/gen/client"
	"github.com/agentevents/agentevents/server/lab"
)

// seed gives a new client what the examples of the document name, so that every list has something to show: local
// agent 136 with event 1, remote agent 7 with event 2, a test of each event, a login and a logout of each agent, and a
// replay. The receiver answers every GET with 200.
func seed(ctx context.Context, api *client.ClientWithResponses, receiver string) error {
	event := gen.AgentEventCreate{URL: receiver, Method: gen.RequestMethodGET, EventType: gen.EventTypeAgentLogin}
	if err := errors.Join(seedLocal(ctx, api, event), seedRemote(ctx, api, event)); err != nil {
		return err
	}
	for _, status := range []gen.AgentStatusValue{gen.AgentStatusValueAvailable, gen.AgentStatusValueLoggedOut} {
		resp, err := api.PutStatusesWithResponse(ctx, pbxClient, gen.PutStatusesJSONRequestBody{
			{AgentType: gen.AgentTypeLocal, AgentID: local, AgentStatus: status},
			{AgentType: gen.AgentTypeRemote, AgentID: remote, AgentStatus: status},
		})
		if err := lab.Answered(http.StatusOK, resp, err); err != nil {
			return err
		}
	}
	resp, err := api.RedeliverManyWithResponse(ctx, pbxClient, nil, gen.ReplayFilter{})
	return lab.Answered(http.StatusAccepted, resp, err)
}

func seedLocal(ctx context.Context, api *client.ClientWithResponses, e gen.AgentEventCreate) error {
	name := extension
	agent, err := api.PutLocalAgentWithResponse(ctx, pbxClient, local, gen.LocalAgentUpdate{ExtensionName: &name})
	if err := lab.Answered(http.StatusCreated, agent, err); err != nil {
		return err
	}
	made, err := api.CreateLocalAgentEventWithResponse(ctx, pbxClient, local, nil, e)
	if err := lab.Answered(http.StatusCreated, made, err); err != nil {
		return err
	}
	test, err := api.TestLocalAgentEventWithResponse(ctx, pbxClient, local, made.JSON201.ID)
	return lab.Answered(http.StatusOK, test, err)
}

func seedRemote(ctx context.Context, api *client.ClientWithResponses, e gen.AgentEventCreate) error {
	name := number
	agent, err := api.PutRemoteAgentWithResponse(ctx, pbxClient, remote, gen.RemoteAgentUpdate{AgentNumber: &name})
	if err := lab.Answered(http.StatusCreated, agent, err); err != nil {
		return err
	}
	made, err := api.CreateRemoteAgentEventWithResponse(ctx, pbxClient, remote, nil, e)
	if err := lab.Answered(http.StatusCreated, made, err); err != nil {
		return err
	}
	test, err := api.TestRemoteAgentEventWithResponse(ctx, pbxClient, remote, made.JSON201.ID)
	return lab.Answered(http.StatusOK, test, err)
}
