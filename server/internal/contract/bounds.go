package contract

import (
	"bytes"
	"encoding/json"
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
	maxValues = 20_000 // of a body that is an array: a bulk request
	maxFlat   = 2000   // of any other body, which needs few values; it may have further ones that are ignored
)

// checkBounds reads one JSON value, and refuses it at the first value that is beyond a bound. It keeps none of the
// value, and allocates nothing for most values: before a body is known to be within the bounds, it costs no more than
// its bytes. It does not check that the text is JSON, as parseJSON does.
func checkBounds(body io.Reader, schema *openapi3.Schema) error {
	b := &boundsCheck{schema: schema, maxValues: maxFlat}
	if schema.Type.Is(openapi3.TypeArray) {
		b.maxValues = maxValues
	}
	var part [512]byte // so that little is read beyond a bound
	for {
		n, err := body.Read(part[:])
		for i := 0; i < n; i++ {
			if i += b.skip(part[i:n]); i == n {
				break
			}
			if ended, refused := b.next(part[i]); ended || refused != nil {
				return refused
			}
		}
		if err != nil {
			return nil //nolint:nilerr // the next reader of the body gets it, too
		}
	}
}

// skip returns the number of bytes that are only characters of a string.
func (b *boundsCheck) skip(part []byte) int {
	if !b.inText || b.escaped || b.inName() {
		return 0
	}
	if n := bytes.IndexAny(part, `"\`); n >= 0 {
		return n
	}
	return len(part)
}

// boundsCheck is the reading of one body.
type boundsCheck struct {
	schema    *openapi3.Schema // of the body
	open      []container      // around the next value, the outermost first
	values    int              // that have begun
	maxValues int
	unknown   fieldErrorList // the fields that the schema does not allow

	inLiteral bool   // in a number, true, false or null
	inText    bool   // in a string
	escaped   bool   // the next byte of the string is escaped
	name      []byte // of the field that is being read, as it is written
}

// container is an array or an object that has begun.
type container struct {
	schema   *openapi3.Schema
	isObject bool
	count    int    // of the items or fields that have begun
	field    string // the current field of an object
	hasField bool   // the value of that field follows
}

// next reads a byte, and reports whether it ends the value.
func (b *boundsCheck) next(c byte) (ended bool, err error) {
	if b.inText {
		return b.nextOfText(c)
	}
	top := b.top()
	switch c {
	case ' ', '\t', '\n', '\r':
	case ',', ':':
		if top != nil {
			top.hasField = c == ':'
		}
	case ']', '}':
		b.open = b.open[:max(len(b.open)-1, 0)]
		ended = len(b.open) == 0
	case '[', '{':
		err = b.beginContainer(c == '{')
	case '"':
		b.inText, b.name = true, b.name[:0]
		if !b.inName() {
			err = b.begin()
		}
	default:
		if !b.inLiteral {
			b.inLiteral = true
			return top == nil, b.begin()
		}
		return false, nil
	}
	b.inLiteral = false
	return ended, err
}

// nextOfText is next in a string.
func (b *boundsCheck) nextOfText(c byte) (ended bool, err error) {
	switch {
	case b.escaped:
		b.escaped = false
	case c == '\\':
		b.escaped = true
	case c == '"':
		b.inText = false
		if b.inName() {
			return false, b.beginField(unquote(b.name))
		}
		return b.top() == nil, nil
	}
	if b.inName() {
		b.name = append(b.name, c)
	}
	return false, nil
}

// unquote returns the text of a JSON string without its quotation marks.
func unquote(name []byte) (text string) {
	if !bytes.Contains(name, []byte(`\`)) {
		return string(name)
	}
	quoted := append(append([]byte(`"`), name...), '"')
	if json.Unmarshal(quoted, &text) != nil {
		return string(name)
	}
	return text
}

// top returns the innermost container, or nil.
func (b *boundsCheck) top() *container {
	if len(b.open) == 0 {
		return nil
	}
	return &b.open[len(b.open)-1]
}

// inName reports whether a string is the name of a field.
func (b *boundsCheck) inName() bool {
	top := b.top()
	return top != nil && top.isObject && !top.hasField
}

// begin begins a value.
func (b *boundsCheck) begin() error {
	if top := b.top(); top != nil && !top.isObject {
		if limit := top.schema.MaxItems; limit != nil && uint64(top.count) >= *limit { //nolint:gosec // not negative
			return b.refuse(len(b.open)-1, maxItemsMessage(top.schema))
		}
		top.count++
	}
	if b.values++; b.values > b.maxValues {
		return b.refuse(0, fmt.Sprintf("must have at most %d values in all", b.maxValues))
	}
	return nil
}

// beginContainer begins an array or an object.
func (b *boundsCheck) beginContainer(isObject bool) error {
	if err := b.begin(); err != nil {
		return err
	}
	if len(b.open) >= maxDepth {
		return b.refuse(len(b.open), fmt.Sprintf("must be nested at most %d levels deep", maxDepth))
	}
	schema := b.schema
	switch top := b.top(); {
	case top != nil && top.isObject:
		schema = schemaOrAny(top.schema.Properties[top.field])
	case top != nil:
		schema = schemaOrAny(top.schema.Items)
	}
	b.open = append(b.open, container{schema: resolveAllOf(schema), isObject: isObject})
	return nil
}

// beginField begins a field. It refuses the body at its first unknown field beyond those that one answer names.
func (b *boundsCheck) beginField(name string) error {
	top := b.top()
	if top.count == maxFields {
		return b.refuse(len(b.open)-1, fmt.Sprintf("must have at most %d fields", maxFields))
	}
	top.count++
	top.field = name
	more := top.schema.AdditionalProperties.Has
	if top.schema.Properties[name] != nil || more == nil || *more {
		return nil
	}
	if b.unknown.add(b.path(len(b.open)), unknownMessage(top.schema)); b.unknown.more {
		return b.unknown.refusal()
	}
	return nil
}

// path returns the names of the current fields and items, from the outermost on, to a depth.
func (b *boundsCheck) path(depth int) (path []string) {
	for _, c := range b.open[:depth] {
		if c.isObject {
			path = append(path, c.field)
		} else {
			path = append(path, strconv.Itoa(c.count-1))
		}
	}
	return path
}

// refuse refuses the value at a depth.
func (b *boundsCheck) refuse(depth int, message string) error {
	return request.Invalid(fieldError(strings.Join(b.path(depth), "."), message))
}
