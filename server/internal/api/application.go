package api

import (
	"context"

	"github.com/agentevents/agentevents/gen/api"
)

func (h handlers) ListApplications(
	ctx context.Context, r api.ListApplicationsRequestObject,
) (api.ListApplicationsResponseObject, error) {
	applications, err := h.store.Applications(ctx, r.ClientID)
	return api.ListApplications200JSONResponse(applications), err
}

func (h handlers) CreateApplication(
	ctx context.Context, r api.CreateApplicationRequestObject,
) (api.CreateApplicationResponseObject, error) {
	created, err := h.store.CreateApplication(ctx, r.ClientID, *r.Body)
	return api.CreateApplication201JSONResponse(created), err
}

func (h handlers) GetApplication(
	ctx context.Context, r api.GetApplicationRequestObject,
) (api.GetApplicationResponseObject, error) {
	application, err := h.store.Application(ctx, r.ClientID, r.ApplicationID)
	return api.GetApplication200JSONResponse(application), err
}

func (h handlers) DeleteApplication(
	ctx context.Context, r api.DeleteApplicationRequestObject,
) (api.DeleteApplicationResponseObject, error) {
	return api.DeleteApplication204Response{}, h.store.DeleteApplication(ctx, r.ClientID, r.ApplicationID)
}
