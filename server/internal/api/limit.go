package api

import (
	"context"

	"github.com/agentevents/agentevents/gen/api"
)

func (h handlers) GetLimits(ctx context.Context, r api.GetLimitsRequestObject) (api.GetLimitsResponseObject, error) {
	limits, err := h.store.Limits(ctx, r.ClientID)
	return api.GetLimits200JSONResponse{ClientLimitsJSONResponse: api.ClientLimitsJSONResponse(limits)}, err
}

func (h handlers) PutLimits(ctx context.Context, r api.PutLimitsRequestObject) (api.PutLimitsResponseObject, error) {
	limits, err := h.store.SetLimits(ctx, r.ClientID, *r.Body)
	return api.PutLimits200JSONResponse{ClientLimitsSetJSONResponse: api.ClientLimitsSetJSONResponse(limits)}, err
}
