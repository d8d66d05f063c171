package api

import (
	"context"

	"github.com/agentevents/agentevents/gen/api"
)

func (h handlers) ListApplications(
	ctx context.Context, r api.ListApplicationsRequestObject,
) (api.ListApplicationsResponseObject, error) {
	found, err := h.store.Applications(ctx, r.ClientID)
	if err != nil {
		return nil, err
	}
	return api.ListApplications200JSONResponse(found), nil
}

func (h handlers) CreateApplication(
	ctx context.Context, r api.CreateApplicationRequestObject,
) (api.CreateApplicationResponseObject, error) {
	created, err := h.store.CreateApplication(ctx, r.ClientID, *r.Body)
	if err != nil {
		return nil, err
	}
	return api.CreateApplication201JSONResponse(created), nil
}

func (h handlers) GetApplication(
	ctx context.Context, r api.GetApplicationRequestObject,
) (api.GetApplicationResponseObject, error) {
	found, err := h.store.Application(ctx, r.ClientID, r.ApplicationID)
	if err != nil {
		return nil, err
	}
	return api.GetApplication200JSONResponse(found), nil
}

func (h handlers) DeleteApplication(
	ctx context.Context, r api.DeleteApplicationRequestObject,
) (api.DeleteApplicationResponseObject, error) {
	if err := h.store.DeleteApplication(ctx, r.ClientID, r.ApplicationID); err != nil {
		return nil, err
	}
	return api.DeleteApplication204Response{}, nil
}
