package auth

import (
	"errors"
	"net/http"

	"github.com/agentevents/agentevents/gen"
	"github.com/agentevents/agentevents/store"
)

// The codes of OAuth's errors (RFC 6749, section 5.2). The server adds request.CodeRateLimitExceeded.
const (
	codeInvalidClient        = "invalid_client"
	CodeInvalidRequest       = "invalid_request"
	CodeUnsupportedGrantType = "unsupported_grant_type"
)

// TokenRefusal refuses a request for a token. Its answer has OAuth's form, not that of request.Refusal.
type TokenRefusal struct {
	Status        int // HTTP status
	code, message string

	application string // id of an application that exists, for the log; otherwise empty
	claimedID   string // client_id of the request, which may be any text
}

// Error returns the message for the client.
func (r *TokenRefusal) Error() string { return r.message }

// Body returns the body of the answer.
func (r *TokenRefusal) Body() gen.TokenError {
	return gen.TokenError{Error: r.code, ErrorDescription: r.message, Message: r.message}
}

// RefuseToken refuses a token request with 400.
func RefuseToken(code, message string) *TokenRefusal {
	return &TokenRefusal{Status: http.StatusBadRequest, code: code, message: message}
}

// RefuseCredentials refuses an id or its secret. err wraps store.ErrCredentials. Throttle counts these refusals.
func RefuseCredentials(err error, id string) *TokenRefusal {
	refusal := RefuseToken(codeInvalidClient, err.Error())
	refusal.claimedID = id
	if !errors.Is(err, store.ErrUnknownApplication) {
		refusal.application = id
	}
	return refusal
}
