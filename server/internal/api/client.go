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
	page, next := pageAfter(ctx, clients, r.Params.Limit, func(c gen.ClientAccount) string { return c.ID })
	return api.ListClients200JSONResponse{Body: page, Headers: api.ListClients200ResponseHeaders{Link: next}}, err
}

func (h handlers) GetClient(ctx context.Context, r api.GetClientRequestObject) (api.GetClientResponseObject, error) {
	client, err := h.store.Client(ctx, r.ClientID)
	return api.GetClient200JSONResponse{ClientJSONResponse: api.ClientJSONResponse(client)}, err
}

func (h handlers) PutClient(ctx context.Context, r api.PutClientRequestObject) (api.PutClientResponseObject, error) {
	client, created, err := h.store.PutClient(ctx, r.ClientID, *r.Body)
	if created {
		return api.PutClient201JSONResponse(client), err
	}
	return api.PutClient200JSONResponse{ClientJSONResponse: api.ClientJSONResponse(client)}, err
}

func (h handlers) DeleteClient(
	ctx context.Context, r api.DeleteClientRequestObject,
) (api.DeleteClientResponseObject, error) {
	return api.DeleteClient204Response{}, h.store.DeleteClient(ctx, r.ClientID)
}
