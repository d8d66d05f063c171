package api

import (
	"net/http"
	"strings"

	"github.com/labstack/echo/v4"

	"github.com/agentevents/agentevents/gen/api"
	"github.com/agentevents/agentevents/server/internal/contract"
)

// tokenPath is the path of the operation that issues tokens. It exists below the base path of the API and, as in the
// original API, at the root.
const tokenPath = "/oauth/token"

// slashRouter registers every path with and without its trailing slash. Neither redirects to the other: clients convert
// a redirected POST to a GET.
type slashRouter struct{ *echo.Echo }

var _ api.EchoRouter = slashRouter{}

func (r slashRouter) GET(path string, h echo.HandlerFunc, m ...echo.MiddlewareFunc) *echo.Route {
	return r.both(http.MethodGet, path, h, m)
}

func (r slashRouter) POST(path string, h echo.HandlerFunc, m ...echo.MiddlewareFunc) *echo.Route {
	return r.both(http.MethodPost, path, h, m)
}

func (r slashRouter) PUT(path string, h echo.HandlerFunc, m ...echo.MiddlewareFunc) *echo.Route {
	return r.both(http.MethodPut, path, h, m)
}

func (r slashRouter) DELETE(path string, h echo.HandlerFunc, m ...echo.MiddlewareFunc) *echo.Route {
	return r.both(http.MethodDelete, path, h, m)
}

func (r slashRouter) both(method, path string, h echo.HandlerFunc, m []echo.MiddlewareFunc) *echo.Route {
	if len(m) == 0 {
		panic(method + " " + path + " is not in openapi.yaml, so requests would not be validated")
	}
	h = wrap(m, h)
	bare := strings.TrimSuffix(path, "/")
	if bare == contract.BasePath+tokenPath {
		r.Add(method, tokenPath, h)
		r.Add(method, tokenPath+"/", h)
	}
	r.Add(method, bare+"/", h)
	return r.Add(method, bare, h)
}
