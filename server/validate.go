package main

import (
	"encoding/json"
	"errors"
	"math"
	"net/url"
	"strconv"
	"time"

	"github.com/getkin/kin-openapi/openapi3"
	"github.com/getkin/kin-openapi/openapi3filter"
	"github.com/getkin/kin-openapi/routers"
	"github.com/labstack/echo/v4"

	"github.com/agentevents/agentevents/gen"
)

// validate lets only requests pass that are what openapi.yaml says of their operation. The handler gets the very
// value that was validated.
func validate(route *routers.Route) echo.MiddlewareFunc {
	options := &openapi3filter.Options{
		MultiError:          true,
		KeepValidatedValue:  true,
		SkipSettingDefaults: true,                                  // the store knows them
		AuthenticationFunc:  openapi3filter.NoopAuthenticationFunc, // that was before
		SchemaValidationOptions: []openapi3.SchemaValidationOption{
			openapi3.WithStringFormatValidator("uri", openapi3.NewCallbackValidator(checkURI)),
			openapi3.WithStringFormatValidator("date-time", timeChecker()),
		},
	}
	return func(next echo.HandlerFunc) echo.HandlerFunc {
		return func(c echo.Context) error {
			if route.Operation.RequestBody != nil {
				if err := takeBody(c); err != nil {
					return err
				}
			}
			input := &openapi3filter.RequestValidationInput{
				Request: c.Request(), PathParams: pathParams(c), Route: route, Options: options,
			}
			if err := openapi3filter.ValidateRequest(c.Request().Context(), input); err != nil {
				return invalid(fieldErrors(err)...)
			}
			if twice := givenTwice(route, c.Request().URL.Query()); twice != nil {
				return invalid(twice...)
			}
			if body, ok := c.Request().Body.(interface{ ValidatedValue() any }); ok {
				plainIntegers(body.ValidatedValue())
			}
			return next(c)
		}
	}
}

func pathParams(c echo.Context) map[string]string {
	params := map[string]string{}
	for i, name := range c.ParamNames() {
		params[name] = c.ParamValues()[i]
	}
	return params
}

// checkURI is the least that the format `uri` means. What receivers may be reached by is for webhook.Guard to say.
func checkURI(s string) error {
	if u, err := url.Parse(s); err != nil || !u.IsAbs() {
		return errors.New("is no absolute URL")
	}
	return nil
}

// timeChecker returns the check of the format `date-time`: its form, of which Go's parser takes more than RFC 3339 has,
// and the calendar.
func timeChecker() openapi3.StringFormatValidator {
	form := openapi3.NewRegexpFormatValidator(openapi3.FormatOfStringDateTime)
	return openapi3.NewCallbackValidator(func(s string) error {
		_, err := time.Parse(time.RFC3339, s)
		return errors.Join(err, form.Validate(s))
	})
}

// givenTwice finds the query parameters that are there more than once although they are no arrays.
func givenTwice(route *routers.Route, query url.Values) (wrong []gen.FieldError) {
	for _, p := range route.Operation.Parameters {
		name := p.Value.Name
		if len(query[name]) > 1 && !p.Value.Schema.Value.Type.Is(openapi3.TypeArray) {
			wrong = append(wrong, fieldError(name, "is given twice"))
		}
	}
	return wrong
}

// plainIntegers writes 136.0 and 1.36e2 as 136, in place. The schema takes them for the same integer, but the
// generated binding does not.
func plainIntegers(value any) any {
	switch v := value.(type) {
	case map[string]any:
		for name, member := range v {
			v[name] = plainIntegers(member)
		}
	case []any:
		for i, item := range v {
			v[i] = plainIntegers(item)
		}
	case json.Number:
		if f, err := v.Float64(); err == nil && f == math.Trunc(f) {
			return json.Number(strconv.FormatFloat(f, 'f', -1, 64))
		}
	}
	return value
}
