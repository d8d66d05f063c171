package auth

import (
	"errors"
	"net/http"

	"github.com/agentevents/agentevents/gen"
	"github.com/agentevents/agentevents/store"
)

// What is wrong with a request for a token: RFC 6749, section 5.2, and one of ours.
const (
	codeInvalidClient        = "invalid_client"
	CodeInvalidRequest       = "invalid_request"
	CodeUnsupportedGrantType = "unsupported_grant_type"
	codeRateLimitExceeded    = "rate_limit_exceeded"
)

// TokenRefusal is why there is no token. OAuth has a form of its own for that.
type TokenRefusal struct {
	Status      int
	code        string
	message     string
	application string // whose secret was wrong, empty for none
	claimedID   string // the id that was given, which may be anything
}

func (r *TokenRefusal) Error() string { return r.message }

func (r *TokenRefusal) Body() gen.TokenError {
	return gen.TokenError{Error: r.code, ErrorDescription: r.message, Message: r.message}
}

func RefuseToken(code string, words string) *TokenRefusal {
	return &TokenRefusal{Status: http.StatusBadRequest, code: code, message: words}
}

func RefuseCredentials(err error, id string) *TokenRefusal {
	refused := RefuseToken(codeInvalidClient, err.Error())
	refused.claimedID = id
	if !errors.Is(err, store.ErrApplication) {
		refused.application = id
	}
	return refused
}
