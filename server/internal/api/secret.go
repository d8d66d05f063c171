package api

import (
	"context"

	"github.com/agentevents/agentevents/gen/api"
)

func (h handlers) GetSecret(ctx context.Context, r api.GetSecretRequestObject) (api.GetSecretResponseObject, error) {
	secret, err := h.store.Secret(ctx, r.ClientID)
	return api.GetSecret200JSONResponse{SecretJSONResponse: api.SecretJSONResponse(secret)}, err
}

func (h handlers) RotateSecret(
	ctx context.Context, r api.RotateSecretRequestObject,
) (api.RotateSecretResponseObject, error) {
	secret, err := h.store.RotateSecret(ctx, r.ClientID)
	return api.RotateSecret200JSONResponse{SecretJSONResponse: api.SecretJSONResponse(secret)}, err
}

func (h handlers) RollBackSecret(
	ctx context.Context, r api.RollBackSecretRequestObject,
) (api.RollBackSecretResponseObject, error) {
	secret, err := h.store.RollBackSecret(ctx, r.ClientID)
	return api.RollBackSecret200JSONResponse{
		SecretRolledBackJSONResponse: api.SecretRolledBackJSONResponse(secret),
	}, err
}
