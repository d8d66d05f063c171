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

// Validate lets only requests pass that are what openapi.yaml says of their operation. The handler gets the very
// value that was validated.
func Validate(route *routers.Route) echo.MiddlewareFunc {
	schema := bodySchema(route.Operation)
	return func(next echo.HandlerFunc) echo.HandlerFunc {
		return func(c echo.Context) error {
			body, err := takeBody(c, schema)
			if err != nil {
				return err
			}
			canonicalQuery(c, route.Operation)
			wrong := slices.Concat(wrongInPath(c, route), wrongInQuery(c, route), wrongBody(schema, body))
			if len(wrong) > 0 {
				return request.Invalid(fieldErrors(wrong)...)
			}
			if twice := givenTwice(c, route); twice != nil {
				return request.Invalid(twice...)
			}
			if schema != nil {
				canonical(schema, body)
			}
			return next(c)
		}
	}
}

// wrongInPath finds the parameters in the path that are wrong, quicker than what validates any parameter.
func wrongInPath(c echo.Context, route *routers.Route) (wrong openapi3.MultiError) {
	for _, p := range route.PathItem.Parameters {
		if err := checkInPath(p.Value.Schema.Value, c.Param(p.Value.Name)); err != nil {
			wrong = append(wrong, &openapi3filter.RequestError{Parameter: p.Value, Err: err})
		}
	}
	return wrong
}

// checkInPath checks an integer or a text, which is all that there is in paths.
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

// wrongInQuery finds the parameters in the query that are wrong.
func wrongInQuery(c echo.Context, route *routers.Route) (wrong openapi3.MultiError) {
	if len(route.Operation.Parameters) == 0 {
		return nil
	}
	input := &openapi3filter.RequestValidationInput{
		Request: c.Request(), QueryParams: c.QueryParams(), Route: route, Options: queryOptions,
	}
	for _, p := range route.Operation.Parameters {
		if err := openapi3filter.ValidateParameter(c.Request().Context(), input, p.Value); err != nil {
			wrong = append(wrong, err)
		}
	}
	return wrong
}

var queryOptions = &openapi3filter.Options{
	MultiError:              true,
	SkipSettingDefaults:     true, // the store knows them
	SchemaValidationOptions: []openapi3.SchemaValidationOption{formatValidators},
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
	if err := schema.VisitJSON(body, openapi3.VisitAsRequest(), openapi3.MultiErrors(), formatValidators); err != nil {
		return openapi3.MultiError{err}
	}
	return nil
}

// formatValidators are those of which more is known than that they are strings.
var formatValidators = openapi3.WithStringFormatValidators(map[string]openapi3.StringFormatValidator{
	"uri":       openapi3.NewCallbackValidator(checkURI),
	"date-time": openapi3.NewCallbackValidator(func(s string) error { _, err := parseTime(s); return err }),
	textFormat:  openapi3.NewCallbackValidator(checkText),
})

// textFormat is the format of texts for people. No pattern can say it in every language: some match bytes, and the controls
// from U+0080 on are two of them.
const textFormat = "text"

// checkText refuses control characters: C0, DEL and C1.
func checkText(s string) error {
	if strings.ContainsFunc(s, unicode.IsControl) {
		return errors.New("contains control characters")
	}
	return nil
}

// checkURI is the least that the format `uri` means: a scheme. What receivers may be reached by, and what is wrong
// with a URL, is for webhook.Guard to say.
func checkURI(s string) error {
	if !strings.Contains(s, ":") {
		return errors.New("is no absolute URL")
	}
	return nil
}

// givenTwice finds the query parameters that are there more than once although they are no arrays.
func givenTwice(c echo.Context, route *routers.Route) (wrong []gen.FieldError) {
	for _, p := range route.Operation.Parameters {
		name := p.Value.Name
		if p.Value.In == openapi3.ParameterInQuery && len(c.QueryParams()[name]) > 1 && !p.Value.Schema.Value.Type.Is(openapi3.TypeArray) {
			wrong = append(wrong, fieldError(name, "must be given only once"))
		}
	}
	return wrong
}

// canonical writes the numbers and times of a valid body as the generated binding reads them, in place: 136.0 and 1.36e2
// as 136, which the schema takes for the same integer, and any RFC 3339 time as Go has it.
func canonical(schema *openapi3.Schema, value any) any {
	schema = resolveAllOf(schema)
	switch v := value.(type) {
	case map[string]any:
		for name, member := range v {
			v[name] = canonical(schemaOrAny(schema.Properties[name]), member)
		}
	case []any:
		for i, item := range v {
			v[i] = canonical(schemaOrAny(schema.Items), item)
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

// resolveAllOf is the one schema that an allOf stands for, which openapi.yaml has to describe a field by itself.
func resolveAllOf(schema *openapi3.Schema) *openapi3.Schema {
	if len(schema.AllOf) == 1 {
		return schema.AllOf[0].Value
	}
	return schema
}

// schemaOrAny is what openapi.yaml says of a part of a body, nothing where it has no such part.
func schemaOrAny(part *openapi3.SchemaRef) *openapi3.Schema {
	if part == nil {
		return &openapi3.Schema{}
	}
	return part.Value
}
