package api

import (
	"context"

	"github.com/agentevents/agentevents/gen"
	"github.com/agentevents/agentevents/gen/api"
)

func (h handlers) ListClients(
	ctx context.Context, r api.ListClientsRequestObject,
) (api.ListClientsResponseObject, error) {
	clients, err := h.store.Clients(ctx, valueOf(r.Params.After), limitPlusOne(r.Params.Limit))
	if err != nil {
		return nil, err
	}
	var page api.ListClients200JSONResponse
	page.Body, page.Headers.Link = pageAfter(ctx, clients, r.Params.Limit, func(c gen.ClientAccount) string { return c.ID })
	return page, nil
}

func (h handlers) GetClient(ctx context.Context, r api.GetClientRequestObject) (api.GetClientResponseObject, error) {
	client, err := h.store.Client(ctx, r.ClientID)
	if err != nil {
		return nil, err
	}
	return api.GetClient200JSONResponse{ClientJSONResponse: api.ClientJSONResponse(client)}, nil
}

func (h handlers) PutClient(ctx context.Context, r api.PutClientRequestObject) (api.PutClientResponseObject, error) {
	client, created, err := h.store.PutClient(ctx, r.ClientID, *r.Body)
	if err != nil {
		return nil, err
	}
	if created {
		return api.PutClient201JSONResponse(client), nil
	}
	return api.PutClient200JSONResponse{ClientJSONResponse: api.ClientJSONResponse(client)}, nil
}

func (h handlers) DeleteClient(
	ctx context.Context, r api.DeleteClientRequestObject,
) (api.DeleteClientResponseObject, error) {
	if err := h.store.DeleteClient(ctx, r.ClientID); err != nil {
		return nil, err
	}
	return api.DeleteClient204Response{}, nil
}
