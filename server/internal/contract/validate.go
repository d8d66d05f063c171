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

// Validate refuses requests that break the rules of openapi.yaml for their operation. It names all fields that are
// wrong. The handler gets the very value that was validated.
func Validate(route *routers.Route) echo.MiddlewareFunc {
	schema := bodySchema(route.Operation)
	return func(next echo.HandlerFunc) echo.HandlerFunc {
		return func(c echo.Context) error {
			body, err := takeBody(c, schema)
			if err != nil {
				return err
			}
			canonicalQuery(c, route.Operation)
			wrong := slices.Concat(wrongInPath(c, route), wrongInParameters(c, route), wrongBody(schema, body))
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

// wrongInPath finds the path parameters that are wrong. It is quicker than openapi3filter.ValidateParameter, which
// handles every kind of parameter.
func wrongInPath(c echo.Context, route *routers.Route) (wrong openapi3.MultiError) {
	for _, p := range route.PathItem.Parameters {
		if err := checkInPath(p.Value.Schema.Value, c.Param(p.Value.Name)); err != nil {
			wrong = append(wrong, &openapi3filter.RequestError{Parameter: p.Value, Err: err})
		}
	}
	return wrong
}

// checkInPath checks an integer or a text: openapi.yaml has no other type in paths.
func checkInPath(schema *openapi3.Schema, text string) error {
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

// wrongInParameters finds the wrong ones of the operation's own parameters: those in the query, and the header
// Idempotency-Key.
func wrongInParameters(c echo.Context, route *routers.Route) (wrong openapi3.MultiError) {
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
	SkipSettingDefaults:     true, // the handlers know them
	SchemaValidationOptions: []openapi3.SchemaValidationOption{formatValidators},
}

// bodySchema is the schema of the body of an operation, nil if the operation takes no body.
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
	if err := schema.VisitJSON(body, openapi3.VisitAsRequest(), openapi3.MultiErrors(), formatValidators); err != nil {
		return openapi3.MultiError{err}
	}
	return nil
}

// formatValidators check the formats that restrict a string.
var formatValidators = openapi3.WithStringFormatValidators(map[string]openapi3.StringFormatValidator{
	"uri":       openapi3.NewCallbackValidator(checkURI),
	"date-time": openapi3.NewCallbackValidator(func(s string) error { _, err := parseTime(s); return err }),
	textFormat:  openapi3.NewCallbackValidator(checkText),
})

// textFormat is the format of texts for people. It is no pattern, because the regular expressions of some languages
// match bytes, and control characters from U+0080 on have two.
const textFormat = "text"

// checkText refuses control characters: C0, DEL and C1.
func checkText(s string) error {
	if strings.ContainsFunc(s, unicode.IsControl) {
		return errors.New("contains control characters")
	}
	return nil
}

// checkURI checks the least that the format uri means: that there is a scheme. webhook.Guard decides which URLs a
// receiver may have, and says what is wrong with others.
func checkURI(s string) error {
	if !strings.Contains(s, ":") {
		return errors.New("is no absolute URL")
	}
	return nil
}

// repeatedParameters finds the query parameters that a request has more than once although they are no arrays.
func repeatedParameters(c echo.Context, route *routers.Route) (wrong []gen.FieldError) {
	for _, p := range route.Operation.Parameters {
		name, isArray := p.Value.Name, p.Value.Schema.Value.Type.Is(openapi3.TypeArray)
		if p.Value.In == openapi3.ParameterInQuery && len(c.QueryParams()[name]) > 1 && !isArray {
			wrong = append(wrong, fieldError(name, "must be given only once"))
		}
	}
	return wrong
}

// canonicalBody rewrites the numbers and times of a valid body in place, as the generated binding reads them: 136.0 and
// 1.36e2 as 136, which are the same integer to the schema, and every form of RFC 3339 as Go's.
func canonicalBody(schema *openapi3.Schema, value any) any {
	schema = resolveAllOf(schema)
	switch v := value.(type) {
	case map[string]any:
		for name, member := range v {
			v[name] = canonicalBody(schemaOrAny(schema.Properties[name]), member)
		}
	case []any:
		for i, item := range v {
			v[i] = canonicalBody(schemaOrAny(schema.Items), item)
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

// resolveAllOf returns the schema in an allOf of one. openapi.yaml has those to give a field a description of its own.
func resolveAllOf(schema *openapi3.Schema) *openapi3.Schema {
	if len(schema.AllOf) == 1 {
		return schema.AllOf[0].Value
	}
	return schema
}

// schemaOrAny is the schema of a part of a body. A part that openapi.yaml does not have may be anything.
func schemaOrAny(part *openapi3.SchemaRef) *openapi3.Schema {
	if part == nil {
		return &openapi3.Schema{}
	}
	return part.Value
}
