package main

import (
	"encoding/json"
	"errors"
	"math"
	"net/url"
	"slices"
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
	parameters := slices.Concat(route.PathItem.Parameters, route.Operation.Parameters)
	wrongParameters, schema := checkParameters(route, parameters), bodySchema(route.Operation)
	return func(next echo.HandlerFunc) echo.HandlerFunc {
		return func(c echo.Context) error {
			body, err := takeBody(c, schema)
			if err != nil {
				return err
			}
			if wrong := append(wrongParameters(c), wrongBody(schema, body)...); len(wrong) > 0 {
				return invalid(fieldErrors(wrong)...)
			}
			if twice := givenTwice(parameters, c.QueryParams()); twice != nil {
				return invalid(twice...)
			}
			plainIntegers(body)
			return next(c)
		}
	}
}

// checkParameters returns what finds the parameters of a request that are wrong.
func checkParameters(route *routers.Route, parameters openapi3.Parameters) func(echo.Context) openapi3.MultiError {
	var inPath, others openapi3.Parameters
	for _, p := range parameters {
		if p.Value.In == openapi3.ParameterInPath {
			inPath = append(inPath, p)
		} else {
			others = append(others, p)
		}
	}
	return func(c echo.Context) (wrong openapi3.MultiError) {
		for _, p := range inPath {
			if err := checkInPath(p.Value.Schema.Value, c.Param(p.Value.Name)); err != nil {
				wrong = append(wrong, &openapi3filter.RequestError{Parameter: p.Value, Err: err})
			}
		}
		if len(others) > 0 {
			wrong = append(wrong, checkOthers(c, route, others)...)
		}
		return wrong
	}
}

// checkInPath checks an integer or a text, which is all that there is in paths, quicker than what checks any parameter.
func checkInPath(schema *openapi3.Schema, text string) error {
	if text == "" {
		return openapi3filter.ErrInvalidRequired
	}
	if !schema.Type.Is(openapi3.TypeInteger) {
		return schema.VisitJSON(text, openapi3.MultiErrors(), formats)
	}
	n, err := strconv.ParseInt(text, 10, 64)
	if err != nil {
		return &openapi3filter.ParseError{Kind: openapi3filter.KindInvalidFormat, Cause: err}
	}
	return schema.VisitJSON(n, openapi3.MultiErrors(), formats)
}

func checkOthers(c echo.Context, route *routers.Route, parameters openapi3.Parameters) (wrong openapi3.MultiError) {
	input := &openapi3filter.RequestValidationInput{
		Request: c.Request(), QueryParams: c.QueryParams(), Route: route, Options: parameterOptions,
	}
	for _, p := range parameters {
		if err := openapi3filter.ValidateParameter(c.Request().Context(), input, p.Value); err != nil {
			wrong = append(wrong, err)
		}
	}
	return wrong
}

var parameterOptions = &openapi3filter.Options{
	MultiError:              true,
	SkipSettingDefaults:     true, // the store knows them
	SchemaValidationOptions: []openapi3.SchemaValidationOption{formats},
}

// bodySchema is what openapi.yaml says of the body of an operation, nil where there is none.
func bodySchema(operation *openapi3.Operation) *openapi3.Schema {
	if operation.RequestBody == nil {
		return nil
	}
	return operation.RequestBody.Value.Content.Get(echo.MIMEApplicationJSON).Schema.Value
}

func wrongBody(schema *openapi3.Schema, body any) openapi3.MultiError {
	if schema == nil {
		return nil
	}
	if err := schema.VisitJSON(body, openapi3.VisitAsRequest(), openapi3.MultiErrors(), formats); err != nil {
		return openapi3.MultiError{err}
	}
	return nil
}

// formats are those of which more is known than that they are strings.
var formats = openapi3.WithStringFormatValidators(map[string]openapi3.StringFormatValidator{
	"uri":       openapi3.NewCallbackValidator(checkURI),
	"date-time": timeChecker(),
})

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
func givenTwice(parameters openapi3.Parameters, query url.Values) (wrong []gen.FieldError) {
	for _, p := range parameters {
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
