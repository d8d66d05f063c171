package api

import (
	"context"

	"github.com/agentevents/agentevents/gen/api"
	"github.com/agentevents/agentevents/server/internal/request"
)

func (h handlers) GetLocalAgentStatus(
	ctx context.Context, r api.GetLocalAgentStatusRequestObject,
) (api.GetLocalAgentStatusResponseObject, error) {
	st, err := h.store.Status(ctx, localKey(r.ClientID, r.AgentID))
	if err != nil {
		return nil, err
	}
	return api.GetLocalAgentStatus200JSONResponse{AgentStatusJSONResponse: api.AgentStatusJSONResponse(st)}, nil
}

func (h handlers) GetRemoteAgentStatus(
	ctx context.Context, r api.GetRemoteAgentStatusRequestObject,
) (api.GetRemoteAgentStatusResponseObject, error) {
	st, err := h.store.Status(ctx, remoteKey(r.ClientID, r.AgentID))
	if err != nil {
		return nil, err
	}
	return api.GetRemoteAgentStatus200JSONResponse{AgentStatusJSONResponse: api.AgentStatusJSONResponse(st)}, nil
}

func (h handlers) PutLocalAgentStatus(
	ctx context.Context, r api.PutLocalAgentStatusRequestObject,
) (api.PutLocalAgentStatusResponseObject, error) {
	st, err := h.store.SetStatus(ctx, localKey(r.ClientID, r.AgentID), *r.Body)
	if err != nil {
		return nil, err
	}
	return api.PutLocalAgentStatus200JSONResponse{AgentStatusJSONResponse: api.AgentStatusJSONResponse(st)}, nil
}

func (h handlers) PutRemoteAgentStatus(
	ctx context.Context, r api.PutRemoteAgentStatusRequestObject,
) (api.PutRemoteAgentStatusResponseObject, error) {
	st, err := h.store.SetStatus(ctx, remoteKey(r.ClientID, r.AgentID), *r.Body)
	if err != nil {
		return nil, err
	}
	return api.PutRemoteAgentStatus200JSONResponse{AgentStatusJSONResponse: api.AgentStatusJSONResponse(st)}, nil
}

func (h handlers) PutStatuses(
	ctx context.Context, r api.PutStatusesRequestObject,
) (api.PutStatusesResponseObject, error) {
	h.store.ChargeRequests(request.Caller(ctx), len(*r.Body)-1)
	results, err := h.store.SetStatuses(ctx, r.ClientID, *r.Body)
	if err != nil {
		return nil, err
	}
	return api.PutStatuses200JSONResponse(results), nil
}
