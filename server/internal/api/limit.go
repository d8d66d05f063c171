package api

import (
	"context"

	"github.com/agentevents/agentevents/gen/api"
)

func (h handlers) GetLimits(ctx context.Context, r api.GetLimitsRequestObject) (api.GetLimitsResponseObject, error) {
	limits, err := h.store.Limits(ctx, r.ClientID)
	if err != nil {
		return nil, err
	}
	return api.GetLimits200JSONResponse{ClientLimitsJSONResponse: api.ClientLimitsJSONResponse(limits)}, nil
}

func (h handlers) PutLimits(ctx context.Context, r api.PutLimitsRequestObject) (api.PutLimitsResponseObject, error) {
	limits, err := h.store.SetLimits(ctx, r.ClientID, *r.Body)
	if err != nil {
		return nil, err
	}
	return api.PutLimits200JSONResponse{ClientLimitsJSONResponse: api.ClientLimitsJSONResponse(limits)}, nil
}
