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

// NoToken is the x-access of an operation that requires no token.
const NoToken gen.AccessLevel = "none"

// LevelOf returns the minimum access level of an operation: its x-access in openapi.yaml.
func LevelOf(operation *openapi3.Operation) (gen.AccessLevel, error) {
	text, _ := operation.Extensions["x-access"].(string)
	level := gen.AccessLevel(text)
	switch level {
	case store.Operator, gen.AccessLevelAll, gen.AccessLevelCallAPI, gen.AccessLevelReadOnly, NoToken:
		return level, nil
	}
	return "", fmt.Errorf("openapi.yaml: the x-access of %s is %q", operation.OperationID, text)
}

// Authenticate refuses a request without a valid token, and records the caller. The recheck of the caller uses level,
// the level that the operation requires.
func Authenticate(tokens *TokenCache, level gen.AccessLevel) echo.MiddlewareFunc {
	return func(next echo.HandlerFunc) echo.HandlerFunc {
		return func(c echo.Context) error {
			r := c.Request()
			c.Response().Header().Set(echo.HeaderCacheControl, "no-store")
			token := bearerToken(r.Header)
			caller, err := tokens.Caller(r.Context(), token)
			if err != nil {
				return unauthorized(c, err)
			}
			info := request.From(r.Context())
			info.Caller, info.Recheck = caller, func() error {
				caller, err := tokens.Caller(r.Context(), token)
				if err != nil {
					return unauthorized(c, err)
				}
				return checkAccess(caller, level, c)
			}
			return next(c)
		}
	}
}

// unauthorized returns the refusal of an unknown or expired token. It returns other errors unchanged.
func unauthorized(c echo.Context, err error) error {
	if !errors.Is(err, store.ErrToken) {
		return err
	}
	c.Response().Header().Set(echo.HeaderWWWAuthenticate, "Bearer")
	return request.Refuse(http.StatusUnauthorized, "Unauthorized")
}

// Recheck checks the caller again after the whole request has arrived.
func Recheck(next echo.HandlerFunc) echo.HandlerFunc {
	return func(c echo.Context) error {
		if err := request.Recheck(c.Request().Context()); err != nil {
			return err
		}
		return next(c)
	}
}

// bearerToken returns the token of a request, or "". The case of the scheme is insignificant (RFC 9110, section 11.1).
func bearerToken(h http.Header) string {
	scheme, token, _ := strings.Cut(h.Get(echo.HeaderAuthorization), " ")
	if !strings.EqualFold(scheme, "Bearer") {
		return ""
	}
	return strings.TrimSpace(token)
}

// Authorize refuses a caller that lacks the access level of the operation. The refusal does not reveal whether another
// client exists.
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

// checkAccess returns the refusal of a caller that lacks the level or may not act for the client in the path, or nil.
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
		return forbid("user_access_type_deny", "the application has read-only access")
	case caller.Access == gen.AccessLevelCallAPI && level == gen.AccessLevelAll:
		return forbid("app_access_type_deny", "the operation requires access all, the application has call_api")
	}
	return nil
}

func forbid(code, message string) *request.Refusal {
	return request.RefuseAs(http.StatusForbidden, code, message)
}

// ResolveMe replaces @me by the caller's client.
func ResolveMe(next echo.HandlerFunc) echo.HandlerFunc {
	return func(c echo.Context) error {
		if c.Param("client_id") != "@me" {
			return next(c)
		}
		own := request.Caller(c.Request().Context()).Client
		if own == "" {
			return request.RefuseAs(http.StatusNotFound, request.CodeClientNotFound,
				"@me is the client of the token; an operator has none")
		}
		values := slices.Clone(c.ParamValues())
		values[slices.Index(c.ParamNames(), "client_id")] = own
		c.SetParamValues(values...)
		return next(c)
	}
}
