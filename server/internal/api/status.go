package api

import (
	"context"

	"github.com/agentevents/agentevents/gen"
	"github.com/agentevents/agentevents/gen/api"
	"github.com/agentevents/agentevents/server/internal/request"
	"github.com/agentevents/agentevents/store"
)

func (h handlers) GetLocalAgentStatus(
	ctx context.Context, r api.GetLocalAgentStatusRequestObject,
) (api.GetLocalAgentStatusResponseObject, error) {
	status, err := h.store.Status(ctx, localKey(r.ClientID, r.AgentID))
	return api.GetLocalAgentStatus200JSONResponse{AgentStatusJSONResponse: api.AgentStatusJSONResponse(status)}, err
}

func (h handlers) GetRemoteAgentStatus(
	ctx context.Context, r api.GetRemoteAgentStatusRequestObject,
) (api.GetRemoteAgentStatusResponseObject, error) {
	status, err := h.store.Status(ctx, remoteKey(r.ClientID, r.AgentID))
	return api.GetRemoteAgentStatus200JSONResponse{AgentStatusJSONResponse: api.AgentStatusJSONResponse(status)}, err
}

// setStatus counts as one request, which auth.LimitRequests has counted, and one for each delivery.
func (h handlers) setStatus(
	ctx context.Context, k store.AgentKey, u gen.AgentStatusUpdate,
) (gen.AgentStatus, error) {
	return h.store.SetStatus(store.WithCaller(ctx, request.Caller(ctx)), k, u)
}

func (h handlers) PutLocalAgentStatus(
	ctx context.Context, r api.PutLocalAgentStatusRequestObject,
) (api.PutLocalAgentStatusResponseObject, error) {
	status, err := h.setStatus(ctx, localKey(r.ClientID, r.AgentID), *r.Body)
	return api.PutLocalAgentStatus200JSONResponse{
		AgentStatusSetJSONResponse: api.AgentStatusSetJSONResponse(status),
	}, err
}

func (h handlers) PutRemoteAgentStatus(
	ctx context.Context, r api.PutRemoteAgentStatusRequestObject,
) (api.PutRemoteAgentStatusResponseObject, error) {
	status, err := h.setStatus(ctx, remoteKey(r.ClientID, r.AgentID), *r.Body)
	return api.PutRemoteAgentStatus200JSONResponse{
		AgentStatusSetJSONResponse: api.AgentStatusSetJSONResponse(status),
	}, err
}

// PutStatuses counts as one request for each entry and each delivery. auth.LimitRequests has counted the first entry.
func (h handlers) PutStatuses(
	ctx context.Context, r api.PutStatusesRequestObject,
) (api.PutStatusesResponseObject, error) {
	caller := request.Caller(ctx)
	h.store.ChargeRequests(caller, len(*r.Body)-1)
	results, err := h.store.SetStatuses(store.WithCaller(ctx, caller), r.ClientID, *r.Body)
	return api.PutStatuses200JSONResponse(results), err
}
