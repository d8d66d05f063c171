package api

import (
	"context"
	"errors"

	"github.com/agentevents/agentevents/gen"
	"github.com/agentevents/agentevents/gen/api"
	"github.com/agentevents/agentevents/server/internal/auth"
	"github.com/agentevents/agentevents/store"
)

func (h handlers) RequestToken(
	ctx context.Context, r api.RequestTokenRequestObject,
) (api.RequestTokenResponseObject, error) {
	switch form := r.Body; {
	case form.GrantType == "":
		return nil, auth.RefuseToken(auth.CodeInvalidRequest, "grant_type is required and must be client_credentials")
	case form.GrantType != gen.TokenRequestGrantTypeClientCredentials:
		return nil, auth.RefuseToken(auth.CodeUnsupportedGrantType, "grant_type must be client_credentials")
	}
	token, err := h.issueToken(ctx, r.Body.ClientID, r.Body.ClientSecret)
	if errors.Is(err, store.ErrCredentials) {
		return nil, auth.RefuseCredentials(err, r.Body.ClientID)
	}
	if err != nil {
		return nil, err
	}
	var answer api.RequestToken200JSONResponse
	answer.Headers.CacheControl = "no-store"
	answer.Body = gen.Token{
		AccessToken: token, TokenType: "Bearer", ExpiresIn: int(store.TokenLife.Seconds()), Scope: "all",
	}
	return answer, nil
}

// issueToken refuses a wrong secret first, then an application with too many requests.
func (h handlers) issueToken(ctx context.Context, id, secret string) (string, error) {
	if err := h.tokenRate.RefuseEarly(id, secret); err != nil {
		return "", err
	}
	client, err := h.store.CheckCredentials(ctx, id, secret)
	if err != nil {
		return "", err
	}
	if err := h.tokenRate.Allow(client, id, secret); err != nil {
		return "", err
	}
	return h.store.IssueToken(ctx, id, secret)
}
