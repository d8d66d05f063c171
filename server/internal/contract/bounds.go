package contract

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"strconv"
	"strings"

	"github.com/getkin/kin-openapi/openapi3"

	"github.com/agentevents/agentevents/server/internal/request"
)

// The bounds of every JSON body, as openapi.yaml says them. An array may have bounds of its own: maxItems.
const (
	maxDepth  = 32     // objects and arrays inside of each other
	maxFields = 1000   // of one object
	maxValues = 20_000 // of the whole body
)

// checkBounds reads one JSON value, and refuses it at the first value that is beyond a bound. It keeps none of the
// value, so that a body costs no more than its bytes before it is known to be within the bounds. It stops without an
// error where the text is not JSON: parseJSON says what is wrong with it.
func checkBounds(body io.Reader, schema *openapi3.Schema) error {
	d := json.NewDecoder(body)
	d.UseNumber()
	_, err := (&boundsCheck{decoder: d}).value(schema)
	if _, refused := errors.AsType[*request.Refusal](err); refused {
		return err
	}
	return nil
}

// boundsCheck is the reading of one body.
type boundsCheck struct {
	decoder *json.Decoder
	path    []string       // of the value that is being read
	values  int            // that have begun
	unknown fieldErrorList // the fields that the schema does not allow
}

// value reads one value. It reports false in place of a value where an array or an object ends.
func (b *boundsCheck) value(schema *openapi3.Schema) (is bool, err error) {
	token, err := b.decoder.Token()
	if err != nil {
		return false, err
	}
	if token == json.Delim(']') || token == json.Delim('}') {
		return false, nil
	}
	if b.values++; b.values > maxValues {
		return true, request.Invalid(fieldError("", fmt.Sprintf("must have at most %d values in all", maxValues)))
	}
	switch schema = resolveAllOf(schema); token {
	case json.Delim('['):
		return true, b.array(schema)
	case json.Delim('{'):
		return true, b.object(schema)
	}
	return true, nil
}

// array reads the items of an array and its end.
func (b *boundsCheck) array(schema *openapi3.Schema) error {
	if err := b.checkDepth(); err != nil {
		return err
	}
	for i := 0; ; i++ {
		if schema.MaxItems != nil && uint64(i) >= *schema.MaxItems && b.decoder.More() {
			return b.refuse(maxItemsMessage(schema))
		}
		b.path = append(b.path, strconv.Itoa(i))
		is, err := b.value(schemaOrAny(schema.Items))
		if err != nil {
			return err
		}
		b.path = b.path[:len(b.path)-1]
		if !is {
			return nil
		}
	}
}

// object reads the fields of an object and its end.
func (b *boundsCheck) object(schema *openapi3.Schema) error {
	if err := b.checkDepth(); err != nil {
		return err
	}
	for n := 0; b.decoder.More(); n++ {
		token, err := b.decoder.Token()
		if err != nil {
			return err
		}
		name, _ := token.(string)
		if n == maxFields {
			return b.refuse(fmt.Sprintf("must have at most %d fields", maxFields))
		}
		b.path = append(b.path, name)
		if err := b.checkName(schema, name); err != nil {
			return err
		}
		if _, err := b.value(schemaOrAny(schema.Properties[name])); err != nil {
			return err
		}
		b.path = b.path[:len(b.path)-1]
	}
	_, err := b.decoder.Token() // the closing bracket
	return err
}

// checkName refuses the body at its first unknown field beyond those that one answer names.
func (b *boundsCheck) checkName(schema *openapi3.Schema, name string) error {
	more := schema.AdditionalProperties.Has
	if schema.Properties[name] != nil || more == nil || *more {
		return nil
	}
	if b.unknown.add(b.path, unknownMessage(schema)); b.unknown.more {
		return b.unknown.refusal()
	}
	return nil
}

// checkDepth refuses an array or an object that has begun inside of too many others.
func (b *boundsCheck) checkDepth() error {
	if len(b.path) < maxDepth {
		return nil
	}
	return b.refuse(fmt.Sprintf("must be nested at most %d levels deep", maxDepth))
}

// refuse refuses the value that is being read.
func (b *boundsCheck) refuse(message string) error {
	return request.Invalid(fieldError(strings.Join(b.path, "."), message))
}
