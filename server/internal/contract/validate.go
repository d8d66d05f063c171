package contract

import (
	"encoding/json"
	"errors"
	"math"
	"slices"
	"strconv"
	"strings"
	"unicode"

	"github.com/getkin/kin-openapi/openapi3"
	"github.com/getkin/kin-openapi/openapi3filter"
	"github.com/getkin/kin-openapi/routers"
	"github.com/labstack/echo/v4"

	"github.com/agentevents/agentevents/gen"
	"github.com/agentevents/agentevents/server/internal/request"
)

// Validate refuses requests that violate the rules of openapi.yaml for their operation. The refusal names the invalid
// fields, at most 20 of them. It names repeated parameters only if nothing else is wrong. The generated binding uses
// the value that was validated.
func Validate(route *routers.Route) echo.MiddlewareFunc {
	schema := bodySchema(route.Operation)
	return func(next echo.HandlerFunc) echo.HandlerFunc {
		return func(c echo.Context) error {
			body, err := takeBody(c, schema)
			if err != nil {
				return err
			}
			canonicalQuery(c, route.Operation)
			wrong := slices.Concat(checkPath(c, route), checkParameters(c, route), checkBody(schema, body))
			if len(wrong) > 0 {
				return invalid(wrong)
			}
			if repeated := repeatedParameters(c, route); repeated != nil {
				return request.Invalid(repeated...)
			}
			if schema != nil {
				canonicalBody(schema, body)
			}
			return next(c)
		}
	}
}

// checkPath returns the errors of the path parameters. It is faster than openapi3filter.ValidateParameter, which
// supports every kind of parameter.
func checkPath(c echo.Context, route *routers.Route) (wrong openapi3.MultiError) {
	for _, p := range route.PathItem.Parameters {
		if err := checkPathValue(p.Value.Schema.Value, c.Param(p.Value.Name)); err != nil {
			wrong = append(wrong, &openapi3filter.RequestError{Parameter: p.Value, Err: err})
		}
	}
	return wrong
}

// checkPathValue checks an integer or a string. openapi.yaml has no other type in paths.
func checkPathValue(schema *openapi3.Schema, text string) error {
	if text == "" {
		return openapi3filter.ErrInvalidRequired
	}
	if !schema.Type.Is(openapi3.TypeInteger) {
		return schema.VisitJSON(text, openapi3.MultiErrors(), formatValidators)
	}
	n, err := strconv.ParseInt(text, 10, 64)
	if err != nil {
		return &openapi3filter.ParseError{Kind: openapi3filter.KindInvalidFormat, Cause: err}
	}
	return schema.VisitJSON(n, openapi3.MultiErrors(), formatValidators)
}

// checkParameters returns the errors of the operation's own parameters: those in the query, and the header
// Idempotency-Key.
func checkParameters(c echo.Context, route *routers.Route) (wrong openapi3.MultiError) {
	if len(route.Operation.Parameters) == 0 {
		return nil
	}
	input := &openapi3filter.RequestValidationInput{
		Request: c.Request(), QueryParams: c.QueryParams(), Route: route, Options: parameterOptions,
	}
	for _, p := range route.Operation.Parameters {
		if err := openapi3filter.ValidateParameter(c.Request().Context(), input, p.Value); err != nil {
			wrong = append(wrong, err)
		}
	}
	return wrong
}

var parameterOptions = &openapi3filter.Options{
	MultiError:              true,
	SkipSettingDefaults:     true, // the handlers set them
	SchemaValidationOptions: []openapi3.SchemaValidationOption{formatValidators},
}

// bodySchema returns the schema of the body of an operation, or nil if the operation has no body.
func bodySchema(operation *openapi3.Operation) *openapi3.Schema {
	if operation.RequestBody == nil {
		return nil
	}
	return operation.RequestBody.Value.Content.Get(echo.MIMEApplicationJSON).Schema.Value
}

func checkBody(schema *openapi3.Schema, body any) openapi3.MultiError {
	if schema == nil {
		return nil
	}
	if err := schema.VisitJSON(body, openapi3.VisitAsRequest(), openapi3.MultiErrors(), formatValidators); err != nil {
		return openapi3.MultiError{err}
	}
	return nil
}

// formatValidators check the formats of strings.
var formatValidators = openapi3.WithStringFormatValidators(map[string]openapi3.StringFormatValidator{
	"uri":       openapi3.NewCallbackValidator(checkURI),
	"date-time": openapi3.NewCallbackValidator(func(s string) error { _, err := parseTime(s); return err }),
	textFormat:  openapi3.NewCallbackValidator(checkText),
})

// textFormat is the format of texts for people. It is not a pattern: the regular expressions of some languages match
// bytes, and control characters from U+0080 on have two bytes.
const textFormat = "text"

// checkText refuses control characters: C0, DEL and C1.
func checkText(s string) error {
	if strings.ContainsFunc(s, unicode.IsControl) {
		return errors.New("must not contain control characters")
	}
	return nil
}

// checkURI checks only that a text has a scheme. webhook.Guard decides which URLs a receiver may have, and describes
// the errors.
func checkURI(s string) error {
	if !strings.Contains(s, ":") {
		return errors.New("must be an absolute URL")
	}
	return nil
}

// repeatedParameters returns an error for each repeated query parameter that is not an array.
func repeatedParameters(c echo.Context, route *routers.Route) (wrong []gen.FieldError) {
	for _, p := range route.Operation.Parameters {
		name, isArray := p.Value.Name, p.Value.Schema.Value.Type.Is(openapi3.TypeArray)
		if p.Value.In == openapi3.ParameterInQuery && len(c.QueryParams()[name]) > 1 && !isArray {
			wrong = append(wrong, fieldError(name, "must be given only once"))
		}
	}
	return wrong
}

// canonicalBody converts the numbers and times of a valid body, in place, to the forms that the generated binding
// parses. It converts 136.0 and 1.36e2 to 136, since the schema allows them as integers, and every form of RFC 3339 to
// Go's.
func canonicalBody(schema *openapi3.Schema, value any) any {
	schema = resolveAllOf(schema)
	switch v := value.(type) {
	case map[string]any:
		for name, property := range schema.Properties { // the binding ignores all others
			if member, has := v[name]; has {
				v[name] = canonicalBody(property.Value, member)
			}
		}
	case []any:
		for i := 0; schema.Items != nil && i < len(v); i++ {
			v[i] = canonicalBody(schema.Items.Value, v[i])
		}
	case json.Number:
		if f, err := v.Float64(); err == nil && f == math.Trunc(f) {
			return json.Number(strconv.FormatFloat(f, 'f', -1, 64))
		}
	case string:
		if schema.Format == "date-time" {
			return canonicalTime(v)
		}
	}
	return value
}

// resolveAllOf returns the schema in an allOf of one schema. openapi.yaml uses such an allOf to describe a field.
func resolveAllOf(schema *openapi3.Schema) *openapi3.Schema {
	if len(schema.AllOf) == 1 {
		return schema.AllOf[0].Value
	}
	return schema
}

// schemaOrAny returns the schema of a part of a body. A part that openapi.yaml lacks may have any value.
func schemaOrAny(part *openapi3.SchemaRef) *openapi3.Schema {
	if part == nil {
		return anyValue
	}
	return part.Value
}

// anyValue is the schema of a value that may be anything. It is shared, since a body may have thousands of such values.
var anyValue = &openapi3.Schema{}
