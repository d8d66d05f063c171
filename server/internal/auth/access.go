package auth

import (
	"errors"
	"fmt"
	"net/http"
	"slices"
	"strings"

	"github.com/getkin/kin-openapi/openapi3"
	"github.com/labstack/echo/v4"

	"github.com/agentevents/agentevents/gen"
	"github.com/agentevents/agentevents/server/internal/request"
	"github.com/agentevents/agentevents/store"
)

// NoToken is the access that an operation takes which asks for no token.
const NoToken gen.AccessLevel = "none"

// LevelOf is the least access that an operation takes, by x-access of openapi.yaml.
func LevelOf(operation *openapi3.Operation) (gen.AccessLevel, error) {
	word, _ := operation.Extensions["x-access"].(string)
	level := gen.AccessLevel(word)
	switch level {
	case store.Operator, gen.AccessLevelAll, gen.AccessLevelCallAPI, gen.AccessLevelReadOnly, NoToken:
		return level, nil
	}
	return "", fmt.Errorf("openapi.yaml: the x-access of %s is %q", operation.OperationID, word)
}

// Authenticate refuses a request without a good token, and takes note of whose it is.
func Authenticate(s *TokenCache, level gen.AccessLevel) echo.MiddlewareFunc {
	return func(next echo.HandlerFunc) echo.HandlerFunc {
		return func(c echo.Context) error {
			r := c.Request()
			c.Response().Header().Set(echo.HeaderCacheControl, "no-store")
			token := bearerToken(r.Header)
			caller, err := s.Caller(r.Context(), token)
			if err != nil {
				return unauthorized(c, err)
			}
			a := request.From(r.Context())
			a.Caller, a.Recheck = caller, func() error {
				caller, err := s.Caller(r.Context(), token)
				if err != nil {
					return unauthorized(c, err)
				}
				return checkAccess(caller, level, c)
			}
			return next(c)
		}
	}
}

// unauthorized is the answer to whom no token makes known.
func unauthorized(c echo.Context, err error) error {
	if !errors.Is(err, store.ErrToken) {
		return err
	}
	c.Response().Header().Set(echo.HeaderWWWAuthenticate, "Bearer")
	return request.Refuse(http.StatusUnauthorized, "Unauthorized")
}

// AuthorizeAgain looks once more when all of a request is there.
func AuthorizeAgain(next echo.HandlerFunc) echo.HandlerFunc {
	return func(c echo.Context) error {
		if err := request.StillAllowed(c.Request().Context()); err != nil {
			return err
		}
		return next(c)
	}
}

// bearerToken is the token of a request, empty without one. The scheme's case does not matter (RFC 9110, 11.1).
func bearerToken(h http.Header) string {
	scheme, token, _ := strings.Cut(h.Get(echo.HeaderAuthorization), " ")
	if !strings.EqualFold(scheme, "Bearer") {
		return ""
	}
	return strings.TrimSpace(token)
}

// Authorize refuses what the caller may not do. Of another client it does not tell more than that.
func Authorize(level gen.AccessLevel) echo.MiddlewareFunc {
	return func(next echo.HandlerFunc) echo.HandlerFunc {
		return func(c echo.Context) error {
			if refused := checkAccess(request.Caller(c.Request().Context()), level, c); refused != nil {
				return refused
			}
			return next(c)
		}
	}
}

// checkAccess says why a caller may not do what takes a level, for a client if the path names one, or nil if it may.
func checkAccess(caller store.Caller, level gen.AccessLevel, c echo.Context) error {
	client := c.Param("client_id")
	own := !slices.Contains(c.ParamNames(), "client_id") || client == "@me" || client == caller.Client
	switch {
	case caller.Access == store.Operator:
		return nil
	case caller.Blocked:
		return forbid("user_blocked", "the client is blocked")
	case level == store.Operator || !own:
		return forbid("access_denied", "access denied")
	case caller.Access == gen.AccessLevelReadOnly && level != gen.AccessLevelReadOnly:
		return forbid("user_access_type_deny", "the application may only read")
	case caller.Access == gen.AccessLevelCallAPI && level == gen.AccessLevelAll:
		return forbid("app_access_type_deny", "the application has access call_api, and this takes all")
	}
	return nil
}

func forbid(status, message string) *request.Refusal {
	return &request.Refusal{Status: http.StatusForbidden, Body: gen.ErrorResponse{Message: message, Status: status}}
}

// ResolveMe puts the caller's own client in place of @me.
func ResolveMe(next echo.HandlerFunc) echo.HandlerFunc {
	return func(c echo.Context) error {
		if c.Param("client_id") != "@me" {
			return next(c)
		}
		own := request.Caller(c.Request().Context()).Client
		if own == "" {
			return &request.Refusal{Status: http.StatusNotFound, Body: gen.ErrorResponse{
				Message: "@me stands for the client of the token, and an operator's has none", Status: "client_not_found",
			}}
		}
		values := slices.Clone(c.ParamValues())
		values[slices.Index(c.ParamNames(), "client_id")] = own
		c.SetParamValues(values...)
		return next(c)
	}
}
