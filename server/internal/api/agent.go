package api

import (
	"context"
	"strconv"

	"github.com/oapi-codegen/nullable"

	"github.com/agentevents/agentevents/gen"
	"github.com/agentevents/agentevents/gen/api"
	"github.com/agentevents/agentevents/store"
)

func localKey(client string, id int64) store.AgentKey {
	return store.AgentKey{Client: client, Type: gen.AgentTypeLocal, ID: id}
}

func remoteKey(client string, id int64) store.AgentKey {
	return store.AgentKey{Client: client, Type: gen.AgentTypeRemote, ID: id}
}

// localAgent is a local agent as the API says it.
func localAgent(a store.Agent) gen.LocalAgent {
	return gen.LocalAgent{
		ID: a.ID, ExtensionName: a.Name, ExtensionID: a.ExtensionID, AgentStatus: a.Status, Since: gen.Time{Time: a.Since},
	}
}

// remoteAgent is a remote agent as the API says it.
func remoteAgent(a store.Agent) gen.RemoteAgent {
	return gen.RemoteAgent{
		ID: a.ID, AgentNumber: a.Name, ExtensionID: a.ExtensionID, AgentStatus: a.Status, Since: gen.Time{Time: a.Since},
	}
}

// mapAgents is agents as the API lists them: never null.
func mapAgents[T any](agents []store.Agent, as func(store.Agent) T) []T {
	listed := make([]T, len(agents))
	for i, a := range agents {
		listed[i] = as(a)
	}
	return listed
}

func agentID(a store.Agent) string { return strconv.FormatInt(a.ID, 10) }

// newAgent is what a new agent has. An extension's id of 0 is none.
func newAgent(name string, extensionID int64) store.AgentUpdate {
	u := store.AgentUpdate{Name: &name}
	if extensionID != 0 {
		u.ExtensionID = nullable.NewNullableWithValue(extensionID)
	}
	return u
}

func (h handlers) ListLocalAgents(
	ctx context.Context, r api.ListLocalAgentsRequestObject,
) (api.ListLocalAgentsResponseObject, error) {
	f := store.AgentFilter{Extensions: r.Params.ExtensionID, After: valueOf(r.Params.After), Limit: limitPlusOne(r.Params.Limit)}
	agents, err := h.store.Agents(ctx, r.ClientID, gen.AgentTypeLocal, f)
	if err != nil {
		return nil, err
	}
	agents, next := pageAfter(ctx, agents, r.Params.Limit, agentID)
	page := api.ListLocalAgents200JSONResponse{Body: mapAgents(agents, localAgent)}
	page.Headers.Link = next
	return page, nil
}

func (h handlers) ListRemoteAgents(
	ctx context.Context, r api.ListRemoteAgentsRequestObject,
) (api.ListRemoteAgentsResponseObject, error) {
	f := store.AgentFilter{Extensions: r.Params.ExtensionID, After: valueOf(r.Params.After), Limit: limitPlusOne(r.Params.Limit)}
	agents, err := h.store.Agents(ctx, r.ClientID, gen.AgentTypeRemote, f)
	if err != nil {
		return nil, err
	}
	agents, next := pageAfter(ctx, agents, r.Params.Limit, agentID)
	page := api.ListRemoteAgents200JSONResponse{Body: mapAgents(agents, remoteAgent)}
	page.Headers.Link = next
	return page, nil
}

func (h handlers) CreateLocalAgent(
	ctx context.Context, r api.CreateLocalAgentRequestObject,
) (api.CreateLocalAgentResponseObject, error) {
	u := newAgent(r.Body.ExtensionName, r.Body.ExtensionID)
	a, err := h.store.CreateAgent(ctx, localKey(r.ClientID, r.Body.ID), u)
	if err != nil {
		return nil, err
	}
	return api.CreateLocalAgent201JSONResponse{LocalAgentJSONResponse: api.LocalAgentJSONResponse(localAgent(a))}, nil
}

func (h handlers) CreateRemoteAgent(
	ctx context.Context, r api.CreateRemoteAgentRequestObject,
) (api.CreateRemoteAgentResponseObject, error) {
	u := newAgent(r.Body.AgentNumber, r.Body.ExtensionID)
	a, err := h.store.CreateAgent(ctx, remoteKey(r.ClientID, r.Body.ID), u)
	if err != nil {
		return nil, err
	}
	return api.CreateRemoteAgent201JSONResponse{RemoteAgentJSONResponse: api.RemoteAgentJSONResponse(remoteAgent(a))}, nil
}

func (h handlers) GetLocalAgent(
	ctx context.Context, r api.GetLocalAgentRequestObject,
) (api.GetLocalAgentResponseObject, error) {
	a, err := h.store.Agent(ctx, localKey(r.ClientID, r.AgentID))
	if err != nil {
		return nil, err
	}
	return api.GetLocalAgent200JSONResponse{LocalAgentJSONResponse: api.LocalAgentJSONResponse(localAgent(a))}, nil
}

func (h handlers) GetRemoteAgent(
	ctx context.Context, r api.GetRemoteAgentRequestObject,
) (api.GetRemoteAgentResponseObject, error) {
	a, err := h.store.Agent(ctx, remoteKey(r.ClientID, r.AgentID))
	if err != nil {
		return nil, err
	}
	return api.GetRemoteAgent200JSONResponse{RemoteAgentJSONResponse: api.RemoteAgentJSONResponse(remoteAgent(a))}, nil
}

func (h handlers) PutLocalAgent(
	ctx context.Context, r api.PutLocalAgentRequestObject,
) (api.PutLocalAgentResponseObject, error) {
	u := store.AgentUpdate{Name: r.Body.ExtensionName, ExtensionID: r.Body.ExtensionID}
	a, created, err := h.store.PutAgent(ctx, localKey(r.ClientID, r.AgentID), u)
	if err != nil {
		return nil, err
	}
	if created {
		return api.PutLocalAgent201JSONResponse(localAgent(a)), nil
	}
	return api.PutLocalAgent200JSONResponse{LocalAgentJSONResponse: api.LocalAgentJSONResponse(localAgent(a))}, nil
}

func (h handlers) PutRemoteAgent(
	ctx context.Context, r api.PutRemoteAgentRequestObject,
) (api.PutRemoteAgentResponseObject, error) {
	u := store.AgentUpdate{Name: r.Body.AgentNumber, ExtensionID: r.Body.ExtensionID}
	a, created, err := h.store.PutAgent(ctx, remoteKey(r.ClientID, r.AgentID), u)
	if err != nil {
		return nil, err
	}
	if created {
		return api.PutRemoteAgent201JSONResponse(remoteAgent(a)), nil
	}
	return api.PutRemoteAgent200JSONResponse{RemoteAgentJSONResponse: api.RemoteAgentJSONResponse(remoteAgent(a))}, nil
}

func (h handlers) DeleteLocalAgent(
	ctx context.Context, r api.DeleteLocalAgentRequestObject,
) (api.DeleteLocalAgentResponseObject, error) {
	if err := h.store.DeleteAgent(ctx, localKey(r.ClientID, r.AgentID)); err != nil {
		return nil, err
	}
	return api.DeleteLocalAgent204Response{}, nil
}

func (h handlers) DeleteRemoteAgent(
	ctx context.Context, r api.DeleteRemoteAgentRequestObject,
) (api.DeleteRemoteAgentResponseObject, error) {
	if err := h.store.DeleteAgent(ctx, remoteKey(r.ClientID, r.AgentID)); err != nil {
		return nil, err
	}
	return api.DeleteRemoteAgent204Response{}, nil
}
