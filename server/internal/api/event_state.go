package api

import (
	"context"

	"github.com/agentevents/agentevents/gen/api"
)

func (h handlers) GetLocalAgentEventState(
	ctx context.Context, r api.GetLocalAgentEventStateRequestObject,
) (api.GetLocalAgentEventStateResponseObject, error) {
	state, err := h.store.EventState(ctx, localKey(r.ClientID, r.AgentID), r.EventID)
	return api.GetLocalAgentEventState200JSONResponse{
		AgentEventStateJSONResponse: api.AgentEventStateJSONResponse(state),
	}, err
}

func (h handlers) GetRemoteAgentEventState(
	ctx context.Context, r api.GetRemoteAgentEventStateRequestObject,
) (api.GetRemoteAgentEventStateResponseObject, error) {
	state, err := h.store.EventState(ctx, remoteKey(r.ClientID, r.AgentID), r.EventID)
	return api.GetRemoteAgentEventState200JSONResponse{
		AgentEventStateJSONResponse: api.AgentEventStateJSONResponse(state),
	}, err
}

func (h handlers) PutLocalAgentEventState(
	ctx context.Context, r api.PutLocalAgentEventStateRequestObject,
) (api.PutLocalAgentEventStateResponseObject, error) {
	state, err := h.store.SetEventState(ctx, localKey(r.ClientID, r.AgentID), r.EventID, r.Body.State)
	return api.PutLocalAgentEventState200JSONResponse{
		AgentEventStateSetJSONResponse: api.AgentEventStateSetJSONResponse(state),
	}, err
}

func (h handlers) PutRemoteAgentEventState(
	ctx context.Context, r api.PutRemoteAgentEventStateRequestObject,
) (api.PutRemoteAgentEventStateResponseObject, error) {
	state, err := h.store.SetEventState(ctx, remoteKey(r.ClientID, r.AgentID), r.EventID, r.Body.State)
	return api.PutRemoteAgentEventState200JSONResponse{
		AgentEventStateSetJSONResponse: api.AgentEventStateSetJSONResponse(state),
	}, err
}
