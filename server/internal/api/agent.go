package api

import (
	"context"
	"strconv"

	"github.com/oapi-codegen/nullable"

	"github.com/agentevents/agentevents/gen"
	"github.com/agentevents/agentevents/gen/api"
	"github.com/agentevents/agentevents/store"
)

// Each operation of local agents has a twin for remote agents, with other types. Both call the same function of the
// store or of handlers, and convert its result. The generated code ignores a response that comes with an error.

func localKey(client string, id int64) store.AgentKey {
	return store.AgentKey{Client: client, Type: gen.AgentTypeLocal, ID: id}
}

func remoteKey(client string, id int64) store.AgentKey {
	return store.AgentKey{Client: client, Type: gen.AgentTypeRemote, ID: id}
}

func localAgent(a store.Agent) gen.LocalAgent {
	return gen.LocalAgent{
		ID: a.ID, ExtensionName: a.Name, ExtensionID: a.ExtensionID,
		AgentStatus: a.Status, Since: gen.Time{Time: a.Since},
	}
}

func remoteAgent(a store.Agent) gen.RemoteAgent {
	return gen.RemoteAgent{
		ID: a.ID, AgentNumber: a.Name, ExtensionID: a.ExtensionID,
		AgentStatus: a.Status, Since: gen.Time{Time: a.Since},
	}
}

// mapAgents returns a slice that is never nil, so that its JSON is never null.
func mapAgents[T any](agents []store.Agent, convert func(store.Agent) T) []T {
	all := make([]T, len(agents))
	for i, a := range agents {
		all[i] = convert(a)
	}
	return all
}

// newAgent returns the fields of a new agent. An extension id of 0 means none.
func newAgent(name string, extensionID int64) store.AgentUpdate {
	u := store.AgentUpdate{Name: &name}
	if extensionID != 0 {
		u.ExtensionID = nullable.NewNullableWithValue(extensionID)
	}
	return u
}

// agents returns a page of a client's agents, and the link to the next page.
func (h handlers) agents(
	ctx context.Context, client string, kind gen.AgentType, p gen.ListLocalAgentsParams,
) ([]store.Agent, *string, error) {
	filter := store.AgentFilter{Extensions: p.ExtensionID, After: valueOf(p.After), Limit: limitPlusOne(p.Limit)}
	agents, err := h.store.Agents(ctx, client, kind, filter)
	page, next := pageAfter(ctx, agents, p.Limit, func(a store.Agent) string { return strconv.FormatInt(a.ID, 10) })
	return page, next, err
}

func (h handlers) ListLocalAgents(
	ctx context.Context, r api.ListLocalAgentsRequestObject,
) (api.ListLocalAgentsResponseObject, error) {
	agents, next, err := h.agents(ctx, r.ClientID, gen.AgentTypeLocal, r.Params)
	return api.ListLocalAgents200JSONResponse{
		Body: mapAgents(agents, localAgent), Headers: api.ListLocalAgents200ResponseHeaders{Link: next},
	}, err
}

func (h handlers) ListRemoteAgents(
	ctx context.Context, r api.ListRemoteAgentsRequestObject,
) (api.ListRemoteAgentsResponseObject, error) {
	agents, next, err := h.agents(ctx, r.ClientID, gen.AgentTypeRemote, gen.ListLocalAgentsParams(r.Params))
	return api.ListRemoteAgents200JSONResponse{
		Body: mapAgents(agents, remoteAgent), Headers: api.ListRemoteAgents200ResponseHeaders{Link: next},
	}, err
}

func (h handlers) CreateLocalAgent(
	ctx context.Context, r api.CreateLocalAgentRequestObject,
) (api.CreateLocalAgentResponseObject, error) {
	u := newAgent(r.Body.ExtensionName, r.Body.ExtensionID)
	a, err := h.store.CreateAgent(ctx, localKey(r.ClientID, r.Body.ID), u)
	return api.CreateLocalAgent201JSONResponse{
		LocalAgentJSONResponse: api.LocalAgentJSONResponse(localAgent(a)),
	}, err
}

func (h handlers) CreateRemoteAgent(
	ctx context.Context, r api.CreateRemoteAgentRequestObject,
) (api.CreateRemoteAgentResponseObject, error) {
	u := newAgent(r.Body.AgentNumber, r.Body.ExtensionID)
	a, err := h.store.CreateAgent(ctx, remoteKey(r.ClientID, r.Body.ID), u)
	return api.CreateRemoteAgent201JSONResponse{
		RemoteAgentJSONResponse: api.RemoteAgentJSONResponse(remoteAgent(a)),
	}, err
}

func (h handlers) GetLocalAgent(
	ctx context.Context, r api.GetLocalAgentRequestObject,
) (api.GetLocalAgentResponseObject, error) {
	a, err := h.store.Agent(ctx, localKey(r.ClientID, r.AgentID))
	return api.GetLocalAgent200JSONResponse{LocalAgentJSONResponse: api.LocalAgentJSONResponse(localAgent(a))}, err
}

func (h handlers) GetRemoteAgent(
	ctx context.Context, r api.GetRemoteAgentRequestObject,
) (api.GetRemoteAgentResponseObject, error) {
	a, err := h.store.Agent(ctx, remoteKey(r.ClientID, r.AgentID))
	return api.GetRemoteAgent200JSONResponse{RemoteAgentJSONResponse: api.RemoteAgentJSONResponse(remoteAgent(a))}, err
}

func (h handlers) PutLocalAgent(
	ctx context.Context, r api.PutLocalAgentRequestObject,
) (api.PutLocalAgentResponseObject, error) {
	u := store.AgentUpdate{Name: r.Body.ExtensionName, ExtensionID: r.Body.ExtensionID}
	a, created, err := h.store.PutAgent(ctx, localKey(r.ClientID, r.AgentID), u)
	if created {
		return api.PutLocalAgent201JSONResponse(localAgent(a)), err
	}
	return api.PutLocalAgent200JSONResponse{LocalAgentJSONResponse: api.LocalAgentJSONResponse(localAgent(a))}, err
}

func (h handlers) PutRemoteAgent(
	ctx context.Context, r api.PutRemoteAgentRequestObject,
) (api.PutRemoteAgentResponseObject, error) {
	u := store.AgentUpdate{Name: r.Body.AgentNumber, ExtensionID: r.Body.ExtensionID}
	a, created, err := h.store.PutAgent(ctx, remoteKey(r.ClientID, r.AgentID), u)
	if created {
		return api.PutRemoteAgent201JSONResponse(remoteAgent(a)), err
	}
	return api.PutRemoteAgent200JSONResponse{RemoteAgentJSONResponse: api.RemoteAgentJSONResponse(remoteAgent(a))}, err
}

func (h handlers) DeleteLocalAgent(
	ctx context.Context, r api.DeleteLocalAgentRequestObject,
) (api.DeleteLocalAgentResponseObject, error) {
	return api.DeleteLocalAgent204Response{}, h.store.DeleteAgent(ctx, localKey(r.ClientID, r.AgentID))
}

func (h handlers) DeleteRemoteAgent(
	ctx context.Context, r api.DeleteRemoteAgentRequestObject,
) (api.DeleteRemoteAgentResponseObject, error) {
	return api.DeleteRemoteAgent204Response{}, h.store.DeleteAgent(ctx, remoteKey(r.ClientID, r.AgentID))
}

func (h handlers) EraseLocalAgent(
	ctx context.Context, r api.EraseLocalAgentRequestObject,
) (api.EraseLocalAgentResponseObject, error) {
	erased, err := h.store.EraseAgent(ctx, localKey(r.ClientID, r.AgentID))
	return api.EraseLocalAgent200JSONResponse{AgentErasureJSONResponse: api.AgentErasureJSONResponse(erased)}, err
}

func (h handlers) EraseRemoteAgent(
	ctx context.Context, r api.EraseRemoteAgentRequestObject,
) (api.EraseRemoteAgentResponseObject, error) {
	erased, err := h.store.EraseAgent(ctx, remoteKey(r.ClientID, r.AgentID))
	return api.EraseRemoteAgent200JSONResponse{AgentErasureJSONResponse: api.AgentErasureJSONResponse(erased)}, err
}
