package contract

import (
	"errors"
	"fmt"
	"slices"
	"strconv"
	"strings"

	"github.com/getkin/kin-openapi/openapi3"
	"github.com/getkin/kin-openapi/openapi3filter"

	"github.com/agentevents/agentevents/gen"
	"github.com/agentevents/agentevents/server/internal/request"
)

// The limits of an answer with field errors, as in openapi.yaml.
const (
	maxFieldErrors = 20
	maxFieldName   = 256
)

// fieldErrorList collects one error for each field.
type fieldErrorList struct {
	list []gen.FieldError
	more bool // there are others
}

// invalid refuses a request for the errors of the validation. It uses none of their texts, which quote schemas and Go.
func invalid(err error) *request.Refusal {
	var f fieldErrorList
	f.collect(err, nil, nil)
	return f.refusal()
}

// refusal refuses a request for the errors in the list.
func (f *fieldErrorList) refusal() *request.Refusal {
	refusal := request.Invalid(f.list...)
	if f.more {
		refusal.Body.Message += fmt.Sprintf(", and these are the first %d errors", maxFieldErrors)
	}
	return refusal
}

func (f *fieldErrorList) add(path []string, message string) {
	e := fieldError(strings.Join(path, "."), message)
	switch {
	case slices.ContainsFunc(f.list, func(named gen.FieldError) bool { return named.Field == e.Field }):
	case len(f.list) == maxFieldErrors:
		f.more = true
	default:
		f.list = append(f.list, e)
	}
}

// fieldError returns an error of a field. An empty name stands for the whole body.
func fieldError(name, message string) gen.FieldError {
	if name == "" {
		name = "body"
	}
	if runes := []rune(name); len(runes) > maxFieldName {
		name = string(runes[:maxFieldName])
	}
	return gen.FieldError{Field: name, Message: message}
}

// collect descends a tree of errors to the errors of single values. path is the path of the value, and schema its
// schema, if known.
func (f *fieldErrorList) collect(err error, path []string, schema *openapi3.Schema) {
	if f.more {
		return
	}
	switch e := err.(type) { //nolint:errorlint // each kind of node has its own case
	case openapi3.MultiError:
		for _, err := range e {
			f.collect(err, path, schema)
		}
	case *openapi3filter.RequestError:
		if e.Parameter != nil {
			path, schema = []string{e.Parameter.Name}, e.Parameter.Schema.Value
		}
		f.collect(e.Err, path, schema)
	case *openapi3.SchemaError:
		if e.SchemaField == "allOf" {
			f.collect(e.Origin, path, schema)
			return
		}
		f.add(append(slices.Clone(path), pointer(e)...), schemaMessage(e))
	case *openapi3filter.ParseError:
		f.add(path, parseMessage(schema))
	default:
		f.collectOther(err, path, schema)
	}
}

// collectOther handles errors without a type of their own.
func (f *fieldErrorList) collectOther(err error, path []string, schema *openapi3.Schema) {
	switch {
	case errors.Is(err, openapi3filter.ErrInvalidRequired):
		f.add(path, "is required")
	case errors.Is(err, openapi3filter.ErrInvalidEmptyValue):
		f.add(path, insteadOf("empty", parseMessage(schema)))
	case errors.Unwrap(err) != nil:
		f.collect(errors.Unwrap(err), path, schema)
	default:
		f.add(path, "is not valid")
	}
}

// pointer returns the path of a value. For an unknown field, kin-openapi has only the path of its object; the reason
// has the field's name.
func pointer(e *openapi3.SchemaError) []string {
	path := e.JSONPointer()
	if e.SchemaField != "properties" {
		return path
	}
	quoted, _ := strconv.QuotedPrefix(strings.TrimPrefix(e.Reason, "property "))
	name, _ := strconv.Unquote(quoted)
	return append(path, name)
}
