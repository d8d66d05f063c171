package main

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"slices"
	"strings"

	"github.com/getkin/kin-openapi/openapi3"
	"github.com/labstack/echo/v4"

	"github.com/agentevents/agentevents/gen"
	"github.com/agentevents/agentevents/store"
)

// anybody is the access that an operation takes which asks for no token.
const anybody gen.AccessLevel = "none"

// accessOf is the least access that an operation takes, by x-access of openapi.yaml.
func accessOf(operation *openapi3.Operation) (gen.AccessLevel, error) {
	word, _ := operation.Extensions["x-access"].(string)
	level := gen.AccessLevel(word)
	switch level {
	case store.Operator, gen.AccessLevelAll, gen.AccessLevelCallAPI, gen.AccessLevelReadOnly, anybody:
		return level, nil
	}
	return "", fmt.Errorf("openapi.yaml: the x-access of %s is %q", operation.OperationID, word)
}

// callerOf is who makes a request.
func callerOf(ctx context.Context) store.Caller { return askedOf(ctx).caller }

// stillMay refuses a caller who was revoked or blocked since the request began, which may have taken its time.
func stillMay(ctx context.Context) error { return askedOf(ctx).again() }

// authenticate refuses a request without a good token, and takes note of whose it is.
func authenticate(s *sessions, level gen.AccessLevel) echo.MiddlewareFunc {
	return func(next echo.HandlerFunc) echo.HandlerFunc {
		return func(c echo.Context) error {
			r := c.Request()
			c.Response().Header().Set(echo.HeaderCacheControl, "no-store")
			token := bearer(r.Header)
			caller, err := s.caller(r.Context(), token)
			if err != nil {
				return unknown(c, err)
			}
			a := askedOf(r.Context())
			a.caller, a.again = caller, func() error {
				caller, err := s.caller(r.Context(), token)
				if err != nil {
					return unknown(c, err)
				}
				return mayNot(caller, level, c)
			}
			return next(c)
		}
	}
}

// unknown is the answer to whom no token makes known.
func unknown(c echo.Context, err error) error {
	if !errors.Is(err, store.ErrToken) {
		return err
	}
	c.Response().Header().Set(echo.HeaderWWWAuthenticate, "Bearer")
	return refuse(http.StatusUnauthorized, "Unauthorized")
}

// authorizeAgain looks once more when all of a request is there.
func authorizeAgain(next echo.HandlerFunc) echo.HandlerFunc {
	return func(c echo.Context) error {
		if err := stillMay(c.Request().Context()); err != nil {
			return err
		}
		return next(c)
	}
}

// bearer is the token of a request, empty without one. The scheme's case does not matter (RFC 9110, 11.1).
func bearer(h http.Header) string {
	scheme, token, _ := strings.Cut(h.Get(echo.HeaderAuthorization), " ")
	if !strings.EqualFold(scheme, "Bearer") {
		return ""
	}
	return strings.TrimSpace(token)
}

// authorize refuses what the caller may not do. Of another client it does not tell more than that.
func authorize(level gen.AccessLevel) echo.MiddlewareFunc {
	return func(next echo.HandlerFunc) echo.HandlerFunc {
		return func(c echo.Context) error {
			if refused := mayNot(callerOf(c.Request().Context()), level, c); refused != nil {
				return refused
			}
			return next(c)
		}
	}
}

// mayNot says why a caller may not do what takes a level, for a client if the path names one, or nil if it may.
func mayNot(caller store.Caller, level gen.AccessLevel, c echo.Context) error {
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

func forbid(status, message string) *refusal {
	return &refusal{http.StatusForbidden, gen.ErrorResponse{Message: message, Status: status}}
}

// me puts the caller's own client in place of @me.
func me(next echo.HandlerFunc) echo.HandlerFunc {
	return func(c echo.Context) error {
		if c.Param("client_id") != "@me" {
			return next(c)
		}
		own := callerOf(c.Request().Context()).Client
		if own == "" {
			return &refusal{http.StatusNotFound, gen.ErrorResponse{
				Message: "@me stands for the client of the token, and an operator's has none", Status: "client_not_found",
			}}
		}
		values := slices.Clone(c.ParamValues())
		values[slices.Index(c.ParamNames(), "client_id")] = own
		c.SetParamValues(values...)
		return next(c)
	}
}
